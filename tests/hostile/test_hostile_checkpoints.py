"""Hostile weight files: refused or read, never run, within bounds of memory."""

import hashlib
import json
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import mutations
import pytest
import sandbox
import spandrel
import torch
from safetensors.torch import save_file

from aesop.archs.recognise import recognise_network
from aesop.options.config import TestConfig
from aesop.training.checkpoint import load_state
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network
from aesop.weights.read import read_state_dict

COUNT = int(os.environ.get("AESOP_HOSTILE_CHECKPOINTS", "60"))
SEED = int(os.environ.get("AESOP_HOSTILE_SEED", "0"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux does")
def test_mutated_weight_files():
    report = sandbox.run("weight_file", SEED, COUNT)
    assert report.failures == []
    assert report.total["refused"] > COUNT / 2
    assert report.total["accepted"] > 0


@pytest.mark.parametrize("form", mutations.ATTACKS)
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_never_executed(tmp_path, monkeypatch, form, protocol):
    monkeypatch.chdir(tmp_path)
    Path("net.pth").write_bytes(pickle.dumps({"params": [mutations.Attack(form)]}, protocol))
    with pytest.raises(WeightsError, match=r"net\.pth"):
        read_state_dict("net.pth")
    assert not Path(mutations.CANARY).exists()
    if form != "getattr":  # the attack is a real one
        pickle.loads(Path("net.pth").read_bytes())  # noqa: S301
        assert Path(mutations.CANARY).exists()


@pytest.mark.parametrize("place", ["../../canary", "/tmp/../canary", mutations.CANARY])
def test_names_in_archives_are_no_places(tmp_path, monkeypatch, place):
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    Path("net.pth").write_bytes(mutations.weight_bases()["bare.pth"])
    with zipfile.ZipFile("net.pth", "a") as archive:
        archive.writestr(place, b"x")
    before = set(tmp_path.rglob("*"))
    with suppress(WeightsError):
        load_network("net.pth")
    assert set(tmp_path.rglob("*")) == before
    assert not Path(place).exists()


def test_a_zip_bomb_is_refused_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        with archive.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(100):
                entry.write(bytes(1 << 20))
    with pytest.raises(WeightsError, match="unpacks to more than 10 times its size"):
        read_state_dict(tmp_path / "net.pth")


def test_tensors_that_claim_more_than_the_file_holds(tmp_path):
    torch.save({"conv_first.weight": torch.zeros(1).expand(10**6, 64, 3, 3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="claim more than 10 times"):
        read_state_dict(tmp_path / "net.pth")
    torch.save({"a": torch.sparse_coo_tensor([[0], [0]], [1.0], (2, 2))}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="sparse"):
        read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["bytearray", "encode"])
def test_pickles_that_grow(tmp_path, name):
    module = {"bytearray": b"builtins", "encode": b"_codecs"}[name]
    (tmp_path / "net.pth").write_bytes(b"\x80\x02c" + module + b"\n" + name.encode() + b"\nJ\xff\xff\xff\x7f\x85R.")
    with pytest.raises(WeightsError, match="bytes"):
        read_state_dict(tmp_path / "net.pth")


def test_names_and_descriptions_of_endless_networks(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(spandrel.ModelLoader, "__init__", lambda *_: pytest.fail("it would be built to be recognised"))
        assert recognise_network({f"layers.{10**9}.x.weight": torch.zeros(3, 3)}) is None
        assert recognise_network({"layers.0.x.weight": torch.zeros(20_000, 3)}) is None
    state = mutations.weights()
    for network in ({"type": "RRDBNet", "num_block": 10**9}, {"type": "SwinIR", "depths": [16_000]}, {"type": "x" * 10**6}):
        save_file(state, tmp_path / "net.safetensors", {"network": json.dumps(network)})
        with pytest.raises(WeightsError, match="describes no network") as caught:
            load_network(tmp_path / "net.safetensors")
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ["../../secret", "/dev/null", "net_g.safetensors/../../../secret"])
def test_a_state_that_names_files_elsewhere(tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "state" / "00000005"
    folder.mkdir(parents=True)
    content = {"stage": "psnr", "iteration": 5, "best": {}, "files": {name: "0" * 64}}
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    sealed = {"sha256": checksum, **content}
    (folder / "state.json").write_text(json.dumps(sealed))
    config = TestConfig.model_validate({"name": "x", "network_g": {"type": "RRDBNet"}})
    with pytest.raises(WeightsError):
        load_state(folder, None, config)  # ty: ignore[invalid-argument-type]
