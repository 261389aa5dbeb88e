"""Weight files: every form that is read, what is recognised, what is refused, and writing."""

import errno
import json
import os
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.archs.autoencoder import published_state_dict
from aesop.weights import load as weights
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_autoencoder, load_generator, load_into, load_network
from aesop.weights.read import read_state_dict
from aesop.weights.recognise import recognise
from aesop.weights.save import save_basicsr, save_pth, save_weights
from checkpoint_kinds import (
    COMPACT,
    DRCT,
    ESRGAN,
    GENERATOR,
    KINDS,
    MSRRESNET,
    SHARED,
    SWINIR,
    Kind,
    autoencoder_options,
    first_generation,
    golden_table,
    network,
    output,
    round_trip,
    second_generation,
)

# --- kinds of files ----------------------------------------------------------------------------------------------------


def holds(options: object, wanted: object) -> bool:
    """Whether options are the wanted ones, perhaps with more beside them (spandrel names every default)."""
    if isinstance(wanted, dict):
        return isinstance(options, dict) and all(holds(options.get(name), value) for name, value in wanted.items())
    return (list(options) if isinstance(options, tuple) else options) == wanted


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_loads_with_nothing_but_its_path_and_converts_there_and_back(tmp_path, kind: Kind):
    reference = output(kind.network(), kind.side)
    assert reference.abs().max() > 1e-2
    result = round_trip(kind.write(tmp_path), tmp_path, reference, kind.side, kind.back)
    assert holds(result.info.options, kind.options)
    assert result.info.arch == kind.options["type"]
    size = kind.side if "dec_opt" in kind.options else kind.side * result.info.scale  # an auto-encoder keeps it
    assert reference.ndim != 4 or reference.shape[-1] == size  # a discriminator may answer with one number
    assert result.difference == 0
    assert result.identical != bool(kind.altered)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.golden], ids=lambda kind: kind.name)
def test_the_kinds_have_the_names_that_were_published(kind: Kind):
    published = golden_table(kind.golden)
    if not published:
        pytest.skip("no golden vectors here: set AESOP_GOLDEN")
    ours = {name: value.ndim for name, value in kind.tensors().items()}
    assert ours == {name: len(shape) for name, shape in published}


def test_a_single_enlargement_is_x2_in_former_names_and_x3_in_basicsrs(tmp_path):
    """The tensors of the two networks are alike but for their names."""
    options = {**ESRGAN, "scale": 3}
    net = network(options)
    for rename, expected in ((dict, options), (second_generation, {**ESRGAN, "scale": 2, "unshuffle": False})):
        torch.save({f"module.{k}": v for k, v in rename(net.state_dict()).items()}, tmp_path / "net.pth")
        again, info = load_network(tmp_path / "net.pth")
        assert (info.options, info.scale) == (expected, expected["scale"])
        assert output(again).shape[-1] == 8 * expected["scale"]


@pytest.mark.parametrize(
    "options",
    [
        {"plus": True},
        {"scale": 1},
        {"scale": 1, "plus": True},
        {"scale": 2},
        {"scale": 8},
        {"scale": 4, "shuffle_factor": 2, "in_nc": 12},
    ],
)
def test_relatives_of_esrgan_under_its_first_names(tmp_path, options):
    """What else such files hold: ESRGAN+, networks that keep the size; those that are none of ours are spandrel's."""
    spandrel = pytest.importorskip("spandrel")
    from spandrel.architectures.ESRGAN import ESRGAN as Original

    torch.save(Original(num_filters=8, num_blocks=2, **options).state_dict(), tmp_path / "net.pth")
    net, info = load_network(tmp_path / "net.pth")
    oracle = spandrel.ModelLoader().load_from_file(tmp_path / "net.pth")
    assert info.scale == oracle.scale
    assert (output(net) - output(oracle.model.eval())).abs().max() < 1e-6


def test_metadata_survive_in_a_pth_and_do_not_come_from_others(tmp_path):
    net = network(SWINIR)
    described = {"network": json.dumps({**SWINIR, "img_range": 255.0}), "iteration": "7"}
    save_pth(tmp_path / "net.pth", {"params": net.state_dict(), "metadata": described})
    info = load_network(tmp_path / "net.pth")[1]
    assert info.options["img_range"] == 255.0
    assert info.metadata == described
    torch.save({"params": net.state_dict(), "metadata": {1: 2, "numbers": [1]}}, tmp_path / "other.pth")
    assert read_state_dict(tmp_path / "other.pth")[1] == {}


