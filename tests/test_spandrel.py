"""`import aesop.spandrel`: spandrel then loads our networks, and everybody else's as before."""

import importlib

import pytest
import spandrel
import torch

from aesop.weights.load import load_generator
from aesop.weights.save import save_weights
from checkpoint_kinds import (
    COMPACT,
    DRCT,
    ESRGAN,
    MSRRESNET,
    SHARED,
    SWINIR,
    first_generation,
    network,
    second_generation,
    twice_hr,
)

OURS = {
    "RRDBNet": {**ESRGAN, "num_grow_ch": 16},
    "RRDBNet, wide": {**ESRGAN, "num_grow_ch": 40},
    "RRDBNet, x1": {**ESRGAN, "scale": 1, "num_grow_ch": 4},
    "RRDBNet, x2": {**ESRGAN, "scale": 2, "num_grow_ch": 4},
    "RRDBNet, x3": {**ESRGAN, "scale": 3},
    "RRDBNet, gray": {**ESRGAN, "num_grow_ch": 4, "num_in_ch": 1, "num_out_ch": 1},
    "MSRResNet": MSRRESNET,
    "EDSR": {**MSRRESNET, "type": "EDSR", "upscale": 3},
    "SPSRNet": {"type": "SPSRNet", "in_nc": 3, "out_nc": 3, "nf": 4, "nb": 20, "upscale": 4},
}
# The import changes a copy, so that other tests in this process see spandrel as it was released.
REGISTRY = spandrel.MAIN_REGISTRY.copy()
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(spandrel, "MAIN_REGISTRY", REGISTRY)
    own = importlib.import_module("aesop.spandrel")
LOADER = spandrel.ModelLoader("cpu", REGISTRY)

SLOW = pytest.param("SPSRNet", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [*(name for name in OURS if name != "SPSRNet"), SLOW])
def test_spandrel_makes_our_images_of_our_files(name, tmp_path):
    net = network(OURS[name])
    save_weights(tmp_path / "net.safetensors", net.state_dict(), {})
    ours, info = load_generator(tmp_path / "net.safetensors")
    described = LOADER.load_from_file(tmp_path / "net.safetensors")
    assert isinstance(described, spandrel.ImageModelDescriptor)
    assert described.architecture.id == f"aesop.{info.arch}"
    assert (described.scale, described.input_channels) == (info.scale, 1 if "gray" in name else 3)
    x = torch.rand(1, described.input_channels, 17, 21)  # no multiple of what x1 and x2 unshuffle
    assert described(x).shape[-2:] == (17 * info.scale, 21 * info.scale)
    with torch.no_grad():
        assert torch.equal(described(x[..., :16, :20]), ours(x[..., :16, :20]).clamp(0, 1))


@pytest.mark.parametrize("name", ["RRDBNet", "MSRResNet", SLOW])
def test_half_precision_works(name):
    described = LOADER.load_from_state_dict(network(OURS[name]).state_dict())
    x = torch.rand(1, 3, 16, 16)
    exact = described(x)
    torch.testing.assert_close(described.half()(x.half()).float(), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("options", "named", "architecture"),
    [
        (ESRGAN, dict, "ESRGAN"),
        (ESRGAN, first_generation, "ESRGAN"),
        (ESRGAN, second_generation, "ESRGAN"),
        ({**ESRGAN, "scale": 2}, dict, "ESRGAN"),
        ({**ESRGAN, "scale": 2, "unshuffle": False}, first_generation, "ESRGAN"),
        ({**ESRGAN, "scale": 2, "unshuffle": False}, second_generation, "ESRGAN"),
        (SWINIR, dict, "SwinIR"),
        (DRCT, dict, "DRCT"),
        (COMPACT, dict, "Compact"),
        pytest.param(OURS["SPSRNet"], twice_hr, "aesop.SPSRNet", marks=pytest.mark.slow),
        (OURS["RRDBNet"], first_generation, "aesop.RRDBNet"),
    ],
)
def test_every_file_goes_to_its_architecture(options, named, architecture):
    state = named(network(options).state_dict())
    assert LOADER.load_from_state_dict(state).architecture.id == architecture


def test_our_architectures_take_nothing_that_only_looks_like_ours():
    state = network(OURS["RRDBNet"]).state_dict()
    ours = REGISTRY["aesop.RRDBNet"]
    assert ours.detect(state)
    assert not ours.detect({**state, "attention.weight": torch.zeros(1)})
    assert not ours.detect({name: value for name, value in state.items() if name != "conv_hr.bias"})
    assert not ours.detect({**state, "conv_hr.weight": torch.zeros(8, 8, 1, 1)})
    with pytest.raises(spandrel.UnsupportedModelError):
        ours.architecture.load(network(ESRGAN).state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B", "RealSR_DF2K_x4"])
def test_published_models_stay_with_spandrel(name):
    file = SHARED / "weights" / f"{name}.safetensors"
    if not file.is_file():
        pytest.skip(f"{name} is not here")
    described = LOADER.load_from_file(file)
    assert described.architecture.id == "ESRGAN"
    assert described.scale == 4


def test_importing_it_again_adds_nothing(monkeypatch):
    monkeypatch.setattr(spandrel, "MAIN_REGISTRY", REGISTRY)
    before = len(REGISTRY)
    importlib.reload(own)
    assert len(REGISTRY) == before > len(spandrel.ModelLoader().registry)
