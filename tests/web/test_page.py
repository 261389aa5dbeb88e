"""The page is read back with the standard library's parser and OpenCV's decoder, never with report.py itself."""

import base64
import math
import os
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from aesop.web import page as report
from aesop.web.page import Page

VOID = {"meta", "img", "input", "link", "br"}


class Tree(HTMLParser):
    """Checks that tags balance and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decoded(src: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(src.split(",", 1)[1]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def full_page(name: str = "AESOP") -> Page:
    page = Page(f"Title {name}", f"subtitle {name}")
    page.text(f"Text {name}", f"first {name}\n\nsecond")
    page.table(f"Table {name}", ["method", name], [[name, 1.5]], best={name: "max"}, caption=name)
    page.slider(f"Slider {name}", name, {"LR": image(8, 12), name: image(8, 12, 1)}, caption=name)
    row = {"LR": image(2, 2), name: image(8, 8)}
    page.crops(f"Crops {name}", [row], labels=[name], figures=[{name: name}], caption=name)
    page.gallery(f"Gallery {name}", [(name, image(8, 8)), ("gray", image(8, 8)[..., 0])], caption=name)
    page.curves(f"Curves {name}", {name: [(i, i + 1) for i in range(900)]}, name, name, log_y=True, caption=name)
    page.config(f"Config {name}", f"name: {name}\n")
    return page


def test_page_is_one_balanced_file_without_references(tmp_path):
    path = full_page().write(tmp_path / "out" / "page.html")
    text = path.read_text(encoding="utf-8")
    tree = Tree(text)
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]  # no temporary file stays
    assert not re.search(r"https?:|@import|url\(", text)
    assert tree.all("link") == []
    assert all(attrs["src"].startswith("data:image/") and attrs["alt"] for attrs in tree.all("img"))
    assert all("src" not in attrs for attrs in tree.all("script"))
    anchors = [a["href"] for a in tree.all("a")]
    assert anchors == [f"#{attrs['id']}" for attrs in tree.all("section")]
    assert len(anchors) == 7


def test_hostile_names_stay_text():
    hostile = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&"
    tree, plain = Tree(full_page(hostile).html()), Tree(full_page().html())
    assert [tag for tag, _ in tree.tags] == [tag for tag, _ in plain.tags]
    assert not any(key.startswith("on") for _, attrs in tree.tags for key in attrs)
    assert sum(hostile in data for _, data in tree.texts) >= 15


def test_images_round_trip():
    images = [image(5, 7, seed) for seed in range(5)]
    page = Page("t")
    page.slider("s", "s", {"a": images[0], "b": images[1]})
    page.crops("c", [{"a": images[2]}])
    page.gallery("g", [("a", images[3]), ("view", images[4][:, ::-1])])
    sources = [attrs["src"] for attrs in Tree(page.html()).all("img")]
    for src, expected in zip(sources, [*images[:4], images[4][:, ::-1]], strict=True):
        assert src.startswith("data:image/png;")
        np.testing.assert_array_equal(decoded(src), expected)


def test_heavy_page_uses_jpeg_for_its_largest_images_only(monkeypatch):
    big, small, crop = image(200, 200), image(8, 8), image(220, 220)
    page = Page("t")
    page.crops("c", [{"crop": crop}])
    page.gallery("g", [("small", small), ("big", cv2.GaussianBlur(big, (0, 0), 1))])
    assert "JPEG" not in page.html()
    monkeypatch.setattr(report, "PAGE_BYTES", 250_000)
    text = page.html()
    kinds = {attrs["alt"]: attrs["src"][:16] for attrs in Tree(text).all("img")}
    assert kinds == {"crop 1, crop": "data:image/png;b", "small": "data:image/png;b", "big": "data:image/jpeg;"}
    assert "1 of 3 images are JPEG" in text


def test_best_cells():
    page = Page("t")
    rows = [
        ["a", 20.004, 0.5, math.nan, 1],
        ["b", 31.001, 0.25, 7.0, 2],
        ["c", 31.0012, 0.25001, np.float32(3), 3],
        ["HR", math.inf, "none", 9.0, 4],
    ]
    page.table("t", ["method", "PSNR", "LPIPS", "x", "n"], rows, best={"PSNR": "max", "LPIPS": "min", "x": "min"})
    text = page.html()
    assert re.findall(r'<td class="best">(.*?)</td>', text) == ["31.00", "0.2500", "31.00", "0.2500", "3.0000"]
    assert re.findall(r'scope="col">(.*?)<', text) == ["method", "PSNR ↑", "LPIPS ↓", "x ↓", "n"]
    assert [data for tag, data in Tree(text).texts if tag == "td"][-4:] == ["∞", "none", "9.0000", "4"]
    assert "–" in text


@pytest.mark.parametrize(
    ("columns", "rows", "best"),
    [(["a", "b"], [["x"]], {}), (["a"], [["x"]], {"b": "max"}), (["a"], [["x"]], {"a": "most"})],
)
def test_table_refuses_what_does_not_fit(columns, rows, best):
    with pytest.raises(ValueError, match="table 'figures'"):
        Page("t").table("figures", columns, rows, best=best)


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, math.nan), (1, math.inf), (math.nan, 1)],
        [(5, 2.0)],
        [(0, 0.0), (1, -1.0)],
        [(i, 3.0) for i in range(50)],
        [(i, 1 + 1e-5 * i) for i in range(50)],
        [(i, 10.0 ** (i - 40)) for i in range(80)],
        [(0, 1e300), (1, 1.0), (2, None)],
        [(i, math.nan if i % 3 else i) for i in range(5000)],
    ],
)
def test_curves_survive_any_values(points, log_y):
    page = Page("t")
    page.curves("c", {"odd": points, "fine": [(0, 1.0), (1, 2.0)]}, "x", "y", log_y=log_y)
    page.curves("alone", {"odd": points}, "x", "y", log_y=log_y)
    page.curves("none", {}, "x", "y", log_y=log_y)
    text = page.html()
    drawn = [float(v) for attrs in Tree(text).all("polyline") for v in re.split("[ ,]", attrs["points"])]
    assert all(map(math.isfinite, drawn))
    assert max((attrs["points"].count(",") for attrs in Tree(text).all("polyline")), default=0) <= 400
    assert not re.search(r'"[^"]*\bnan\b[^"]*"', text)


def test_curve_follows_the_values():
    page = Page("t")
    page.curves("c", {"line": [(i, 10.0**i) for i in range(4)]}, "x", "y", log_y=True)
    points = [tuple(map(float, p.split(","))) for p in Tree(page.html()).all("polyline")[0]["points"].split()]
    (xs, ys) = zip(*points, strict=True)
    assert np.ptp(np.diff(xs)) < 0.2  # straight on a log axis, drawn to a tenth of a pixel
    assert np.ptp(np.diff(ys)) < 0.2
    assert ys[0] > ys[-1]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.13, 0.17), (-5, 5), (3, 30_000), (1e-9, 3e-9), (0, 6000)])
def test_ticks_are_round_and_inside(low, high):
    ticks = report._ticks(low, high, 6)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-12 <= t <= high + 1e-12 for t in ticks)
    step = ticks[1] - ticks[0]
    assert f"{step:.6e}"[0] in "125"


def test_too_many_series():
    with pytest.raises(ValueError, match="curves 'losses': 7 series"):
        Page("t").curves("losses", {str(i): [] for i in range(7)}, "x", "y")


def test_slider_refuses_different_sizes_and_unknown_names():
    pair = {"a": image(4, 4), "b": image(4, 5)}
    with pytest.raises(ValueError, match="slider 'butterfly'"):
        Page("t").slider("s", "butterfly", pair)
    with pytest.raises(ValueError, match="slider 'butterfly' needs two"):
        Page("t").slider("s", "butterfly", {"a": image(4, 4)})
    with pytest.raises(ValueError, match=r"slider 'butterfly'.*'HR'"):
        Page("t").slider("s", "butterfly", {"a": image(4, 4), "b": image(4, 4)}, start=("a", "HR"))


def test_slider_starts_with_the_pair_asked_for():
    page = Page("t")
    page.slider("s", "n", {m: image(4, 4) for m in ("Nearest", "Bicubic", "SR", "HR")}, start=("Bicubic", "SR"))
    tree = Tree(page.html())
    assert [attrs.get("class") for attrs in tree.all("img")] == ["pixels", "left", "right", ""]
    assert [attrs["value"] for attrs in tree.all("option") if "selected" in attrs] == ["1", "2"]


def test_images_must_be_uint8_rgb():
    with pytest.raises(ValueError, match=r"SR: expected a uint8 image.*float32 \(3, 4, 4\)"):
        Page("t").gallery("g", [("SR", np.zeros((3, 4, 4), np.float32))])


def test_write_replaces_whole_files(tmp_path, monkeypatch):
    path = Page("old").write(tmp_path / "p.html")

    def fail(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        Page("new").write(path)
    assert "<h1>old</h1>" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]
