"""EDSR (Lim et al., CVPR Workshops 2017), with BasicSR's tensor names."""

from math import isqrt
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.network_options import NetworkOptions, State, count_modules
from aesop.system.option_types import Positive

SHUFFLES = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
MEAN = (0.4488, 0.4371, 0.4040)
WIDE = 256
"""From this width on, published networks scale their residuals by 0.1."""


class ScaledResidualBlock(nn.Module):
    """`res_scale * conv2(relu(conv1(x))) + x`."""

    def __init__(self, num_feat: int, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.conv2(F.relu(self.conv1(x)))


class EDSR(nn.Module):
    """LR image (N, num_in_ch, H, W) in [0, 1] -> SR image (N, num_out_ch, upscale*H, upscale*W), not clamped."""

    size_multiple = 1
    channels_last_on_cpu = True

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        upscale: int = 4,
        res_scale: float | None = None,
        img_range: float = 255.0,
        rgb_mean: tuple[float, float, float] = MEAN,
    ):
        super().__init__()
        if upscale not in SHUFFLES:
            raise ValueError(f"EDSR: upscale {upscale} does not exist; use one of {list(SHUFFLES)}")
        if num_in_ch != num_out_ch:
            raise ValueError(f"EDSR: num_in_ch {num_in_ch} and num_out_ch {num_out_ch} must be equal")
        self.scale, self.img_range = upscale, img_range
        res_scale = (0.1 if num_feat >= WIDE else 1.0) if res_scale is None else res_scale
        mean = torch.tensor(rgb_mean if num_in_ch == 3 else [sum(rgb_mean) / 3] * num_in_ch)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.mean: Tensor
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*(ScaledResidualBlock(num_feat, res_scale) for _ in range(num_block)))
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        steps = [(nn.Conv2d(num_feat, num_feat * step**2, 3, 1, 1), nn.PixelShuffle(step)) for step in SHUFFLES[upscale]]
        self.upsample = nn.Sequential(*(layer for step in steps for layer in step))
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        feat = self.conv_first((x - self.mean) * self.img_range)
        feat = feat + self.conv_after_body(self.body(feat))
        return self.conv_last(self.upsample(feat)) / self.img_range + self.mean


class EDSROptions(NetworkOptions):
    network = EDSR

    type: Literal["EDSR"]
    """The network's name: EDSR."""
    num_in_ch: Positive = 3
    """Channels of the LR image."""
    num_out_ch: Positive = 3
    """Channels of the SR image."""
    num_feat: Positive = 64
    """Width."""
    num_block: Positive = 16
    """Number of residual blocks."""
    upscale: Literal[2, 3, 4, 8] | None = None
    """Enlargement; default: the file's `scale`."""
    res_scale: float | None = None
    """Factor of the residuals; default as published: 0.1 from 256 features on, else 1."""
    img_range: float = 255.0
    """The network computes with images times this number."""
    rgb_mean: tuple[float, float, float] = MEAN
    """Mean colour, which is subtracted; default: that of DIV2K."""

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        names = ("conv_first", "conv_after_body", "upsample.0", "conv_last", "body.0.conv1")
        first, _, up, last, _ = (state[f"{name}.weight"] for name in names)
        shuffles = sum(name.startswith("upsample.") and name.endswith(".weight") for name in state)
        return {
            "type": "EDSR",
            "num_in_ch": first.shape[1],
            "num_out_ch": last.shape[0],
            "num_feat": first.shape[0],
            "num_block": count_modules(state, "body"),
            "upscale": isqrt(up.shape[0] // up.shape[1]) if shuffles == 1 else 2**shuffles,
        }
