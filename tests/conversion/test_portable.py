"""What other programs load: spandrel itself is asked whether the decision is right, and what it makes of converted files."""

import hashlib
import json
from pathlib import Path

import pytest
import spandrel
import torch
from typer.testing import CliRunner

from aesop.archs import image_channels
from aesop.cli import app
from aesop.commands.convert import convert
from aesop.conversion.portable import difference_in_spandrel, portability, portability_advice, portable_weights
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network
from aesop.weights.save import save_weights
from checkpoint_kinds import COMPACT, DRCT, ESRGAN, MSRRESNET, SWINIR, autoencoder_options, network

pytestmark = pytest.mark.slow

EDSR = {**MSRRESNET, "type": "EDSR"}
SPSR = {"type": "SPSRNet", "in_nc": 3, "out_nc": 3, "nf": 4, "nb": 20, "upscale": 4}
DISCRIMINATOR = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}


def rrdbnet(scale: int = 4, growth: int = 32, channels: tuple[int, int] = (3, 3), **options: int) -> dict:
    taken, made = channels
    return {**ESRGAN, "scale": scale, "num_grow_ch": growth, "num_in_ch": taken, "num_out_ch": made, **options}


RRDBNETS = [
    *(rrdbnet(scale, growth) for scale in (1, 2, 3, 4, 8) for growth in (7, 32)),
    *(rrdbnet(scale, channels=channels) for scale in (1, 2, 4) for channels in ((1, 1), (4, 4), (1, 3), (3, 1), (4, 1))),
    rrdbnet(1, channels=(1, 4)),
    rrdbnet(4, channels=(12, 3)),
    rrdbnet(2, unshuffle=False),
    rrdbnet(2, 7, unshuffle=False),
    rrdbnet(2, unshuffle=False, channels=(4, 1)),
    rrdbnet(growth=40),
    rrdbnet(num_feat=5, num_block=1),
]
OTHERS = [
    MSRRESNET,
    EDSR,
    SPSR,
    autoencoder_options(),
    autoencoder_options(2, decoder=SWINIR),
    DISCRIMINATOR,
    COMPACT,
    {**COMPACT, "upscale": 1, "num_in_ch": 1, "num_out_ch": 1},
    SWINIR,
    {**SWINIR, "img_range": 255.0},
    {**SWINIR, "ape": True},
    {**SWINIR, "start_unshuffle": 2},
]
SLOW = [DRCT, {**DRCT, "img_range": 255.0}, {**SWINIR, "type": "HAT", "compress_ratio": 3, "squeeze_factor": 3}]


def loads_in_spandrel(options: dict, state: dict | None = None) -> bool:
    net = network(options)
    try:
        return difference_in_spandrel(net, state or net.state_dict(), options) < 1e-5
    except Exception:  # noqa: BLE001 - whatever spandrel raises
        return False


def shown(options: dict) -> str:
    kept = ("type", "scale", "num_grow_ch", "unshuffle", "img_range", "ape", "start_unshuffle")
    return "-".join([*(str(options[name]) for name in kept if name in options), *map(str, image_channels(options))])


@pytest.mark.parametrize(
    "options", [*RRDBNETS, *OTHERS, *(pytest.param(options, marks=pytest.mark.slow) for options in SLOW)], ids=shown
)
def test_the_decision_is_what_spandrel_itself_says(options):
    found = portability(options)
    assert (found.loads == "as it is") == loads_in_spandrel(options)
    assert bool(found.reason) == (found.loads != "as it is") == bool(portability_advice(options))
    if found.loads == "converted":
        state, changed = portable_weights(network(options).state_dict(), options)
        assert loads_in_spandrel(options, state)
        assert portability(changed).loads == "as it is"


def test_the_advice_says_what_to_do():
    assert portability_advice(ESRGAN) == ""
    assert "growth is 16" in portability_advice(rrdbnet(growth=16))
    assert "convert --portable" in portability_advice(rrdbnet(growth=16))
    assert "spandrel has no EDSR" in portability_advice(EDSR)
    assert "--portable" not in portability_advice(EDSR)


