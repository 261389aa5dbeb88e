"""`aesop models`, `aesop models info`, `aesop models verify`."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from aesop import Upscaler
from aesop.archs import build_network
from aesop.cli import app
from aesop.images.photograph import photograph
from aesop.images.resize import imresize
from aesop.images.tensors import to_tensor
from aesop.inference.shipped_models import shipped_model
from aesop.metrics.psnr import psnr
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
    assert lines["aesop_compact_x4"].endswith("(comes with aesop, also called clean)")
    assert "x4, RRDBNet, 1.12 million parameters: clean photographs" in lines["aesop_compact_x4"]
    aesop("--json", tmp_path / "models.json")
    report = json.loads((tmp_path / "models.json").read_text())
    models = {model.pop("name"): model for model in report["models"]}
    assert models["mine"] == {
        **models["mine"], "file": str(file), "shipped": False, "scale": 2, "purpose": "drawings", "fault": None,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
    }  # fmt: skip
    assert RRDB.items() <= models["mine"]["network"].items()
    assert (models["broken"]["network"], models["broken"]["fault"]) == (None, lines["broken"].split("cannot be used: ")[1])
    assert [name for name, model in models.items() if model["shipped"]] == [
        "aesop_compact_x2", "aesop_compact_x2_psnr", "aesop_compact_x4", "aesop_compact_x4_psnr", "aesop_web_x4",
        "aesop_web_x4_psnr",
    ]  # fmt: skip
    assert report["left_out"] == []


def test_what_has_no_name_is_named_with_the_reason(tmp_path, monkeypatch):
    first, second, missing = (tmp_path / name for name in ("first", "second", "missing"))
    for folder in (first, second):
        folder.mkdir()
        save_weights(folder / "mine.safetensors", build_network(RRDB).state_dict(), {})
    for name in ("net.onnx", "net.param", "net.bin", "backup.7z", "README.md", "LICENSE", ".hidden.onnx"):
        (second / name).write_bytes(b"7767517")
    monkeypatch.setenv("AESOP_MODELS", os.pathsep.join(map(str, (first, missing, second))))
    lines = CliRunner().invoke(app, ["models", "--json", str(tmp_path / "a.json")]).stdout.splitlines()
    left_out = [line.removeprefix("left out: ") for line in lines if line.startswith("left out: ")]
    expected = [
        (missing, "no such folder"),
        (second / "backup.7z", "no .safetensors .pth .pt .ckpt file"),
        (second / "mine.safetensors", f"{first / 'mine.safetensors'} comes first"),
        (second / "net.bin", "ncnn"),
        (second / "net.onnx", "an ONNX model"),
        (second / "net.param", "ncnn"),
    ]
    assert left_out == json.loads((tmp_path / "a.json").read_text())["left_out"]
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


COMPACT = {"type": "Compact", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_conv": 2, "upscale": 4}
MODELSPEC = {"modelspec.title": "Mine", "modelspec.license": "CC-BY-4.0", "modelspec.tags": "photographs, x2"}


def aesop(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["models", *map(str, arguments)])
    return result.exit_code, result.output


def written(path: Path, options: dict, **metadata: str) -> Path:
    torch.manual_seed(0)
    net = build_network(options)
    save_weights(path, net.state_dict(), {"network": json.dumps(options), **metadata})
    return path


def test_info_says_what_a_file_holds_and_what_was_measured(tmp_path):
    train = {"total_iter": 9, "pixel_opt": {"type": "L1Loss", "loss_weight": 0.5}, "gan_opt": None}
    recorded = {
        "config": yaml.safe_dump({"train": train, "datasets": {"train": {"gt_size": 64}}}),
        "total_iter": "9",
        "evil\x1b[0m": "red\x1b[31m",
        "sha256": "false",
    }
    file = written(tmp_path / "mine.safetensors", {**RRDB, "scale": 4}, **MODELSPEC, **recorded)
    code, text = aesop("info", file, "--json", tmp_path / "facts.json")
    assert code == 0
    lines = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert (lines["title"], lines["licence"], lines["tags"]) == ("Mine", "CC-BY-4.0", "photographs, x2")
    assert (lines["scale"], lines["precision"], lines["iterations"]) == ("x4", "float32", "9")
    assert lines["losses"] == "pixel 0.5"
    assert "\x1b" not in text
    assert "after `aesop convert --portable` (its growth is 4" in lines["other programs"]
    assert facts["programs"]["loads"] == "converted"
    assert lines["sha256"] == facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    feat, growth = RRDB["num_feat"], RRDB["num_grow_ch"]
    dense = sum((feat + k * growth) * growth for k in range(4)) + (feat + 4 * growth) * feat
    low = 3 * feat + 3 * dense + feat * feat  # multiplications at LR size, for each of the nine taps
    high = feat * feat / 4 + feat * feat + feat * feat + feat * 3  # at SR size; the first enlargement has a quarter
    assert facts["gflops_per_output_megapixel"] == pytest.approx(2 * 9 * (low / 16 + high) * 1e6 / 1e9)
    assert facts["parameters"] == sum(value.numel() for value in load_file(file).values())
    assert 1 < facts["receptive_field"]["side"] < 96


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({**RRDB, "num_grow_ch": 32}, "chaiNNer, ComfyUI and InvokeAI load it as it is"),
        (
            {**RRDB, "num_grow_ch": 32, "num_in_ch": 1, "num_out_ch": 1},
            "as it is; of these, only chaiNNer runs gray networks",
        ),
        ({**RRDB, "scale": 3}, "InvokeAI do not load it: spandrel reads an RRDBNet x3 as x2"),
        (COMPACT, "load it as it is"),
        ({"type": "RealPLKSR", "dim": 8, "n_blocks": 1, "upscaling_factor": 2}, "load it as it is"),
    ],
)
def test_info_says_where_a_file_loads(tmp_path, options, expected):
    code, text = aesop("info", written(tmp_path / "a.safetensors", options))
    assert code == 0
    assert ("not measured" in text) == (options["type"] == "RealPLKSR")
    assert text.rstrip().endswith(expected)


def test_info_looks_at_the_file_not_only_at_the_network(tmp_path):
    """torch.compile's prefix, which is removed here and not by spandrel."""
    state = {f"_orig_mod.{name}": value for name, value in build_network({**RRDB, "num_grow_ch": 32}).state_dict().items()}
    save_weights(tmp_path / "a.safetensors", state, {})
    code, text = aesop("info", tmp_path / "a.safetensors")
    assert code == 0
    assert "after `aesop convert --portable`" in text
    assert "spandrel does not read the tensors in this file" in text


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02cos\nsystem\n(S'true'\ntR.", bytes(64)])
def test_damaged_and_hostile_files_get_one_line(tmp_path, content):
    file = tmp_path / "a.pth"
    file.write_bytes(content)
    for verb in ("info", "verify"):
        code, text = aesop(verb, file)
        assert code == 1
        assert len(text.strip().splitlines()) == 1
        assert str(file) in text


def with_hash(file: Path) -> str:
    """ModelSpec's sum, by hand."""
    content = file.read_bytes()
    return "0x" + hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def test_verify_finds_each_fault_and_names_the_file(tmp_path):
    state = load_file(shipped_model())
    network = load_generator(shipped_model())[1].metadata["network"]
    good = tmp_path / "good.safetensors"
    save_weights(good, state, {"network": network})
    save_weights(good, state, {"network": network, "modelspec.hash_sha256": with_hash(good)})
    faulty = {}
    faulty["changed"] = {**state, "conv_last.bias": state["conv_last.bias"] + 1 / 256}
    faulty["broken"] = {**state, "conv_last.bias": state["conv_last.bias"] * float("nan")}
    faulty["incomplete"] = {name: value for name, value in state.items() if name != "conv_last.bias"}
    faulty["untrained"] = {name: value * 0 for name, value in state.items()}
    for name, tensors in faulty.items():
        described = {"modelspec.hash_sha256": with_hash(good)} if name == "changed" else {}
        save_weights(tmp_path / f"{name}.safetensors", tensors, {"network": network, **described})
    content = good.read_bytes()
    (tmp_path / "truncated.safetensors").write_bytes(content[: len(content) // 2])
    names = ["good", *faulty, "truncated", "missing"]
    code, text = aesop("verify", *(tmp_path / f"{name}.safetensors" for name in names))
    lines = dict(zip(names, text.splitlines(), strict=True))
    assert code == 1
    assert lines["good"].startswith(f"ok     {good}: RRDBNet x4, ")
    assert lines["good"].endswith("dB), hash as recorded")
    faults = {
        "changed": "was changed",
        "broken": "NaN or infinite weights (conv_last.bias)",
        "incomplete": "1 missing (conv_last.bias)",
        "untrained": "does not reproduce a photograph",
        "truncated": "is it complete?",
        "missing": "does not exist",
    }
    for name, fault in faults.items():
        assert lines[name].startswith("fault  ")
        assert str(tmp_path / name) in lines[name]
        assert fault in lines[name]
    assert aesop("verify", good, "aesop_compact_x4")[0] == 0


def test_verify_measures_as_aesop_does(tmp_path):
    """Of an Upscaler's image of the same photograph."""
    hr = photograph(192, 192)
    sr = Upscaler(precision="fp32")(imresize(hr, 1 / 4))
    expected = psnr(*(to_tensor(image)[None] for image in (sr, hr))).item()
    assert f"RRDBNet x4, {expected:.1f} dB" in aesop("verify", "aesop_compact_x4")[1]
