"""Generators of the spandrel library: padding, checkpointing, recognition, refusals. Numbers are golden's (tests/golden)."""

import copy
import json
import warnings

import pytest
import spandrel
import torch
from torch import nn

from aesop.archs import SpandrelNetOptions, build_network, scale_option, spandrel_nets

WINDOWED = {"img_size": 8, "window_size": 4, "depths": [2], "embed_dim": 12, "num_heads": [2], "upsampler": "pixelshuffle"}
SMALL = {
    "SwinIR": {**WINDOWED, "upscale": 4},
    "DRCT": {**WINDOWED, "upscale": 4, "gc": 4},
    "HAT": {**WINDOWED, "upscale": 4, "compress_ratio": 3, "squeeze_factor": 3},
    "SAFMN": {"dim": 8, "n_blocks": 1, "upscaling_factor": 4},
    "CRAFT": {"depths": [1], "num_heads": [2], "embed_dim": 12, "upscale": 4},
    "RealPLKSR": {"dim": 8, "n_blocks": 1, "upscaling_factor": 2},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2},
    "Compact": {"num_feat": 8, "num_conv": 2, "upscale": 4},
    "ESRGAN": {"num_filters": 8, "num_blocks": 1, "scale": 4},
    "RCAN": {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4, "unshuffle_mod": False},
    "UpCunet2x": {},
}


def build(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return build_network({"type": name, **SMALL.get(name, {}), **options}).eval()


@pytest.mark.parametrize("name", SMALL)
def test_odd_sizes_give_what_spandrel_itself_gives(name):
    net = build(name)
    x = torch.rand(1, 3, 17, 21)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = spandrel.ModelLoader("cpu").load_from_state_dict(dict(net.state_dict()))
    with torch.no_grad():
        ours, theirs = net(x), described(x)
    assert ours.shape[-2:] == (17 * described.scale, 21 * described.scale)
    assert net.scale == described.scale
    assert name == "UpCunet2x" or scale_option(name) in SMALL[name]
    # spandrel pads SwinIR to 16 and DRCT to multiples of 16, the published code to whole windows; it also clamps.
    if name not in ("SwinIR", "DRCT"):
        torch.testing.assert_close(ours.clamp(0, 1), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_the_input_stays_as_it_is(name):
    x = torch.rand(1, 3, 48, 48)
    before = x.clone()
    with torch.no_grad():
        build(name)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["SwinIR", "DRCT"])
def test_transformers_are_padded_by_reflection_to_whole_windows(name):
    net = build(name)
    x = torch.rand(1, 3, 7, 10)
    padded = nn.functional.pad(x, (0, 2, 0, 1), "reflect")
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(padded)[..., :28, :40], rtol=0, atol=1e-6)


def test_a_swinir_that_unshuffles_first_has_a_smaller_scale():
    net = build("SwinIR", start_unshuffle=2)
    assert net.scale == 2
    assert net(torch.rand(1, 3, 16, 32)).shape == (1, 3, 32, 64)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_images_smaller_than_the_padding_are_continued_by_their_last_pixels(side):
    assert build("DRCT")(torch.rand(1, 3, side, side)).shape == (1, 3, 4 * side, 4 * side)


def test_pad_against_numpy():
    numpy = pytest.importorskip("numpy")
    x = torch.rand(1, 1, 3, 4)
    expected = numpy.pad(x[0, 0].numpy(), ((0, 2), (0, 3)), mode="reflect")
    assert torch.equal(spandrel_nets.pad(x, 2, 3)[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_is_independent_and_gives_the_same(name):
    net = build(name)
    x = torch.rand(1, 3, 16, 16)
    copied = copy.deepcopy(net)
    with torch.no_grad():
        before = net(x)
        for parameter in net.parameters():
            parameter.zero_()
        assert torch.equal(copied(x), before)
        assert not torch.equal(net(x), before)


def test_drct_with_recomputation_has_the_same_gradients():
    x = torch.rand(1, 3, 8, 8)
    grads = []
    for use_checkpoint in (False, True):
        net = build("DRCT", use_checkpoint=use_checkpoint, drop_path_rate=0.0, ape=True).train()
        net(x).square().mean().backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-9) for a, b in zip(*grads, strict=True))


def test_drct_recomputes_only_where_asked(monkeypatch):
    calls = []
    genuine = spandrel_nets.checkpoint
    monkeypatch.setattr(spandrel_nets, "checkpoint", lambda *a, **k: calls.append(1) or genuine(*a, **k))
    build("DRCT").train()(torch.rand(1, 3, 8, 8))
    build("DRCT", use_checkpoint=True)(torch.rand(1, 3, 8, 8))  # eval mode
    assert not calls
    build("DRCT", use_checkpoint=True).train()(torch.rand(1, 3, 8, 8))
    assert len(calls) == 1


@pytest.mark.parametrize("name", SMALL)
def test_a_network_recognised_from_its_tensors_is_the_same_network(name):
    net = build(name)
    options = SpandrelNetOptions.recognise(net.state_dict())
    assert options["type"] == name
    again = build_network(json.loads(json.dumps(options))).eval()  # as it comes out of a weight file's metadata
    again.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(x), net(x))


@pytest.mark.parametrize("state", [{}, {"a": torch.zeros(1)}, {"conv_first.weight": torch.zeros(3)}])
def test_other_tensors_are_not_recognised(state):
    with pytest.raises(LookupError):
        SpandrelNetOptions.recognise(state)


def test_a_known_name_with_tensors_that_do_not_fit_is_not_recognised():
    state = {name: value[:1] for name, value in build("SwinIR").state_dict().items()}
    with pytest.raises(LookupError):
        SpandrelNetOptions.recognise(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "SwinIRR"}, "did you mean SwinIR"),
        ({"type": "LaMa"}, "there is no network 'LaMa'"),
        ({"type": "GFPGAN"}, "there is no network 'GFPGAN'"),
        ({"type": "HAT", "embed": 3}, "HAT has no option 'embed'; did you mean embed_dim"),
        ({"type": "SwinIR", "depths": 3}, "SwinIR cannot be built with these options, or not recognised again: TypeError"),
        (
            {"type": "HAT", **WINDOWED, "squeeze_factor": 99},
            "HAT cannot be built with these options, or not recognised",
        ),
        ({"type": None}, "there is no network None"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        build_network(options)


def test_the_name_of_real_esrgans_compact_network_is_known_too():
    net = build_network({"type": "SRVGGNetCompact", **SMALL["Compact"]})
    assert SpandrelNetOptions.recognise(net.state_dict())["type"] == "Compact"


def test_without_spandrel_the_error_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "spandrel", None)
    spandrel_nets.spandrel_classes.cache_clear()
    try:
        with pytest.raises(ValueError, match="pip install --upgrade spandrel"):
            build_network({"type": "SwinIR"})
    finally:
        spandrel_nets.spandrel_classes.cache_clear()
