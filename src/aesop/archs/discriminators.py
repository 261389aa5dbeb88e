"""Discriminators: VGG style (ESRGAN; fixed input size) and UNet with spectral norm (Real-ESRGAN; per pixel)."""

from collections.abc import Mapping
from itertools import pairwise
from math import isqrt
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from aesop.archs.mixed_precision import in_full_precision
from aesop.archs.network_options import NetworkOptions, State
from aesop.system.option_types import Positive


def unrounded(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """Run the last layer in the precision of its weights, even under autocast.

    A relativistic loss does not keep the outputs near 0: after 2500 steps they reached 50, where bfloat16 rounds to 0.25.
    """
    with in_full_precision(x):
        return layer(x.to(layer.weight.dtype))


class VGGStyleDiscriminator(nn.Module):
    """Image (N, num_in_ch, S, S) in [0, 1] -> one logit (N, 1), for S = 128, 192 or 256."""

    def __init__(self, input_size: int, num_in_ch: int = 3, num_feat: int = 64):
        super().__init__()
        self.input_size = input_size
        self.num_stages = 6 if input_size == 256 else 5
        width_in = num_in_ch
        for i in range(self.num_stages):
            width = num_feat * min(2**i, 8)
            self.add_module(f"conv{i}_0", nn.Conv2d(width_in, width, 3, 1, 1, bias=i == 0))
            if i > 0:
                self.add_module(f"bn{i}_0", nn.BatchNorm2d(width))
            self.add_module(f"conv{i}_1", nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f"bn{i}_1", nn.BatchNorm2d(width))
            width_in = width
        self.linear1 = nn.Linear(width_in * (input_size // 2**self.num_stages) ** 2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.input_size, self.input_size):
            raise ValueError(
                f"this discriminator takes {self.input_size}x{self.input_size} images, found {x.shape[-2]}x{x.shape[-1]}: "
                f"set datasets.train.gt_size to {self.input_size}, or network_d.type to UNetDiscriminatorSN (multiples of 8)"
            )
        for i in range(self.num_stages):
            for j in (0, 1):
                x = self.get_submodule(f"conv{i}_{j}")(x)
                if i + j > 0:
                    x = self.get_submodule(f"bn{i}_{j}")(x)
                x = F.leaky_relu(x, 0.2)
        return unrounded(self.linear2, F.leaky_relu(self.linear1(x.flatten(1)), 0.2))


class UNetDiscriminatorSN(nn.Module):
    """Image (N, num_in_ch, H, W) with sides that are multiples of 8 -> logits (N, 1, H, W) (Real-ESRGAN, section 3.4)."""

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, skip_connection: bool = True):
        super().__init__()
        self.skip_connection = skip_connection
        self.conv0 = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        widths = [num_feat * factor for factor in (1, 2, 4, 8, 4, 2, 1, 1, 1)]
        for k, (width_in, width) in enumerate(pairwise(widths), 1):
            kernel, stride = (4, 2) if k <= 3 else (3, 1)
            self.add_module(f"conv{k}", spectral_norm(nn.Conv2d(width_in, width, kernel, stride, 1, bias=False)))
        self.conv9 = nn.Conv2d(num_feat, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(f"sides must be multiples of 8, found {x.shape[-2]}x{x.shape[-1]}: change the gt_size")
        convs = [self.get_submodule(f"conv{k}") for k in range(9)]
        down = [F.leaky_relu(convs[0](x), 0.2)]
        for conv in convs[1:4]:
            down.append(F.leaky_relu(conv(down[-1]), 0.2))
        up = down.pop()
        for conv in convs[4:7]:
            up = F.interpolate(up, scale_factor=2, mode="bilinear", align_corners=False)
            up = F.leaky_relu(conv(up), 0.2)
            if self.skip_connection:
                up = up + down.pop()
        for conv in convs[7:]:
            up = F.leaky_relu(conv(up), 0.2)
        return unrounded(self.conv9, up)


class VGGStyleDiscriminatorOptions(NetworkOptions):
    type: Literal["VGGStyleDiscriminator128", "VGGStyleDiscriminator192", "VGGStyleDiscriminator256"]
    """The number is the image size it takes, which must be the training crop's `gt_size`."""
    num_in_ch: Positive = 3
    """Channels of the image."""
    num_feat: Positive = 64
    """Width of the first stage."""

    def takes_crops_of(self, size: int) -> bool:
        return self.type == f"VGGStyleDiscriminator{size}"

    @classmethod
    def build(cls, type_name: str, arguments: Mapping[str, Any]) -> VGGStyleDiscriminator:
        return VGGStyleDiscriminator(int(type_name[-3:]), **arguments)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        stages = 6 if "conv5_1.weight" in state else 5
        first, last, linear = (state[f"{name}.weight"] for name in ("conv0_0", f"conv{stages - 1}_1", "linear1"))
        size = isqrt(linear.shape[1] // last.shape[0]) * 2**stages
        if size not in (128, 192, 256):
            raise LookupError
        return {"type": f"VGGStyleDiscriminator{size}", "num_in_ch": first.shape[1], "num_feat": first.shape[0]}


class UNetDiscriminatorOptions(NetworkOptions):
    network = UNetDiscriminatorSN

    type: Literal["UNetDiscriminatorSN"]
    """The network's name: Real-ESRGAN's discriminator, for crops whose side is a multiple of 8."""
    num_in_ch: Positive = 3
    """Channels of the image."""
    num_feat: Positive = 64
    """Width of the first stage."""
    skip_connection: bool = True
    """Add the encoder's features to the decoder's."""

    def takes_crops_of(self, size: int) -> bool:
        return size % 8 == 0

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        first, _ = state["conv0.weight"], state["conv1.weight_orig"]
        return {"type": "UNetDiscriminatorSN", "num_in_ch": first.shape[1], "num_feat": first.shape[0]}
