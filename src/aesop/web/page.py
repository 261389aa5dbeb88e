"""One self-contained HTML page of text, tables, image sliders, galleries and charts.

    page = Page("AESOP demo", "Super-resolution x4")
    page.section("Results")
    page.table(["method", "PSNR", "LPIPS"], rows, best={"PSNR": "max", "LPIPS": "min"})
    page.slider("butterfly", {"Bicubic": bicubic, "AESOP": sr, "HR": hr})
    page.write("demo/index.html")

`page.html` is the template, `page.css` the style, `page.js` moves the sliders and draws the charts. All three and every
image are inside the written file; its content security policy forbids requests. Jinja2 escapes every string.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from aesop.system.files import replacing

Image = NDArray[np.uint8]  # (H, W, 3) RGB or (H, W) gray
Best = Literal["max", "min"]
CONTENT_WIDTH, GAP = 1080, 12  # of a page, and between crops: CSS pixels, as in page.css
MAX_PAGE_BYTES = 15_000_000
MAX_POINTS = 1000  # of one line of a chart
_FOLDER = Path(__file__).parent
_TEMPLATE = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).get_template("page.html")


@dataclass(frozen=True, eq=False)
class Figure:
    """An image with a label and notes below it."""

    image: Image
    label: str
    notes: Mapping[str, str] = field(default_factory=dict)
    zoom: int = 0  # side in CSS pixels of the square that shows one pixel; 0: smooth, up to twice the image's size
    lossless: bool = False  # stay PNG on a page where other images become JPEG

    @property
    def width(self) -> int:
        """In CSS pixels, if the page is wide enough."""
        return self.image.shape[1] * (self.zoom or 2)

    def encode(self, extension: str, options: Sequence[int]) -> bytes:
        bgr = self.image if self.image.ndim == 2 else cv2.cvtColor(self.image, cv2.COLOR_RGB2BGR)
        return cv2.imencode(extension, bgr, options)[1].tobytes()


@dataclass(frozen=True)
class Chart:
    """Lines over a common x axis. Points whose x or y is not finite are left out, on a log axis also those with y <= 0."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float | None]]]
    x_label: str
    y_label: str
    log_y: bool = False

    def data(self) -> dict[str, Any]:
        """What `page.js` draws: of a long series the means of MAX_POINTS bins."""
        series = []
        for name, points in self.series.items():
            x, y = np.array(points, dtype=np.float64).reshape(-1, 2).T
            keep = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not self.log_y))
            order = np.argsort(x[keep], kind="stable")
            lines = [values[keep][order] for values in (x, y)]
            if len(order) > MAX_POINTS:
                lines = [np.array([part.mean() for part in np.array_split(values, MAX_POINTS)]) for values in lines]
            x, y = ([float(f"{value:.6g}") for value in values] for values in lines)
            series.append({"name": name, "x": x, "y": y})
        return {"x_label": self.x_label, "y_label": self.y_label, "log_y": self.log_y, "series": series}


@dataclass(frozen=True)
class PlanePoint:
    """A method; intervals are absolute limits. Hollow: the figures are reported, not measured. `note` stands in the list."""

    label: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    hollow: bool = False
    note: str = ""


@dataclass(frozen=True)
class Plane:
    """Points of two metrics, and a line through those that no other one beats. All values are finite."""

    title: str
    points: Sequence[PlanePoint]
    front: Sequence[tuple[float, float]]
    x_label: str
    y_label: str

    def data(self) -> dict[str, Any]:
        """What `page.js` draws."""
        return asdict(self)


