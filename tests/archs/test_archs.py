"""What every network tells about itself: its options, its scale, and what the tiler asks of a generator."""

import pytest
import spandrel
import torch

from aesop.archs import ARCHS, SpandrelNetOptions, build_network, scale_option, with_scale
from aesop.archs.recognise import recognise_network
from checkpoint_kinds import COMPACT, ESRGAN, MSRRESNET, SWINIR, autoencoder_options

SPSR = {"type": "SPSRNet", "in_nc": 3, "out_nc": 3, "nf": 4, "nb": 20, "upscale": 2}


@pytest.mark.parametrize(
    ("options", "scale", "size_multiple", "channels_last"),
    [
        (ESRGAN, 4, 1, True),
        ({**ESRGAN, "scale": 2}, 2, 2, True),
        ({**ESRGAN, "scale": 1}, 1, 4, True),
        ({**ESRGAN, "scale": 2, "unshuffle": False}, 2, 1, True),
        ({**MSRRESNET, "upscale": 2}, 2, 1, True),
        (SPSR, 2, 1, True),
        ({**COMPACT, "upscale": 2}, 2, 2, False),
        (SWINIR, 4, 1, False),
        (autoencoder_options(), 4, 4, False),
    ],
)
def test_a_network_describes_itself(options, scale, size_multiple, channels_last):
    net = build_network(options)
    assert (net.scale, net.size_multiple, net.channels_last_on_cpu) == (scale, size_multiple, channels_last)


def test_every_name_belongs_to_the_class_whose_type_it_is():
    for name, options in ARCHS.items():
        assert name in options.model_fields["type"].annotation.__args__


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"type": "RRDBNet"}, {"type": "RRDBNet", "scale": 2}),
        ({"type": "RRDBNet", "scale": None}, {"type": "RRDBNet", "scale": 2}),
        ({"type": "RRDBNet", "scale": 4}, {"type": "RRDBNet", "scale": 4}),
        ({"type": "MSRResNet"}, {"type": "MSRResNet", "upscale": 2}),
        ({"type": "SAFMN"}, {"type": "SAFMN", "upscaling_factor": 2}),
        ({"type": "SCUNet"}, {"type": "SCUNet"}),
        (
            {"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "SwinIR"}},
            {"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "SwinIR", "upscale": 2}, "scale": 2},
        ),
        ({"type": "AutoEncoder_RRDBNet", "dec_opt": 5}, {"type": "AutoEncoder_RRDBNet", "dec_opt": 5, "scale": 2}),
        ({"type": "Nothing"}, {"type": "Nothing"}),
        ({"type": [1]}, {"type": [1]}),
        ({}, {}),
        (None, None),
        ("RRDBNet", "RRDBNet"),
    ],
)
def test_the_files_scale_is_filled_into_raw_options(options, expected):
    assert with_scale(options, 2) == expected


def test_raw_options_are_not_changed_in_place():
    options = {"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "RRDBNet"}}
    with_scale(options, 2)
    assert options == {"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "RRDBNet"}}


def test_what_networks_call_their_scale():
    names = {name: scale_option(name) for name in ("RRDBNet", "SPSRNet", "HAT", "OmniSR", "UNetDiscriminatorSN", "Nothing")}
    assert list(names.values()) == ["scale", "upscale", "upscale", "up_scale", None, None]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("VGGStyleDiscriminator128", [128]),
        ("VGGStyleDiscriminator192", [192]),
        ("UNetDiscriminatorSN", [64, 128, 192]),
    ],
)
def test_discriminators_say_which_crops_they_take(name, sizes):
    options = ARCHS[name].model_validate({"type": name})
    assert [size for size in (64, 100, 128, 192) if options.takes_crops_of(size)] == sizes


@pytest.mark.parametrize("options", [{"plus": True, "shuffle_factor": 2, "in_nc": 12}, {"shuffle_factor": 4, "in_nc": 48}])
def test_an_esrgan_that_unshuffles_its_input_gives_what_spandrel_gives(options):
    torch.manual_seed(0)
    net = build_network({"type": "ESRGAN", "num_filters": 8, "num_blocks": 1, "scale": 4, **options}).eval()
    described = spandrel.ModelLoader("cpu").load_from_state_dict(dict(net.state_dict()))
    assert net.scale == described.scale == 4 // options["shuffle_factor"]
    x = torch.rand(1, 3, 17, 21)
    with torch.no_grad():
        assert torch.equal(net(x).clamp(0, 1), described(x))


def test_an_autoencoder_with_an_unknown_decoder_is_not_recognised():
    state = build_network(autoencoder_options()).state_dict()
    assert recognise_network({name.replace("decoder.body", "decoder.trunk"): value for name, value in state.items()}) is None


def test_unknown_names_are_spandrels():
    assert "SwinIR" not in ARCHS
    assert "upscale" in SpandrelNetOptions.option_names("SwinIR")