def hash_of_tensors(file: Path) -> str:
    """ModelSpec's: SHA-256 of what follows the header, whose length the first 8 bytes tell."""
    content = file.read_bytes()
    return "0x" + hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


@pytest.mark.parametrize("target", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("options", [rrdbnet(growth=16), rrdbnet(2, 4, unshuffle=False), SWINIR], ids=shown)
def test_a_portable_file_loads_in_spandrel_and_here(tmp_path, options, target):
    source, written = tmp_path / "source.safetensors", tmp_path / target
    net = network(options)
    half = {name: value.half() if value.is_floating_point() else value for name, value in net.state_dict().items()}
    save_weights(source, half, {"network": json.dumps(options), "licence": "MIT", "modelspec.hash_sha256": "0xold"})
    result = CliRunner().invoke(app, ["convert", "--portable", str(source), str(written)])
    assert result.exit_code == 0, result.output
    assert float(result.stdout.rpartition(" ")[2]) < 1e-6
    original, _ = load_network(source)
    again, info = load_network(written)
    assert info.metadata["licence"] == "MIT"
    assert info.metadata.get("modelspec.hash_sha256") == (hash_of_tensors(written) if target == "a.safetensors" else None)
    described = spandrel.ModelLoader("cpu").load_from_file(written)
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert torch.allclose(again(x), original(x), rtol=0, atol=1e-6)
        assert torch.allclose(described(x), original(x).clamp(0, 1), rtol=0, atol=1e-6)


def test_both_sets_of_a_state_folder_become_portable(tmp_path):
    options = rrdbnet(growth=8)
    for seed, name in enumerate(("net_g", "net_g_ema")):
        save_weights(tmp_path / "state" / f"{name}.safetensors", network(options, seed).state_dict(), {})
    line = str(convert(tmp_path / "state", tmp_path / "both.pth", portable=True))
    assert "params, params_ema" in line
    with torch.no_grad():
        x = torch.rand(1, 3, 8, 8)
        for seed, key in enumerate(("params", "params_ema")):
            state = torch.load(tmp_path / "both.pth", weights_only=True)[key]
            described = spandrel.ModelLoader("cpu").load_from_state_dict(state)
            assert torch.allclose(described(x), network(options, seed)(x).clamp(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (rrdbnet(3), "spandrel reads an RRDBNet x3 as x2"),
        (rrdbnet(growth=40), "its growth is 40"),
        (rrdbnet(4, channels=(12, 3)), "makes 3 channels of 12"),
        (MSRRESNET, "spandrel has no MSRResNet"),
        (SPSR, "spandrel has no SPSRNet"),
        (EDSR, "spandrel has no EDSR"),
        (autoencoder_options(), "an auto-encoder is no upscaler"),
        (DISCRIMINATOR, "spandrel has no UNetDiscriminatorSN"),
        ({**SWINIR, "img_range": 255.0}, "do not show all of its options"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_what_cannot_be_portable_is_refused_with_the_reason(tmp_path, options, reason):
    save_weights(tmp_path / "a.safetensors", network(options).state_dict(), {"network": json.dumps(options)})
    with pytest.raises(WeightsError, match=reason):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth", portable=True)
    assert not (tmp_path / "b.pth").exists()


def test_a_file_that_spandrel_reads_otherwise_is_not_kept(tmp_path, monkeypatch):
    save_weights(tmp_path / "a.safetensors", network(ESRGAN).state_dict(), {"network": json.dumps(ESRGAN)})
    monkeypatch.setattr(
        "aesop.commands.convert.portable_weights", lambda state, options: ({k: v + 1 for k, v in state.items()}, options)
    )
    with pytest.raises(WeightsError, match="differs by"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth", portable=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
