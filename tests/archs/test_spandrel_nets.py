"""Generators of the spandrel library: padding, checkpointing, recognition, refusals. Numbers are golden's (tests/golden)."""

import copy
import json
import warnings
from collections import Counter

import pytest
import spandrel
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

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

BRANCHED = {"depth": [4, 4], "img_size": 16, "embed_dim": 16, "num_heads": [2, 2], "split_size": [4, 8], "upscale": 4}
MASKED = {
    **{name: SMALL[name] for name in ("SwinIR", "DRCT", "HAT")},
    "Swin2SR": {**WINDOWED, "upscale": 4},
    "DAT": {**BRANCHED, "expansion_factor": 2.0},
    "RGT": {**BRANCHED, "mlp_ratio": 2.0},
    "ATD": {**WINDOWED, "upscale": 4, "category_size": 16, "num_tokens": 8},
}


@pytest.mark.parametrize("name", ["SwinIR", "DRCT", "HAT", "Swin2SR"])
def test_exported_masks_are_spandrels(name):
    net = build_network({"type": name, **MASKED[name]})
    block = next(module for module in net.modules() if hasattr(module, "calculate_mask") and module.shift_size)
    theirs = type(block).calculate_mask.__wrapped__
    for size in ((8, 12), (20, 4), (16, 16)):
        options = {"dtype": torch.float32} if name == "HAT" else {}
        expected = theirs(block, size, **options)
        assert torch.equal(spandrel_nets.window_mask(size, block.window_size, block.shift_size), expected)


