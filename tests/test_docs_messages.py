"""The messages that the documentation quotes are those that the program makes.

Those of faults during a training (a rollback, a killed loader process) are tested where the faults are made: see
training/test_faults.py.
"""

import re
from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from aesop.archs import build_network
from aesop.commands.pipeline import is_finished
from aesop.commands.upscale import upscale_files
from aesop.losses.aesop import AESOPLoss
from aesop.options.read import build_config
from aesop.weights.errors import WeightsNotFound
from aesop.weights.load import load_network
from aesop.weights.pretrained import find_file
from aesop.weights.save import save_weights
from test_cli import REPO, TINY, options, refused, run, smooth, succeeded, write_options, write_rgb

DOCS = REPO / "docs"


def quoted(page: str, beginning: str, message: str) -> None:
    """A page quotes a message in backquotes or as a line of a block; `...` stands for what it leaves out."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(rf"{re.escape(beginning)}.*", text)
    assert found, f"{page} has no message that begins with {beginning!r}"
    for quote in found:
        wanted = re.sub(r"`(?=$|;|,| \|).*", "", quote)
        pattern = ".*".join(map(re.escape, wanted.split("...")))
        assert re.search(pattern, " ".join(message.split())), f"{page}: {wanted}\nthe program: {message}"


@pytest.fixture
def photo(tmp_path) -> Path:
    return write_rgb(tmp_path / "photos" / "photo.png", smooth(1))


def test_a_picture_that_its_format_does_not_hold(tmp_path):
    wide = write_rgb(tmp_path / "wide.png", smooth(1, 8, 4100))
    result = run("upscale", wide, "-o", tmp_path / "out", "--ext", "webp", "--device", "cpu")
    assert result.exit_code == 1
    quoted("evidence/upscale_cases.md", "16400 x 32 pixels", result.stdout)


def test_an_interrupted_folder(tmp_path):
    for number in range(23):
        write_rgb(tmp_path / "in" / f"{number:02}.png", smooth(number, 8, 8))
    results = upscale_files([tmp_path / "in"], tmp_path / "out", device="cpu")
    assert len([*islice(results, 5)]) == 5
    with pytest.raises(KeyboardInterrupt) as stop:
        results.throw(KeyboardInterrupt())
    done = len([*(tmp_path / "out").iterdir()])
    assert 5 <= done < 23
    text = str(stop.value).replace(f"{done} of 23", "5 of 23")  # while one is yielded, the next is written
    quoted("evidence/upscale_cases.md", "5 of 23 images", text)


def test_missing_and_unknown_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("AESOP_WEIGHTS", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(WeightsNotFound) as missing:
        find_file("vgg19")
    quoted("evidence/redesign.md", "after: `no weights for vgg19", f"after: `{missing.value}")
    save_file({name: torch.ones(1) for name in ("alpha", "beta")}, "dists.safetensors")
    with pytest.raises(ValueError, match="unknown network") as unknown:
        load_network("dists.safetensors")
    quoted("evidence/redesign.md", "after: `dists.safetensors", f"after: `{unknown.value}")
    Path("model.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    text = refused("models", "info", "model.pth")
    quoted("evidence/redesign.md", "after: `model.pth", f"after: `{text}")


def test_options(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = options(tmp_path, tmp_path / "nowhere")
    Path("aesop.yml").write_text(yaml.safe_dump(raw))
    quoted("evidence/redesign.md", "after: `aesop.yml names", f"after: `{refused('train', 'aesop.yml')}")
    path = write_options(tmp_path, options(tmp_path, photo.parent))
    changes = ("cuda_graphs=true", "device=cpu")
    text = succeeded("train", path, *changes, "train.total_iter=1")
    quoted("evidence/redesign.md", "after: `cuda_graphs is ignored", f"after: `{text[text.index('cuda_graphs is ign') :]}")
    drct = {"type": "DRCT", "compress_ratio": 3, "upscale": 4}
    _, notes = build_config(options(tmp_path, photo.parent) | {"network_g": drct}, "test")
    (note,) = [note for note in notes if "compress_ratio" in note]
    quoted("evidence/redesign.md", "after: `network_g.compress_ratio", f"after: `{note}")
    Path("psnr.yml").write_text(yaml.safe_dump(options(tmp_path, photo.parent)))
    quoted("evidence/redesign.md", "after: `psnr.yml", f"after: `{refused('degrade', photo, '-c', 'psnr.yml')}")


def test_a_stage_that_was_trained_with_other_options(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = options(tmp_path, photo.parent, name="compact/1_psnr", train__total_iter=50000)
    raw["path"]["experiments_root"] = "experiments"
    now, _ = build_config(raw | {"train": {**raw["train"], "optim_g": {"lr": 0.001}}}, "test")
    then = now.derive({"train.optim_g.lr": 0.0005})
    save_weights(now.final_model, build_network(TINY).state_dict(), {"config": then.to_yaml()})
    with pytest.raises(ValueError, match="was trained with other options") as changed:
        is_finished(now)
    quoted("evidence/redesign.md", "net_g_00050000.safetensors was trained", str(changed.value))


def test_the_loss_in_other_frameworks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "how-to/drop-in.md"
    torch.save({"params": build_network(TINY).state_dict()}, "psnr.pth")
    for file, beginning in (("nothing.safetensors", "weight file"), ("psnr.pth", "psnr.pth")):
        with pytest.raises(ValueError, match=file) as refusal:
            AESOPLoss.from_pretrained(file)
        quoted(page, f"WeightsError: {beginning}", f"WeightsError: {refusal.value}")
    autoencoder = build_network({"type": "AutoEncoder_RRDBNet", "dec_opt": TINY})
    images = torch.rand(1, 3, 66, 66)
    with pytest.raises(ValueError, match="image sides") as sides:
        AESOPLoss(autoencoder)(images, images)
    quoted(page, "ValueError: image sides", f"ValueError: {sides.value}")
    with pytest.raises(ValueError, match="criterion") as criterion:
        AESOPLoss(autoencoder, criterion="charbonnier")
    quoted(page, "ValueError: AESOPLoss", f"ValueError: {criterion.value}")