class Page:
    """Sections in the order of the calls; every other method adds to the last section."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self.sections: list[dict[str, Any]] = []

    def section(self, title: str) -> None:
        self.sections.append({"title": title, "blocks": []})

    def text(self, text: str) -> None:
        """Paragraphs, separated by blank lines."""
        self._add("text", paragraphs=text.split("\n\n"))

    def facts(self, facts: Mapping[str, str]) -> None:
        """A list of names and what each one stands for."""
        self._add("facts", facts=facts)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str | float]], best: Mapping[str, Best], caption: str = ""
    ) -> None:
        """The first column names the rows. In the columns of `best`, every cell that reads like the best one is marked."""
        cells = [_format_column([row[j] for row in rows], best.get(name)) for j, name in enumerate(columns)]
        self._add("table", columns=columns, best=best, rows=list(zip(*cells, strict=True)), caption=caption)

    def slider(
        self,
        name: str,
        images: Mapping[str, Image],
        start: Sequence[str] = (),
        caption: str = "",
        mark: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Two of several RGB images of one size, by label, on either side of a movable divider.

        It starts with the labels `start`, left and right; default: the first and the last. LR keeps square pixels when the
        browser enlarges it. `mark` is a rectangle on the images: left, top, width, height in pixels.
        """
        left, right = start or (next(iter(images)), list(images)[-1])
        figures = [Figure(image, label, zoom=int(label == "LR")) for label, image in images.items()]
        self._add("slider", name=name, figures=figures, left=left, right=right, caption=caption or name, mark=mark)

    def crops(self, name: str, images: Mapping[str, Image], values: Mapping[str, Sequence[tuple[str, bool]]] = {}) -> None:
        """The same small part of several images in one row, enlarged to square pixels, at most 4x; LR to the same size.

        `values` stand below them: by label (text, whether it is the best) of each metric.
        """
        width = max(image.shape[1] for image in images.values())
        fits = (CONTENT_WIDTH - GAP * (len(images) - 1)) // len(images) // width
        side = max(1, min(4, fits)) * width
        figures = [Figure(image, label, zoom=side // image.shape[1], lossless=True) for label, image in images.items()]
        self._add("crops", name=name, figures=figures, below=values)

    def gallery(self, figures: Sequence[Figure], caption: str = "") -> None:
        self._add("gallery", figures=figures, caption=caption)

    def charts(self, charts: Sequence[Chart], caption: str = "") -> None:
        self._add("charts", charts=charts, caption=caption)

    def planes(self, planes: Sequence[Plane], caption: str = "") -> None:
        self._add("planes", planes=planes, caption=caption)

    def folded(self, texts: Mapping[str, str]) -> None:
        """Long preformatted texts that open on a click, by title."""
        self._add("folded", texts=texts)

    def html(self) -> str:
        figures = [figure for each in self.sections for block in each["blocks"] for figure in block.get("figures", ())]
        sources, lossy = _encode(figures)
        css, js = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
        return _TEMPLATE.render(page=self, sources=sources, lossy=lossy, images=len(figures), css=css, js=js)

    def write(self, path: Path) -> Path:
        with replacing(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return path

    def _add(self, kind: str, **content: Any) -> None:
        self.sections[-1]["blocks"].append({"kind": kind, **content})


def _encode(figures: Sequence[Figure]) -> tuple[dict[Figure, str], int]:
    """(data URI of each image, how many are JPEG): the largest ones are, as far as MAX_PAGE_BYTES demands it."""
    files = {figure: ("png", figure.encode(".png", [cv2.IMWRITE_PNG_COMPRESSION, 9])) for figure in figures}
    excess = sum(len(content) for _, content in files.values()) * 4 / 3 - MAX_PAGE_BYTES
    settings = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    lossy = 0
    for figure in sorted((each for each in files if not each.lossless), key=lambda each: -len(files[each][1])):
        if excess <= 0:
            break
        saved = len(files[figure][1]) - len(jpeg := figure.encode(".jpg", settings))
        if saved > 0:
            files[figure] = "jpeg", jpeg
            excess, lossy = excess - saved * 4 / 3, lossy + 1
    uris = {each: f"data:image/{kind};base64,{base64.b64encode(file).decode()}" for each, (kind, file) in files.items()}
    return uris, lossy


def _format_column(cells: Sequence[str | float], best: Best | None) -> list[tuple[str, bool]]:
    """(text, whether it is the best) of each cell; all floats of a column get the same number of decimals."""
    finite = [float(cell) for cell in cells if isinstance(cell, Real) and math.isfinite(cell)]
    decimals = 2 if max(map(abs, finite), default=0) >= 10 else 4

    def show(cell: str | float) -> str:
        if isinstance(cell, str | Integral):
            return str(cell)
        if math.isnan(cell):
            return "\N{EN DASH}"
        return f"{cell:.{decimals}f}" if math.isfinite(cell) else "\N{INFINITY}"

    top = show((max if best == "max" else min)(finite)) if best and finite else None
    return [(text := show(cell), text == top and not isinstance(cell, str)) for cell in cells]
