"""SPSR's generator (Ma et al., CVPR 2020, section 3.2): RRDBNet with a second branch that super-resolves image gradients.

State-dict names are the published ones; the trunk has those of ESRGAN's first release (`model.1.sub.0.RDB1.conv1.0.weight`).
"""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aesop.archs.network_options import NetworkOptions, State, count_modules
from aesop.archs.rrdbnet import STEPS, ResidualDenseBlock, scaled_kaiming_
from aesop.system.option_types import Positive

TAPS = (5, 10, 15, 20)  # the gradient branch takes the features after these blocks of the trunk
GROWTH = 32
# Published files contain the last convolution of `model` a second time under this name.
PUBLISHED_ALIAS = "HR_conv0_new."


def conv(width_in: int, width_out: int, *activation: nn.Module, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width_out, kernel, 1, kernel // 2), *activation)


class ImageGradient(nn.Module):
    """Image (N, C, H, W) -> magnitude of each channel's central differences, zero-padded; same shape."""

    def __init__(self):
        super().__init__()
        difference = torch.zeros(1, 1, 3, 3)
        difference[..., 1, 0], difference[..., 1, 2] = -1, 1
        self.weight_h = nn.Parameter(difference, requires_grad=False)
        self.weight_v = nn.Parameter(difference.mT.contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        planes = x.flatten(0, 1)[:, None]
        # Detached, so that `requires_grad_(True)` on the whole network does not train the kernels.
        h, v = (F.conv2d(planes, weight.detach(), padding=1) for weight in (self.weight_h, self.weight_v))
        return torch.sqrt(h**2 + v**2 + 1e-6).view_as(x)


class NestedRRDB(nn.Module):
    """RRDB with the names of ESRGAN's first release: RDBk.convj.0."""

    def __init__(self, num_feat: int):
        super().__init__()
        for k in (1, 2, 3):
            block = ResidualDenseBlock(num_feat, GROWTH)
            for name, layer in list(block.named_children()):
                setattr(block, name, nn.Sequential(layer))
            self.add_module(f"RDB{k}", block)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for block in self.children():
            out = block(out)
        return out * 0.2 + x


class SPSRNet(nn.Module):
    """LR image (N, in_nc, H, W) in [0, 1] -> SR image (N, out_nc, upscale*H, upscale*W), not clamped.

    Only the fused image is returned. The published `conv_w`, which computes the SR gradient map, is here only so that
    published files load.
    """

    size_multiple = 1
    channels_last_on_cpu = True

    def __init__(self, in_nc: int = 3, out_nc: int = 3, nf: int = 64, nb: int = 23, gc: int = GROWTH, upscale: int = 4):
        super().__init__()
        if nb < TAPS[-1]:
            raise ValueError(f"SPSRNet: nb must be at least {TAPS[-1]} (the gradient branch taps blocks {TAPS}), found {nb}")
        if upscale not in STEPS:
            raise ValueError(f"SPSRNet: upscale {upscale} does not exist; use one of {list(STEPS)}")

        def enlarging() -> list[nn.Module]:
            steps = [(nn.Upsample(scale_factor=step), *conv(nf, nf, nn.LeakyReLU(0.2))) for step in STEPS[upscale]]
            return [*(layer for step in steps for layer in step), *conv(nf, nf, nn.LeakyReLU(0.2))]

        self.scale = upscale
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
        self.f_HR_conv0 = conv(nf, nf, nn.LeakyReLU(0.2))
        self.f_HR_conv1 = conv(nf, out_nc)
        scaled_kaiming_(self)

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


class SPSRNetOptions(NetworkOptions):
    network = SPSRNet

    type: Literal["SPSRNet"]
    """The network's name: SPSR's generator."""
    in_nc: Positive = 3
    """Channels of the LR image."""
    out_nc: Positive = 3
    """Channels of the SR image."""
    nf: Positive = 64
    """Width of the trunk."""
    nb: Annotated[int, Field(ge=20)] = 23
    """Number of RRDBs; the gradient branch taps blocks 5, 10, 15 and 20."""
    gc: Positive = 32
    """Without effect, as published: the growth is 32."""
    upscale: Literal[2, 3, 4, 8] | None = None
    """Enlargement; default: the file's `scale`."""

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        first, last = state["model.0.weight"], state["f_HR_conv1.0.weight"]
        return {
            "type": "SPSRNet",
            "in_nc": first.shape[1],
            "out_nc": last.shape[0],
            "nf": first.shape[0],
            "nb": count_modules(state, r"model\.1\.sub") - 1,  # the last one is a convolution
            "upscale": 2 ** (count_modules(state, "model") // 3 - 1),
        }

    @classmethod
    def own_names(cls, state: State) -> State:
        if "f_HR_conv0.0.weight" not in state:
            return state
        return {name: value for name, value in state.items() if not name.startswith(PUBLISHED_ALIAS)}

    @classmethod
    def published_names(cls, state: State, convention: str) -> State:
        if "f_HR_conv0.0.weight" not in state:
            return state
        last = max(int(name.split(".")[1]) for name in state if name.startswith("model."))
        return {f"{PUBLISHED_ALIAS}0.{kind}": state[f"model.{last}.{kind}"] for kind in ("weight", "bias")} | state
