"""One self-contained HTML page: tables, sliders, crops and curves, with every image inside the file.

    page = Page("AESOP demo", "x4, five photographs")
    page.table("Figures", ["method", "PSNR", "LPIPS"], rows, best={"PSNR": "max", "LPIPS": "min"})
    page.slider("Look", "butterfly", {"Bicubic": bicubic, "AESOP": sr, "HR": hr})
    page.write("demo/index.html")

The page asks the network for nothing (its content policy forbids it), works from a USB stick and, apart from the
sliders, without JavaScript. Every string is escaped.
"""

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from aesop.system.files import replacing
from aesop.web.charts import MAX_SERIES, Points, _chart, _Line, _number

Image = NDArray[np.uint8]  # H x W x 3, RGB; H x W where a gray map will do
Cell = str | float
PAGE_WIDTH = 1060  # pixels, inside the margins
PAGE_BYTES = 15_000_000  # beyond it, the largest images that need not be exact become JPEG
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@dataclass(frozen=True, eq=False)
class _Picture:
    """An image waiting for its encoding, which depends on the weight of the whole page."""

    image: Image
    alt: str
    css: str = ""
    exact: bool = False

    def __post_init__(self) -> None:
        a = self.image
        if a.dtype != np.uint8 or not (a.ndim == 2 or (a.ndim == 3 and a.shape[2] == 3)) or a.size == 0:
            raise ValueError(f"{self.alt}: expected a uint8 image, height x width x 3 (RGB), got {a.dtype} {a.shape}")

    def encode(self, suffix: str, options: Sequence[int]) -> bytes:
        bgr = self.image if self.image.ndim == 2 else cv2.cvtColor(self.image, cv2.COLOR_RGB2BGR)
        return cv2.imencode(suffix, bgr, options)[1].tobytes()

    def tag(self, data: bytes) -> str:
        kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
        height, width = self.image.shape[:2]
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return f'<img{self.css} width="{width}" height="{height}" alt="{escape(self.alt)}" src="{uri}">'