@pytest.mark.parametrize(("size", "other"), [(32, 24), (24, 32)])
def test_tables_that_the_constructor_computes_come_from_there(size, other):
    """A SwinIR trained on one image size fits a network built for another: its masks are not learned."""
    trained = network({**SWINIR, "img_size": size})
    state = trained.state_dict()
    net = network({**SWINIR, "img_size": other}, seed=1)
    masks = {name: value.clone() for name, value in net.state_dict().items() if "attn_mask" in name}
    load_into(net, state, "file")
    assert torch.equal(output(net, 16), output(trained, 16))
    assert all(torch.equal(net.state_dict()[name], value) for name, value in masks.items())
    assert state[next(iter(masks))].shape != masks[next(iter(masks))].shape
    without = {name: value for name, value in state.items() if not name.endswith(("attn_mask", "relative_position_index"))}
    again = network({**SWINIR, "img_size": size}, seed=2)
    load_into(again, without, "file")
    assert torch.equal(output(again, 16), output(trained, 16))


def test_a_network_without_shifted_windows_is_another_one():
    """At an image size of one window SwinIR shifts nothing, and says so by having no masks."""
    with pytest.raises(WeightsError, match=r"2 unknown \(layers\.0\.residual_group\.blocks\.1\.attn_mask"):
        load_into(network({**SWINIR, "img_size": 8}), network(SWINIR).state_dict(), "file")


# --- round trips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [GENERATOR, {**GENERATOR, "scale": 2}, autoencoder_options(), autoencoder_options(8)])
def test_self_describing_safetensors(tmp_path, options):
    net = network(options)
    save_weights(tmp_path / "net.safetensors", net.state_dict(), {"network": json.dumps(options), "iteration": "7"})
    again, info = load_network(tmp_path / "net.safetensors")
    assert torch.equal(output(again), output(net))
    assert not again.training
    assert (info.arch, info.scale, info.options) == (options["type"], options["scale"], options)
    assert info.metadata["iteration"] == "7"


def test_metadata_is_believed_over_what_the_shapes_suggest(tmp_path):
    """Options that leave no trace in the tensors (`use_checkpoint`) come from the metadata."""
    options = {**GENERATOR, "use_checkpoint": True}
    save_weights(tmp_path / "net.safetensors", network().state_dict(), {"network": json.dumps(options)})
    assert load_network(tmp_path / "net.safetensors")[0].use_checkpoint


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_basicsr_file_prefers_the_averaged_weights(tmp_path, suffix):
    plain, averaged = network(seed=1), network(seed=2)
    file = tmp_path / f"net_g_latest{suffix}"
    save_basicsr(file, {"params": plain.state_dict(), "params_ema": averaged.state_dict()})
    assert torch.equal(output(load_network(file)[0]), output(averaged))
    assert torch.equal(output(load_network(file, key="params")[0]), output(plain))
    assert torch.equal(output(load_network(file, key="params_ema")[0]), output(averaged))


def test_basicsr_file_without_averaged_weights(tmp_path):
    net = network()
    save_basicsr(tmp_path / "net.pth", {"params": net.state_dict()})
    torch.save({"params": net.state_dict(), "params_ema": None}, tmp_path / "none.pth")
    for name in ("net.pth", "none.pth"):
        assert torch.equal(output(load_network(tmp_path / name)[0]), output(net))


def test_a_key_that_is_not_there_is_named(tmp_path):
    torch.save({"generator": network().state_dict(), "critic": {}}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth has no weights 'params'; it has generator, critic"):
        read_state_dict(tmp_path / "net.pth", key="params")
    assert set(read_state_dict(tmp_path / "net.pth", key="generator")[0]) == set(network().state_dict())


@pytest.mark.parametrize("wrapper", [None, "params_ema", "params", "params-ema", "state_dict", "model", "net"])
@pytest.mark.parametrize("legacy", [False, True])
def test_bare_and_wrapped_dictionaries(tmp_path, wrapper, legacy):
    net = network()
    content = {wrapper: net.state_dict(), "epoch": 3} if wrapper else net.state_dict()
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=not legacy)
    again, info = load_network(tmp_path / "net.pth", key="params")  # the key is for files that have such a level
    assert torch.equal(output(again), output(net))
    assert info.options == GENERATOR
    assert info.metadata == {}


