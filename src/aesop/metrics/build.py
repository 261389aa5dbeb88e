"""From options to metrics that are ready to measure."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aesop.data.measured_pairs import MeasuredPairs
from aesop.images.errors import ImageError
from aesop.metrics import METRIC_TYPES, METRICS, PYIQA, MetricInfo, metric_info
from aesop.metrics.dists import DISTS
from aesop.metrics.lpips import LPIPS
from aesop.metrics.niqe import NIQE, check_size
from aesop.metrics.psnr import ae_psnr, lr_psnr, psnr
from aesop.metrics.pyiqa_metrics import PyIQA
from aesop.metrics.ssim import ssim
from aesop.options.validation import MetricOptions
from aesop.weights.errors import WeightsNotFound, option_context
from aesop.weights.load import load_autoencoder
from aesop.weights.pretrained import find_file, has_pretrained

# What the demo measures where the weights are.
METRIC_WEIGHTS = {name: METRICS[name].weights for name in ("lpips", "dists")}


@dataclass(frozen=True)
class Metric:
    """An entry of `val.metrics`, ready to measure images (1, 3, H, W) in [0, 1]."""

    info: MetricInfo
    function: Callable[..., Tensor]

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """(1,). Without HR only where `info.needs_reference` is false."""
        return self.function(sr, hr) if self.info.needs_reference else self.function(sr)


def make_metrics(
    options: Mapping[str, MetricOptions], scale: int, device: torch.device, autoencoder: nn.Module | None = None
) -> dict[str, Metric]:
    """The metrics of a `val.metrics` section: name -> function of (SR, HR), (1, 3, H, W) in [0, 1] on `device`.

    Args:
        autoencoder: for aepsnr entries that name no auto-encoder of their own.

    Raises:
        ValueError: naming every entry that cannot be measured, and why.
    """
    faults = check_metrics(options, has_autoencoder=autoencoder is not None)
    if faults:
        raise ValueError("\n".join(faults))
    return {name: _make_metric(name, entry, scale, device, autoencoder) for name, entry in options.items()}


def check_metrics(options: Mapping[str, MetricOptions], has_autoencoder: bool) -> list[str]:
    """What is wrong with a `val.metrics` section: unknown metrics, a channel they are not defined on, missing weights."""
    faults = []
    for name, entry in options.items():
        try:
            info = entry_info(name, entry)
        except ValueError as error:
            faults.append(str(error))
            continue
        missing = next((weights for weights in info.weights if not has_pretrained(weights)), None)
        if metric_kind(name, entry) == "aepsnr" and not (entry.autoencoder or has_autoencoder):
            faults.append(f"val.metrics.{name}.autoencoder: give the weight file of the auto-encoder to measure with")
        elif not info.either_channel and entry.test_y_channel not in (None, info.test_y_channel):
            measured = "on luma" if info.test_y_channel else "in colour"
            faults.append(f"val.metrics.{name}.test_y_channel: {info.label} is measured {measured}; leave it out")
        elif missing is not None:
            try:
                find_file(missing)
            except WeightsNotFound as error:
                faults.append(f"val.metrics.{name}: {error}")
    return faults


def metric_kind(name: str, entry: MetricOptions) -> str:
    """The METRICS key, or `pyiqa:NAME`, of an entry: its type (ours or a published name), else its own name."""
    return METRIC_TYPES.get(entry.type or name, entry.type or name)


def entry_info(name: str, entry: MetricOptions) -> MetricInfo:
    """What is known of an entry's metric; ValueError, naming the entry, when there is no such metric."""
    try:
        return metric_info(metric_kind(name, entry))
    except ValueError as error:
        raise ValueError(f"val.metrics.{name}: {error}") from error


def without_reference(options: Mapping[str, MetricOptions]) -> dict[str, MetricOptions]:
    """The entries of a `val.metrics` section that need no HR; ValueError for an unknown metric."""
    return {name: entry for name, entry in options.items() if not entry_info(name, entry).needs_reference}


def _make_metric(name: str, entry: MetricOptions, scale: int, device: torch.device, autoencoder: nn.Module | None) -> Metric:
    info = entry_info(name, entry)
    border = info.crop_border if entry.crop_border is None else entry.crop_border
    luma = info.test_y_channel if entry.test_y_channel is None else entry.test_y_channel
    match metric_kind(name, entry):
        case "psnr":
            return Metric(info, lambda sr, hr: psnr(sr, hr, border, luma))
        case "ssim":
            return Metric(info, lambda sr, hr: ssim(sr, hr, border, luma))
        case "lrpsnr":
            return Metric(info, lambda sr, hr: lr_psnr(sr, hr, scale, border, luma))
        case "aepsnr":
            with option_context(f"val.metrics.{name}.autoencoder"):
                judge = load_autoencoder(entry.autoencoder).to(device) if entry.autoencoder else autoencoder
            assert judge is not None
            return Metric(info, lambda sr, hr: ae_psnr(sr, hr, judge, border, luma))
        case "lpips":
            distance = LPIPS.from_weights("alex").to(device)
        case "lpips_vgg":
            distance = LPIPS.from_weights("vgg").to(device)
        case "dists":
            distance = DISTS.from_weights().to(device)
        case "niqe":
            distance = NIQE.from_weights()
        case kind:
            try:
                distance = PyIQA(kind.removeprefix(PYIQA), device)
            except ValueError as error:
                raise ValueError(f"val.metrics.{name}: {error}") from error
    return Metric(info, lambda *images: distance(*images, crop_border=border))


def is_better(options: Mapping[str, MetricOptions], name: str, value: float, than: float | None) -> bool:
    """Whether a figure of the metric `name` beats a former one; NaN never does."""
    if math.isnan(value):
        return False
    higher = entry_info(name, options[name]).higher_is_better
    return than is None or (value > than if higher else value < than)


def check_sizes(
    options: Mapping[str, MetricOptions], sets: Iterable[MeasuredPairs], scale: int, keeps_size: bool = False
) -> None:
    """Raise ImageError for an image on whose answer NIQE cannot be measured, from the files' headers.

    Args:
        keeps_size: the network is an auto-encoder, whose answer has its input's size.
    """
    borders = [entry.crop_border or 0 for name, entry in options.items() if metric_kind(name, entry) == "niqe"]
    for pair in (pair for pairs in sets for pair in pairs.pairs if borders):
        width, height = (side - side % scale if pair.gt or keeps_size else side * scale for side in pair.source.size())
        try:
            check_size(height - 2 * max(borders), width - 2 * max(borders))
        except ValueError as error:
            raise ImageError(f"{pair.source}: {error}") from error
