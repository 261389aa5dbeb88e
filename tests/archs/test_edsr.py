"""EDSR: its computation spelled out, its published names and size, recognition."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.archs import build_network
from aesop.archs.edsr import EDSR
from aesop.archs.recognise import recognise_network


@pytest.mark.parametrize(("upscale", "steps"), [(2, (2,)), (3, (3,)), (4, (2, 2)), (8, (2, 2, 2))])
@pytest.mark.parametrize("res_scale", [1.0, 0.1])
def test_the_network_is_the_described_one(upscale, steps, res_scale):
    torch.manual_seed(0)
    net = EDSR(num_feat=8, num_block=2, upscale=upscale, res_scale=res_scale)
    state, x = net.state_dict(), torch.rand(2, 3, 5, 7)

    def conv(y: Tensor, name: str) -> Tensor:
        return F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    mean = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]
    first = y = conv(255 * (x - mean), "conv_first")
    for n in (0, 1):
        y = y + res_scale * conv(conv(y, f"body.{n}.conv1").relu(), f"body.{n}.conv2")
    y = first + conv(y, "conv_after_body")
    for k, step in enumerate(steps):
        y = F.pixel_shuffle(conv(y, f"upsample.{2 * k}"), step)
    y = conv(y, "conv_last") / 255 + mean
    with torch.no_grad():
        torch.testing.assert_close(net(x), y, rtol=1e-4, atol=1e-5)
    assert y.shape == (2, 3, 5 * upscale, 7 * upscale)


def test_published_sizes_and_scales_of_residuals():
    with torch.device("meta"):
        medium, large = EDSR(upscale=2), EDSR(num_feat=256, num_block=32, upscale=2)
    # The paper's table of models: 1.37 and 40.7 million with x2.
    assert [round(sum(p.numel() for p in net.parameters()) / 1e6, 2) for net in (medium, large)] == [1.37, 40.73]
    assert [net.body[0].res_scale for net in (medium, large)] == [1.0, 0.1]


@pytest.mark.parametrize("upscale", [2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_recognised_and_names_are_basicsrs(upscale, channels):
    options = {
        "type": "EDSR",
        "num_in_ch": channels,
        "num_out_ch": channels,
        "num_feat": 8,
        "num_block": 3,
        "upscale": upscale,
    }
    net = build_network(options)
    ups = [f"upsample.{2 * k}" for k in range({2: 1, 3: 1, 4: 2, 8: 3}[upscale])]
    layers = ["conv_first", *(f"body.{n}.conv{c}" for n in range(3) for c in (1, 2)), "conv_after_body", *ups, "conv_last"]
    assert list(net.state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert recognise_network(net.state_dict()) == options
    assert net(torch.rand(1, channels, 4, 5)).shape == (1, channels, 4 * upscale, 5 * upscale)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"EDSR: upscale 5 does not exist; use one of \[2, 3, 4, 8\]"):
        EDSR(upscale=5)
    with pytest.raises(ValueError, match="num_in_ch 1 and num_out_ch 3 must be equal"):
        EDSR(num_in_ch=1)
