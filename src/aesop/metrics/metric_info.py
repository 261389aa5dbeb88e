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
    crop_border: int
    test_y_channel: bool
    autoencoder: nn.Module | None = None

    @property
    def region(self) -> dict[str, Any]:
        """The arguments of metrics that are defined on luma and in colour."""
        return {"crop_border": self.crop_border, "test_y_channel": self.test_y_channel}

    def learned(self, network: nn.Module) -> Measure:
        """A network that measures RGB images."""
        return partial(network.to(self.device), crop_border=self.crop_border)


@dataclass(frozen=True)
class MetricInfo:
    """An entry of METRICS."""

    label: str
    format: str
    build: Callable[[Setting], Measure]
    """Makes the function that measures."""
    best: Literal["max", "min"] = "max"
    crop_border: int = 0
    """Default border in HR pixels."""
    channel: Literal["luma", "colour", "either"] = "colour"
    """What it measures. `either` is luma by default, and colour with test_y_channel: false."""
    needs_reference: bool = True
    """False: it measures SR alone."""
    needs_autoencoder: bool = False
    weights: tuple[str, ...] = ()
    """The pretrained weights it needs, by their names in aesop.weights.pretrained."""
    check_size: Callable[[int, int], None] | None = None
    """Raises ValueError for a height and width, after cropping, that are too small to measure."""
