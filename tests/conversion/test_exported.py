"""What exporters are given: padding changes only which sizes are taken, half precision only the last digits."""

import numpy as np
import pytest
import torch

from aesop.archs import build_network
from aesop.conversion.exported import Padded, exportable, needed_multiple
from checkpoint_kinds import COMPACT, GENERATOR, SWINIR, network

SAFMN = {"type": "SAFMN", "dim": 8, "n_blocks": 1, "upscaling_factor": 4}


@pytest.mark.parametrize(("scale", "multiple"), [(1, 4), (2, 2)])
def test_padding_is_by_reflection_and_cut_off_again(scale, multiple):
    net = network({**GENERATOR, "scale": scale})
    assert needed_multiple(net) == multiple
    padded = Padded(net, multiple, scale)
    image = np.random.default_rng(0).random((1, 3, 13, 18), np.float32)
    missing = [(0, 0), (0, 0), (0, -13 % multiple), (0, -18 % multiple)]
    with torch.no_grad():
        found = padded(torch.from_numpy(image))
        whole = net(torch.from_numpy(np.pad(image, missing, "reflect")))
        assert found.shape == (1, 3, 13 * scale, 18 * scale)
        assert torch.equal(found, whole[..., : 13 * scale, : 18 * scale])
        fitting = torch.rand(1, 3, 16, 20)
        assert torch.equal(padded(fitting), net(fitting))


def test_networks_that_pad_themselves_need_no_multiple():
    for options in (GENERATOR, COMPACT, SWINIR, {**COMPACT, "upscale": 2}):
        assert needed_multiple(build_network(options)) == 1
    assert needed_multiple(build_network(SAFMN)) == 8


@pytest.mark.parametrize("options", [GENERATOR, SWINIR], ids=lambda options: options["type"])
def test_half_precision_takes_and_returns_float32_and_leaves_the_network_alone(options):
    net = network(options)
    image = torch.rand(1, 3, 20, 28)
    with torch.no_grad():
        found, expected = exportable(net, half=True)(image), net(image)
    assert found.dtype == torch.float32
    assert next(net.parameters()).dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.01
    assert expected.std() > 0.05


def test_merged_weights_of_span_are_those_of_each_pass():
    net = network({"type": "SPAN", "num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2})
    image = torch.rand(1, 3, 12, 16)
    with torch.no_grad():
        expected, copied = net(image), exportable(net)
        for layer in copied.modules():
            if hasattr(layer, "eval_conv"):
                layer.conv = layer.sk = None  # what is merged is not needed any more
        assert torch.equal(copied(image), expected)
