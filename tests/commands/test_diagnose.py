"""`aesop diagnose` on the command line."""

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from aesop.cli import app
from aesop.images.read import ImageFile
from aesop.images.write import write_image

WEB = Path(__file__).parents[2] / "reproduction" / "weights" / "web_autoencoder.safetensors"
PAGODA = Path(str(resources.files("aesop"))) / "assets" / "photos" / "heldout" / "pagoda.png"


def diagnose(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["diagnose", *map(str, arguments)])


def test_an_autoencoder(tmp_path):
    photos, altered = tmp_path / "photos", tmp_path / "altered.safetensors"
    photos.mkdir()
    write_image(photos / "pagoda.png", ImageFile.at(PAGODA).read_uint8()[150:278, 100:228])
    weights = load_file(WEB)
    (last,) = (name for name in weights if name.endswith("conv_last.weight"))
    weights[last] = torch.cat([weights[last][:2], torch.zeros_like(weights[last][2:])])  # blue is constant
    save_file(weights, altered)
    for file, verdict in ((WEB, "fits"), (altered, "does not fit: colours")):
        result = diagnose(file, "--data", photos, "--json", tmp_path / "audit.json")
        assert result.exit_code == 0, result.stderr
        assert f"{file} {verdict}" in result.stdout.replace("\n", " ")
        assert json.loads((tmp_path / "audit.json").read_text())["fits"] == (verdict == "fits")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([WEB], "is a weight file: give HR images with --data FOLDER"),
        ([WEB, "--data", "x", "--weights"], "--weights and -o are for the run folder of a training"),
        (["run", "--data", "x"], "--data is for an auto-encoder's weight file"),
        ([WEB, "--data", "nowhere"], "nowhere"),
        (["nowhere.safetensors", "--data", "x"], "weight file nowhere.safetensors does not exist"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    result = diagnose(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", " ")
