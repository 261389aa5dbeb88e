"""Under bfloat16 autocast, only the convolutions of RRDBs are rounded."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from aesop.archs import build_network
from aesop.archs.autoencoder import BicubicAutoEncoder
from aesop.archs.rrdbnet import RRDBNet
from aesop.images.read import ImageFile
from aesop.losses.aesop import AESOPLoss
from aesop.weights.load import load_generator

SHARED = Path(os.environ.get("AESOP_SHARED") or Path(__file__).resolve().parents[3] / "shared")
WEIGHTS, PHOTO = SHARED / "weights" / "RealSR_DF2K_x4.safetensors", SHARED / "data" / "Set14" / "HR" / "img_004.png"
needs_shared = pytest.mark.skipif(not (WEIGHTS.is_file() and PHOTO.is_file()), reason=f"needs {WEIGHTS} and {PHOTO}")
RRDB = {"type": "RRDBNet", "num_feat": 16, "num_block": 2, "num_grow_ch": 8}
BLOCK = 15  # convolutions


class Types(TorchDispatchMode):
    """Counts convolutions by type."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.seen[args[1].dtype] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("options", "blocks", "others"),
    [(RRDB, 2, 6), ({"type": "AutoEncoder_RRDBNet", "enc_opt": {"num_feat": 48}, "dec_opt": RRDB}, 4, 10)],
)
def test_only_rrdbs_are_rounded(options, blocks, others):
    net, x = build_network(options), torch.rand(1, 3, 16, 16)
    with Types() as types, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y = net(x)
    assert types.seen == {torch.bfloat16: BLOCK * blocks, torch.float32: others}
    assert y.dtype == torch.float32


def test_the_loss_rounds_the_same_layers_without_autocast():
    net = build_network({"type": "AutoEncoder_RRDBNet", "enc_opt": {"num_feat": 48}, "dec_opt": RRDB})
    loss, sr, hr = AESOPLoss(net), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    loss.use_bf16()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = (net(sr) - net(hr)).abs().mean()
    assert torch.equal(loss(sr, hr), expected)
    assert all(parameter.dtype == torch.float32 for parameter in loss.autoencoder.parameters())  # validation uses it


def everything_rounded(net: RRDBNet, x: Tensor) -> Tensor:
    """The network as autocast runs it where nothing is exempted."""

    def run(layer: nn.Module, x: Tensor) -> Tensor:
        return F.conv2d(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16(), padding=1)

    first = deep = run(net.conv_first, x)
    with torch.autocast("cpu", torch.bfloat16):
        for block in net.body:
            deep = block(deep)
    feat = run(net.conv_body, deep) + first
    for layer in (net.conv_up1, net.conv_up2):
        feat = F.leaky_relu(run(layer, F.interpolate(feat, scale_factor=2, mode="nearest")), 0.2)
    return run(net.conv_last, F.leaky_relu(run(net.conv_hr, feat), 0.2)).float()


@needs_shared
@pytest.mark.slow
def test_images_and_gradients_stay_close_to_float32():
    """The figures of docs/decisions.md, with room for another processor."""
    net, _ = load_generator(WEIGHTS)
    net = net.float()
    pixels = torch.from_numpy(ImageFile.at(PHOTO).read()[100:228, 100:228].copy())
    hr = pixels.permute(2, 0, 1)[None].float() / 255
    lq = F.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
    with torch.no_grad():
        sr, everything = net(lq), everything_rounded(net, lq)
        with torch.autocast("cpu", torch.bfloat16):
            ours = net(lq)
    off, off_everything = (255 * float((image - sr).square().mean().sqrt()) for image in (ours, everything))
    assert off < 0.8
    assert off_everything > 3 * off

    exact = AESOPLoss(BicubicAutoEncoder(net, 4))
    rounded = AESOPLoss(BicubicAutoEncoder(net, 4))
    rounded.use_bf16()
    gradients = []
    for loss in (exact, rounded):
        leaf = sr.clone().requires_grad_()
        loss(leaf, hr).backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.flatten())
    assert F.cosine_similarity(*gradients, dim=0) > 0.975
