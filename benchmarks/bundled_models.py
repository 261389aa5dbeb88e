"""Measure the bundled models on photographs as the web has them.

    python benchmarks/bundled_models.py --data FOLDER [--models clean web] [--compare FILE ...] [--sheets FOLDER]
        [--record NAME]

The HR photographs in FOLDER are reduced to a quarter, by MATLAB's bicubic interpolation and by area, and saved without loss
and as JPEG of the qualities 95 to 40. Each is enlarged by bicubic interpolation and by the bundled models of --models;
those of the qualities in COMPARED also by the networks of --compare.
LPIPS needs weights, which AESOP_WEIGHTS names. --sheets writes what the methods make of each photograph, reduced by area
and saved with SHEET_QUALITY, side by side.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch

from aesop import Upscaler
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import Image
from aesop.evaluation.measure import MeasureImage, measuring
from aesop.images.resize import imresize
from aesop.images.write import write_image
from aesop.inference.shipped_models import CLEAN, WEB
from aesop.metrics.build import make_metrics
from aesop.options.validation import MetricOptions
from enlarged_photographs import CPU, compressed, photographs
from record import described, write

SCALE = 4
QUALITIES = (None, 95, 90, 85, 80, 60, 40)
COMPARED = (None, 80, 60, 40)
SHEET_QUALITY = 60
BICUBIC = "bicubic"


def by_area(hr: Image) -> Image:
    size = hr.shape[1] // SCALE, hr.shape[0] // SCALE
    return cv2.resize(hr, size, interpolation=cv2.INTER_AREA)


REDUCTIONS: dict[str, Callable[[Image], Image]] = {"bicubic": lambda hr: imresize(hr, 1 / SCALE), "area": by_area}


@dataclass(frozen=True)
class Input:
    """A photograph that was reduced and saved."""

    name: str
    quality: int | None
    reduction: str
    hr: Image
    lr: Image


def inputs(pairs: MeasuredPairs, number: int) -> Iterator[Input]:
    sample = pairs[number]
    assert sample.gt is not None
    for reduction, reduce in REDUCTIONS.items():
        lr = reduce(sample.gt)
        for quality in QUALITIES:
            yield Input(sample.name, quality, reduction, sample.gt, lr if quality is None else compressed(lr, quality))


@dataclass(frozen=True)
class Found:
    """What was measured on one input."""

    quality: int | None
    values: dict[str, dict[str, float]]
    """By method and metric."""


@dataclass(frozen=True)
class Work:
    """What a process does with a photograph."""

    pairs: MeasuredPairs
    models: Sequence[str]
    compare: Sequence[str]
    sheets: Path | None

    def __call__(self, number: int) -> list[Found]:
        networks, measure = _loaded(tuple(self.models), tuple(self.compare))
        found = []
        for given in inputs(self.pairs, number):
            made = {BICUBIC: imresize(given.lr, SCALE)}
            for name, upscale in networks.items():
                if name in self.models or given.quality in COMPARED:
                    made[name] = upscale(given.lr)
            values = {name: measure(image, given.hr) for name, image in made.items()}
            found.append(Found(given.quality, values))
            if self.sheets and (given.quality, given.reduction) == (SHEET_QUALITY, "area"):
                write_image(self.sheets / f"{given.name}.png", np.hstack([*made.values(), given.hr]))
        return found


@cache
def _loaded(models: tuple[str, ...], compare: tuple[str, ...]) -> tuple[dict[str, Upscaler], MeasureImage]:
    """Networks and metrics of this process, which computes with one thread."""
    networks = {name: Upscaler(name, "cpu", "fp32", threads=1) for name in models}
    networks |= {Path(file).stem: Upscaler(file, "cpu", threads=1) for file in compare}
    torch.set_num_threads(1)
    return networks, measuring(make_metrics({name: MetricOptions() for name in ("psnr", "lpips")}, SCALE, CPU), CPU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="HR photographs")
    parser.add_argument(
        "--models", nargs="*", default=[CLEAN, WEB], choices=[CLEAN, WEB], help="bundled models (default: both)"
    )
    parser.add_argument("--compare", nargs="*", default=[], metavar="FILE", help="x4 weight files")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="N of the photographs, evenly spread")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="write pictures to look at, one for each photograph")
    parser.add_argument("--record", metavar="NAME", help="write results/NAME_<date>_cpu.json, such as bundled_models")
    arguments = parser.parse_args()
    ((data, pairs),) = photographs([arguments.data], SCALE).items()
    pairs.limit(arguments.limit)
    values: dict[tuple[str, int | None], list[dict[str, float]]] = defaultdict(list)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        for number, found in enumerate(
            processes.map(Work(pairs, arguments.models, arguments.compare, arguments.sheets), range(len(pairs))), 1
        ):
            print(f"{number} of {len(pairs)} photographs", file=sys.stderr)
            for each in found:
                for name, row in each.values.items():
                    values[name, each.quality].append(row)
    rows = list(tabulated(values))
    if arguments.record:
        write(arguments.record, described(CPU) | {"data": data, "count": len(pairs), "rows": rows})


def tabulated(values: dict[tuple[str, int | None], list[dict[str, float]]]) -> Iterator[dict[str, Any]]:
    """Print PSNR and LPIPS, methods by qualities, and return the rows."""
    print(f"| PSNR / LPIPS | {' | '.join(map(labelled, QUALITIES))} |")
    print("| --- " * (len(QUALITIES) + 1) + "|")
    for name in [*dict.fromkeys(name for name, _ in values)]:
        cells = []
        for quality in QUALITIES:
            if not values[name, quality]:
                cells.append("")
                continue
            found = {metric: mean(row[metric] for row in values[name, quality]) for metric in ("psnr", "lpips")}
            cells.append(f"{found['psnr']:.2f} / {found['lpips']:.4f}")
            yield {"method": name, "jpeg": quality, **found}
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def labelled(quality: int | None) -> str:
    return f"JPEG {quality}" if quality else "without loss"


if __name__ == "__main__":
    main()