class Operations(TorchDispatchMode):
    """Counts operators, and copies from the CPU to another device."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        self.count[function.overloadpacket.__name__] += 1
        if "copy" in function.__name__ and isinstance(result, torch.Tensor) and result.device.type != "cpu":
            self.count["uploads"] += any(isinstance(a, torch.Tensor) and a.device.type == "cpu" for a in args)
        return result


def operations(net: nn.Module, x: torch.Tensor) -> Counter:
    with torch.no_grad(), Operations() as mode:
        net(x)
    return mode.count


@pytest.fixture
def _no_masks():
    spandrel_nets._kept_mask.cache_clear()
    yield
    spandrel_nets._kept_mask.cache_clear()


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


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (17, 3)])
@pytest.mark.parametrize("name", SMALL)
def test_any_size_is_taken_and_what_is_missing_continues_the_last_pixels(name, size):
    net, x = build(name), torch.rand(1, 3, *size)
    with torch.no_grad():
        made = net(x)
        assert made.shape[-2:] == (size[0] * net.scale, size[1] * net.scale)
        assert made.isfinite().all()
        if name in ("SwinIR", "DRCT"):  # windows of 4 pixels; a single row or column can only be repeated
            by_hand = x
            for axis, side in ((2, size[0]), (3, size[1])):
                order = [*range(side), *range(side - 2, -1, -1)][: side + -side % 4]  # there and back
                by_hand = by_hand.index_select(axis, torch.tensor(order + [order[-1]] * (-len(order) % 4)))
            expected = net(by_hand)[..., : size[0] * net.scale, : size[1] * net.scale]
            torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 5), (17, 5), (16, 33)])
def test_a_swinir_that_unshuffles_first_takes_any_size(size):
    assert build("SwinIR", start_unshuffle=2)(torch.rand(1, 3, *size)).shape == (1, 3, size[0] * 2, size[1] * 2)


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


@pytest.mark.usefixtures("_no_masks")
@pytest.mark.parametrize("name", MASKED)
def test_kept_masks_change_no_number_and_are_made_once_for_each_size(name):
    net, x = build(name, **MASKED[name]), torch.rand(1, 3, 24, 16)
    original = copy.deepcopy(net)
    for module in original.modules():
        vars(module).pop("keeps_masks", None)  # as spandrel has it
    with torch.no_grad():
        expected = original(x)
        assert torch.equal(net(x), expected)
        assert torch.equal(net(x), expected)
        assert torch.equal(copy.deepcopy(net)(x), expected)
    assert net.state_dict().keys() == original.state_dict().keys()
    # Each mask is made by two masked_fill; blocks with the same windows share it.
    assert operations(original, x)["masked_fill"] >= 2
    assert operations(net, x)["masked_fill"] == 0
    first, second = (operations(net, torch.rand(1, 3, 16, 32))["masked_fill"] for _ in range(2))
    assert (first, second) == (
        2 if name in ("HAT", "ATD") else 4,
        0,
    )  # in the others, blocks are shifted or not, or two-fold


@pytest.mark.usefixtures("_no_masks")
@pytest.mark.parametrize("name", ["SwinIR", "DRCT", "HAT", "DAT", "RGT"])  # the others copy other small tensors, too
def test_the_second_step_copies_nothing_to_the_device(name):
    net = build(name, **MASKED[name])
    net(torch.rand(1, 3, 24, 16))  # masks for the CPU are no masks for the device
    net, x = net.to("meta"), torch.rand(1, 3, 24, 16, device="meta")
    assert operations(net, x)["uploads"] > 0
    assert operations(net, x)["uploads"] == 0


@pytest.mark.usefixtures("_no_masks")
def test_few_masks_are_kept_and_training_can_use_those_of_validation():
    net = build("SwinIR")
    with torch.inference_mode():
        for side in range(12, 60, 4):
            net(torch.rand(1, 3, side, 16))
    assert spandrel_nets._kept_mask.cache_info().currsize == spandrel_nets.MASKS_KEPT
    net.train()(torch.rand(1, 3, 56, 16)).mean().backward()
    buffers = [buffer.data_ptr() for name, buffer in net.named_buffers() if name.endswith("attn_mask")]
    assert len(set(buffers)) == len(buffers)


@pytest.mark.usefixtures("_no_masks")
def test_fake_masks_are_not_kept():
    net, x = build("SwinIR"), torch.rand(1, 3, 16, 12)
    with FakeTensorMode(allow_non_fake_inputs=True):
        net(x)
    assert type(net(x)) is torch.Tensor


@pytest.mark.slow
@pytest.mark.usefixtures("_no_masks")
@pytest.mark.parametrize("use_checkpoint", [False, True])
def test_compiled_networks_take_masks_as_constants(use_checkpoint):
    net = build("SwinIR", drop_path_rate=0.0, use_checkpoint=use_checkpoint).train()
    calls: list[torch.fx.GraphModule] = []
    torch.compiler.reset()
    compiled = torch.compile(net, backend=lambda graph, _: calls.append(graph) or graph.forward)
    for size in ((16, 12), (16, 12), (12, 20)):
        x = torch.rand(1, 3, *size)
        torch.testing.assert_close(compiled(x), net(x), rtol=0, atol=1e-6)
    assert "masked_fill" not in calls[0].code
    torch.compiler.reset()


def random_states_read(net: nn.Module, monkeypatch) -> int:
    reads, genuine = [], torch.get_rng_state
    monkeypatch.setattr(torch, "get_rng_state", lambda: reads.append(1) or genuine())
    net.train()(torch.rand(2, 3, 16, 16)).mean().backward()
    return len(reads)


@pytest.mark.parametrize(
    ("name", "flag"),
    [("SwinIR", "use_checkpoint"), ("DRCT", "use_checkpoint"), ("Swin2SR", "use_checkpoint"), ("DAT", "use_chk")],
)
def test_only_random_networks_read_the_random_state(name, flag, monkeypatch):
    layers = {"depths": [2, 2], "num_heads": [2, 2]} if name == "DRCT" else {}  # the first layer is never random
    options, certain = (
        {**MASKED[name], **layers, flag: True},
        dict.fromkeys(("drop_rate", "attn_drop_rate", "drop_path_rate"), 0.0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # spandrel does not choose between the two kinds of checkpoint
        assert random_states_read(build(name, **options, **certain), monkeypatch) == 0
        assert random_states_read(build(name, **options, **(certain | {"drop_path_rate": 0.5})), monkeypatch) > 0
        assert random_states_read(build(name, **options, **(certain | {"drop_rate": 0.5})), monkeypatch) > 0
    assert spandrel_nets.random_when_recomputed(build(name, **options)) == ["drop_path_rate"]
    assert not spandrel_nets.random_when_recomputed(build(name, **options, **certain))
    assert not spandrel_nets.random_when_recomputed(build(name, **MASKED[name]))


@pytest.mark.parametrize("drop_rate", [0.0, 0.5])
def test_swinir_with_recomputation_has_the_same_gradients(drop_rate):
    x, grads = torch.rand(1, 3, 8, 8), []
    for use_checkpoint in (False, True):
        net = build("SwinIR", use_checkpoint=use_checkpoint, drop_rate=drop_rate).train()
        torch.manual_seed(1)
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
