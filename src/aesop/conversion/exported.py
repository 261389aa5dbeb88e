"""What is handed to the exporters: the network, for images of any size, in half precision if asked for."""

import copy
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.rrdbnet import RRDBNet
from aesop.archs.spandrel_nets import merge_branches

# Not square, so that it is no transformer's img_size, for which its graph would differ; a multiple of all windows.
EXAMPLE_SIZE = (64, 96)


class Padded(nn.Module):
    """Takes images of any size above `multiple`, and returns their whole enlargement; the network sees multiples.

    The amount of padding is constant, so every target can take it; what is too much is cut off again.
    """

    def __init__(self, net: nn.Module, multiple: int, scale: int):
        super().__init__()
        self.net, self.multiple, self.scale = net, multiple, scale

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, self.multiple - 1, 0, self.multiple - 1), "reflect")
        bottom, right = (side // self.multiple * self.multiple for side in padded.shape[-2:])
        return self.net(padded[..., :bottom, :right])[..., : height * self.scale, : width * self.scale]


class InHalf(nn.Module):
    """Computes in float16, to which it converts the network in place; images come and go in float32."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.half()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.half()).float()


def exportable(net: nn.Module, half: bool = False) -> nn.Module:
    """A copy of a network in a form that exporters can follow; `half`: that computes in float16."""
    copied = merge_branches(copy.deepcopy(net))
    return InHalf(copied) if half else copied


def needed_multiple(net: nn.Module) -> int:
    """The sides of images that the network takes as a whole are multiples of this; 1 if it pads others itself."""
    if isinstance(net, RRDBNet):
        return net.size_multiple
    requirements = getattr(net, "size_requirements", None)  # of spandrel
    return requirements.multiple_of if requirements else 1


def example(channels: int) -> Tensor:
    """The image that an exporter passes through the network, (1, channels, H, W)."""
    return torch.zeros(1, channels, *EXAMPLE_SIZE)


@contextmanager
def quiet() -> Generator[None]:
    """Without the warnings and log lines of exporters, which are about their own code."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
