"""`make docs` builds the site; its pages lead nowhere wrong, and ask no other host for anything."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

for package in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(package, reason='the site needs pip install ".[docs]"')

DOCS = Path(__file__).resolve().parents[2] / "docs"
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


def sphinx(source: Path, output: Path) -> subprocess.CompletedProcess:
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "-c", str(DOCS), "-d", str(output / "doctrees")]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(source), str(output / "site")], capture_output=True, text=True
    )


class Html(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {name: value for name, value in attrs if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])


@pytest.mark.slow
def test_site(tmp_path):
    built = sphinx(DOCS, tmp_path)
    assert built.returncode == 0, built.stderr[-3000:]
    site = tmp_path / "site"
    pages = {path: Html(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 50
    for path, page in pages.items():
        for address in page.loaded:
            assert not address.startswith(("http:", "https:", "//")), f"{path.name} loads {address}"
        for address in page.links + page.loaded:
            if ":" in address.partition("/")[0]:
                continue  # another site
            file, anchor = urldefrag(address)
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            assert target.exists(), f"{path.name}: {address}"
            if anchor and target in pages:
                assert unquote(anchor) in pages[target].ids, f"{path.name}: {address}"
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8").replace('"', "").replace("'", "")
    # a script, not data that a page of the file system may not fetch
    assert (site / "searchindex.js").read_text(encoding="utf-8").startswith("Search.setIndex")


@pytest.mark.slow
@pytest.mark.parametrize("link", ["missing.md", "index.md#missing", "../missing.md"])
def test_a_link_that_leads_nowhere_fails(tmp_path, link):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "index.md").write_text(f"# Page\n\n[somewhere]({link})\n")
    built = sphinx(tmp_path / "source", tmp_path)
    assert built.returncode == 1
    assert "myst.xref_missing" in built.stderr or "download.not_readable" in built.stderr
