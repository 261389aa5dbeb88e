"""Weight files: every form that is read, what is recognised, what is refused, and writing and converting."""

import errno
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aesop import weights
from aesop.archs import build_network
from aesop.archs.autoencoder import published_state_dict
from aesop.convert import convert
from aesop.weights import (
    WeightsError,
    load_autoencoder,
    load_generator,
    load_into,
    load_network,
    read_state_dict,
    recognise,
    save_basicsr,
    save_weights,
)

SHARED = Path(os.environ.get("AESOP_SHARED") or Path(__file__).resolve().parents[2] / "shared")
ANIME = SHARED / "weights" / "RealESRGAN_x4plus_anime_6B.safetensors"

GENERATOR = {
    "type": "RRDBNet",
    "num_in_ch": 3,
    "num_out_ch": 3,
    "scale": 4,
    "num_feat": 8,
    "num_block": 2,
    "num_grow_ch": 4,
}


def autoencoder_options(scale: int = 4, num_feat: int = 16) -> dict:
    return {
        "type": "AutoEncoder_RRDBNet",
        "scale": scale,
        "enc_opt": {"num_feat": num_feat, "num_grow_ch": 8},
        "dec_opt": {**GENERATOR, "scale": scale},
    }


def network(options: dict = GENERATOR, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = build_network(options)
    with torch.no_grad():  # unit gain, so that every tensor shows in the output
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape) / (parameter[0].numel() if parameter.ndim > 1 else 100) ** 0.5)
    return net.eval()


def output(net: nn.Module, side: int = 8) -> Tensor:
    with torch.no_grad():
        return net(torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(7)))


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


