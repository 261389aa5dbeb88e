"""SPSR's generator (Ma et al., CVPR 2020, section 3.2): RRDBNet with a second branch that super-resolves image gradients.

State-dict names are the published ones, which begin with ESRGAN's first ones (`model.1.sub.0.RDB1.conv1.0.weight`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.rrdbnet import STEPS, ResidualDenseBlock, scaled_kaiming_

TAPS = (5, 10, 15, 20)  # the trunk's blocks after which the gradient branch takes its features
GROWTH = 32
# Published files hold the last convolution of `model` a second time under this name.
PUBLISHED_ALIAS = "HR_conv0_new."


def conv(width_in: int, width_out: int, *activation: nn.Module, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width_out, kernel, 1, kernel // 2), *activation)


def leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2)


class ImageGradient(nn.Module):
    """(N, C, H, W) -> the length of each channel's central difference, zero beyond the border; the same shape."""

    def __init__(self):
        super().__init__()
        difference = torch.zeros(1, 1, 3, 3)
        difference[..., 1, 0], difference[..., 1, 2] = -1, 1
        self.weight_h = nn.Parameter(difference, requires_grad=False)
        self.weight_v = nn.Parameter(difference.mT.contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        planes = x.flatten(0, 1)[:, None]
        # Detached: whoever switches all of a network's gradients on does not train these.
        h, v = (F.conv2d(planes, weight.detach(), padding=1) for weight in (self.weight_h, self.weight_v))
        return torch.sqrt(h**2 + v**2 + 1e-6).view_as(x)


class NestedRRDB(nn.Module):
    """The RRDB under the names of ESRGAN's first release: RDBk.convj.0."""

    def __init__(self, num_feat: int):
        super().__init__()
        self.RDB1 = ResidualDenseBlock(num_feat, GROWTH)
        self.RDB2 = ResidualDenseBlock(num_feat, GROWTH)
        self.RDB3 = ResidualDenseBlock(num_feat, GROWTH)
        for block in (self.RDB1, self.RDB2, self.RDB3):
            for name, layer in list(block.named_children()):
                setattr(block, name, nn.Sequential(layer))

    def forward(self, x: Tensor) -> Tensor:
        return self.RDB3(self.RDB2(self.RDB1(x))) * 0.2 + x


class SPSRNet(nn.Module):
    """LR image (N, in_nc, H, W) in [0, 1] -> SR image (N, out_nc, upscale*H, upscale*W), not clamped.

    Only the fused image is returned; the published `conv_w`, which makes the SR gradient map, is kept for its file only.

    Args:
        nf, nb: width and number of blocks of the trunk; the published size is 64 and 23.
        gc: without effect, as published: the growth is 32.

    Raises:
        ValueError: for fewer than 20 blocks, or an upscale other than 2, 3, 4, 8.
    """

    def __init__(self, in_nc: int = 3, out_nc: int = 3, nf: int = 64, nb: int = 23, gc: int = GROWTH, upscale: int = 4):
        super().__init__()
        if nb < TAPS[-1]:
            raise ValueError(f"SPSRNet: nb must be at least {TAPS[-1]} (the gradient branch taps blocks {TAPS}), found {nb}")
        if upscale not in STEPS:
            raise ValueError(f"SPSRNet: upscale {upscale} does not exist; use one of {list(STEPS)}")

        def enlarging() -> list[nn.Module]:
            steps = [(nn.Upsample(scale_factor=step), *conv(nf, nf, leaky())) for step in STEPS[upscale]]
            return [*(layer for step in steps for layer in step), *conv(nf, nf, leaky())]

        self.upscale = upscale
        self.HR_conv1_new = conv(nf, nf)
        trunk = nn.Sequential(*(NestedRRDB(nf) for _ in range(nb)), *conv(nf, nf))
        self.model = nn.Sequential(*conv(in_nc, nf), nn.ModuleDict({"sub": trunk}), *enlarging())
        self.get_g_nopadding = ImageGradient()
        self.b_fea_conv = conv(in_nc, nf)
        for k in range(1, len(TAPS) + 1):
            self.add_module(f"b_concat_{k}", conv(2 * nf, nf))
            self.add_module(f"b_block_{k}", NestedRRDB(2 * nf))
        self.b_LR_conv = conv(nf, nf)
        self.b_module = nn.Sequential(*enlarging(), *conv(nf, nf))
        self.conv_w = conv(nf, out_nc, kernel=1)
        self.f_concat = conv(2 * nf, nf)
        self.f_block = NestedRRDB(2 * nf)
        self.f_HR_conv0 = conv(nf, nf, leaky())
        self.f_HR_conv1 = conv(nf, out_nc)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                scaled_kaiming_(module, 0.1)
        self.register_load_state_dict_pre_hook(_fold_before_loading)

    def forward(self, x: Tensor) -> Tensor:
        feat = start = self.model[0](x)
        taps = []
        for k, layer in enumerate(self.model.get_submodule("1.sub").children(), start=1):
            feat = layer(feat)
            if k in TAPS:
                taps.append(feat)
        feat = self.HR_conv1_new(self.model[2:](feat + start))

        branch = start = self.b_fea_conv(self.get_g_nopadding(x))
        for k, tap in enumerate(taps, start=1):
            block, concat = self.get_submodule(f"b_block_{k}"), self.get_submodule(f"b_concat_{k}")
            branch = concat(block(torch.cat((branch, tap), 1)))
        branch = self.b_module(self.b_LR_conv(branch) + start)
        return self.f_HR_conv1(self.f_HR_conv0(self.f_concat(self.f_block(torch.cat((branch, feat), 1)))))


def _fold_before_loading(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    fold_published_alias(state, prefix)


def fold_published_alias(state: dict[str, Tensor], prefix: str = "") -> None:
    """Remove, in place, a published state dict's second name of the convolution; `model.*` is in effect."""
    for key in [k for k in state if k.startswith(prefix + PUBLISHED_ALIAS)]:
        del state[key]


def published_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict with the doubled name that the published code expects, in its order."""
    last = max(int(name.split(".")[1]) for name in state if name.startswith("model."))
    return {f"{PUBLISHED_ALIAS}0.{kind}": state[f"model.{last}.{kind}"] for kind in ("weight", "bias")} | state