@dataclass
class Page:
    """Sections appear in the order of the calls; a section with an empty heading continues the one before it."""

    title: str
    subtitle: str = ""
    _parts: list[str | _Picture] = field(default_factory=list, init=False, repr=False)
    _toc: list[str] = field(default_factory=list, init=False, repr=False)

    def text(self, heading: str, text: str) -> None:
        """Paragraphs: blank lines separate them."""
        self._add(heading, *(f"<p>{escape(p.strip())}</p>" for p in text.split("\n\n") if p.strip()))

    def table(
        self,
        heading: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        best: Mapping[str, Literal["max", "min"]] | None = None,
        caption: str = "",
    ) -> None:
        """The first column names the rows; cells that read like the best finite one of their column are marked."""
        best = dict(best or {})
        if wrong := [r for r in rows if len(r) != len(columns)]:
            raise ValueError(f"table {heading!r}: {len(columns)} columns, but a row of {len(wrong[0])}: {wrong[0]}")
        if unknown := [c for c, mode in best.items() if c not in columns or mode not in ("max", "min")]:
            raise ValueError(f"table {heading!r}: best={best}: {unknown} must be columns, with 'max' or 'min'")
        shown = [_column([row[j] for row in rows], best.get(name)) for j, name in enumerate(columns)]
        arrow = {"max": " \N{UPWARDS ARROW}", "min": " \N{DOWNWARDS ARROW}", None: ""}
        head = "".join(f'<th scope="col">{escape(c)}{arrow[best.get(c)]}</th>' for c in columns)
        body = "".join(
            f'<tr><th scope="row">{first[0]}</th>'
            + "".join(f'<td class="best">{t}</td>' if top else f"<td>{t}</td>" for t, top in others)
            + "</tr>\n"
            for first, *others in zip(*shown, strict=True)
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
        label = escape(heading or caption or "Table")
        self._add(
            heading, f'<div class="wide" tabindex="0" role="region" aria-label="{label}">{table}</div>', _note(caption)
        )

    def slider(
        self,
        heading: str,
        name: str,
        images: Mapping[str, Image],
        *,
        start: tuple[str, str] | None = None,
        pixelated: Collection[str] = ("LR", "Nearest"),
        caption: str = "",
    ) -> None:
        """Two of the images under a movable divider; `start` is the pair (left, right) shown first.

        By default these are the first and the last image. Those named in `pixelated` keep their pixels square when
        the browser enlarges them.
        """
        sizes = {method: image.shape[:2] for method, image in images.items()}
        if len(sizes) < 2:
            raise ValueError(f"slider {name!r} needs two images at least, got {list(sizes)}")
        if len(set(sizes.values())) > 1:
            raise ValueError(f"slider {name!r}: all images must have one size (height, width), got {sizes}")
        left, right = start or (next(iter(sizes)), list(sizes)[-1])
        if missing := {left, right} - set(sizes):
            raise ValueError(f"slider {name!r}: start names {sorted(missing)}, but the images are {list(sizes)}")
        square = {p.lower() for p in pixelated}
        pictures = []
        for method, image in images.items():
            classes = [("left", method == left), ("right", method == right), ("pixels", method.lower() in square)]
            css = " ".join(c for c, wanted in classes if wanted)
            pictures.append(_Picture(image, f"{name}, {method}", f' class="{css}"'))

        def pick(side: str, chosen: str) -> str:
            options = (
                f'<option value="{i}"{" selected" if m == chosen else ""}>{escape(m)}</option>' for i, m in enumerate(sizes)
            )
            return f"<label>{side} <select>{''.join(options)}</select></label>"

        height, width = next(iter(sizes.values()))
        self._add(
            heading,
            f'<figure class="slider" style="--w:{width};--h:{height}">'
            f'<div class="pick">{pick("Left", left)}{pick("Right", right)}</div><div class="stage">',
            *pictures,
            f'<input type="range" value="50" aria-label="{escape(name)}: position of the divider">'
            f'<span class="divider">{_ARROWS}</span></div>{_caption(caption or name)}</figure>',
        )

    def crops(
        self,
        heading: str,
        rows: Sequence[Mapping[str, Image]],
        *,
        labels: Sequence[str] = (),
        figures: Sequence[Mapping[str, str]] = (),
        caption: str = "",
        zoom: int = 4,
    ) -> None:
        """One row per crop, one column per method, pixels kept square. A smaller crop (LR) fills the same place.

        The zoom is a whole number, smaller than asked for where the row would not fit the page.

        `labels[i]` stands over row i, `figures[i][method]` under the method's name.
        """
        if any(len(extra) not in (0, len(rows)) for extra in (labels, figures)):
            raise ValueError(f"crops {heading!r}: {len(rows)} rows, {len(labels)} labels, {len(figures)} figures")
        parts: list[str | _Picture] = []
        for i, row in enumerate(rows):
            label = labels[i] if labels else ""
            width = max((image.shape[1] for image in row.values()), default=1)
            fits = (PAGE_WIDTH / max(len(row), 1) - 14) // width
            sizes = f"--size:{width * int(max(1, min(zoom, fits)))}px;--full:{width * zoom}px"
            parts.append(f"<h3>{escape(label)}</h3>" if label else "")
            parts.append(f'<div class="crops" style="--n:{len(row)};{sizes}">')
            for method, image in row.items():
                figure = escape(figures[i].get(method, "")) if figures else ""
                picture = _Picture(image, f"{label or f'crop {i + 1}'}, {method}", ' class="pixels"', exact=True)
                parts += ["<figure>", picture, f"<figcaption><b>{escape(method)}</b>{figure}</figcaption></figure>"]
            parts.append("</div>")
        self._add(heading, *parts, _note(caption))

    def gallery(self, heading: str, items: Sequence[tuple[str, Image]], *, caption: str = "") -> None:
        """Labelled images side by side, never larger than twice their size."""
        parts: list[str | _Picture] = []
        for label, image in items:
            css = f' style="max-width:min(100%,{2 * image.shape[1]}px)"'
            parts += ["<figure>", _Picture(image, label, css), f"{_caption(label)}</figure>"]
        self._add(heading, '<div class="gallery">', *parts, "</div>", _note(caption))

    def curves(
        self,
        heading: str,
        series: Mapping[str, Points],
        x_label: str,
        y_label: str,
        *,
        log_y: bool = False,
        caption: str = "",
    ) -> None:
        """Up to six smoothed lines over faint raw ones; what cannot be drawn (NaN, log of 0) is left out."""
        if len(series) > MAX_SERIES:
            raise ValueError(f"curves {heading!r}: {len(series)} series, at most {MAX_SERIES}; split them in two charts")
        lines = {name: _Line.of(points, log_y) for name, points in series.items()}
        keys = "".join(
            f'<li class="c{i}">{escape(name)} <span>{_number(line.value(-1)) if len(line.x) else "no data"}</span></li>'
            for i, (name, line) in enumerate(lines.items())
        )
        y_label += " (log scale)" if log_y else ""
        charts = [_chart(lines, size, x_label, y_label, log_y) for size in ((900, 340), (380, 250))]
        self._add(heading, f'<figure class="chart">{"".join(charts)}<ul>{keys}</ul>{_caption(caption)}</figure>')

    def config(self, heading: str, yaml_text: str) -> None:
        n = len(yaml_text.splitlines())
        self._add(heading, f"<details><summary>Show {n} lines</summary><pre>{escape(yaml_text)}</pre></details>")

    def write(self, path: str | Path) -> Path:
        """Write aside and rename: a reader never sees half a page."""
        with replacing(path) as aside:
            aside.write_text(self.html(), encoding="utf-8")
        return Path(path)

    def html(self) -> str:
        pictures = [part for part in self._parts if isinstance(part, _Picture)]
        data = {p: p.encode(".png", [cv2.IMWRITE_PNG_COMPRESSION, 9]) for p in pictures}
        weight, lossy = sum(map(len, data.values())) * 4 / 3, 0
        for p in sorted((p for p in pictures if not p.exact), key=lambda p: -len(data[p])):
            if weight > PAGE_BYTES and len(jpeg := p.encode(".jpg", JPEG)) < len(data[p]):
                weight, lossy = weight - (len(data[p]) - len(jpeg)) * 4 / 3, lossy + 1
                data[p] = jpeg
        note = f"{lossy} of {len(pictures)} images are JPEG (quality 95), to keep this page small; crops are exact. "
        toc = "".join(f'<a href="#s{i}">{escape(h)}</a> ' for i, h in enumerate(self._toc, 1))
        body = "".join(p.tag(data[p]) if isinstance(p, _Picture) else p for p in self._parts)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>' + escape(self.title) + "</title>\n"
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
            f"<style>{_CSS}</style></head>\n<body><header><h1>{escape(self.title)}</h1>{_note(self.subtitle)}"
            f'<nav aria-label="Contents">{toc}</nav></header>\n<main>{body}\n</main>\n'
            f"<footer>{note if lossy else ''}Made by aesop.</footer>\n<script>{_JS}</script></body></html>\n"
        )

    def _add(self, heading: str, *parts: str | _Picture) -> None:
        opening = "\n<section>"
        if heading:
            self._toc.append(heading)
            opening = f'\n<section id="s{len(self._toc)}"><h2>{escape(heading)}</h2>'
        self._parts += [opening, *parts, "</section>"]


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>' if text else ""


