"""Writing weight files."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from aesop.weights import save as save_module
from aesop.weights.load import load_network
from aesop.weights.save import save_weights
from checkpoint_kinds import (
    network,
    output,
    save_basicsr,
)


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
            patch.setattr(save_module, "save_file", half)
            patch.setattr(torch, "save", half)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path / name, new)
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]
    save(tmp_path / name, new)
    assert torch.equal(output(load_network(tmp_path / name)[0]), output(new))


def test_equal_weights_make_equal_files(tmp_path):
    metadata = {f"key {number}": 'text with "quotes", ü, and \\ ' * number for number in range(12)}
    state = {"b": torch.arange(6.0).half(), "a": torch.arange(3.0)}
    for number in range(6):
        save_weights(tmp_path / f"{number}.safetensors", state, metadata)
    assert len({(tmp_path / f"{number}.safetensors").read_bytes() for number in range(6)}) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", **metadata}
        for name, tensor in state.items():
            assert torch.equal(file.get_tensor(name), tensor)


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
