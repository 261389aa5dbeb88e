"""`aesop models`."""

import os

import pytest
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.cli import app
from aesop.weights.load import load_generator
from aesop.weights.save import save_weights

RRDB = {"type": "RRDBNet", "scale": 2, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}


def test_every_model_has_a_line(tmp_path, monkeypatch):
    net = build_network(RRDB)
    save_weights(tmp_path / "mine.safetensors", net.state_dict(), {"purpose": "drawings"})
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    monkeypatch.setenv("AESOP_MODELS", str(tmp_path))
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0
    lines = {line.partition(":")[0]: line for line in result.stdout.splitlines()}
    count = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    file = tmp_path / "mine.safetensors"
    assert lines["mine"] == f"mine: x2, RRDBNet, {count:.2f} million parameters: drawings ({file})"
    assert lines["broken"].startswith("broken: cannot be used: ")
    assert lines["aesop_compact_x4"].endswith("(comes with aesop)")
    assert "x4, RRDBNet, 1.12 million parameters: small clean photographs" in lines["aesop_compact_x4"]


def test_what_has_no_name_is_named_with_the_reason(tmp_path, monkeypatch):
    first, second, missing = (tmp_path / name for name in ("first", "second", "missing"))
    for folder in (first, second):
        folder.mkdir()
        save_weights(folder / "mine.safetensors", build_network(RRDB).state_dict(), {})
    for name in ("net.onnx", "net.param", "net.bin", "backup.7z", "README.md", "LICENSE", ".hidden.onnx"):
        (second / name).write_bytes(b"7767517")
    monkeypatch.setenv("AESOP_MODELS", os.pathsep.join(map(str, (first, missing, second))))
    lines = CliRunner().invoke(app, ["models"]).stdout.splitlines()
    left_out = [line.removeprefix("left out: ") for line in lines if line.startswith("left out: ")]
    expected = [
        (missing, "no such folder"),
        (second / "backup.7z", "no .safetensors .pth .pt .ckpt file"),
        (second / "mine.safetensors", f"{first / 'mine.safetensors'} comes first"),
        (second / "net.bin", "ncnn"),
        (second / "net.onnx", "an ONNX model"),
        (second / "net.param", "ncnn"),
    ]
    assert len(left_out) == len(expected)
    for line, (path, words) in zip(left_out, expected, strict=True):
        assert line.startswith(str(path))
        assert words in line


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("out of [memory]"), RecursionError("too deep")])
def test_a_file_that_breaks_the_reader_has_a_line(tmp_path, monkeypatch, error):
    (tmp_path / "[bold]broken.pth").write_bytes(b"no weights")
    monkeypatch.setenv("AESOP_MODELS", str(tmp_path))

    def load(file):
        if "broken" in file.name:
            raise error
        return load_generator(file)

    monkeypatch.setattr("aesop.commands.models.load_generator", load)
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0
    assert f"[bold]broken: cannot be used: {str(error) or 'MemoryError'}" in result.stdout.splitlines()
    assert "aesop_compact_x4: x4" in result.stdout


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AESOP_MODELS", str(tmp_path))
    is_denied = lambda path, mode: os.fspath(path) != str(tmp_path)  # noqa: E731 - root may read all
    monkeypatch.setattr(os, "access", is_denied)
    assert f"left out: {tmp_path}: no permission to read it" in CliRunner().invoke(app, ["models"]).stdout.splitlines()
