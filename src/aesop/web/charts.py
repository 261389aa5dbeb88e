"""Curves as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Points = Sequence[tuple[float, float]]
MAX_SERIES, MAX_POINTS = 6, 400


def _number(value: float) -> str:
    if not 1e4 <= abs(value) < 1e9:
        return f"{value:.4g}"
    return f"{value / 1e6:.4g}M" if abs(value) >= 1e6 else f"{value / 1e3:.4g}k"


@dataclass(frozen=True, eq=False)
class _Line:
    """A series ready to draw: sorted, thinned to the means of MAX_POINTS bins; y is log10 where the axis is."""

    x: NDArray[np.float64]
    raw: NDArray[np.float64]
    smooth: NDArray[np.float64]
    log: bool

    @classmethod
    def of(cls, points: Points, log: bool) -> "_Line":
        x, y = np.array(list(points), dtype=np.float64).reshape(-1, 2).T
        keep = (np.abs(x) < 1e100) & (np.abs(y) < 1e100) & ((y > 0) | (not log))  # false for NaN
        order = np.argsort(x[keep], kind="stable")
        x, y = x[keep][order], y[keep][order]
        y = np.log10(y) if log else y
        if len(x) > MAX_POINTS:
            x, y = (np.array([part.mean() for part in np.array_split(v, MAX_POINTS)]) for v in (x, y))
        reach = len(x) // 50  # short series stay as they are
        kernel = np.exp(-0.5 * np.linspace(-2, 2, 2 * reach + 1) ** 2) if reach else np.ones(1)
        inside = slice(reach, reach + len(y))
        smooth = np.convolve(y, kernel)[inside] / np.convolve(np.ones_like(y), kernel)[inside] if reach else y
        return cls(x, y, smooth, log)

    def value(self, i: int) -> float:
        return float(10 ** self.smooth[i] if self.log else self.smooth[i])


def _step(low: float, high: float, count: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts [low, high] into at most `count` pieces."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    return power * next(m for m in (1, 2, 5, 10, 20) if (high - low) / (m * power) <= count)


def _ticks(low: float, high: float, count: int) -> list[float]:
    step = _step(low, high, count)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers as log10 values; a short axis gets those of a linear one."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [t for e in exponents for m in digits if low <= (t := e + math.log10(m)) <= high]
        if 3 <= len(ticks) <= 8:
            return ticks
    if len(ticks) > 8:
        return ticks[:: math.ceil(len(ticks) / 7)]
    return [math.log10(v) for v in _ticks(10**low, 10**high, 5) if v > 0]


def _chart(lines: Mapping[str, _Line], size: tuple[int, int], x_label: str, y_label: str, log: bool) -> str:
    """One SVG; a page carries a wide and a narrow one, so that the letters keep their size on a phone."""
    width, height = size
    drawn = {i: line for i, line in enumerate(lines.values()) if len(line.x)}
    if not drawn:
        return ""
    xs = np.concatenate([line.x for line in drawn.values()])
    # A few wild first values must not flatten all that follows: the raw lines count without their extreme percents.
    ys = np.concatenate([v for line in drawn.values() for v in (line.smooth, np.percentile(line.raw, [1, 99]))])
    (x0, x1), (y0, y1) = ((float(v.min()), float(v.max())) for v in (xs, ys))
    x0, x1 = (x0, x1) if x1 - x0 > 1e-9 * max(abs(x1), 1e-9) else (x0 - 0.5, x1 + 0.5)
    step = _step(x0, x1, width // 90)  # an axis that all but reaches a round number goes up to it
    outer = ((x0, step * math.floor(x0 / step)), (x1, step * math.ceil(x1 / step)))
    x0, x1 = (tick if abs(x - tick) < 0.1 * step else x for x, tick in outer)
    pad = 0.04 * (y1 - y0) if y1 - y0 > 1e-9 * max(abs(y1), 1e-9) else 0.1 * (abs(y1) or 1)
    y0, y1 = y0 - pad, y1 + pad
    y_ticks = [(t, _number(10**t if log else t)) for t in (_log_ticks(y0, y1) if log else _ticks(y0, y1, 6))]
    left, right = 10 + 7 * max((len(text) for _, text in y_ticks), default=1), width - 14
    top, bottom = 28, height - 42

    def px(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return left + (np.asarray(x) - x0) / (x1 - x0) * (right - left)

    def py(y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return bottom - (np.asarray(y) - y0) / (y1 - y0) * (bottom - top)

    out = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(f"{y_label} over {x_label}")}">',
        f'<text x="0" y="14">{escape(y_label)}</text>',
        f'<text x="{right}" y="{height - 6}" text-anchor="end">{escape(x_label)}</text>',
    ]
    for t, text in y_ticks:
        out.append(f'<path class="grid" d="M{left} {py(t):.1f}H{right}"/>')
        out.append(f'<text x="{left - 6}" y="{py(t) + 4:.1f}" text-anchor="end">{text}</text>')
    for t in _ticks(x0, x1, width // 90):
        anchor = "end" if px(t) > right - 12 else "middle"
        out.append(f'<text x="{px(t):.1f}" y="{bottom + 18}" text-anchor="{anchor}">{_number(t)}</text>')
        out.append(f'<path class="axis" d="M{px(t):.1f} {bottom}v4"/>')
    out.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    box = f"{left - 4} {top - 4} {right - left + 8} {bottom - top + 8}"  # an inner svg clips; room for half a dot
    x, y, w, h = box.split()
    out.append(f'<svg x="{x}" y="{y}" width="{w}" height="{h}" viewBox="{box}">')
    for i, line in drawn.items():
        for css, ys in (("raw", line.raw), ("line", line.smooth)):
            if css == "line" or line.raw is not line.smooth:
                points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px(line.x), py(ys), strict=True))
                out.append(f'<polyline class="{css} c{i}" points="{points}"/>')
        if len(line.x) <= 30:
            dots = zip(px(line.x), py(line.raw), strict=True)
            out += [f'<circle class="c{i}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in dots]
    out.append("</svg>")
    bands = min(100, len(np.unique(xs)))
    step = (right - left) / bands
    for k in range(bands):
        x = x0 + (k + 0.5) / bands * (x1 - x0)
        values = [
            f"{name}: {_number(line.value(int(np.abs(line.x - x).argmin())))}"
            for name, line in lines.items()
            if len(line.x) and line.x[0] - (x1 - x0) / bands <= x <= line.x[-1] + (x1 - x0) / bands
        ]
        title = escape("\n".join([f"{x_label} {x:.6g}", *values]))
        out.append(f'<g class="band"><title>{title}</title><rect x="{left + k * step:.1f}" y="{top}" width="{step:.1f}" ')
        out.append(f'height="{bottom - top}"/><path d="M{px(x):.1f} {top}V{bottom}"/></g>')
    return "".join(out) + "</svg>"
