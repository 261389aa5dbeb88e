"""Recognising a network from its tensors."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from aesop.archs import build_network
from aesop.archs.recognise import recognise_network
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_into, load_network
from aesop.weights.tensor_names import published_names
from checkpoint_kinds import (
    COMPACT,
    DRCT,
    GENERATOR,
    MSRRESNET,
    SWINIR,
    autoencoder_options,
    network,
)


def holds(options: object, wanted: object) -> bool:
    """Whether options are the wanted ones, perhaps with more beside them (spandrel names every default)."""
    if isinstance(wanted, dict):
        return isinstance(options, dict) and all(holds(options.get(name), value) for name, value in wanted.items())
    return (list(options) if isinstance(options, tuple) else options) == wanted


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_generators_are_recognised(scale, channels):
    options = {**GENERATOR, "scale": scale, "num_in_ch": channels, "num_out_ch": channels}
    assert recognise_network(build_network(options).state_dict()) == options


@pytest.mark.parametrize(("scale", "num_feat"), [(2, 16), (4, 16), (4, 32), (3, 27), (8, 192)])
def test_autoencoders_are_recognised_with_and_without_doubled_names(scale, num_feat):
    options = autoencoder_options(scale, num_feat)
    state = build_network(options).state_dict()
    assert recognise_network(state) == options
    assert recognise_network(published_names(state)) == options
    # The short names alone are how a bicubic auto-encoder's file is known.
    short = {name: value for name, value in published_names(state).items() if not name.startswith("encoder.")}
    assert recognise_network(short) == {**options, "type": "BicubicDown_RRDBNet"}


@pytest.mark.parametrize(("scale", "num_feat"), [(2, 18), (3, 20), (8, 16)])
def test_autoencoders_whose_width_was_rounded_up_are_rebuilt_alike(scale, num_feat):
    state = build_network(autoencoder_options(scale, num_feat)).state_dict()
    again = build_network(recognise_network(state)).state_dict()
    assert {name: value.shape for name, value in again.items()} == {name: value.shape for name, value in state.items()}


@pytest.mark.parametrize(
    "options",
    [
        *({**MSRRESNET, "upscale": scale} for scale in (2, 3, 4)),
        *(autoencoder_options(4, 16, kind) for kind in ("BicubicDown_RRDBNet", "ProbabilisticAutoEncoder_RRDBNet")),
        *(autoencoder_options(scale, 16, "AutoEncoder_MSRResNet", MSRRESNET) for scale in (2, 4)),
        *({"type": f"VGGStyleDiscriminator{size}", "num_in_ch": 1, "num_feat": 4} for size in (128, 192, 256)),
        {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4},
        {"type": "SPSRNet", "in_nc": 1, "out_nc": 3, "nf": 4, "nb": 21, "upscale": 8},
        *(COMPACT | {"upscale": scale} for scale in (1, 2)),
        {**SWINIR, "upsampler": "pixelshuffledirect", "upscale": 2},
        {**DRCT, "upscale": 3},
    ],
    ids=lambda options: options["type"],
)
def test_other_networks_are_recognised(options):
    assert holds(recognise_network(build_network(options).state_dict()), options)


def test_what_nobody_knows_is_not_recognised():
    assert recognise_network({}) is None
    assert recognise_network({"decoder.0.weight": torch.zeros(3, 3, 3, 3)}) is None
    assert recognise_network({"conv0_0.weight": torch.zeros(1), "conv0.weight": torch.zeros(1)}) is None
    state = network().state_dict()
    for name in ("conv_first.weight", "conv_body.weight", "conv_up1.weight", "conv_last.weight"):
        assert recognise_network({k: v for k, v in state.items() if k != name}) is None
        assert recognise_network({**state, name: torch.zeros(())}) in (None, GENERATOR)


def test_several_input_images_are_no_unshuffled_one():
    options = {**GENERATOR, "num_in_ch": 24}  # 8 times the output: of no unshuffling
    assert recognise_network(build_network(options).state_dict()) == options


def test_without_spandrel_ours_load_and_others_say_what_is_missing(tmp_path, monkeypatch, refused):
    from aesop.archs import spandrel_nets

    save_file(network().state_dict(), tmp_path / "ours.safetensors")
    other = network(COMPACT).state_dict()
    save_file(other, tmp_path / "other.safetensors")
    spandrel_nets.spandrel_classes.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "spandrel", None)
        assert load_network(tmp_path / "ours.safetensors")[1].arch == "RRDBNet"
        assert "spandrel" in refused(tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match="do not fit RRDBNet"):
            load_into(network(), other, "file")
    spandrel_nets.spandrel_classes.cache_clear()
    assert load_network(tmp_path / "other.safetensors")[1].arch == "Compact"


def test_auto_encoders_inside_auto_encoders_are_no_network():
    state = {f"{'decoder.' * k}conv_first.1.weight": torch.zeros(4, 3, 3, 3) for k in range(1400)}
    state |= {f"{'decoder.' * k}body.0.rdb1.conv1.weight": torch.zeros(8, 8, 3, 3) for k in range(1400)}
    net = build_network({"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4})
    with pytest.raises(WeightsError, match="do not fit RRDBNet"):
        load_into(net, state, "deep.pth")