def _column(cells: Sequence[Cell], best: str | None) -> list[tuple[str, bool]]:
    """(escaped text, is it the best) of each cell; one number of decimals for the whole column."""
    finite = [float(c) for c in cells if isinstance(c, Real) and math.isfinite(c)]
    decimals = 2 if max(map(abs, finite), default=0) >= 10 else 4

    def show(cell: Cell) -> str:
        if isinstance(cell, str) or (isinstance(cell, Integral) and not isinstance(cell, bool)):
            return escape(str(cell))
        if math.isnan(cell):
            return "\N{EN DASH}"
        return f"{cell:.{decimals}f}" if math.isfinite(cell) else "\N{INFINITY}"

    texts = [show(c) for c in cells]
    if not (best and finite):
        return [(t, False) for t in texts]
    target = max(finite) if best == "max" else min(finite)
    top = texts[next(i for i, c in enumerate(cells) if isinstance(c, Real) and c == target)]
    return [(t, t == top and isinstance(c, Real)) for t, c in zip(texts, cells, strict=True)]


_ARROWS = '<svg viewBox="0 0 36 36" aria-hidden="true"><path d="M14 13l-5 5 5 5M22 13l5 5-5 5"/></svg>'
_CSS = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5c6670; --rule: #dfe3e8; --page: #fff; --panel: #f6f7f9;
  --mark: #0b62c4; --tint: #e3effc;
  --c0: #0b62c4; --c1: #c8500a; --c2: #178048; --c3: #8a3ab9; --c4: #b8860b; --c5: #d02c5f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa4af; --rule: #30363d; --page: #111418; --panel: #1a1f25;
    --mark: #6cb2ff; --tint: #17314f;
    --c0: #5aa9ff; --c1: #ff9350; --c2: #4cc38a; --c3: #c792ea; --c4: #e0bd4f; --c5: #ff7a9c }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1100px; padding: 2.5rem 1.25rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 }
