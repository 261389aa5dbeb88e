"""Reading weight files: every format, and what is refused."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network
from aesop.weights.read import read_state_dict
from aesop.weights.save import save_weights
from checkpoint_kinds import (
    GENERATOR,
    network,
    output,
    save_basicsr,
)


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_missing_files_folders_and_empty_files(tmp_path, suffix, refused):
    assert "does not exist" in refused(tmp_path / f"none{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "is a folder, not a weight file: give a file in it" in refused(tmp_path / f"folder{suffix}")
    (tmp_path / f"empty{suffix}").touch()
    assert "is empty" in refused(tmp_path / f"empty{suffix}")


@pytest.mark.parametrize("kind", ["safetensors", "pth", "legacy pth"])
@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, kind, kept, refused):
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
def test_downloads_that_went_wrong(tmp_path, text, reason, suffix, refused):
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
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, form, refused):
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
        ({"epoch": 1, "iter": 5, "optimizers": [{}], "schedulers": []}, "epoch, iter, optimizers, and 1 more"),
    ],
)
def test_files_without_weights(tmp_path, content, found, refused):
    torch.save(content, tmp_path / "net.pth")
    message = refused(tmp_path / "net.pth")
    assert f"contains no weights: found {found}; expected a state dict" in message
    assert ("It contains a training state (of optimisers)" in message) == ("optimizers" in found)