@pytest.mark.parametrize("rename", [first_generation, second_generation])
@pytest.mark.parametrize("num_block", [1, 2, 11])  # 11: "sub.1" and "sub.10" must not be confused
def test_former_names_load(tmp_path, rename, num_block):
    options = {**GENERATOR, "num_block": num_block, "num_grow_ch": 32}
    net = network(options)
    old = rename(net.state_dict())
    assert not old.keys() & {name for name in net.state_dict() if name.startswith(("body", "conv_body", "conv_up"))}
    torch.save(old, tmp_path / "old.pth")
    again, info = load_network(tmp_path / "old.pth")
    assert info.options == options
    assert torch.equal(output(again), output(net))
    # That these are the former names, spandrel knows.
    spandrel = pytest.importorskip("spandrel")
    oracle = spandrel.ModelLoader().load_from_state_dict(old)
    torch.testing.assert_close(output(oracle.model.eval()), output(net), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["half.safetensors", "half.pth"])
def test_half_precision_files_load_as_float32(tmp_path, dtype, name):
    half = {k: v.to(dtype) for k, v in network().state_dict().items()}
    if name.endswith("pth"):
        torch.save({"params_ema": half}, tmp_path / name)
    else:
        save_file(half, tmp_path / name)
    net, _ = load_network(tmp_path / name)
    for key, value in net.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, half[key].float())
    assert output(net).dtype == torch.float32


# --- recognising -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_generators_are_recognised(scale, channels):
    options = {**GENERATOR, "scale": scale, "num_in_ch": channels, "num_out_ch": channels}
    assert recognise(build_network(options).state_dict()) == options


@pytest.mark.parametrize(("scale", "num_feat"), [(2, 16), (4, 16), (4, 32), (3, 27), (8, 192)])
def test_autoencoders_are_recognised_with_and_without_doubled_names(scale, num_feat):
    options = autoencoder_options(scale, num_feat)
    state = build_network(options).state_dict()
    assert recognise(state) == options
    assert recognise(published_state_dict(state)) == options
    # The short names alone are how a bicubic auto-encoder's file is known.
    short = {name: value for name, value in published_state_dict(state).items() if not name.startswith("encoder.")}
    assert recognise(short) == {**options, "type": "BicubicDown_RRDBNet"}


@pytest.mark.parametrize(("scale", "num_feat"), [(2, 18), (3, 20), (8, 16)])
def test_autoencoders_whose_width_was_rounded_up_are_rebuilt_alike(scale, num_feat):
    state = build_network(autoencoder_options(scale, num_feat)).state_dict()
    again = build_network(recognise(state)).state_dict()
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
    assert holds(recognise(build_network(options).state_dict()), options)


def test_what_nobody_knows_is_not_recognised():
    assert recognise({}) is None
    assert recognise({"decoder.0.weight": torch.zeros(3, 3, 3, 3)}) is None
    assert recognise({"conv0_0.weight": torch.zeros(1), "conv0.weight": torch.zeros(1)}) is None
    state = network().state_dict()
    for name in ("conv_first.weight", "conv_body.weight", "conv_up1.weight", "conv_last.weight"):
        assert recognise({k: v for k, v in state.items() if k != name}) is None
        assert recognise({**state, name: torch.zeros(())}) in (None, GENERATOR)


def test_several_input_images_are_no_unshuffled_one():
    options = {**GENERATOR, "num_in_ch": 24}  # 8 times the output: of no unshuffling
    assert recognise(build_network(options).state_dict()) == options


def test_without_spandrel_ours_load_and_others_say_what_is_missing(tmp_path, monkeypatch):
    from aesop.archs import spandrel_nets

    save_file(network().state_dict(), tmp_path / "ours.safetensors")
    other = network(COMPACT).state_dict()
    save_file(other, tmp_path / "other.safetensors")
    spandrel_nets._classes.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "spandrel", None)
        assert load_network(tmp_path / "ours.safetensors")[1].arch == "RRDBNet"
        assert "spandrel" in refused(tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match="do not fit a RRDBNet"):
            load_into(network(), other, "file")
    spandrel_nets._classes.cache_clear()
    assert load_network(tmp_path / "other.safetensors")[1].arch == "Compact"


