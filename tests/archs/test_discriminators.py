"""Discriminators: sizes, names, and the error of a wrong size."""

import re

import pytest
import torch
from torch import nn

from aesop.archs import build_network


@pytest.mark.parametrize(("size", "stages", "last_side"), [(128, 5, 4), (192, 5, 6), (256, 6, 4)])
def test_vgg_style_gives_one_logit_per_image(size, stages, last_side):
    net = build_network({"type": f"VGGStyleDiscriminator{size}", "num_feat": 2})
    logits = net(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 1)
    logits.sum().backward()
    widths = [2 * m for m in (1, 2, 4, 8, 8, 8)][:stages]
    expected = {}
    width_in = 3
    for i, width in enumerate(widths):
        expected[f"conv{i}_0"] = (width, width_in, 3, 3)
        expected[f"conv{i}_1"] = (width, width, 4, 4)
        width_in = width
    expected |= {"linear1": (100, width_in * last_side**2), "linear2": (1, 100)}
    layers = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert {name: tuple(module.weight.shape) for name, module in layers.items()} == expected
    assert [name for name, module in layers.items() if module.bias is not None] == ["conv0_0", "linear1", "linear2"]
    norms = [name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert sorted(norms) == sorted(name.replace("conv", "bn") for name in expected if re.match(r"conv(?!0_0)", name))
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("shape", [(1, 3, 192, 192), (1, 3, 128, 96)])
def test_vgg_style_names_the_option_to_change_for_a_wrong_size(shape):
    net = build_network({"type": "VGGStyleDiscriminator128", "num_feat": 2})
    found = f"found {shape[2]}x{shape[3]}"
    with pytest.raises(ValueError, match=rf"takes 128x128 images, {found}: set datasets\.train\.gt_size to 128"):
        net(torch.rand(shape))


def test_there_is_no_vgg_style_of_another_size():
    with pytest.raises(ValueError, match="there is no network 'VGGStyleDiscriminator64'"):
        build_network({"type": "VGGStyleDiscriminator64"})


@pytest.mark.parametrize("skip_connection", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (64, 40)])
def test_unet_gives_one_logit_per_pixel(skip_connection, size):
    net = build_network({"type": "UNetDiscriminatorSN", "num_feat": 4, "skip_connection": skip_connection})
    assert net(torch.rand(2, 3, *size)).shape == (2, 1, *size)


def test_unet_normalises_conv1_to_conv8():
    torch.manual_seed(0)
    net = build_network({"type": "UNetDiscriminatorSN", "num_feat": 4})
    normalised = {name.removesuffix(".weight_orig") for name in net.state_dict() if name.endswith(".weight_orig")}
    assert normalised == {f"conv{k}" for k in range(1, 9)}
    x = torch.rand(1, 3, 16, 16)
    for _ in range(200):  # one power iteration a training step
        net(x)
    for name in normalised:
        weight = net.get_submodule(name).weight.detach().flatten(1)
        # The power iteration converges from below; 200 steps leave less than 1 % where singular values lie close.
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.01), name


def test_unet_refuses_sides_it_cannot_halve_three_times():
    with pytest.raises(ValueError, match="multiples of 8, found 100x96"):
        build_network({"type": "UNetDiscriminatorSN", "num_feat": 8})(torch.rand(1, 3, 100, 96))


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({"type": "UNetDiscriminatorSN", "num_feat": 8}, "conv9"),
        ({"type": "VGGStyleDiscriminator128", "num_feat": 4}, "linear2"),
    ],
)
def test_outputs_far_from_zero_keep_their_differences_in_bf16(options, last):
    torch.manual_seed(0)
    net, images = build_network(options), torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        for _ in range(5):
            net(images)  # the spectral norms find their values
    net.eval()
    bias = net.get_submodule(last).bias.data

    def outputs(at: float) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            bias.fill_(at)
            return net(images) - at

    torch.testing.assert_close(outputs(50.0), outputs(0.0), atol=1e-4, rtol=0)  # bfloat16's steps are 0.25 at 50