def test_distributed_prefix_is_dropped(tmp_path):
    net = network()
    torch.save({"params": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "net.pth")
    assert torch.equal(output(load_network(tmp_path / "net.pth")[0]), output(net))


def first_generation(state: dict[str, Tensor], num_block: int) -> dict[str, Tensor]:
    """Names of ESRGAN's first release (2018), the models of the old model zoo."""
    tops = {"conv_first": "model.0", "conv_body": f"model.1.sub.{num_block}", "conv_up1": "model.3", "conv_up2": "model.6"}
    tops |= {"conv_hr": "model.8", "conv_last": "model.10"}
    renamed = {}
    for name, value in state.items():
        block = re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.(\w+)", name)
        layer, kind = name.rsplit(".", 1)
        renamed["model.1.sub.{}.RDB{}.conv{}.0.{}".format(*block.groups()) if block else f"{tops[layer]}.{kind}"] = value
    return renamed


def second_generation(state: dict[str, Tensor], num_block: int) -> dict[str, Tensor]:
    """Names of ESRGAN's second release and of BSRGAN."""
    tops = {"conv_first": "conv_first", "conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2"}
    tops |= {"conv_hr": "HRconv", "conv_last": "conv_last"}
    renamed = {}
    for name, value in state.items():
        block = re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.(\w+)", name)
        layer, kind = name.rsplit(".", 1)
        renamed["RRDB_trunk.{}.RDB{}.conv{}.{}".format(*block.groups()) if block else f"{tops[layer]}.{kind}"] = value
    return renamed


@pytest.mark.parametrize("rename", [first_generation, second_generation])
@pytest.mark.parametrize("num_block", [1, 2, 11])  # 11: "sub.1" and "sub.10" must not be confused
def test_former_names_load(tmp_path, rename, num_block):
    options = {**GENERATOR, "num_block": num_block, "num_grow_ch": 32}
    net = network(options)
    old = rename(net.state_dict(), num_block)
    assert not old.keys() & {name for name in net.state_dict() if name.startswith(("body", "conv_body", "conv_up"))}
    torch.save(old, tmp_path / "old.pth")
    again, info = load_network(tmp_path / "old.pth")
    assert info.options == options
    assert torch.equal(output(again), output(net))
    # That these are the former names, spandrel knows.
    spandrel = pytest.importorskip("spandrel")
    oracle = spandrel.ModelLoader().load_from_state_dict(old)
    torch.testing.assert_close(output(oracle.model.eval()), output(net), rtol=1e-5, atol=1e-6)


def test_a_former_file_of_one_enlargement_is_not_taken_for_a_x3_one(tmp_path):
    """BSRGANx2 has `upconv1` alone and no unshuffle, a network that is not ours; our x3 one has one `conv_up` too."""
    old = second_generation(network().state_dict(), 2)
    torch.save({k: v for k, v in old.items() if not k.startswith("upconv2")}, tmp_path / "BSRGANx2.pth")
    with pytest.raises(WeightsError, match="no architecture known here"):
        load_network(tmp_path / "BSRGANx2.pth")


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
    short = {name: value for name, value in published_state_dict(state).items() if not name.startswith("encoder.")}
    assert recognise(short) == options


@pytest.mark.parametrize(("scale", "num_feat"), [(2, 18), (3, 20), (8, 16)])
def test_autoencoders_whose_width_was_rounded_up_are_rebuilt_alike(scale, num_feat):
    state = build_network(autoencoder_options(scale, num_feat)).state_dict()
    again = build_network(recognise(state)).state_dict()
    assert {name: value.shape for name, value in again.items()} == {name: value.shape for name, value in state.items()}


def test_what_is_not_ours_is_not_recognised():
    assert recognise({}) is None
    assert recognise(build_network({"type": "UNetDiscriminatorSN", "num_feat": 4}).state_dict()) is None
    assert recognise({"decoder.0.weight": torch.zeros(3, 3, 3, 3)}) is None
    state = network().state_dict()
    for name in ("conv_first.weight", "conv_body.weight", "conv_up1.weight", "conv_last.weight"):
        assert recognise({k: v for k, v in state.items() if k != name}) is None
    assert recognise({**state, "conv_first.weight": torch.zeros(8, 24, 3, 3)}) is None  # 8 times the output: no scale


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
    assert "it is a folder" in refused(tmp_path / f"folder{suffix}")
    (tmp_path / f"empty{suffix}").touch()
    assert "readable" in refused(tmp_path / f"empty{suffix}")


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


TEXTS = [
    "hello",
    "This is no weight file.\n",
    "<!DOCTYPE html><html>404: Not Found</html>",
    "version https://git-lfs.github.com",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_text_files(tmp_path, text, suffix):
    (tmp_path / f"net{suffix}").write_text(text)
    refused(tmp_path / f"net{suffix}")


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


@pytest.mark.parametrize("content", [{}, [1, 2], {"params": {}}, {"epoch": 3}, {"params": {"lr": 0.1}}, torch.zeros(3)])
def test_files_without_weights(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    assert "holds no weights: expected a state dict" in refused(tmp_path / "net.pth")


def test_weights_of_another_architecture(tmp_path):
    save_file(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Linear(2, 2)).state_dict(), tmp_path / "net.safetensors")
    message = refused(tmp_path / "net.safetensors")
    assert "no architecture known here" in message
    assert "0.bias" in message


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
    with pytest.raises(WeightsError, match=r"1 missing \(conv_hr\.bias, \.\.\.\); 1 unknown \(stranger, \.\.\.\)"):
        load_into(net, state, "file")
    kept = net.state_dict()["conv_hr.bias"].clone()
    load_into(net, state, "file", strict=False)
    assert torch.equal(net.state_dict()["conv_hr.bias"], kept)
    assert torch.equal(net.state_dict()["conv_hr.weight"], other.state_dict()["conv_hr.weight"])


def test_generators_and_autoencoders_are_told_apart(tmp_path):
    save_weights(tmp_path / "g.safetensors", network().state_dict(), {})
    save_weights(tmp_path / "ae.safetensors", network(autoencoder_options()).state_dict(), {})
    assert load_generator(tmp_path / "g.safetensors")[1].arch == "RRDBNet"
    frozen = load_autoencoder(tmp_path / "ae.safetensors")
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    with pytest.raises(WeightsError, match=r"ae\.safetensors is an auto-encoder .* give a generator's weights"):
        load_generator(tmp_path / "ae.safetensors")
    with pytest.raises(WeightsError, match=r"g\.safetensors holds a RRDBNet, not an auto-encoder"):
        load_autoencoder(tmp_path / "g.safetensors")


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


# --- converting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [GENERATOR, {**GENERATOR, "scale": 1}, autoencoder_options(), autoencoder_options(2)])
def test_there_and_back_gives_identical_tensors(tmp_path, options):
    net = network(options)
    first, middle, last = (tmp_path / name for name in ("a.safetensors", "b.pth", "c.safetensors"))
    save_weights(first, net.state_dict(), {"network": json.dumps(options)})
    assert convert(first, middle) == f"{middle}: params_ema"
    convert(middle, last)
    there, back = load_file(first), load_file(last)
    assert there.keys() == back.keys() == net.state_dict().keys()
    assert all(torch.equal(there[name], back[name]) and there[name].dtype == back[name].dtype for name in there)
    assert load_network(last)[1].options == load_network(middle)[1].options == options


def test_the_exported_file_gives_the_same_image_in_spandrel(tmp_path):
    spandrel = pytest.importorskip("spandrel")
    options = {**GENERATOR, "num_grow_ch": 32}  # spandrel's only growth
    net = network(options)
    nn.init.constant_(net.conv_last.bias, 0.5)
    save_weights(tmp_path / "a.safetensors", net.state_dict(), {"network": json.dumps(options)})
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    model = spandrel.ModelLoader().load_from_file(tmp_path / "b.pth")
    assert (model.scale, model.architecture.id) == (4, "ESRGAN")
    image = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        # A spandrel model clamps its output to [0, 1].
        assert (model.eval()(image) - net(image).clamp(0, 1)).abs().max() < 1e-5
        assert net(image).clamp(0, 1).std() > 0.1, "an image that is not flat after clamping"


def test_an_exported_autoencoder_carries_the_doubled_names(tmp_path):
    net = network(autoencoder_options())
    save_weights(tmp_path / "a.safetensors", net.state_dict(), {"network": json.dumps(autoencoder_options())})
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    file = torch.load(tmp_path / "b.pth", weights_only=True)
    assert list(file) == ["params_ema"]
    exported, own = file["params_ema"], net.state_dict()
    encoder = [name for name in own if name.startswith("encoder.")]
    assert len(exported) == len(own) + len(encoder)
    for short, long in (("conv_first", "encoder.0"), ("body", "encoder.2"), ("conv_last", "encoder.3")):
        names = [name.removeprefix(long) for name in encoder if name.startswith(long)]
        assert names
        assert all(torch.equal(exported[short + name], own[long + name]) for name in names)
        assert all(torch.equal(exported[long + name], own[long + name]) for name in names)
    assert torch.equal(output(load_network(tmp_path / "b.pth")[0]), output(net))


@pytest.mark.parametrize("rename", [first_generation, second_generation])
def test_former_names_become_basicsrs(tmp_path, rename):
    net = network()
    torch.save(rename(net.state_dict(), 2), tmp_path / "old.pth")
    convert(tmp_path / "old.pth", tmp_path / "new.safetensors")
    convert(tmp_path / "old.pth", tmp_path / "new.pth")
    assert load_file(tmp_path / "new.safetensors").keys() == net.state_dict().keys()
    assert list(torch.load(tmp_path / "new.pth", weights_only=True)["params_ema"]) == list(net.state_dict())


def test_a_state_folder_gives_both_sets(tmp_path):
    plain, averaged = network(seed=1), network(seed=2)
    folder = tmp_path / "state"
    for name, net in (("net_g", plain), ("net_g_ema", averaged)):
        save_weights(folder / f"{name}.safetensors", net.state_dict(), {"network": json.dumps(GENERATOR), "iteration": "9"})
    assert convert(folder, tmp_path / "both.pth") == f"{tmp_path / 'both.pth'}: params, params_ema"
    assert torch.equal(output(load_network(tmp_path / "both.pth", "params")[0]), output(plain))
    assert torch.equal(output(load_network(tmp_path / "both.pth", "params_ema")[0]), output(averaged))
    convert(folder, tmp_path / "one.safetensors")
    net, info = load_network(tmp_path / "one.safetensors")
    assert torch.equal(output(net), output(averaged))
    assert info.metadata["iteration"] == "9"
    (folder / "net_g_ema.safetensors").unlink()
    convert(folder, tmp_path / "two.safetensors")
    assert torch.equal(output(load_network(tmp_path / "two.safetensors")[0]), output(plain))


def test_converting_refuses_to_overwrite_and_what_it_cannot_do(tmp_path):
    source, target = tmp_path / "a.safetensors", tmp_path / "b.pth"
    save_weights(source, network().state_dict(), {})
    target.write_text("precious")
    with pytest.raises(ValueError, match=r"b\.pth exists: choose another name"):
        convert(source, target)
    assert target.read_text() == "precious"
    with pytest.raises(ValueError, match=r"exists"):
        convert(source, source)
    with pytest.raises(ValueError, match=r"must end in \.pth or \.safetensors"):
        convert(source, tmp_path / "b.onnx")
    with pytest.raises(WeightsError, match="is no state folder: it has no net_g"):
        convert(tmp_path, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="does not exist"):
        convert(tmp_path / "none.pth", tmp_path / "c.safetensors")
    torch.save({"strange": torch.zeros(2)}, tmp_path / "strange.pth")
    with pytest.raises(WeightsError, match="could not describe itself"):
        convert(tmp_path / "strange.pth", tmp_path / "c.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.pth", "strange.pth"]


# --- real weights ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not ANIME.is_file(), reason=f"no {ANIME}: set AESOP_SHARED to the folder that holds weights/")
def test_a_published_network_loads_by_its_path_alone():
    net, info = load_generator(ANIME)
    assert (info.arch, info.scale) == ("RRDBNet", 4)
    assert info.options == {**GENERATOR, "num_feat": 64, "num_block": 6, "num_grow_ch": 32}
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    spandrel = pytest.importorskip("spandrel")
    oracle = spandrel.ModelLoader().load_from_file(ANIME).model.float().eval()
    torch.testing.assert_close(output(net, 16), output(oracle, 16), rtol=1e-5, atol=1e-5)
