"""`--texture`: the ends are the pictures of the two networks, the rest lies on the line, and strangers are refused."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from aesop import Upscaler
from aesop.archs import build_network
from aesop.cli import app
from aesop.commands.upscale import upscale_files
from aesop.inference import shipped_models
from aesop.inference.models import find_faithful
from aesop.weights.errors import WeightsError
from aesop.weights.save import save_weights

RRDB = {"type": "RRDBNet", "scale": 4, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def network(seed: int, **options) -> nn.Module:
    torch.manual_seed(seed)
    net = build_network(RRDB | options)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, 0.2)
    return net


def save(path: Path, net: nn.Module, half: bool = False, **options) -> Path:
    state = {name: value.half() if half else value for name, value in net.state_dict().items()}
    save_weights(path, state, {"network": json.dumps(RRDB | options)})
    return path


def trained_on(net: nn.Module, by: float = 0.1) -> nn.Module:
    """A network that descends from `net`: each weight differs by that much of the spread."""
    generator = torch.Generator().manual_seed(5)
    for weight in net.parameters():
        weight.data += by * weight.std().nan_to_num(0) * torch.randn(weight.shape, generator=generator)
    return net


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """The faithful network, in half precision, and the GAN."""
    folder = tmp_path_factory.mktemp("pair")
    faithful = save(folder / "psnr.safetensors", network(1), half=True)
    return faithful, save(folder / "gan.safetensors", trained_on(network(1)))


def files_of(folder: Path, name: str, **options) -> bytes:
    cv2.imwrite(str(folder / "in.png"), PICTURE)
    console = Console(file=io.StringIO())
    target = folder / f"{name}.png"
    assert [r.error for r in upscale_files([folder / "in.png"], target, device="cpu", console=console, **options)] == [None]
    return target.read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_ends_are_the_files_of_the_networks_alone(pair, tmp_path, precision):
    faithful, gan = pair
    sweep = {"model": gan, "faithful_model": faithful, "precision": precision}
    alone = {end: files_of(tmp_path, f"a{end}", model=pair[end], precision=precision) for end in (0, 1)}
    assert alone[0] != alone[1]
    for end in (0, 1):
        assert files_of(tmp_path, f"t{end}", texture=end, **sweep) == alone[end]


@pytest.mark.parametrize("texture", [0.3, 1.5])
def test_between_and_beyond_are_the_networks_on_the_line(pair, tmp_path, texture):
    states = [Upscaler(file, "cpu")._network.state_dict() for file in pair]
    net = network(0)
    net.load_state_dict({name: torch.lerp(value, states[1][name], texture) for name, value in states[0].items()})
    expected = Upscaler(save(tmp_path / "line.safetensors", net), "cpu", "fp32")(PICTURE)
    result = Upscaler(pair[1], "cpu", "fp32", texture=texture, faithful_model=pair[0])(PICTURE)
    np.testing.assert_allclose(result.astype(int), expected, atol=1)
    assert np.abs(result.astype(int) - Upscaler(pair[1], "cpu", "fp32")(PICTURE)).max() > 3


def test_networks_of_spandrel(tmp_path):
    """SPAN merges branches whenever it runs: the branches themselves are interpolated."""
    options = {"type": "SPAN", "num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}
    torch.manual_seed(0)
    faithful, gan = build_network(options).eval(), build_network(options).eval()
    gan.load_state_dict(faithful.state_dict())
    with torch.no_grad():
        for net in (faithful, trained_on(gan)):
            net(torch.zeros(1, 3, 16, 16))  # merges
    files = [
        save_weights(tmp_path / f"{name}.safetensors", net.state_dict(), {"network": json.dumps(options)})
        or tmp_path / f"{name}.safetensors"
        for name, net in (("psnr", faithful), ("gan", gan))
    ]
    for end in (0, 1):
        made = Upscaler(files[1], "cpu", texture=end, faithful_model=files[0])(PICTURE)
        np.testing.assert_array_equal(made, Upscaler(files[end], "cpu")(PICTURE))


@pytest.mark.parametrize("texture", [-0.1, 1.51, float("nan"), float("inf")])
def test_textures_out_of_range(pair, texture):
    with pytest.raises(ValueError, match=r"texture goes from 0 .* to 1.5, found"):
        Upscaler(pair[1], "cpu", texture=texture, faithful_model=pair[0])


def test_strangers_are_refused_at_the_ends_too(pair, tmp_path):
    stranger = save(tmp_path / "other.safetensors", network(2))
    for texture in (0, 0.5, 1):
        with pytest.raises(
            WeightsError, match=r"gan\.safetensors was not trained from .*other\.safetensors.* by 1\.4\d times"
        ):
            Upscaler(pair[1], "cpu", texture=texture, faithful_model=stranger)


@pytest.mark.parametrize(
    ("options", "fault"), [({"num_feat": 12}, "num_feat 12"), ({"scale": 2}, "has scale 4, .* has scale 2")]
)
def test_partners_of_another_kind(pair, tmp_path, options, fault):
    other = save(tmp_path / "other.safetensors", network(1, **options), **options)
    with pytest.raises(WeightsError, match=fault):
        Upscaler(pair[1], "cpu", texture=0.5, faithful_model=other)


def test_the_same_network_twice(pair, tmp_path):
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(pair[1].read_bytes())
    for faithful in (pair[1], copied):
        with pytest.raises(WeightsError, match="has the same weights"):
            Upscaler(pair[1], "cpu", texture=0.5, faithful_model=faithful)


def test_shipped_models_know_their_partner(pair, monkeypatch):
    faithful, gan = pair
    with pytest.raises(
        WeightsError, match=r"gan\.safetensors has no faithful network that is known: .*--faithful-model FILE"
    ):
        Upscaler(gan, "cpu", texture=0.5)
    monkeypatch.setattr(shipped_models, "_folder", lambda: gan.parent)
    monkeypatch.setattr(shipped_models, "FAITHFUL", {gan.stem: faithful.stem})
    assert find_faithful(None, gan) == faithful
    assert find_faithful(gan, gan) == gan
    expected = Upscaler(gan, "cpu", texture=0.5, faithful_model=faithful)(PICTURE)
    np.testing.assert_array_equal(Upscaler(gan, "cpu", texture=0.5)(PICTURE), expected)


def test_partners_that_are_shipped_exist_and_descend():
    for model, faithful in shipped_models.FAITHFUL.items():
        Upscaler(model, "cpu", texture=0.5, faithful_model=faithful)


def test_the_command(pair, tmp_path):
    faithful, gan = pair
    cv2.imwrite(str(tmp_path / "in.png"), PICTURE)
    given = [str(tmp_path / "in.png"), "-m", str(gan), "--device", "cpu"]

    def run(name: str, *options: str):
        return CliRunner().invoke(app, ["upscale", *given, "-o", str(tmp_path / name), *options])

    assert run("t.png", "--texture", "0.5", "--faithful-model", str(faithful)).exit_code == 0
    assert run("c.png", "--texture", "0.5", "--faithful-model", str(faithful), "--consistent").exit_code == 0
    expected = Upscaler(gan, "cpu", texture=0.5, faithful_model=faithful)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "t.png")), expected(PICTURE[..., ::-1].copy())[..., ::-1])
    assert (cv2.imread(str(tmp_path / "c.png")) != cv2.imread(str(tmp_path / "t.png"))).any()
    refused = run("x.png", "--faithful-model", str(faithful))
    assert refused.exit_code != 0
    assert isinstance(refused.exception, ValueError | SystemExit)
    with pytest.raises(ValueError, match="a faithful model has no meaning without a texture: give --texture"):
        Upscaler(gan, "cpu", faithful_model=faithful)
