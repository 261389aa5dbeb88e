"""The page of `aesop test` that shows several methods side by side, and the parts that `aesop demo` shares with it."""

import math
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path

import numpy as np

from aesop.evaluation.front import staircase
from aesop.evaluation.image_views import CROP
from aesop.evaluation.measure import SetResults
from aesop.evaluation.methods import BICUBIC, Method
from aesop.evaluation.results import Metric
from aesop.evaluation.shown_values import shown_values
from aesop.evaluation.statistics import mean_intervals
from aesop.options.config import TestConfig
from aesop.web.page import Page, Plane, PlanePoint

# Limits of a page, beyond which browsers become slow. LARGEST_SIDE and MOST_PIXELS count what the sliders show.
MOST_IMAGES, LARGEST_SIDE, MOST_PIXELS = 24, 1200, 40_000_000
Metrics = Mapping[str, Metric]


def plan_views(counts: Mapping[str, int], methods: int, scale: int) -> tuple[dict[str, int], int]:
    """(How many images of each test set the page shows, largest side of a view), from the sets' sizes.

    All sets get the same number, at least one; at most MOST_IMAGES in all unless there are more sets.
    """
    quotas = range(MOST_IMAGES, 0, -1)
    quota = next((q for q in quotas if sum(min(q, count) for count in counts.values()) <= MOST_IMAGES), 1)
    shown = {section: min(quota, count) for section, count in counts.items()}
    pixels = MOST_PIXELS // (sum(shown.values()) * (methods + 2))  # the methods, LR and HR
    return shown, max(CROP, min(LARGEST_SIDE, isqrt(pixels)) // scale * scale)


def write_comparison_page(config: TestConfig, methods: list[Method], results: list[SetResults], metrics: Metrics) -> Path:
    """Write `<results>/page.html` with tables, and for each image a slider and crops; return its path."""
    tested = methods[-1].name
    page = Page(config.name, f"{tested}, x{config.scale}, on {', '.join(each.name for each in results)}")
    measured = [each for each in results if each.means[tested]]
    if measured:
        page.section("Results")
    for each in measured:
        add_table(page, each, metrics, f"Means over all images of the set ({each.count}).")
    add_planes(page, measured, metrics)
    page.section("Methods")
    page.facts({method.name: method.source or "interpolation as in MATLAB" for method in methods})
    for each in results:
        labels, shown = each.views[0].images, len(each.views)
        reference = "bicubic" if "LR" in labels else "its input"
        place = "bicubic loses most" if "HR" in labels else f"{tested} differs most from {reference}"
        some = f"Shown are {shown} of {each.count} images. " if shown < each.count else ""
        page.section(each.name)
        page.text(f"{some}The crops below each image show the place where {place}.")
        add_views(page, each, metrics)
    page.section("Configuration")
    page.folded({"Resolved options": config.to_yaml()})
    return page.write(config.results_folder / "page.html")


def add_table(page: Page, results: SetResults, metrics: Metrics, caption: str) -> None:
    """One row per method, one column per metric that was measured."""
    means = results.means
    measured = {name: metric for name, metric in metrics.items() if name in next(iter(means.values()))}
    rows = [[method, *(values[name] for name in measured)] for method, values in means.items()]
    best = {metric.label: metric.best for metric in measured.values()}
    page.table([results.name, *best], rows, best, caption)


def plane_axes(metrics: Metrics) -> tuple[str, str] | None:
    """The first metric of which large values are better, and the first of which small ones are; None if there is none."""
    firsts = [next((name for name, metric in metrics.items() if metric.best == best), None) for best in ("max", "min")]
    return (firsts[0], firsts[1]) if firsts[0] and firsts[1] else None


def add_planes(page: Page, results: Sequence[SetResults], metrics: Metrics) -> None:
    """The perception-distortion plane of each set on which several methods were measured by both kinds of metrics."""
    axes = plane_axes(metrics)
    planes = [plane for each in results if axes and (plane := _plane(each, metrics, *axes))]
    if planes:
        caption = "Crosses are 95 % intervals of the means. No method beats those on the dashed line in both metrics."
        page.planes(planes, caption)


def _plane(results: SetResults, metrics: Metrics, x: str, y: str) -> Plane | None:
    columns = {method: np.array([values_of(results, method, key) for key in (x, y)]) for method in results.rows}
    columns = {method: values for method, values in columns.items() if np.isfinite(values).all()}
    if len(columns) < 2:
        return None
    means = {method: dict(zip((x, y), map(float, values.mean(1)), strict=True)) for method, values in columns.items()}
    texts = shown_values({key: metrics[key] for key in (x, y)}, means)
    points = []
    for method, values in columns.items():
        of_x, of_y = ((float(low), float(high)) if np.isfinite(low) else None for low, high in mean_intervals(values))
        note = " / ".join(text for text, _ in texts[method])
        points.append(PlanePoint(method, means[method][x], means[method][y], of_x, of_y, note=note))
    line = staircase([(point.x, point.y) for point in points], (metrics[x].best, metrics[y].best))
    return Plane(results.name, points, line, f"{metrics[x].label} ↑", f"{metrics[y].label} ↓")


def values_of(results: SetResults, method: str, metric: str) -> list[float]:
    """Of all images; NaN where the metric was not measured."""
    return [float(row.get(metric, math.nan)) for row in results.rows[method]]


def add_views(page: Page, results: SetResults, metrics: Metrics) -> None:
    """For each image a slider, which starts with bicubic and the last method, and a row of crops with the image's values."""
    shown = {key: metrics[key] for key in plane_axes(metrics) or list(metrics)[:1]}
    values: dict[str, dict[str, dict[str, float]]] = {}
    for method, rows in results.rows.items():
        for row in rows:
            measured = {key: float(row[key]) for key in shown if key in row}
            if measured:
                values.setdefault(str(row["image"]), {})[method] = measured
    for view in results.views:
        first, *others = (label for label in view.images if label != "HR")
        start = (BICUBIC if BICUBIC in others else first, others[-1])
        left, top = view.crop.left - view.part.left, view.crop.top - view.part.top
        page.slider(view.name, view.images, start, view.caption, (left, top, view.crop.width, view.crop.height))
        page.crops(view.name, view.crops, shown_values(shown, values.get(view.name, {})))