h2 { font-size: 1.25rem; letter-spacing: -.01em; margin: 0 0 .8rem }
h3 { font-size: .95rem; font-weight: 600; margin: 1.2rem 0 .5rem }
p { max-width: 70ch; margin: 0 0 .8rem }
a { color: var(--mark); text-underline-offset: .2em }
section { margin-top: 1.5rem } section[id] { margin-top: 3rem; scroll-margin-top: 1rem }
figure { margin: 0 } figcaption { margin-top: .4rem }
img { display: block; max-width: 100%; height: auto } .pixels { image-rendering: pixelated }
footer, figcaption, .note { color: var(--soft); font-size: .9rem }
.note { margin: .7rem 0 0 } header .note { font-size: 1.05rem; margin: .4rem 0 0 }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--rule) }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin-top: 1.2rem; padding: .6rem 0; font-size: .9rem;
  border-block: 1px solid var(--rule) }
nav a { text-decoration: none } nav a:hover { text-decoration: underline }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px }

.wide { overflow-x: auto }
table { border-collapse: collapse; min-width: min(100%, 36rem); font-variant-numeric: tabular-nums }
th, td { padding: .45rem .9rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule) }
thead th { color: var(--soft); font-size: .85rem; font-weight: 600 } tbody th { font-weight: 500 }
th:first-child { text-align: left; padding-left: 0 }
.best { font-weight: 700; color: var(--mark); background: var(--tint) }

.slider { --x: 50%; width: min(100%, 2px * var(--w), 82vh * var(--w) / var(--h)); min-width: min(100%, 18rem) }
.pick { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .5rem; margin-bottom: .5rem;
  font-size: .9rem; color: var(--soft) }
select { font: inherit; color: var(--ink); background: var(--panel); border: 1px solid var(--rule);
  border-radius: 6px; padding: .25rem .4rem }
.stage { position: relative; aspect-ratio: var(--w) / var(--h); overflow: hidden; border-radius: 6px;
  cursor: ew-resize; touch-action: pan-y pinch-zoom; user-select: none; -webkit-user-select: none }
