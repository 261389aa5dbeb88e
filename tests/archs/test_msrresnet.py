"""MSRResNet: its computation spelled out, its published names and size."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.archs import build_network
from aesop.archs.msrresnet import MSRResNet


def lively(**options) -> MSRResNet:
    """Weights of unit gain: with the published x0.1 initialisation only the bilinear skip would show."""
    torch.manual_seed(0)
    net = MSRResNet(**options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape) / (parameter[0].numel() if parameter.ndim > 1 else 100) ** 0.5)
    return net.eval()


@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_the_network_is_the_described_one(upscale):
    net = lively(num_feat=8, num_block=2, upscale=upscale)
    state, x = net.state_dict(), torch.rand(2, 3, 5, 7)

    def conv(y: Tensor, name: str) -> Tensor:
        return F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    y = F.leaky_relu(conv(x, "conv_first"), 0.1)
    for n in (0, 1):
        y = y + conv(conv(y, f"body.{n}.conv1").relu(), f"body.{n}.conv2")
    for name, factor in (("upconv1", 2), ("upconv2", 2)) if upscale == 4 else (("upconv1", upscale),):
        y = F.leaky_relu(F.pixel_shuffle(conv(y, name), factor), 0.1)
    y = conv(F.leaky_relu(conv(y, "conv_hr"), 0.1), "conv_last")
    with torch.no_grad():
        difference = net(x) - y
    bilinear = torch.nn.Upsample(scale_factor=upscale, mode="bilinear")(x)
    assert difference.shape == (2, 3, 5 * upscale, 7 * upscale)
    torch.testing.assert_close(difference, bilinear, rtol=0, atol=1e-5)
    assert y.std() > 0.03, "the comparison must see the network"


@pytest.mark.parametrize(("upscale", "ups"), [(2, 1), (3, 1), (4, 2)])
def test_state_names_are_basicsrs(upscale, ups):
    layers = ["conv_first", *(f"body.{n}.conv{c}" for n in range(3) for c in (1, 2))]
    layers += [*(f"upconv{k}" for k in range(1, ups + 1)), "conv_hr", "conv_last"]
    net = build_network({"type": "MSRResNet", "num_feat": 8, "num_block": 3, "upscale": upscale})
    assert list(net.state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def test_published_size():
    # The baseline of the efficient super-resolution challenges (NTIRE 2020 and AIM 2020).
    with torch.device("meta"):
        assert sum(p.numel() for p in MSRResNet().parameters()) == 1_517_571


def test_one_channel_in_several_out():
    gray = torch.rand(1, 1, 4, 4)
    assert lively(num_in_ch=1, num_feat=4, num_block=1, upscale=2)(gray).shape == (1, 3, 8, 8)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"MSRResNet: upscale 8 does not exist; use one of \[2, 3, 4\]"):
        MSRResNet(upscale=8)
    with pytest.raises(ValueError, match=r"num_in_ch must be 1 or num_out_ch \(1\), found 3"):
        MSRResNet(num_out_ch=1)


def test_initialisation_is_a_tenth_of_kaimings():
    torch.manual_seed(0)
    net = MSRResNet(num_feat=32, num_block=1)
    for layer in (net.body[0].conv1, net.conv_hr):
        # 9216 samples: a sample deviation is within 5 % with near certainty (7 sigma).
        assert layer.weight.std().item() == pytest.approx(0.1 * (2 / (32 * 9)) ** 0.5, rel=0.05)
        assert not layer.bias.any()
