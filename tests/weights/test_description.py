"""What weight files say of their models, by ModelSpec, read with the safetensors library alone."""

import hashlib
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_runs import RRDB, options, run
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.cli import app
from aesop.images.write import write_image
from aesop.options.pipeline import plan
from aesop.weights.description import Description, modelspec, read_description
from aesop.weights.save import save_weights

ABOUT = Description("Faces", "Jane Doe", "CC-BY-4.0", ("photo", "faces"), "For faces.\n\nNot for text.", "2026-11-30")


def spec(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as content:
        return {k.removeprefix("modelspec."): v for k, v in content.metadata().items() if k.startswith("modelspec.")}


def hash_of_tensors(file: Path) -> str:
    """By the layout of safetensors files: eight bytes of length, header, tensors."""
    content = file.read_bytes()
    return "0x" + hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def written(path: Path, about: Description = ABOUT, **changes: object) -> Path:
    network = {**RRDB, "scale": 4, **changes}
    torch.manual_seed(len(path.name))
    metadata = {**modelspec(about, network), "network": json.dumps(network)}
    save_weights(path, build_network(network).state_dict(), metadata)
    return path


def invoke(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output


def test_a_file_describes_its_model_and_hashes_its_tensors(tmp_path):
    file = written(tmp_path / "a.safetensors")
    assert spec(file) == {
        "sai_model_spec": "1.0.1",
        "architecture": "RRDBNet-x4",
        "implementation": "aesop",
        "title": "Faces",
        "author": "Jane Doe",
        "license": "CC-BY-4.0",
        "tags": "photo, faces",
        "description": "For faces.\n\nNot for text.",
        "date": "2026-11-30",
        "hash_sha256": hash_of_tensors(file),
    }
    with safe_open(file, "pt") as content:
        assert read_description(content.metadata()) == ABOUT


def test_the_hash_is_that_of_the_file_as_written(tmp_path):
    """Not the one that the metadata brought along, whatever comes before it in the header."""
    metadata = {**modelspec(ABOUT, RRDB), "modelspec.hash_sha256": "0x1", "a": f"0x{'0' * 64}", "z": f"0x{'0' * 64}"}
    save_weights(tmp_path / "a.safetensors", {"t": torch.arange(5.0), "half": torch.ones(3).half()}, metadata)
    assert spec(tmp_path / "a.safetensors")["hash_sha256"] == hash_of_tensors(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as content:
        assert content.metadata()["a"] == content.metadata()["z"] == f"0x{'0' * 64}"
        assert content.get_tensor("t").tolist() == [0, 1, 2, 3, 4]


def test_files_without_a_model_have_no_modelspec(tmp_path):
    save_weights(tmp_path / "moments.safetensors", {"t": torch.ones(2)}, {})
    assert spec(tmp_path / "moments.safetensors") == {}


def test_converting_keeps_the_description(tmp_path):
    file = written(tmp_path / "a.safetensors")
    invoke("convert", file, tmp_path / "b.pth")
    assert "modelspec.hash_sha256" not in torch.load(tmp_path / "b.pth", weights_only=True)["metadata"]
    invoke("convert", tmp_path / "b.pth", tmp_path / "c.safetensors")
    assert spec(tmp_path / "c.safetensors") == spec(file)  # the same tensors in the same order


def test_converting_a_file_of_another_project_invents_nothing(tmp_path):
    torch.save({"params": build_network({**RRDB, "scale": 4}).state_dict()}, tmp_path / "net.pth")
    invoke("convert", tmp_path / "net.pth", tmp_path / "net.safetensors")
    found = spec(tmp_path / "net.safetensors")
    assert found.pop("hash_sha256") == hash_of_tensors(tmp_path / "net.safetensors")
    assert found == {
        "sai_model_spec": "1.0.1",
        "architecture": "RRDBNet-x4",
        "implementation": "aesop",
        "title": "net",
    }


def test_a_blend_says_what_its_parents_agree_on(tmp_path):
    first = written(tmp_path / "a.safetensors")
    other = written(tmp_path / "bb.safetensors", Description("Sharp", "Jane Doe", "CC-BY-NC-4.0", ("photo", "faces")))
    invoke("blend", first, other, "-o", tmp_path / "mix.safetensors")
    found = spec(tmp_path / "mix.safetensors")
    assert (found["title"], found["merged_from"]) == ("mix", "Faces, Sharp")
    assert (found["author"], found["tags"]) == ("Jane Doe", "photo, faces")
    assert "license" not in found
    assert found["hash_sha256"] == hash_of_tensors(tmp_path / "mix.safetensors")
    assert abs((date.today() - date.fromisoformat(found["date"])).days) <= 1


@pytest.mark.slow
def test_a_training_describes_every_model_it_leaves(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (48, 56, 3), np.uint8)
    write_image(tmp_path / "photos" / "a.png", photo)
    raw = options("psnr", tmp_path / "photos", tmp_path, 2, ema_decay=0)
    raw["model"] = {"author": "Jane Doe", "license": "CC-BY-4.0", "tags": ["photo"], "description": "Tiny."}
    raw["val"] |= {"metrics": {"psnr": {}, "ssim": {}}, "front": {"distortion": "psnr", "perception": "ssim"}}
    folder = run(raw).parents[1]
    invoke("select", folder, "--metrics", "psnr,ssim")
    files = [*folder.glob("models/**/*.safetensors"), *folder.glob("state/*/net_g.safetensors")]
    assert {file.parent.name for file in files} >= {"models", "front"}
    assert "net_g_selected.safetensors" in {file.name for file in files}
    for file in files:
        found = spec(file)
        assert {name: found[name] for name in ("title", "author", "license", "tags", "description")} == {
            "title": raw["name"],
            "author": "Jane Doe",
            "license": "CC-BY-4.0",
            "tags": "photo",
            "description": "Tiny.",
        }
        assert found["hash_sha256"] == hash_of_tensors(file)


def test_a_pipeline_passes_the_description_on(tmp_path):
    """A shared title names the last stage's model; the stages before it say which they are."""
    recipe = Path(__file__).resolve().parents[2] / "configs" / "pipeline_compact.yml"
    stages = plan(recipe, ["model.title=Faces", "model.license=CC0-1.0", "stages.autoencoder.model.title=Encoder"])
    described = {stage: step.model for stage, step in stages.items() if not isinstance(step, Path)}
    assert {stage: model.title for stage, model in described.items()} == {
        "psnr": "Faces (psnr stage)",
        "autoencoder": "Encoder",
        "adversarial": "Faces",
    }
    assert {model.license for model in described.values()} == {"CC0-1.0"}
