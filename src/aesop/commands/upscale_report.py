"""The page of `aesop upscale --report`: each picture before and after, and the map of what is not certain in it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import aesop
from aesop.commands.upscale_models import Upscalers
from aesop.commands.upscale_results import Result, counted
from aesop.inference.final_size import FinalSize
from aesop.inference.hallucination import FULL_COLOUR, overlaid, palette, read_map
from aesop.pictures.preview import shown
from aesop.web.page import Figure, Page

MOST_PICTURES = 24
LONGEST_SIDE = 1200
_EXPLANATION = f"""The map shows where a result has texture that its input did not determine. A value is the mean absolute
error to expect of a block of 8 x 8 pixels, in grey levels of 8 bits: black is certain, the brightest yellow stands for
{FULL_COLOUR} levels and more. It was calibrated on reduced photographs whose originals are known. It says nothing of a
single pixel, and nothing of what a photograph's camera got wrong.

A map that is called uncalibrated is of another model, another size, or a compressed picture: bright places are less certain
than dark ones, but values do not read as grey levels."""


def check_report(page: Path, may_replace: bool) -> None:
    """ValueError if the page cannot be written, before anything is computed."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--report {page}: the report is a page; give it a name that ends in .html")
    if page.is_dir() or not page.parent.is_dir():
        what = "is a folder" if page.is_dir() else f"the folder {page.parent} does not exist"
        raise ValueError(f"--report {page}: {what}")
    if page.exists() and not may_replace:
        raise ValueError(f"--report {page}: it exists; to replace it, add --overwrite")


def described(upscalers: Upscalers, size: FinalSize) -> Mapping[str, str]:
    """The settings that made the results."""
    upscaler = next(iter(upscalers))
    asked = {name: value for name, value in vars(size).items() if value is not None}
    return {
        "model": " or ".join(f"{each.name} (x{each.scale})" for each in upscalers),
        "weights": f"SHA-256 {'; '.join(each.weights for each in upscalers)}",
        "size": ", ".join(f"{name} {value:g}" for name, value in asked.items()) or "the network's scale",
        "computed": f"{upscaler.precision} by {upscaler.runtime} on {upscaler.device}",
        "texture": "that of the model" if upscaler.texture is None else f"{upscaler.texture:g}",
        "consistent": "yes" if upscaler.consistent else "no",
        "mean of eight turned passes": "yes" if upscaler.tta else "no",
        "program": f"AESOP {aesop.__version__}",
    }


def reported(
    results: Iterator[Result], page: Path, total: int, settings: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Result]:
    """Pass results on, and write the page when they end, also if they are interrupted."""
    report, done = _Report(settings, total), 0
    try:
        for result in results:
            report.add(result)
            done += not result.error
            yield result
    finally:
        if done:
            report.write(page)
            say(f"report: {page}")


class _Report:
    def __init__(self, settings: Mapping[str, str], total: int):
        self._page = Page("Upscaled pictures", f"{settings['model']}, {counted(total, 'picture')}")
        self._page.section("How to read the maps")
        self._page.text(_EXPLANATION)
        self._page.gallery([Figure(_colour_bar(), f"0 to {FULL_COLOUR} grey levels", lossless=True)])
        self._settings, self._shown, self._failed = settings, 0, dict[str, str]()
        self._left_out = 0

    def add(self, result: Result) -> None:
        if result.error:
            self._failed[str(result.source)] = result.error
        elif self._shown == MOST_PICTURES:
            self._left_out += 1
        else:
            self._shown += 1
            self._add_picture(result)

    def write(self, page: Path) -> None:
        self._page.section("Settings")
        self._page.facts(self._settings)
        if self._left_out:
            self._page.text(
                f"Shown are the first {MOST_PICTURES} pictures; {self._left_out} more have a map beside the result."
            )
        if self._failed:
            self._page.section("Failed")
            self._page.facts(self._failed)
        self._page.write(page)

    def _add_picture(self, result: Result) -> None:
        self._page.section(result.target.name)
        facts = {"model": result.model} if result.model else {}
        facts |= {"note": "; ".join(result.notes)} if result.notes else {}
        try:
            facts = self._add_views(result) | facts
        except (ValueError, OSError) as error:
            facts["not shown"] = str(error)
        self._page.facts(facts or {"map": "none"})

    def _add_views(self, result: Result) -> dict[str, str]:
        after = shown(result.target, LONGEST_SIDE)
        size = (after.shape[1], after.shape[0])
        views, facts = {"Result": after}, {}
        if result.source.is_file() and not result.source.samefile(result.target):
            before = cv2.resize(shown(result.source, LONGEST_SIDE), size, interpolation=cv2.INTER_CUBIC)
            views = {"Input, bicubic": before.astype(np.uint8)} | views
        if result.map:
            levels, meaning = read_map(result.map)
            views["Map"] = overlaid(after, levels)
            facts = {
                "map": meaning,
                "mean": f"{levels.mean():.1f}",
                "a tenth of the picture has at least": f"{np.quantile(levels, 0.9):.0f}",
            }
        self._page.slider(result.target.name, views, [*views][-2:] if len(views) > 1 else [*views] * 2)
        return facts | ({"size": f"{result.size[0]} x {result.size[1]} pixels"} if result.size else {})


def _colour_bar() -> NDArray[np.uint8]:
    return np.repeat(np.repeat(palette()[None, : FULL_COLOUR + 1], 10, axis=0), 8, axis=1)
