"""The page of `aesop test` that shows several methods side by side, and the parts that `aesop demo` shares with it."""

from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path

from aesop.evaluation.image_views import CROP, View
from aesop.evaluation.measure import SetResults
from aesop.evaluation.methods import BICUBIC, Method
from aesop.evaluation.results import Metric
from aesop.options.config import TestConfig
from aesop.web.page import Page

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
    page.section("Methods")
    page.facts({method.name: method.source or "interpolation as in MATLAB" for method in methods})
    for each in results:
        labels, shown = each.views[0].images, len(each.views)
        reference = "bicubic" if "LR" in labels else "its input"
        place = "bicubic loses most" if "HR" in labels else f"{tested} differs most from {reference}"
        some = f"Shown are {shown} of {each.count} images. " if shown < each.count else ""
        page.section(each.name)
        page.text(f"{some}The crops below each image show the place where {place}.")
        add_views(page, each.views)
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


def add_views(page: Page, views: Sequence[View]) -> None:
    """For each image a slider, which starts with bicubic and the last method, and a row of crops."""
    for view in views:
        first, *others = (label for label in view.images if label != "HR")
        start = (BICUBIC if BICUBIC in others else first, others[-1])
        page.slider(view.name, view.images, start, view.caption)
        page.crops(view.name, view.crops)
