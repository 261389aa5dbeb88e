"""A `val.metrics` section: check it, and build the metrics that it asks for."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aesop.data.measured_pairs import MeasuredPairs
from aesop.images.errors import ImageError
from aesop.metrics import METRIC_TYPES, METRICS, metric_info
from aesop.metrics.metric_info import Measure, MetricInfo, Setting
from aesop.options.validation import MetricOptions
from aesop.weights.errors import WeightsNotFound, option_context
from aesop.weights.load import load_autoencoder
from aesop.weights.pretrained import find_file

# Measured by the demo if the weights are found.
METRIC_WEIGHTS = {name: METRICS[name].weights for name in ("lpips", "dists")}


@dataclass(frozen=True)
class Metric:
    """An entry of `val.metrics`, ready to measure images (1, 3, H, W) in [0, 1]."""

    info: MetricInfo
    measure: Measure

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """(1,). HR may be None if `info.needs_reference` is false."""
        return self.measure(sr, hr) if self.info.needs_reference else self.measure(sr)


def make_metrics(
    options: Mapping[str, MetricOptions], scale: int, device: torch.device, autoencoder: nn.Module | None = None
) -> dict[str, Metric]:
    """The metrics of a `val.metrics` section, for images (1, 3, H, W) in [0, 1] on `device`.

    Args:
        autoencoder: for aepsnr entries that name no auto-encoder of their own.

    Raises:
        ValueError: Names every entry that cannot be measured, and why.
    """
    faults = check_metrics(options, has_autoencoder=autoencoder is not None)
    if faults:
        raise ValueError("\n".join(faults))
    return {name: _make_metric(name, entry, scale, device, autoencoder) for name, entry in options.items()}


def _make_metric(name: str, entry: MetricOptions, scale: int, device: torch.device, autoencoder: nn.Module | None) -> Metric:
    info = entry_info(name, entry)
    if info.needs_autoencoder and entry.autoencoder:
        with option_context(f"val.metrics.{name}.autoencoder"):
            autoencoder = load_autoencoder(entry.autoencoder).to(device)
    luma = info.channel != "colour" if entry.test_y_channel is None else entry.test_y_channel
    try:
        return Metric(info, info.build(Setting(scale, device, _border(info, entry), luma, autoencoder)))
    except ValueError as error:
        raise ValueError(f"val.metrics.{name}: {error}") from error


def check_metrics(options: Mapping[str, MetricOptions], has_autoencoder: bool) -> list[str]:
    """Faults of a `val.metrics` section: unknown metrics, a channel they are not defined on, missing weights."""
    faults = []
    for name, entry in options.items():
        try:
            info = entry_info(name, entry)
        except ValueError as error:
            faults.append(str(error))
            continue
        if info.needs_autoencoder and not (entry.autoencoder or has_autoencoder):
            faults.append(f"val.metrics.{name}.autoencoder: give the weight file of the auto-encoder to measure with")
        elif info.channel != "either" and entry.test_y_channel not in (None, info.channel == "luma"):
            measured = "on luma" if info.channel == "luma" else "in colour"
            faults.append(f"val.metrics.{name}.test_y_channel: {info.label} is measured {measured}; leave it out")
        else:
            try:
                for weights in info.weights:
                    find_file(weights)
            except WeightsNotFound as error:
                faults.append(f"val.metrics.{name}: {error}")
    return faults


def check_sizes(
    options: Mapping[str, MetricOptions], sets: Iterable[MeasuredPairs], scale: int, keeps_size: bool = False
) -> None:
    """Raise ImageError for an image that a metric will find too small, from the headers of the files.

    Args:
        keeps_size: The network is an auto-encoder, whose output has the size of its input.
    """
    infos = [(entry_info(name, entry), entry) for name, entry in options.items()]
    checks = [(info.check_size, 2 * _border(info, entry)) for info, entry in infos if info.check_size]
    for pair in (pair for pairs in sets for pair in pairs.pairs if checks):
        width, height = (side - side % scale if pair.gt or keeps_size else side * scale for side in pair.source.size())
        try:
            for check, cropped in checks:
                check(height - cropped, width - cropped)
        except ValueError as error:
            raise ImageError(f"{pair.source}: {error}") from error


def metric_kind(name: str, entry: MetricOptions) -> str:
    """The METRICS key, or `pyiqa:NAME`, of an entry: its type (ours or a published name), by default its own name."""
    return METRIC_TYPES.get(entry.type or name, entry.type or name)


def entry_info(name: str, entry: MetricOptions) -> MetricInfo:
    """What is known of an entry's metric; ValueError, naming the entry, if there is no such metric."""
    try:
        return metric_info(metric_kind(name, entry))
    except ValueError as error:
        raise ValueError(f"val.metrics.{name}: {error}") from error


def without_reference(options: Mapping[str, MetricOptions]) -> dict[str, MetricOptions]:
    """The entries of a `val.metrics` section that need no HR; ValueError for an unknown metric."""
    return {name: entry for name, entry in options.items() if not entry_info(name, entry).needs_reference}


def is_better(options: Mapping[str, MetricOptions], name: str, value: float, than: float | None) -> bool:
    """Whether a value of the metric `name` beats a previous one. NaN never does."""
    if math.isnan(value):
        return False
    best = entry_info(name, options[name]).best
    return than is None or (value > than if best == "max" else value < than)


def _border(info: MetricInfo, entry: MetricOptions) -> int:
    return info.crop_border if entry.crop_border is None else entry.crop_border
