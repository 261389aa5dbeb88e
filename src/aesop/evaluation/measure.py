"""Measuring methods on the images of a test set."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch

from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import Image, View
from aesop.evaluation.methods import Method, Predictor
from aesop.images.errors import ImageError
from aesop.images.tensors import to_tensor
from aesop.images.write import write_image
from aesop.metrics.build import Metric
from aesop.system.device import float32_on_cuda
from aesop.system.distributed import World, gathered

Row = dict[str, str | float]  # {"image": name, metric: value, ...}
SaveImage = Callable[[str, np.ndarray], object]  # receives (name, SR)
Metrics = Mapping[str, Metric]
MeasureImage = Callable[[Image, Image | None], dict[str, float]]
"""(SR, HR or None) -> value by metric."""


@dataclass(frozen=True)
class ImageResults:
    """What was measured on one image: a row by method, and what the results of a set collect."""

    rows: Mapping[str, Row]
    missing: Sequence[str]
    notes: Sequence[tuple[str, str]]
    digests: Mapping[str, str]
    view: View | None


@dataclass(frozen=True)
class SetResults:
    """What was measured on one test set: by method one row per image, and views of the first images, for a page."""

    name: str
    rows: Mapping[str, list[Row]]
    views: Sequence[View]
    missing: Sequence[str] = ()
    """A line for each image of a method that could not be measured."""
    notes: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)
    """(HR or a method's name, what was done to its images) -> images."""
    digests: Sequence[Mapping[str, str]] = ()
    """Of each image, see `Sample.digests`, if asked for."""

    @classmethod
    def of(cls, pairs: MeasuredPairs, methods: Sequence[Method], found: Sequence[ImageResults]) -> Self:
        """From the results of all images, in order."""
        notes: dict[tuple[str, str], list[str]] = {}
        for pair, image in zip(pairs.pairs, found, strict=True):
            for note in image.notes:
                notes.setdefault(note, []).append(pair.name)
        return cls(
            pairs.name,
            {method.name: [image.rows[method.name] for image in found if method.name in image.rows] for method in methods},
            [image.view for image in found if image.view is not None],
            [line for image in found for line in image.missing],
            notes,
            [image.digests for image in found],
        )

    @property
    def count(self) -> int:
        return len(next(iter(self.rows.values())))

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """By method and metric."""
        return {method: averages(rows) for method, rows in self.rows.items()}


def measuring(metrics: Metrics, device: torch.device) -> MeasureImage:
    """A function that measures an image with all metrics; without HR with those that need no reference."""

    def measure_image(sr: Image, gt: Image | None) -> dict[str, float]:
        usable = {name: metric for name, metric in metrics.items() if gt is not None or not metric.info.needs_reference}
        compared = [to_tensor(image)[None].to(device) for image in (sr, gt) if image is not None]
        with torch.inference_mode(), float32_on_cuda(tf32=False):
            return {name: float(metric(*compared).item()) for name, metric in usable.items()}

    return measure_image


def measure(
    predict: Predictor, pairs: MeasuredPairs, metrics: Metrics, world: World, save: SaveImage | None = None
) -> list[Row]:
    """`measure_methods` for one method: one row per image."""
    methods, savers = [Method.of("", predict)], {"": save} if save else {}
    return measure_methods(methods, pairs, measuring(metrics, world.device), world, savers).rows[""]


def measure_methods(
    methods: Sequence[Method],
    pairs: MeasuredPairs,
    measure_image: MeasureImage,
    world: World,
    savers: Mapping[str, SaveImage],
    views: int = 0,
    view_side: int = 0,
    on_record: bool = False,
    tolerant: bool = False,
) -> SetResults:
    """Measure all methods on all images, save these, and keep a view of the first `views`.

    The processes of `world` share the images; every process gets all results. `view_side` is the largest side of a view in
    HR pixels. `on_record`: also return the digests of the images. A fault of an image is a ValueError that names it, or if
    `tolerant` a line in `missing`; the methods that it concerns then have no row for this image.
    """
    found = []
    for index in range(world.rank, len(pairs), world.size):
        missing = list[str]() if tolerant else None
        sample, rows, images = None, dict[str, Row](), dict[str, Image]()
        with _naming(pairs, index, "HR", missing):
            sample = pairs[index]
        for method in methods if sample else ():
            with _naming(pairs, index, method.name, missing):
                images[method.name] = sr = method.answer(sample)
                rows[method.name] = {"image": sample.name, **measure_image(sr, sample.gt)}
                if method.name in savers:
                    savers[method.name](sample.name, sr)
        seen = View.of(sample, images, pairs.scale, view_side) if index < views and len(rows) == len(methods) else None
        notes, digests = (sample.notes, sample.digests() if on_record else {}) if sample else ([], {})
        found.append(ImageResults(rows, missing or (), notes, digests, seen))
    return SetResults.of(pairs, methods, gathered(world, found))


@contextmanager
def _naming(pairs: MeasuredPairs, index: int, what: str, missing: list[str] | None) -> Generator[None]:
    """Make a ValueError name its image; with `missing`, add it there as a line instead of raising it."""
    try:
        yield
    except ValueError as error:
        pair, names_it = pairs.pairs[index], isinstance(error, ImageError)
        text = str(error) if names_it else f"{pair.source}: {error}"
        if missing is not None:
            missing.append(f"{pairs.name}, {pair.name}, {what}: {text}")
        elif names_it:
            raise
        else:
            raise ValueError(text) from error


def averages(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of every metric over the rows."""
    metrics = [name for name, value in rows[0].items() if isinstance(value, float)]
    return {name: float(np.mean([row[name] for row in rows])) for name in metrics}


def image_saver(folder: Path, suffix: str | None) -> SaveImage:
    """Writes `<folder>/<name>_<suffix>.png`."""
    return lambda name, image: write_image(folder / f"{name}{f'_{suffix}' if suffix else ''}.png", image)
