"""What is known of a metric: how it is printed, what it measures by default, what it needs, how it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Measure = Callable[..., Tensor]
"""(SR, HR), or SR alone: RGB (N, 3, H, W) in about [0, 1] -> (N,)."""


@dataclass(frozen=True)
class Setting:
    """How one entry of `val.metrics` measures."""

    scale: int
    device: torch.device
    region: dict[str, Any]
    """`crop_border` and `test_y_channel`."""
    autoencoder: nn.Module | None = None

    def either(self, measure: Measure, **options: Any) -> Measure:
        """A metric that is defined on luma and in colour."""
        return partial(measure, **self.region, **options)

    def cropped(self, measure: Measure) -> Measure:
        """A metric that is defined on luma or in colour only."""
        return partial(measure, crop_border=self.region["crop_border"])

    def learned(self, network: Any, *trunk: str) -> Measure:
        return self.cropped(network.from_weights(*trunk).to(self.device))


@dataclass(frozen=True)
class MetricInfo:
    """An entry of METRICS."""

    label: str
    build: Callable[[Setting], Measure]
    format: str = ".4f"
    """Of values in tables and figures, with the digits that papers print."""
    best: Literal["max", "min"] = "max"
    crop_border: int = 0
    """Default border in HR pixels."""
    channel: Literal["luma", "colour", "either"] = "colour"
    """What it measures. `either` is luma by default, and colour with test_y_channel: false."""
    needs_reference: bool = True
    needs_autoencoder: bool = False
    weights: tuple[str, ...] = ()
    """The pretrained weights it needs, by their names in aesop.weights.pretrained."""
    check_size: Callable[[int, int], None] | None = None
    """Raises ValueError for a height and width, after cropping, that are too small to measure."""
