"""`aesop export`: names of files, what is refused, and that nothing is left behind then."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from aesop.cli import app
from aesop.conversion.targets import TARGETS, Target
from aesop.weights.save import save_weights
from checkpoint_kinds import COMPACT, GENERATOR, KINDS, autoencoder_options, network

TORCHSCRIPT = TARGETS["torchscript"]


def weight_file(path: Path, options: dict = COMPACT, **metadata: str) -> Path:
    save_weights(path, network(options).state_dict(), {"network": json.dumps(options), **metadata})
    return path


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    described = {"modelspec.author": "Ada", "modelspec.tags": "photo, restoration", "modelspec.license": "CC-BY-4.0"}
    return weight_file(tmp_path / "x4.v2.safetensors", **described)


def run(*words: object, fails: str | None = None) -> str:
    result = CliRunner().invoke(app, ["export", *map(str, words)])
    if fails:
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert fails in result.stderr.replace("\n", " ")
    else:
        assert result.exit_code == 0, result.stderr
    return result.stdout


def computing(change) -> Target:
    """TorchScript whose images `change` alters."""

    def load(file: Path):
        compute = TORCHSCRIPT.load(file)
        return lambda x: change(compute(x))

    return replace(TORCHSCRIPT, load=load)


def test_the_file_has_the_models_name_and_what_is_known_of_it(model):
    line = run(model, "--to", "torchscript")
    assert line.startswith("x4.v2.pt: x4 Compact, fp32, ")
    assert "by at most 0.0e+00 (limit 2.0e-03)" in line
    line = run(model, "--to", "torchscript", "--fp16")
    assert line.startswith("x4.v2_fp16.pt: x4 Compact, fp16, ")
    assert sorted(path.name for path in Path().iterdir()) == ["x4.v2.pt", "x4.v2_fp16.pt"]
    found = {"metadata.json": ""}
    script = torch.jit.load("x4.v2.pt", _extra_files=found)
    known = json.loads(found["metadata.json"])
    assert known.pop("written_by").startswith("aesop ")
    assert known == {
        "scale": "4",
        "architecture": "Compact",
        "author": "Ada",
        "license": "CC-BY-4.0",
        "tags": "photo,restoration",
    }
    image = torch.rand(1, 3, 35, 50)
    with torch.no_grad():
        torch.testing.assert_close(script(image), network(COMPACT)(image))


def test_where_files_go(model, tmp_path):
    run(model, "--to", "torchscript", "-o", "new/folder")
    run(model, "--to", "torchscript", "-o", "other.pt")
    run(model, "--to", "torchscript", "-o", tmp_path / "here")
    assert sorted(str(path) for path in Path().rglob("*.pt")) == ["new/folder/x4.v2.pt", "other.pt", "x4.v2.pt"]
    run(
        model,
        "--to",
        "torchscript",
        "-o",
        "a.onnx",
        fails="a.onnx: for torchscript, give a file that ends in .pt, or a folder",
    )


def test_existing_files_stay_unless_they_are_to_be_replaced(model):
    Path("x4.v2.pt").write_text("precious")
    run(model, "--to", "torchscript", fails="x4.v2.pt exists: give another name with -o, or --overwrite")
    assert Path("x4.v2.pt").read_text() == "precious"
    run(model, "--to", "torchscript", "--overwrite")
    assert Path("x4.v2.pt").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda x: x + np.float32(1.5 / 510), (), "computes other images with this Compact: up to 0.0029 from"),
        (lambda x: x + np.float32(1.5 / 255), ("--fp16",), "0.0039 are allowed; try it without --fp16. Nothing was"),
        (lambda x: x * np.float32(np.nan), (), "computes other images with this Compact: up to nan"),
        (
            lambda x: x[..., 1:],
            (),
            "torchscript cannot take this Compact (of 48x40 pixels it makes 191x160 instead of 192x160)",
        ),
        (lambda x: 1 / 0, (), "torchscript cannot take this Compact (ZeroDivisionError: division by zero)"),
    ],
    ids=["fp32", "fp16", "nan", "size", "failure"],
)
def test_other_images_are_an_error_and_nothing_is_written(change, options, reason, model, monkeypatch):
    monkeypatch.setitem(TARGETS, "torchscript", computing(change))
    run(model, "--to", "torchscript", *options, fails=reason)
    assert not [*Path().iterdir()]


def test_a_small_difference_is_printed(model, monkeypatch):
    monkeypatch.setitem(TARGETS, "torchscript", computing(lambda x: 0.5 + (x - 0.5) * np.float32(1 - 0.001)))
    line = run(model, "--to", "torchscript")
    printed = float(line.partition("at most ")[2].split()[0])
    assert 0.0001 < printed <= 0.0005


def test_of_several_files_all_are_placed_or_none(model, monkeypatch):
    def write(net, channels, file, metadata, half):
        TORCHSCRIPT.write(net, channels, file, metadata, half)  # and no second file

    monkeypatch.setitem(TARGETS, "torchscript", replace(TORCHSCRIPT, extensions=(".pt", ".bin"), write=write))
    run(model, "--to", "torchscript", fails="No such file")
    assert not [*Path().iterdir()]


def test_mistakes(model, tmp_path, monkeypatch):
    run(model, "--to", "coreml", fails="--to coreml: there is no such format; use onnx, openvino, torchscript, ncnn")
    run(tmp_path / "none.pth", "--to", "onnx", fails="none.pth does not exist")
    run(model, "--to", "openvino", "--to", "ncnn", "-o", "a.xml", fails="a.xml: for ncnn, give a file that ends in .param")
    missing = replace(TORCHSCRIPT, packages=("no_such_package",))
    monkeypatch.setitem(TARGETS, "torchscript", missing)
    run(model, "--to", "torchscript", fails='--to torchscript needs packages: pip install "aesop-sr[export]"')
    same = replace(TORCHSCRIPT, packages=())
    monkeypatch.setitem(TARGETS, "onnx", same)
    monkeypatch.setitem(TARGETS, "torchscript", same)
    run(model, "--to", "onnx", "--to", "torchscript", fails="x4.v2.pt would belong to two formats")
    assert not [*Path().iterdir()]


def test_what_is_no_generator_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    auto = weight_file(tmp_path / "auto.safetensors", autoencoder_options())
    run(auto, "--to", "torchscript", fails="auto.safetensors contains AutoEncoder_RRDBNet, not a generator")
    judge = weight_file(tmp_path / "judge.safetensors", {"type": "UNetDiscriminatorSN", "num_feat": 4})
    run(judge, "--to", "torchscript", fails="judge.safetensors contains UNetDiscriminatorSN, not a generator")
    odd = weight_file(tmp_path / "odd.safetensors", {**GENERATOR, "num_in_ch": 4, "num_out_ch": 3})
    run(odd, "--to", "torchscript", fails="odd.safetensors contains RRDBNet, which makes 3 channels of 4")
    torch.save({"params": object()}, tmp_path / "hostile.pth")
    run("hostile.pth", "--to", "torchscript", fails="hostile.pth was not loaded: it contains objects other than tensors")
    assert not [*tmp_path.glob("*.pt")]


def test_sides_that_are_no_multiples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = weight_file(tmp_path / "x2.safetensors", {**GENERATOR, "scale": 2})
    run(file, "--to", "torchscript")
    line = run(file, "--to", "torchscript", "--no-pad", "-o", "plain.pt")
    assert line.startswith("note: without padding, the network takes images whose sides are multiples of 2\n")
    odd = torch.rand(1, 3, 41, 53)
    assert torch.jit.load("x2.pt")(odd).shape == (1, 3, 82, 106)
    assert torch.jit.load("plain.pt")(odd).shape == (1, 3, 80, 104)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_weight_file(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = kind.write(tmp_path)
    result = CliRunner().invoke(app, ["export", str(file), "--to", "torchscript", "-o", "out.pt"])
    if "auto-encoder" in kind.name or "discriminator" in kind.name:
        assert result.exit_code == 1
        assert "not a generator" in result.stderr
        assert not (tmp_path / "out.pt").exists()
    else:
        image = torch.rand(1, 3, 48, 48)
        with torch.no_grad():
            torch.testing.assert_close(torch.jit.load("out.pt")(image), kind.network()(image))
