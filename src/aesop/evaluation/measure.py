"""Measuring methods on the images of a test set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import View
from aesop.evaluation.methods import Method, Predictor
from aesop.images.tensors import to_tensor
from aesop.images.write import write_image
from aesop.metrics.build import Metric
from aesop.system.distributed import World, gathered

Row = dict[str, str | float]
"""{"image": name, metric: value, ...}"""
SaveImage = Callable[[str, np.ndarray], None]
"""Receives (name, SR)."""


@dataclass(frozen=True)
class SetResults:
    """What was measured on one test set."""

    name: str
    rows: Mapping[str, list[Row]]
    """By method: one row per image."""
    views: Sequence[View]
    """Parts of the first images, for a page."""

    @property
    def count(self) -> int:
        return len(next(iter(self.rows.values())))

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """By method and metric."""
        return {method: averages(rows) for method, rows in self.rows.items()}


def measure(
    predict: Predictor,
    pairs: MeasuredPairs,
    metrics: Mapping[str, Metric],
    device: torch.device,
    save: SaveImage | None = None,
    world: World = World(),  # noqa: B008
) -> list[Row]:
    """`measure_methods` for one method: one row per image."""
    savers = {"": save} if save else None
    return measure_methods([Method("", predict)], pairs, metrics, replace(world, device=device), savers=savers).rows[""]


def measure_methods(
    methods: Sequence[Method],
    pairs: MeasuredPairs,
    metrics: Mapping[str, Metric],
    world: World = World(),  # noqa: B008
    *,
    savers: Mapping[str, SaveImage] | None = None,
    views: int = 0,
    view_side: int = 0,
) -> SetResults:
    """Measure all methods on all images. Without HR, only metrics that need no reference are measured.

    The processes of `world` share the images; every process gets all results.

    Args:
        savers: by method, where to save the images.
        views: how many images to keep a view of.
        view_side: largest side of a view in HR pixels.

    Raises:
        ValueError: naming the image that cannot be measured, and why.
    """
    measured = []
    for index in range(world.rank, len(pairs), world.size):
        sample, rows, images = pairs[index], {}, {}
        for method in methods:
            try:
                sr = method.predict(sample["lq"], sample["gt"])
                row = _measure_image(sr, sample["gt"], metrics, world.device)
            except ValueError as error:
                raise ValueError(f"{pairs.pairs[index].source}: {error}") from error
            rows[method.name], images[method.name] = {"image": sample["name"], **row}, sr
            if savers:
                savers[method.name](sample["name"], sr)
        measured.append((rows, View.of(sample, images, pairs.scale, view_side) if index < views else None))
    measured = gathered(world, measured)
    by_method = {method.name: [rows[method.name] for rows, _ in measured] for method in methods}
    return SetResults(pairs.name, by_method, [view for _, view in measured if view is not None])


@torch.inference_mode()
def _measure_image(
    sr: np.ndarray, hr: np.ndarray | None, metrics: Mapping[str, Metric], device: torch.device
) -> dict[str, float]:
    images = [to_tensor(image)[None].to(device) for image in (sr, hr) if image is not None]
    usable = {name: metric for name, metric in metrics.items() if hr is not None or not metric.info.needs_reference}
    return {name: float(metric(*images).item()) for name, metric in usable.items()}


def averages(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of every metric over the rows."""
    metrics = [name for name, value in rows[0].items() if isinstance(value, float)]
    return {name: float(np.mean([row[name] for row in rows])) for name in metrics}


def image_saver(folder: Path, suffix: str | None) -> SaveImage:
    """Writes `<folder>/<name>_<suffix>.png`."""
    return lambda name, image: write_image(folder / f"{name}{f'_{suffix}' if suffix else ''}.png", image)
