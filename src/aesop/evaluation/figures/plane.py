"""The perception-distortion plane (Blau and Michaeli, CVPR 2018): each method is a point of two metrics.

Crosses are intervals of the mean; the staircase joins the methods that no other one beats in both metrics.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aesop.evaluation.combine import join_seeds, select
from aesop.evaluation.comparison import Estimate, compare
from aesop.evaluation.figures.drawing import COLOURS, FONT_SIZE, MARKERS, new_figure
from aesop.evaluation.figures.labels import Label, place_labels
from aesop.evaluation.figures.spec import PlaneSpec
from aesop.evaluation.front import staircase
from aesop.evaluation.published import published_for
from aesop.evaluation.results import Metric, Results
from aesop.web.page import Best

Range = tuple[float, float]
GRAY = "#767676"


@dataclass(frozen=True)
class Point:
    """A method on one test set; intervals are absolute limits. `reported`: where the figures are from, if not measured."""

    label: str
    x: float
    y: float
    x_interval: Range | None = None
    y_interval: Range | None = None
    reported: str = ""


@dataclass(frozen=True)
class Panel:
    test_set: str
    points: Sequence[Point]


def panels(spec: PlaneSpec, results: Results) -> list[Panel]:
    """The points of each test set. Raises ValueError, with the key of the YAML file, for what the results do not hold."""
    results = join_seeds(results, spec.seeds)
    methods = list(dict.fromkeys(method.seed_of or method.name for method in results.methods))
    sets = list(dict.fromkeys(name for method in results.methods for name in method.values))
    for key, names, known in (
        ("x", [spec.x], list(results.metrics)),
        ("y", [spec.y], list(results.metrics)),
        ("methods", spec.methods or [], methods),
        ("sets", spec.sets or [], sets),
    ):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{key}: the results hold no {unknown[0]}, but {', '.join(known)}")
    chosen = select(results, spec.methods or [], spec.sets or [], [spec.x, spec.y])
    reported = published_for(chosen, spec.reported) if spec.reported else []
    shown = {method.name for method, figures in reported for row in figures.values() if {spec.x, spec.y} <= row.keys()}
    if missing := [name for name in spec.reported if name not in shown]:
        metrics = f"{spec.x} and {spec.y}"
        raise ValueError(f"reported: no {metrics} of {missing[0]} were measured like these results, on one of their sets")
    found = []
    for each in compare(chosen).sets:
        points = [_point(spec, name, each.estimates.get(name, {}), each.name) for name in spec.methods or methods]
        for method, figures in reported:
            row = figures.get(each.name, {})
            if spec.x in row and spec.y in row:
                points.append(Point(spec.label(method.name), float(row[spec.x]), float(row[spec.y]), reported=method.short))
        found.append(Panel(each.name, points))
    return found


def _point(spec: PlaneSpec, name: str, estimates: Mapping[str, Estimate], test_set: str) -> Point:
    if lacks := [key for key in (spec.x, spec.y) if key not in estimates or not math.isfinite(estimates[key].mean)]:
        raise ValueError(f"methods: {name} lacks {lacks[0]} of some or all images of {test_set}; leave out one of them")
    x, y = estimates[spec.x], estimates[spec.y]
    of_x, of_y = (_interval(each) if spec.intervals else None for each in (x, y))
    return Point(spec.label(name), x.mean, y.mean, of_x, of_y)


def _interval(estimate: Estimate) -> Range | None:
    """None on small sets."""
    return (estimate.low, estimate.high) if math.isfinite(estimate.low) else None


def draw(spec: PlaneSpec, panels: Sequence[Panel], x: Metric, y: Metric) -> Any:
    """The figure; call it inside `drawing.style`."""
    columns = min(spec.columns or len(panels), len(panels))
    rows = math.ceil(len(panels) / columns)
    sources = list(dict.fromkeys(point.reported for panel in panels for point in panel.points if point.reported))
    note = 0.45 if sources else 0.0
    figure = new_figure(spec.width, rows * spec.height + note, spec.dpi)
    grid = figure.subplots(rows, columns, squeeze=False)
    order = list(dict.fromkeys(point.label for panel in panels for point in panel.points))  # colours are those of all panels
    for axes, panel in itertools.zip_longest(grid.flat, panels):
        if panel is None:
            axes.remove()
        else:
            _draw_points(axes, panel.points, _front_line(spec, panel, (x.best, y.best)), order)
            axes.set_xlabel(_axis_label(x))
            axes.set_ylabel(_axis_label(y))
            axes.set_title(panel.test_set)
    whole = rows * spec.height + note
    figure.tight_layout(pad=0.4, h_pad=1.5, rect=(0, note / whole, 1, 1))
    if sources:
        text = f"Hollow: as reported by {', '.join(sources)}, not measured here."
        figure.text(0.5, 0.12 / whole, text, ha="center", va="bottom", fontsize=FONT_SIZE - 1, color=GRAY)
    for axes, panel in zip(grid.flat, panels, strict=False):  # the layout is final now
        named = [each for each in panel.points if each.label]
        labels = [Label(each.label, (each.x, each.y), _colour(order.index(each.label))) for each in named]
        segments = [*itertools.pairwise(_front_line(spec, panel, (x.best, y.best)))]
        segments += [((each.x, each.y), (each.x, each.y)) for each in panel.points if not each.label]
        segments += [cross for point in panel.points for cross in _crosses(point)]
        place_labels(figure, axes, labels, segments)
    return figure


def _front_line(spec: PlaneSpec, panel: Panel, best: tuple[Best, Best]) -> list[tuple[float, float]]:
    measured = [(point.x, point.y) for point in panel.points if not point.reported]
    return staircase(measured, best) if spec.front and len(measured) > 1 else []


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _axis_label(metric: Metric) -> str:
    return f"{metric.label} {'↑' if metric.best == 'max' else '↓'}"


def _draw_points(axes: Any, points: Sequence[Point], line: Sequence[tuple[float, float]], order: Sequence[str]) -> None:
    if line:
        axes.plot(*zip(*line, strict=True), color="#b8b8b8", linewidth=0.9, dashes=(4, 2), zorder=1)
    for point in points:
        index = order.index(point.label)
        colour = _colour(index)
        for ends in _crosses(point):
            axes.plot(*zip(*ends, strict=True), color=colour, linewidth=0.7, alpha=0.7, zorder=2)
        face = "none" if point.reported else colour
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(
            point.x, point.y, marker, color=colour, markerfacecolor=face, markersize=4.2, markeredgewidth=0.9, zorder=3
        )
    axes.margins(0.14)
    axes.grid(color="#ececec", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _crosses(point: Point) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The lines of a point's intervals, from end to end."""
    across = [((end, point.y)) for end in point.x_interval or ()]
    upright = [((point.x, end)) for end in point.y_interval or ()]
    return [(ends[0], ends[1]) for ends in (across, upright) if ends]
