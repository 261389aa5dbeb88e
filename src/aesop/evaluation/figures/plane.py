"""The perception-distortion plane (Blau and Michaeli, CVPR 2018): each method is a point of two metrics.

Crosses are intervals of the mean; the staircase joins the methods that no other one beats in both metrics.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from aesop.evaluation.figures.drawing import COLOURS, FONT_SIZE, MARKERS, new_figure
from aesop.evaluation.figures.labels import Label, place_labels
from aesop.evaluation.figures.spec import PlaneSpec
from aesop.evaluation.published import reported_figures
from aesop.evaluation.results import Metric, Results
from aesop.web.page import Best

Range = tuple[float, float]
Interval = Callable[[Sequence[float]], Range]
"""From the values of images to the limits of their mean."""
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


def read_results(files: Sequence[str]) -> list[Results]:
    """Raises ValueError with the name of a file that is missing, or holds no results of `aesop measure`."""
    found = []
    for file in files:
        try:
            found.append(Results.from_json(Path(file).expanduser().read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{file} holds no results of this version ({where}: {first['msg']}): measure again") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from error
    return found


def panels(spec: PlaneSpec, results: Sequence[Results], interval: Interval | None) -> list[Panel]:
    """The points of each test set. Raises ValueError, with the key of the YAML file, for what the results do not hold."""
    scales = {each.scale for each in results}
    if len(scales) > 1:
        raise ValueError(f"results: they are of several scales ({', '.join(f'x{scale}' for scale in sorted(scales))})")
    for key in ("x", "y"):
        metric = getattr(spec, key)
        for file, each in zip(spec.results, results, strict=True):
            _check(key, [metric], list(each.metrics), f"metrics of {file}")
    methods = _methods(spec, results)
    known_sets = list(dict.fromkeys(name for trainings in methods.values() for each in trainings for name in each))
    _check("sets", spec.sets or [], known_sets, "test sets of the results")
    if spec.reported and scales != {4}:
        raise ValueError("reported: the published figures are for x4")
    return [Panel(test_set, _points(spec, methods, test_set, interval)) for test_set in spec.sets or known_sets]


def _check(key: str, asked: Sequence[str], known: Sequence[str], of_what: str) -> None:
    if unknown := [name for name in asked if name not in known]:
        raise ValueError(f"{key}: {', '.join(unknown)} is none of the {of_what}: {', '.join(known)}")


def _methods(spec: PlaneSpec, results: Sequence[Results]) -> dict[str, list[Any]]:
    """Method -> the values of each of its trainings; the methods in the order of the spec, or else of the results."""
    found: dict[str, list[Any]] = {}
    files: dict[str, str] = {}
    for file, each in zip(spec.results, results, strict=True):
        for method in each.methods:
            name = method.seed_of or method.name
            if files.setdefault(name, file) != file:
                raise ValueError(f"results: {files[name]} and {file} both hold a method {name}: rename it in one of them")
            found.setdefault(name, []).append(method.values)
    _check("methods", spec.methods or [], list(found), "methods of the results")
    return {name: found[name] for name in spec.methods or found}


def _points(spec: PlaneSpec, methods: dict[str, list[Any]], test_set: str, interval: Interval | None) -> list[Point]:
    points = []
    for name, trainings in methods.items():
        x, y = (_image_values(trainings, test_set, metric, name) for metric in (spec.x, spec.y))
        of_x, of_y = (interval(values) if interval and spec.intervals else None for values in (x, y))
        points.append(Point(spec.label(name), fmean(x), fmean(y), of_x, of_y))
    figures = {(each.method, each.metric): each for each in reported_figures(spec.reported, [test_set], [spec.x, spec.y])}
    for name in spec.reported:
        pair = [figures.get((name, metric)) for metric in (spec.x, spec.y)]
        if pair[0] and pair[1]:
            points.append(Point(spec.label(name), pair[0].value, pair[1].value, reported=pair[0].source.short))
    return points


def _image_values(trainings: Sequence[Any], test_set: str, metric: str, method: str) -> list[float]:
    """One value for each image: the mean over the trainings."""
    columns = [
        [image.get(metric, math.nan) for _, image in sorted(values.get(test_set, {}).items())] for values in trainings
    ]
    if not all(columns) or len({len(column) for column in columns}) > 1 or any(map(math.isnan, itertools.chain(*columns))):
        raise ValueError(
            f"methods: {method} lacks {metric} of some or all images of {test_set}; leave it out with methods or sets"
        )
    return [fmean(values) for values in zip(*columns, strict=True)]


def front(points: Sequence[tuple[float, float]], best: tuple[Best, Best]) -> list[int]:
    """Indices, in the order of x, of the points that no other one equals or beats in both coordinates and beats in one."""
    signs = [1 if direction == "max" else -1 for direction in best]
    gains = [(signs[0] * x, signs[1] * y) for x, y in points]

    def is_beaten(own: tuple[float, float]) -> bool:
        return any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in gains)

    return sorted((index for index, own in enumerate(gains) if not is_beaten(own)), key=lambda index: points[index])


def staircase(points: Sequence[tuple[float, float]], best: tuple[Best, Best]) -> list[tuple[float, float]]:
    """The corners of the line through the front: between two of its points lies what both of them beat or equal."""
    worse = [min if direction == "max" else max for direction in best]
    chosen = [points[index] for index in front(points, best)]
    line = chosen[:1]
    for before, after in itertools.pairwise(chosen):
        line += [(worse[0](before[0], after[0]), worse[1](before[1], after[1])), after]
    return line


def draw(spec: PlaneSpec, panels: Sequence[Panel], x: Metric, y: Metric) -> Any:
    """The figure; call it inside `drawing.style`."""
    columns = min(spec.columns or len(panels), len(panels))
    rows = math.ceil(len(panels) / columns)
    sources = list(dict.fromkeys(point.reported for panel in panels for point in panel.points if point.reported))
    note = 0.45 if sources else 0.0
    figure = new_figure(spec.width, rows * spec.height + note, spec.dpi)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in itertools.zip_longest(grid.flat, panels):
        if panel is None:
            axes.remove()
        else:
            _draw_points(axes, panel.points, _front_line(spec, panel, (x.best, y.best)))
            axes.set_xlabel(_axis_label(x))
            axes.set_ylabel(_axis_label(y))
            axes.set_title(panel.test_set)
    whole = rows * spec.height + note
    figure.tight_layout(pad=0.4, rect=(0, note / whole, 1, 1))
    if sources:
        text = f"Hollow: as reported by {', '.join(sources)}, not measured here."
        figure.text(0.5, 0.12 / whole, text, ha="center", va="bottom", fontsize=FONT_SIZE - 1, color=GRAY)
    for axes, panel in zip(grid.flat, panels, strict=False):  # the layout is final now
        labels = [Label(each.label, (each.x, each.y), _colour(index)) for index, each in enumerate(panel.points)]
        segments = [*itertools.pairwise(_front_line(spec, panel, (x.best, y.best)))]
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


def _draw_points(axes: Any, points: Sequence[Point], line: Sequence[tuple[float, float]]) -> None:
    if line:
        axes.plot(*zip(*line, strict=True), color="#b8b8b8", linewidth=0.9, dashes=(4, 2), zorder=1)
    for index, point in enumerate(points):
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