# --- refusing ----------------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_network(path)
    assert str(path) in str(caught.value), "the message names the file"
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_missing_files_folders_and_empty_files(tmp_path, suffix):
    assert "does not exist" in refused(tmp_path / f"none{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "is a folder, not a weight file: give a file in it" in refused(tmp_path / f"folder{suffix}")
    (tmp_path / f"empty{suffix}").touch()
    assert "is empty" in refused(tmp_path / f"empty{suffix}")


@pytest.mark.parametrize("kind", ["safetensors", "pth", "legacy pth"])
@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, kind, kept):
    state = network().state_dict()
    file = tmp_path / f"net.{kind.removeprefix('legacy ')}"
    if kind == "safetensors":
        save_weights(file, state, {})
    else:
        torch.save({"params": state}, file, _use_new_zipfile_serialization=kind == "pth")
    whole = file.read_bytes()
    assert load_network(file)[1].options == GENERATOR
    file.write_bytes(whole[: int(len(whole) * kept)])
    refused(file)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "is text, not weights"),
        ('{"message": "Not Found", "status": "404"}', "is text, not weights"),
        ("<!DOCTYPE html><html>404: Not Found</html>", "is a web page, not weights: open its address in a browser"),
        ("\n<html lang='en'>\u00e9", "is a web page, not weights"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a git-lfs pointer"),
    ],
)
def test_downloads_that_went_wrong(tmp_path, text, reason, suffix):
    (tmp_path / f"net{suffix}").write_text(text, encoding="utf-8")
    assert reason in refused(tmp_path / f"net{suffix}")


def test_the_form_shows_in_the_content_not_in_the_name(tmp_path):
    net = network()
    save_weights(tmp_path / "net.pth", net.state_dict(), {"iteration": "7"})
    save_basicsr(tmp_path / "net.safetensors", {"params": net.state_dict()})
    for name in ("net.pth", "net.safetensors"):
        assert torch.equal(output(load_network(tmp_path / name)[0]), output(net))


def content_of_files() -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.binary(max_size=80), st.text(max_size=40).map(str.encode), st.text("(.0]}abdehlpstu", max_size=6).map(str.encode)
    )


