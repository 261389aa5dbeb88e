"""Measuring the answers to the images of a set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from aesop.archs import AutoEncoder
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.methods import Answer, Method
from aesop.images.resize import mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.images.write import write_image
from aesop.inference.tiling import upscale_image
from aesop.metrics.build import Metric
from aesop.options.config import Config
from aesop.system.device import autocast, is_out_of_memory
from aesop.system.distributed import World, gathered, share_of
from aesop.web.image_views import View

Row = dict[str, str | float]


def predict(
    net: nn.Module,
    lq: np.ndarray,
    gt: np.ndarray | None,
    scale: int,
    device: torch.device,
    precision: str = "fp32",
    tile: int = 0,
) -> np.ndarray:
    """The network's 8-bit answer for a pair of uint8 images: SR from LR; an auto-encoder's estimate from HR.

    Without HR (`gt` None) `lq` is the image itself, which an auto-encoder gets cut to multiples of the scale.

    Args:
        tile: a generator sees tiles of at most so many LR pixels a side; 0, and for auto-encoders: whole images.
    """
    if not isinstance(net, AutoEncoder):
        return upscale_image(net, lq, scale, tile=tile, device=device, precision=precision)
    image = mod_crop(lq, scale) if gt is None else gt
    try:
        with torch.inference_mode(), autocast(device, precision):
            return to_array(net(to_tensor(image)[None].to(device))[0].float().cpu())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        height, width = image.shape[:2]
        raise MemoryError(
            f"out of memory on {device}: an auto-encoder sees whole images, and {width}x{height} is too much; measure "
            "smaller ones, or set device=cpu"
        ) from error


def measure(
    answer: Answer,
    pairs: MeasuredPairs,
    metrics: Mapping[str, Metric],
    device: torch.device,
    save: Callable[[str, np.ndarray], None] | None = None,
    world: World = World(),  # noqa: B008
) -> list[Row]:
    """One row {image, metric: value, ...} per image; without HR of the metrics that need none.

    `answer(lq, gt)` gives the 8-bit SR (`gt` None where there is no HR); `save(name, sr)` keeps it. The processes of
    `world` take turns with the images, and each gets all rows.

    Raises:
        ValueError: naming the image that cannot be measured, and why.
    """
    rows = []
    for index in share_of(world, range(len(pairs))):
        sample = pairs[index]
        row, sr = measure_image(answer, sample, pairs.pairs[index].source.path, metrics, device)
        rows.append(row)
        if save is not None:
            save(sample["name"], sr)
    return gathered(world, rows)


def measure_image(
    answer: Answer, sample: Mapping[str, Any], source: Path, metrics: Mapping[str, Metric], device: torch.device
) -> tuple[Row, np.ndarray]:
    """`measure` for one sample of MeasuredPairs: (its row, its SR)."""
    measured = {n: m for n, m in metrics.items() if sample["gt"] is not None or not m.info.needs_reference}
    try:
        sr = answer(sample["lq"], sample["gt"])
        images = [to_tensor(image)[None].to(device) for image in (sr, sample["gt"]) if image is not None]
        with torch.inference_mode():
            figures = {name: float(metric(*images).item()) for name, metric in measured.items()}
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return {"image": sample["name"], **figures}, sr


def averages(rows: list[Row]) -> dict[str, float]:
    """Mean of every figure over the rows."""
    names = [name for name in rows[0] if isinstance(rows[0][name], float)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def measure_methods(
    methods: Sequence[Method],
    section: str,
    pairs: MeasuredPairs,
    metrics: Mapping[str, Metric],
    config: Config,
    world: World,
    shown: int,
    side: int,
) -> tuple[dict[str, list[Row]], list[View]]:
    """Rows by method and views of the first images; writes the images themselves where `val.save_img` says so.

    The processes of `world` take turns with the images, and each gets everything.

    Args:
        shown, side: how many images to keep views of, and how large (see plan_page).
    """
    measured = []
    for index in share_of(world, range(len(pairs))):
        sample, rows, answers = pairs[index], {}, {}
        for method in methods:
            row, sr = measure_image(method.answer, sample, pairs.pairs[index].source.path, metrics, world.device)
            rows[method.name], answers[method.name] = row, sr
            if config.val.save_img:
                folder = config.results_folder / "images" / method.place(section)
                image_saver(folder, config.val.suffix)(sample["name"], sr)
        measured.append((rows, View.of(sample, answers, config.scale, side) if index < shown else None))
    measured = gathered(world, measured)
    by_method = {method.name: [rows[method.name] for rows, _ in measured] for method in methods}
    return by_method, [view for _, view in measured if view is not None]


def image_saver(folder: Path, suffix: str | None) -> Callable[[str, np.ndarray], None]:
    return lambda name, image: write_image(folder / f"{name}{f'_{suffix}' if suffix else ''}.png", image)
