"""RRDBNet, the generator of ESRGAN (Wang et al., ECCVW 2018, section 3.1), with BasicSR's tensor names."""

import re
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aesop.archs.mixed_precision import in_full_precision, product_dtype
from aesop.archs.network_options import NetworkOptions, State, count_modules
from aesop.system.option_types import Positive

# Upsampling is done in these steps: nearest neighbour, then a convolution.
STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
# At these scales the x4 trunk takes the pixel-unshuffled image (Real-ESRGAN).
INPUT_UNSHUFFLE = {1: 4, 2: 2}
# Layer names of RRDBNet: first, dense blocks, body, upsampling, hr, last. BasicSR and Real-ESRGAN use `basicsr`, BSRGAN and
# ESRGAN's later code `bsrgan`, ESRGAN's first release `old-esrgan`.
_LAYERS = {
    "basicsr": ("conv_first", "body.{n}.rdb{k}.conv{j}", "conv_body", "conv_up{u}", "conv_hr", "conv_last"),
    "bsrgan": ("conv_first", "RRDB_trunk.{n}.RDB{k}.conv{j}", "trunk_conv", "upconv{u}", "HRconv", "conv_last"),
    "old-esrgan": ("model.0", "model.1.sub.{n}.RDB{k}.conv{j}.0", "model.1.sub.{blocks}", *["model.{index}"] * 3),
}
RRDBNET_NAMES = tuple(_LAYERS)


def scaled_kaiming_(module: nn.Module) -> None:
    """Initialise convolutions with 0.1 times Kaiming normal, bias zero (ESRGAN, section 3.1 "smaller initialization")."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight.mul_(0.1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each taking the input and all previous outputs; returns `0.2 * x5 + x`.

    In bfloat16, the convolutions are rounded, and a float32 `x` and the sum stay in float32.
    """

    def __init__(self, num_feat: int = 64, num_grow_ch: int = 32):
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow_ch, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat + num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv4 = nn.Conv2d(num_feat + 3 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow_ch, num_feat, 3, 1, 1)
        scaled_kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        features = x.to(product_dtype(x, next(self.parameters())))
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            features = torch.cat((features, F.leaky_relu(conv(features), 0.2, inplace=True)), 1)
        residual = self.conv5(features)
        if residual.dtype == x.dtype:
            return residual * 0.2 + x
        return torch.add(x, residual, alpha=0.2)  # one kernel, in the precision of x


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks; returns `0.2 * out + x`."""

    def __init__(self, num_feat: int, num_grow_ch: int = 32):
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


def rrdbs(net: nn.Module) -> list[nn.Module]:
    """A network's RRDBs, which take nearly all of its time."""
    return [module for module in net.modules() if isinstance(module, RRDB)]


