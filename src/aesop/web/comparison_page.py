"""The page that shows several methods side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

from aesop.evaluation.methods import BICUBIC, Best, Method
from aesop.options.config import TestConfig
from aesop.web.image_views import CROP, View
from aesop.web.page import Page

# Of the images on a page, of a side of one, of the sliders in all: beyond that browsers become slow.
MOST_IMAGES, LARGEST_SIDE, MOST_PIXELS = 24, 1200, 40_000_000


@dataclass(frozen=True)
class SetSummary:
    """A test set of `count` images: mean figures by method and metric, and what the page shows of its first images."""

    name: str
    count: int
    means: Mapping[str, Mapping[str, float]]
    views: Sequence[View]


def plan_page(counts: Mapping[str, int], methods: int, scale: int) -> tuple[dict[str, int], int]:
    """How many images of each set of so many a page shows, and the largest side of what is shown of one (see View.of).

    All sets get equally many, MOST_IMAGES in all, but one at least.
    """
    quotas = range(MOST_IMAGES, 0, -1)
    quota = next((q for q in quotas if sum(min(q, count) for count in counts.values()) <= MOST_IMAGES), 1)
    shown = {section: min(quota, count) for section, count in counts.items()}
    pixels = MOST_PIXELS // (sum(shown.values()) * (methods + 2))  # LR and HR are shown, too
    return shown, max(CROP, min(LARGEST_SIDE, isqrt(pixels)) // scale * scale)


def write_page(
    config: TestConfig, methods: Sequence[Method], sets: Sequence[SetSummary], columns: Mapping[str, tuple[str, Best]]
) -> Path:
    """Write `<results>/page.html`: tables, and for each image a slider and crops. Returns its path.

    Args:
        methods: in the order of the page, the tested network last.
        columns: metric -> its label, and which figure is the best.
    """
    page = Page(config.name, f"{methods[-1].name}, x{config.scale}, on {', '.join(each.name for each in sets)}")
    heading = "Figures"
    for each in sets:
        metrics = [metric for metric in columns if metric in each.means[methods[-1].name]]
        if metrics:
            page.table(
                heading,
                [each.name, *(columns[metric][0] for metric in metrics)],
                [[method.name, *(each.means[method.name][metric] for metric in metrics)] for method in methods],
                best=dict(columns[metric] for metric in metrics),
                caption=f"Means over all images of the set ({each.count}).",
            )
            heading = ""
    page.text("Methods", "\n\n".join(_origin(method) for method in methods))
    for each in sets:
        page.text(each.name, _introduction(each, config, methods[-1].name))
        for view in each.views:
            first, *others = (label for label in view.images if label != "HR")
            start = (BICUBIC if BICUBIC in others else first, others[-1])
            page.slider("", view.name, view.images, start=start, caption=view.caption)
            page.crops("", [view.crops])
    page.config("Configuration", config.to_yaml())
    return page.write(config.results_folder / "page.html")


def _origin(method: Method) -> str:
    tested = " (the tested network)" if method.tested else ""
    return f"{method.name}{tested}: {method.weights or 'interpolation as MATLAB does it'}"


def _introduction(each: SetSummary, config: TestConfig, tested: str) -> str:
    some = f"Shown: {len(each.views)} of {each.count} images; {where_all_are(config)}. "
    if "HR" in each.views[0].images:
        place = "bicubic loses most of it"
    else:
        place = f"{tested} differs most from {'bicubic' if 'LR' in each.views[0].images else 'its input'}"
    return f"{some if len(each.views) < each.count else ''}Below each image, enlarged: where {place}."


def where_all_are(config: TestConfig) -> str:
    """What to tell who misses images on the page."""
    saved = "all are" if config.val.save_img else "with val.save_img: true all are saved"
    return f"{saved} in the folder images beside the page"
