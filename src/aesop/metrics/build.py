"""A `val.metrics` section: check it, and build the metrics that it asks for."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aesop.data.measured_pairs import MeasuredPairs
from aesop.images.errors import ImageError
from aesop.metrics import METRIC_TYPES, metric_info
from aesop.metrics.metric_info import Measure, MetricInfo, Setting
from aesop.options.validation import MetricOptions
from aesop.weights.errors import WeightsNotFound, option_context
from aesop.weights.load import load_autoencoder
from aesop.weights.pretrained import find_file


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
    """The metrics of a `val.metrics` section, for images on `device`; ValueError names all faults.

    `autoencoder` is for aepsnr entries that name none of their own.
    """
    if faults := check_metrics(options, has_autoencoder=autoencoder is not None):
        raise ValueError("\n".join(faults))
    metrics = {}
    for name, entry in options.items():
        info, network = entry_info(name, entry), autoencoder
        if info.needs_autoencoder and entry.autoencoder:
            with option_context(f"val.metrics.{name}.autoencoder"):
                network = load_autoencoder(entry.autoencoder).to(device)
        region = {"crop_border": border(info, entry), "test_y_channel": on_luma(info, entry)}
        try:
            metrics[name] = Metric(info, info.build(Setting(scale, device, region, network)))
        except ValueError as error:
            raise ValueError(f"val.metrics.{name}: {error}") from error
    return metrics


def check_metrics(options: Mapping[str, MetricOptions], has_autoencoder: bool) -> list[str]:
    """Faults of a `val.metrics` section: unknown metrics, a channel they are not defined on, missing weights."""
    faults = []
    for name, entry in options.items():
        try:
            info = entry_info(name, entry)
            if info.needs_autoencoder and not (entry.autoencoder or has_autoencoder):
                faults.append(f"val.metrics.{name}.autoencoder: give the weight file of the auto-encoder to measure with")
            elif info.channel != "either" and entry.test_y_channel not in (None, info.channel == "luma"):
                measured = "on luma" if info.channel == "luma" else "in colour"
                faults.append(f"val.metrics.{name}.test_y_channel: {info.label} is measured {measured}; leave it out")
            else:
                for weights in info.weights:
                    find_file(weights)
        except WeightsNotFound as error:
            faults.append(f"val.metrics.{name}: {error}")
        except ValueError as error:
            faults.append(str(error))
    return faults


def check_sizes(
    options: Mapping[str, MetricOptions], sets: Iterable[MeasuredPairs], scale: int, keeps_size: bool = False
) -> None:
    """Raise ImageError for an image that a metric will find too small, from the headers of the files.

    `keeps_size` is for auto-encoders, whose output has the size of its input.
    """
    infos = [(entry_info(name, entry), entry) for name, entry in options.items()]
    checks = [(info.check_size, 2 * border(info, entry)) for info, entry in infos if info.check_size]
    for pair in (pair for pairs in sets for pair in pairs.pairs if checks):
        width, height = (side - side % scale if pair.gt or keeps_size else side * scale for side in pair.source.size())
        try:
            for check, cropped in checks:
                check(height - cropped, width - cropped)
        except ValueError as error:
            raise ImageError(f"{pair.source}: {error}") from error


def entry_info(name: str, entry: MetricOptions) -> MetricInfo:
    """What is known of the metric of an entry's type (ours or a published name), by default of its own name."""
    kind = entry.type or name
    try:
        return metric_info(METRIC_TYPES.get(kind, kind))
    except ValueError as error:
        raise ValueError(f"val.metrics.{name}: {error}") from error


def without_reference(options: Mapping[str, MetricOptions]) -> dict[str, MetricOptions]:
    """The entries of a `val.metrics` section that need no HR; ValueError for an unknown metric."""
    return {name: entry for name, entry in options.items() if not entry_info(name, entry).needs_reference}


def is_better(options: Mapping[str, MetricOptions], name: str, value: float, than: float | None) -> bool:
    """Whether a value of the metric `name` beats a previous one. NaN never does."""
    if than is None:
        return not math.isnan(value)
    return value > than if entry_info(name, options[name]).best == "max" else value < than


def border(info: MetricInfo, entry: MetricOptions) -> int:
    """The border that an entry leaves out, in HR pixels."""
    return info.crop_border if entry.crop_border is None else entry.crop_border


def on_luma(info: MetricInfo, entry: MetricOptions) -> bool:
    """Whether an entry measures luma, or else RGB."""
    return info.channel != "colour" if entry.test_y_channel is None else entry.test_y_channel