.stage img, .stage input { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none }
.stage img { display: none } .stage .left, .stage .right { display: block }
.stage .left:not(.right) { z-index: 1; clip-path: inset(0 calc(100% - var(--x)) 0 0) }
.stage input { z-index: 2; margin: 0; opacity: 0 }
.divider { position: absolute; z-index: 3; inset: 0 auto 0 var(--x); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 0 1px #0006; pointer-events: none }
.divider svg { position: absolute; top: 50%; width: 36px; height: 36px; translate: -17px -50%; border-radius: 50%;
  background: #fff; box-shadow: 0 1px 6px #0007;
  fill: none; stroke: #222; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round }
:focus-visible ~ .divider svg { outline: 3px solid var(--mark); outline-offset: 2px }

.crops, .gallery { display: grid; gap: .8rem; margin-bottom: 1.2rem }
.crops { grid-template-columns: repeat(var(--n), minmax(0, var(--size))) }
.gallery { grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)) }
.crops img, .gallery img { width: 100%; border-radius: 3px }
.crops figcaption { line-height: 1.35 } .crops b { display: block; color: var(--ink); font-weight: 600 }

.c0 { --c: var(--c0) } .c1 { --c: var(--c1) } .c2 { --c: var(--c2) }
.c3 { --c: var(--c3) } .c4 { --c: var(--c4) } .c5 { --c: var(--c5) }
.chart > svg { display: block; width: 100%; height: auto } .chart > svg + svg { display: none }
.chart text { font: 12px system-ui, sans-serif; fill: var(--soft) }
.grid { stroke: var(--rule) } .axis { stroke: var(--soft) }
.chart polyline { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round }
.chart .raw { stroke-width: 1; opacity: .35 } .chart circle { fill: var(--c) }
.band { fill: none; pointer-events: all } .band:hover path { stroke: var(--soft); stroke-dasharray: 3 3 }
.chart ul { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: .5rem 0 0; padding: 0; list-style: none;
  font-size: .9rem }
.chart li::before { content: ""; display: inline-block; width: 1.1em; height: 3px; border-radius: 2px;
  margin: 0 .5em .25em 0; background: var(--c) }
.chart li span { color: var(--soft); font-variant-numeric: tabular-nums }

details { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: .6rem 1rem }
summary { cursor: pointer }
pre { overflow-x: auto; overflow-wrap: normal; font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace }

@media (max-width: 720px) {
  body { padding: 1.5rem 1rem } h1 { font-size: 1.6rem } section[id] { margin-top: 2.4rem }
  th, td { padding: .45rem .6rem }
  .crops, .gallery { grid-template-columns: repeat(2, minmax(0, var(--full, 1fr))) }
  .chart > svg { display: none } .chart > svg + svg { display: block; max-width: 32rem }
}
"""
_JS = """
for (const slider of document.querySelectorAll('.slider')) {
  const stage = slider.querySelector('.stage'), range = slider.querySelector('input');
  const images = [...slider.querySelectorAll('img')], [left, right] = slider.querySelectorAll('select');
  const move = x => {
    slider.style.setProperty('--x', x + '%');
    range.setAttribute('aria-valuetext', `${Math.round(x)} % ${left.selectedOptions[0].text}`);
  };
  const show = () => {
    images.forEach((image, i) => {
      image.classList.toggle('left', i == left.value);
      image.classList.toggle('right', i == right.value);
    });
    move(+range.value);
  };
  const drag = event => {
    const box = stage.getBoundingClientRect();
    const x = Math.min(100, Math.max(0, 100 * (event.clientX - box.left) / box.width));
    range.value = x;
    move(x);
  };
  stage.onpointerdown = event => { if (!event.button) { stage.setPointerCapture(event.pointerId); drag(event); } };
  stage.onpointermove = event => { if (stage.hasPointerCapture(event.pointerId)) drag(event); };
  stage.onmousedown = event => { event.preventDefault(); range.focus({ preventScroll: true }); };
  range.oninput = () => move(+range.value);
  left.onchange = right.onchange = show;
  show();
}
"""