class RRDBNet(nn.Module):
    """LR image (N, num_in_ch, H, W) in [0, 1] -> SR image (N, num_out_ch, scale*H, scale*W), not clamped.

    At scales 1 and 2 the rows and columns beyond a multiple of 4 and 2 are dropped, as in the published code.

    Under bfloat16 autocast, only the convolutions of RRDBs are rounded. With all layers in bfloat16 an image was off by 3.5
    grey levels, in this way by 0.4 (docs/decisions.md).
    """

    channels_last_on_cpu = True

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
        unshuffle: bool = True,
        use_checkpoint: bool = False,
    ):
        super().__init__()
        if scale not in (1, *STEPS):
            raise ValueError(f"RRDBNet: scale {scale} does not exist; use one of {[1, *STEPS]}")
        if scale == 1 and not unshuffle:
            raise ValueError("RRDBNet: scale 1 without unshuffle does not exist; leave unshuffle out")
        self.scale = scale
        self.num_feat, self.num_grow_ch = num_feat, num_grow_ch
        self.use_checkpoint = use_checkpoint
        self.size_multiple = INPUT_UNSHUFFLE.get(scale, 1) if unshuffle else 1
        self.steps = STEPS[scale * self.size_multiple]
        self.conv_first = nn.Conv2d(num_in_ch * self.size_multiple**2, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        for k in range(len(self.steps)):
            self.add_module(f"conv_up{k + 1}", nn.Conv2d(num_feat, num_feat, 3, 1, 1))
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        with in_full_precision(x):
            first = self.shallow(x)
        deep = self.deep(first, self.body)
        with in_full_precision(x):
            return self.reconstruct(deep, first)

    def shallow(self, x: Tensor) -> Tensor:
        """Image -> the features (N, num_feat, h, w) that enter the blocks."""
        if self.size_multiple > 1:
            h, w = (side // self.size_multiple * self.size_multiple for side in x.shape[-2:])
            x = F.pixel_unshuffle(x[..., :h, :w], self.size_multiple)
        return self.conv_first(x)

    def deep(self, feat: Tensor, blocks: nn.Sequential) -> Tensor:
        """Pass features through some of the body's blocks."""
        for block in blocks:
            if self.use_checkpoint and self.training:
                # Nothing in a block is random, and a CUDA graph cannot read the random state.
                feat = checkpoint(block, feat, use_reentrant=False, preserve_rng_state=False)
            else:
                feat = block(feat)
        return feat

    def reconstruct(self, deep: Tensor, first: Tensor) -> Tensor:
        """Features after and before the blocks -> image."""
        feat = self.conv_body(deep) + first
        for k, step in enumerate(self.steps):
            conv = self.get_submodule(f"conv_up{k + 1}")
            feat = F.leaky_relu(conv(F.interpolate(feat, scale_factor=step, mode="nearest")), 0.2, inplace=True)
        return self.conv_last(F.leaky_relu(self.conv_hr(feat), 0.2, inplace=True))


class RRDBNetOptions(NetworkOptions):
    network = RRDBNet

    type: Literal["RRDBNet"] = "RRDBNet"
    """The network's name: ESRGAN's generator."""
    num_in_ch: Positive = 3
    """Channels of the LR image."""
    num_out_ch: Positive = 3
    """Channels of the SR image."""
    scale: Literal[1, 2, 3, 4, 8] | None = None
    """Enlargement; default: the file's `scale`."""
    num_feat: Positive = 64
    """Width of the trunk."""
    num_block: Positive = 23
    """Number of RRDBs."""
    num_grow_ch: Positive = 32
    """Growth of the dense blocks."""
    unshuffle: bool = True
    """At scale 2 feed the x4 trunk with the pixel-unshuffled image; false: BSRGAN's x2 network, with one enlargement."""
    use_checkpoint: bool = False
    """Recompute each block in the backward pass: less memory, about a third more time."""

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        renamed = cls.own_names(state)
        first, block, last = (renamed[f"{name}.weight"] for name in ("conv_first", "body.0.rdb1.conv1", "conv_last"))
        in_ch, out_ch = first.shape[1], last.shape[0]
        ups = sum(bool(re.fullmatch(r"conv_up\d\.weight", name)) for name in renamed)
        if any(f"{name}.weight" not in renamed for name in ("conv_body", *(f"conv_up{k + 1}" for k in range(ups)))):
            raise LookupError
        # BSRGAN's x2 network and our x3 network have the same tensors; only the former names tell them apart.
        is_bsrgan_x2 = ups == 1 and "conv_up1.weight" not in state
        unshuffle = {4: 2, 16: 4}.get(in_ch / out_ch, 1) if ups == 2 else 1
        return {
            "type": "RRDBNet",
            "num_in_ch": in_ch // unshuffle**2,
            "num_out_ch": out_ch,
            "scale": 2 if is_bsrgan_x2 else {1: 3, 2: 4, 3: 8}[ups] // unshuffle,
            "num_feat": first.shape[0],
            "num_block": count_modules(renamed, "body"),
            "num_grow_ch": block.shape[0],
        } | ({"unshuffle": False} if is_bsrgan_x2 else {})

    @classmethod
    def own_names(cls, state: State) -> State:
        return _renamed(_renamed(state, "bsrgan", "basicsr"), "old-esrgan", "basicsr")

    @classmethod
    def published_names(cls, state: State, convention: str) -> State:
        return _renamed(state, "basicsr", convention)


def _renamed(state: State, source: str, target: str) -> State:
    """Rename an RRDBNet's tensors; return the state unchanged unless it has all names of `source` and no others.

    SPSRNet, ESRGAN+ and ESRGAN's x1 network, which has no upsampling, share some of the names.
    """
    blocks = sum(bool(re.search(r"\.rdb1\.conv1(\.0)?\.weight$", name, re.IGNORECASE)) for name in state)
    ups = sum(name.endswith(".weight") for name in state) - 15 * blocks - 4
    names = dict(zip(_layers(source, blocks, ups), _layers(target, blocks, ups), strict=True))
    parts = [(*name.rpartition("."), value) for name, value in state.items()]
    if ups < 1 or names.keys() != {layer for layer, *_ in parts}:
        return state
    return {f"{names[layer]}{dot}{kind}": value for layer, dot, kind, value in parts}


def _layers(convention: str, blocks: int, ups: int) -> list[str]:
    first, dense, body, up, hr, last = _LAYERS[convention]
    return [
        first,
        *(dense.format(n=n, k=k, j=j) for n in range(blocks) for k in (1, 2, 3) for j in (1, 2, 3, 4, 5)),
        body.format(blocks=blocks),
        *(up.format(u=u, index=3 * u) for u in range(1, ups + 1)),
        hr.format(index=3 * ups + 2),
        last.format(index=3 * ups + 4),
    ]
