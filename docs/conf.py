"""The documentation site: `make docs` builds it with Sphinx, without network, and takes warnings for errors."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import aesop
import reference

reference.write_pages(Path(__file__).parent / "reference")

project = "AESOP"
author = "the AESOP contributors"
release = version = aesop.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Markdown
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # links to headings, as on a repository's page: page.md#the-heading

# Docstrings mark code with single backticks.
default_role = "literal"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures, which belong to other projects' documentation

toc_object_entries = False  # the contents of a page list its sections, not each option

html_theme = "furo"
html_title = f"AESOP {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e63", "color-brand-content": "#0b6e63"},
    "dark_css_variables": {"color-brand-primary": "#4fc3b2", "color-brand-content": "#4fc3b2"},
}
pygments_style, pygments_dark_style = "default", "github-dark"


def _link_files_of_the_repository(app: Any, name: str, source: list[str]) -> None:
    """Make links to Markdown files outside of docs/ downloads, as links to other files are: they are no pages here."""
    above = r"\.\./" * (name.count("/") + 1)
    source[0] = re.sub(rf"\]\(({above}[\w./-]+\.md)\)", r"](path:\1)", source[0])


def setup(app: Any) -> None:
    app.connect("source-read", _link_files_of_the_repository)
