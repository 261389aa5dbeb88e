"""Measuring methods on the images of a test set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import View
from aesop.evaluation.methods import Method, Predictor
from aesop.images.tensors import to_tensor
from aesop.images.write import write_image
from aesop.metrics.build import Metric
from aesop.system.device import float32_on_cuda
from aesop.system.distributed import World, gathered

Row = dict[str, str | float]  # {"image": name, metric: value, ...}
SaveImage = Callable[[str, np.ndarray], object]  # receives (name, SR)
Metrics = Mapping[str, Metric]


@dataclass(frozen=True)
class SetResults:
    """What was measured on one test set: by method one row per image, and views of the first images, for a page."""

    name: str
    rows: Mapping[str, list[Row]]
    views: Sequence[View]

    @property
    def count(self) -> int:
        return len(next(iter(self.rows.values())))

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """By method and metric."""
        return {method: averages(rows) for method, rows in self.rows.items()}


def measure(
    predict: Predictor, pairs: MeasuredPairs, metrics: Metrics, world: World, save: SaveImage | None = None
) -> list[Row]:
    """`measure_methods` for one method: one row per image."""
    return measure_methods([Method("", predict)], pairs, metrics, world, {"": save} if save else {}).rows[""]


def measure_methods(
    methods: Sequence[Method],
    pairs: MeasuredPairs,
    metrics: Metrics,
    world: World,
    savers: Mapping[str, SaveImage],
    views: int = 0,
    view_side: int = 0,
) -> SetResults:
    """Measure all methods on all images, save these, and keep a view of the first `views`. A ValueError names its image.

    Without HR, only metrics that need no reference are measured. The processes of `world` share the images; every process
    gets all results. `view_side` is the largest side of a view in HR pixels.
    """
    measured = []
    for index in range(world.rank, len(pairs), world.size):
        sample, rows, images = pairs[index], {}, {}
        name, lq, gt = sample["name"], sample["lq"], sample["gt"]
        usable = {key: metric for key, metric in metrics.items() if gt is not None or not metric.info.needs_reference}
        for method in methods:
            try:
                images[method.name] = sr = method.predict(lq, gt)
                compared = [to_tensor(image)[None].to(world.device) for image in (sr, gt) if image is not None]
                with torch.inference_mode(), float32_on_cuda(tf32=False):
                    row = {key: float(metric(*compared).item()) for key, metric in usable.items()}
            except ValueError as error:
                raise ValueError(f"{pairs.pairs[index].source}: {error}") from error
            rows[method.name] = {"image": name, **row}
            if method.name in savers:
                savers[method.name](name, sr)
        measured.append((rows, View.of(sample, images, pairs.scale, view_side) if index < views else None))
    measured = gathered(world, measured)
    by_method = {method.name: [rows[method.name] for rows, _ in measured] for method in methods}
    return SetResults(pairs.name, by_method, [view for _, view in measured if view is not None])


def averages(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of every metric over the rows."""
    metrics = [name for name, value in rows[0].items() if isinstance(value, float)]
    return {name: float(np.mean([row[name] for row in rows])) for name in metrics}


def image_saver(folder: Path, suffix: str | None) -> SaveImage:
    """Writes `<folder>/<name>_<suffix>.png`."""
    return lambda name, image: write_image(folder / f"{name}{f'_{suffix}' if suffix else ''}.png", image)
