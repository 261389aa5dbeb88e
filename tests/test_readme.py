"""What the README shows must run."""

import json
import re
from pathlib import Path

import pytest
import torch

from aesop.archs import build_network
from aesop.weights.save import save_weights

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")


def test_python_example_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    options = {
        "type": "AutoEncoder_RRDBNet",
        "scale": 4,
        "dec_opt": {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8},
    }
    save_weights(tmp_path / "autoencoder.safetensors", build_network(options).state_dict(), {"network": json.dumps(options)})
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert torch.isfinite(names["loss"])
    assert names["sr"].grad.abs().sum() > 0


def test_verbs_and_files_named_exist():
    from typer.main import get_command

    from aesop.cli import app

    verbs = set(get_command(app).commands)
    assert set(re.findall(r"(?m)(?:^|`)aesop (\w+)", README)) <= verbs
    for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", README):
        assert (REPO / link).exists(), f"the README points at {link}"


def test_two_commands_are_in_the_makefile():
    makefile = (REPO / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"(?m)^{target}:", makefile)


@pytest.mark.parametrize("config", sorted((REPO / "configs").glob("*.yml")), ids=lambda path: path.name)
def test_every_recipe_is_named(config):
    assert f"configs/{config.name}" in (REPO / "docs" / "how-to" / "train.md").read_text(encoding="utf-8")
