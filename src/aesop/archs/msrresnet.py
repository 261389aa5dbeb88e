"""MSRResNet: SRResNet (Ledig et al., CVPR 2017) without batch normalisation, with BasicSR's tensor names."""

from math import isqrt
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.network_options import NetworkOptions, State, count_modules
from aesop.archs.rrdbnet import scaled_kaiming_
from aesop.system.option_types import Positive

SHUFFLES = {2: (2,), 3: (3,), 4: (2, 2)}


class ResidualBlock(nn.Module):
    """Two convolutions with a ReLU in between: `conv2(relu(conv1(x))) + x`."""

    def __init__(self, num_feat: int):
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x))) + x


class MSRResNet(nn.Module):
    """LR image (N, num_in_ch, H, W) in [0, 1] -> SR image (N, num_out_ch, upscale*H, upscale*W), not clamped."""

    size_multiple = 1
    channels_last_on_cpu = True

    def __init__(self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 16, upscale: int = 4):
        super().__init__()
        if upscale not in SHUFFLES:
            raise ValueError(f"MSRResNet: upscale {upscale} does not exist; use one of {list(SHUFFLES)}")
        if num_in_ch not in (1, num_out_ch):
            raise ValueError(f"MSRResNet: num_in_ch must be 1 or num_out_ch ({num_out_ch}), found {num_in_ch}")
        self.scale = upscale
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*(ResidualBlock(num_feat) for _ in range(num_block)))
        for k, step in enumerate(SHUFFLES[upscale]):
            self.add_module(f"upconv{k + 1}", nn.Conv2d(num_feat, num_feat * step**2, 3, 1, 1))
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)
        scaled_kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        feat = self.body(F.leaky_relu(self.conv_first(x), 0.1))
        for k, step in enumerate(SHUFFLES[self.scale]):
            feat = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{k + 1}")(feat), step), 0.1)
        image = self.conv_last(F.leaky_relu(self.conv_hr(feat), 0.1))
        return image + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


class MSRResNetOptions(NetworkOptions):
    network = MSRResNet

    type: Literal["MSRResNet"]
    """The network's name: SRResNet without BatchNorm."""
    num_in_ch: Positive = 3
    """Channels of the LR image."""
    num_out_ch: Positive = 3
    """Channels of the SR image."""
    num_feat: Positive = 64
    """Width."""
    num_block: Positive = 16
    """Number of residual blocks."""
    upscale: Literal[2, 3, 4] | None = None
    """Enlargement; default: the file's `scale`."""

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        first, up, last, _ = (state[f"{name}.weight"] for name in ("conv_first", "upconv1", "conv_last", "body.0.conv1"))
        return {
            "type": "MSRResNet",
            "num_in_ch": first.shape[1],
            "num_out_ch": last.shape[0],
            "num_feat": first.shape[0],
            "num_block": count_modules(state, "body"),
            "upscale": 4 if "upconv2.weight" in state else isqrt(up.shape[0] // up.shape[1]),
        }