@given(content=content_of_files(), suffix=st.sampled_from([".pth", ".safetensors"]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_any_bytes_are_refused_with_our_error(tmp_path, content, suffix):
    (tmp_path / f"net{suffix}").write_bytes(content)
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / f"net{suffix}")


@given(data=st.data(), kind=st.sampled_from(["safetensors", "pth", "legacy.pth"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_byte_is_refused_or_harmless(tmp_path, data, kind):
    file = tmp_path / f"net.{kind}"
    state = {"conv.weight": torch.arange(4.0), "conv.bias": torch.zeros(1)}
    if kind == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "pth")
    damaged = bytearray(file.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(damaged)
    try:
        tensors, _ = read_state_dict(file)
    except WeightsError:
        return
    assert all(isinstance(value, Tensor) for value in tensors.values())


class Attack:
    """Unpickling it makes a folder: a stand-in for running any command."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("form", ["bare pickle", "zip", "legacy", "beside good weights"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, form):
    file, canary = tmp_path / "net.pth", tmp_path / "canary"
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(Attack(canary), protocol=2))
    else:
        content = {"params": network().state_dict() if form == "beside good weights" else {}, "extra": Attack(canary)}
        torch.save(content, file, _use_new_zipfile_serialization=form != "legacy")
    message = refused(file)
    assert "could run code" in message
    assert not canary.exists()
    if form != "bare pickle":  # the attack is a real one
        torch.load(file, weights_only=False)
        assert canary.is_dir()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "nothing"),
        ([1, 2], "a list"),
        (torch.zeros(3), "a Tensor"),
        ({"params": {}}, "nothing"),
        ({"epoch": 3}, "epoch"),
        ({"params": {"lr": 0.1}}, "lr"),
        ({"epoch": 1, "iter": 5, "optimizers": [{}], "schedulers": []}, "epoch, iter, optimizers, ..."),
    ],
)
def test_files_without_weights(tmp_path, content, found):
    torch.save(content, tmp_path / "net.pth")
    message = refused(tmp_path / "net.pth")
    assert f"holds no weights: found {found}; expected a state dict" in message
    assert ("It is a training state (of optimisers)" in message) == ("optimizers" in found)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0.weight", "0.bias", "1.weight", "1.bias"], ", ...). Expected: a generator"),
        (["features.0.weight", "features.0.bias"], "It is an image classifier (torchvision's VGG, AlexNet or ResNet)"),
        (["conv1.weight", "bn1.weight", "layer1.0.conv1.weight"], "It is an image classifier"),
        (["lin0.model.1.weight", "lin1.model.1.weight"], "It holds LPIPS's linear heads"),
        (["lora_unet_down_blocks_0_to_q.lora_down.weight", "lora_unet_down_blocks_0_to_q.alpha"], "It is a LoRA"),
        (["unet.down_blocks.0.attentions.0.to_q.lora.down.weight"], "It is a LoRA"),
        (["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"], "It is a diffusion model"),
        (["first_stage_model.a.bias", "model.diffusion_model.input_blocks.0.0.bias"], "It is a diffusion model"),
        (["0.exp_avg", "0.exp_avg_sq", "0.step"], "It is a training state (of optimisers)"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_something_else(tmp_path, names, says, suffix):
    state = {name: torch.zeros(2, 2) for name in names}
    torch.save(state, tmp_path / "net.pth") if suffix == ".pth" else save_file(state, tmp_path / "net.safetensors")
    message = refused(tmp_path / f"net{suffix}")
    assert "holds weights of no network known here (its first tensors: " in message
    assert names[0] in message
    assert says in message
    assert message.endswith("or AESOP's auto-encoder")
    with pytest.raises(WeightsError, match="do not fit a RRDBNet"):
        load_into(network(), state, "file")


@pytest.mark.parametrize(
    "description", ["RRDBNet", "[1]", '"RRDBNet"', '{"type": "SwinIR5"}', "{}", '{"type": "RRDBNet", "depth": 3}']
)
def test_a_description_that_is_of_no_use(tmp_path, description):
    save_weights(tmp_path / "net.safetensors", network().state_dict(), {"network": description})
    assert "describes no network that can be built" in refused(tmp_path / "net.safetensors")


def test_a_description_that_does_not_fit_the_tensors(tmp_path):
    options = {**GENERATOR, "num_feat": 16}
    save_weights(tmp_path / "net.safetensors", network().state_dict(), {"network": json.dumps(options)})
    assert "do not fit a RRDBNet: body.0.rdb1.conv1.weight: (4, 8, 3, 3) in the file, (4, 16, 3, 3) wanted" in refused(
        tmp_path / "net.safetensors"
    )


def test_wrong_shapes_name_the_tensor_both_shapes_and_what_the_file_is():
    state = network().state_dict()
    wide = network({**GENERATOR, "num_feat": 16})
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_into(wide, state, "some/file.pth")
    text = str(caught.value)
    assert text.startswith("the weights in some/file.pth do not fit a RRDBNet: ")
    assert "body.0.rdb1.conv1.weight: (4, 8, 3, 3) in the file, (4, 16, 3, 3) wanted" in text
    assert f"The file looks like {json.dumps(GENERATOR)}." in text
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items()), "nothing is half loaded"
    with pytest.raises(WeightsError, match="wanted"):
        load_into(wide, state, "some/file.pth", strict=False)


def test_missing_and_unknown_names_are_faults_only_when_strict():
    net, other = network(seed=1), network(seed=2)
    state = {k: v for k, v in other.state_dict().items() if k != "conv_hr.bias"} | {"stranger": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 missing \(conv_hr\.bias\); 1 unknown \(stranger\)"):
        load_into(net, state, "file")
    kept = net.state_dict()["conv_hr.bias"].clone()
    load_into(net, state, "file", strict=False)
    assert torch.equal(net.state_dict()["conv_hr.bias"], kept)
    assert torch.equal(net.state_dict()["conv_hr.weight"], other.state_dict()["conv_hr.weight"])


def test_without_strict_other_shapes_are_left_out(caplog):
    """An x2 RRDBNet unshuffles its input: its first convolution has 12 input channels, a x4 one's 3; all else is equal."""
    net, other = network({**GENERATOR, "scale": 2}, seed=1), network(seed=2)
    first = net.state_dict()["conv_first.weight"].clone()
    with pytest.raises(WeightsError, match=r"conv_first\.weight"):
        load_into(net, other.state_dict(), "x4.pth")
    load_into(net, other.state_dict(), "x4.pth", strict=False)
    loaded = net.state_dict()
    assert torch.equal(loaded.pop("conv_first.weight"), first)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in loaded.items())
    assert re.search(r"x4\.pth: 1 of \d+ tensors have other shapes and are left out \(conv_first\.weight: ", caplog.text)


def test_generators_autoencoders_and_discriminators_are_told_apart(tmp_path):
    critic = {"type": "UNetDiscriminatorSN", "num_feat": 4}
    for name, options in (("g", GENERATOR), ("other", COMPACT), ("ae", autoencoder_options()), ("d", critic)):
        save_file(network(options).state_dict(), tmp_path / f"{name}.safetensors")
    assert load_generator(tmp_path / "g.safetensors")[1].arch == "RRDBNet"
    assert load_generator(tmp_path / "other.safetensors")[1].arch == "Compact"
    frozen = load_autoencoder(tmp_path / "ae.safetensors")
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    with pytest.raises(WeightsError, match=r"ae\.safetensors is an auto-encoder .* give a generator's weights"):
        load_generator(tmp_path / "ae.safetensors")
    with pytest.raises(WeightsError, match=r"d\.safetensors is a discriminator \(UNetDiscriminatorSN\), .* the net_g file"):
        load_generator(tmp_path / "d.safetensors")
    for name, found in (("g", "RRDBNet"), ("other", "Compact"), ("d", "UNetDiscriminatorSN")):
        with pytest.raises(WeightsError, match=rf"{name}\.safetensors holds a {found}, not an auto-encoder"):
            load_autoencoder(tmp_path / f"{name}.safetensors")


# --- writing -----------------------------------------------------------------------------------------------------------


def save(path: Path, net: nn.Module) -> None:
    if path.suffix == ".pth":
        save_basicsr(path, {"params": net.state_dict()})
    else:
        save_weights(path, net.state_dict(), {})


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
@pytest.mark.parametrize("failing", ["rename", "write"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, failing):
    old, new = network(seed=1), network(seed=2)
    save(tmp_path / name, old)
    before = (tmp_path / name).read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def half(_, temporary, **__):
        Path(temporary).write_bytes(b"half")
        full()

    with monkeypatch.context() as patch:
        if failing == "rename":
            patch.setattr(os, "replace", full)
        else:
            patch.setattr(weights, "save_file", half)
            patch.setattr(torch, "save", half)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path / name, new)
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]
    save(tmp_path / name, new)
    assert torch.equal(output(load_network(tmp_path / name)[0]), output(new))


def test_saved_tensors_may_be_views_and_need_gradients(tmp_path):
    base = torch.rand(4, 6, requires_grad=True)
    save_weights(tmp_path / "v.safetensors", {"t": base.t(), "part": torch.rand(8)[2:5]}, {"a": "b"})
    with safe_open(tmp_path / "v.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "a": "b"}
        assert torch.equal(file.get_tensor("t"), base.detach().t())


def test_a_basicsr_file_does_not_drag_larger_storages_along(tmp_path):
    """torch.save writes a view's whole storage; a slice of a large one must not make a large file."""
    save_basicsr(tmp_path / "v.pth", {"params": {"part": torch.rand(1_000_000)[:5]}})
    assert (tmp_path / "v.pth").stat().st_size < 10_000


# --- real weights ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B", "RealSR_DF2K_x4"])
def test_published_networks_load_by_their_path_alone(name):
    file = SHARED / "weights" / f"{name}.safetensors"
    if not file.is_file():
        pytest.skip(f"no {file}: set AESOP_SHARED to the folder that holds weights/")
    net, info = load_generator(file)
    assert (info.arch, info.scale) == ("RRDBNet", 4)
    assert info.options == {**GENERATOR, "num_feat": 64, "num_block": 6 if "6B" in name else 23, "num_grow_ch": 32}
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    spandrel = pytest.importorskip("spandrel")
    oracle = spandrel.ModelLoader().load_from_file(file).model.float().eval()
    torch.testing.assert_close(output(net, 16), output(oracle, 16), rtol=1e-5, atol=1e-5)
