"""`aesop convert`: what goes between the forms of weight files, what other programs make of it, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from aesop.cli import app
from aesop.commands.convert import convert
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network
from aesop.weights.save import save_weights
from checkpoint_kinds import (
    COMPACT,
    DRCT,
    ESRGAN,
    GENERATOR,
    SWINIR,
    autoencoder_options,
    first_generation,
    golden_table,
    network,
    output,
    save_basicsr,
    second_generation,
)

BSRGAN_X2 = {**ESRGAN, "scale": 2, "unshuffle": False}


def written(path: Path, options: dict = GENERATOR, seed: int = 0, **metadata: str) -> nn.Module:
    net = network(options, seed)
    save_weights(path, net.state_dict(), {"network": json.dumps(options), **metadata})
    return net


@pytest.mark.parametrize(
    "options",
    [
        GENERATOR,
        {**GENERATOR, "scale": 1, "use_checkpoint": True},
        BSRGAN_X2,
        autoencoder_options(),
        autoencoder_options(2),
        autoencoder_options(2, decoder=SWINIR),
        {**SWINIR, "img_range": 255.0},
        DRCT,
    ],
    ids=lambda options: options["type"],
)
def test_there_and_back_gives_identical_tensors_and_options(tmp_path, options):
    first, middle, last = (tmp_path / name for name in ("a.safetensors", "b.pth", "c.safetensors"))
    net = written(first, options, iteration="7")
    assert str(convert(first, middle)) == f"{middle}: params_ema"
    convert(middle, last)
    there, back = load_file(first), load_file(last)
    assert there.keys() == back.keys() == net.state_dict().keys()
    assert all(torch.equal(there[name], back[name]) and there[name].dtype == back[name].dtype for name in there)
    for file in (middle, last):
        info = load_network(file)[1]
        assert info.options == options
        assert info.metadata["iteration"] == "7"


def test_half_precision_is_kept(tmp_path):
    half = {name: value.half() for name, value in network().state_dict().items()}
    save_weights(tmp_path / "a.safetensors", half, {})
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    convert(tmp_path / "b.pth", tmp_path / "c.safetensors")
    for state in (torch.load(tmp_path / "b.pth", weights_only=True)["params_ema"], load_file(tmp_path / "c.safetensors")):
        assert all(torch.equal(state[name], value) and state[name].dtype == torch.float16 for name, value in half.items())


@pytest.mark.parametrize("rename", [first_generation, second_generation])
def test_former_names_become_basicsrs(tmp_path, rename):
    net = network()
    torch.save(rename(net.state_dict()), tmp_path / "old.pth")
    convert(tmp_path / "old.pth", tmp_path / "new.safetensors")
    convert(tmp_path / "old.pth", tmp_path / "new.pth")
    assert load_file(tmp_path / "new.safetensors").keys() == net.state_dict().keys()
    assert list(torch.load(tmp_path / "new.pth", weights_only=True)["params_ema"]) == list(net.state_dict())


@pytest.mark.parametrize(("scale", "table"), [(4, "rrdbnet_small_x4"), (2, "rrdbnet_small_x2"), (1, "rrdbnet_small_x1")])
def test_basicsrs_layout(tmp_path, scale, table):
    """Names, shapes and order of BasicSR's own network, so that its strict loading takes the file."""
    published = golden_table(table)
    if not published:
        pytest.skip("no golden vectors here: set AESOP_GOLDEN")
    written(tmp_path / "a.safetensors", {**GENERATOR, "scale": scale, "num_feat": 32, "num_grow_ch": 16})
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    state = torch.load(tmp_path / "b.pth", weights_only=True)["params_ema"]
    assert [(name, list(value.shape)) for name, value in state.items()] == published


def test_an_exported_autoencoder_carries_the_doubled_names(tmp_path):
    net = written(tmp_path / "a.safetensors", autoencoder_options())
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    file = torch.load(tmp_path / "b.pth", weights_only=True)
    assert list(file) == ["params_ema", "metadata"]
    exported, own = file["params_ema"], net.state_dict()
    encoder = [name for name in own if name.startswith("encoder.")]
    assert len(exported) == len(own) + len(encoder)
    for short, long in (("conv_first", "encoder.0"), ("body", "encoder.2"), ("conv_last", "encoder.3")):
        names = [name.removeprefix(long) for name in encoder if name.startswith(long)]
        assert names
        assert all(torch.equal(exported[short + name], own[long + name]) for name in names)
        assert all(torch.equal(exported[long + name], own[long + name]) for name in names)
    assert torch.equal(output(load_network(tmp_path / "b.pth")[0]), output(net))


@pytest.mark.parametrize(
    ("options", "target", "chosen"),
    [
        (ESRGAN, "b.pth", {}),
        (ESRGAN, "b.safetensors", {}),
        (ESRGAN, "b.pth", {"names": "bsrgan", "key": "none"}),
        (ESRGAN, "b.pth", {"names": "old-esrgan", "key": "none"}),
        ({**ESRGAN, "scale": 8}, "b.pth", {"names": "old-esrgan"}),
        ({**ESRGAN, "scale": 2}, "b.pth", {}),
        ({**ESRGAN, "scale": 2}, "b.pth", {"names": "old-esrgan"}),
        ({**ESRGAN, "scale": 1}, "b.pth", {"key": "params"}),
        ({**ESRGAN, "scale": 1}, "b.safetensors", {}),
        (BSRGAN_X2, "b.pth", {}),
        (SWINIR, "b.pth", {}),
        (SWINIR, "b.safetensors", {}),
        (DRCT, "b.pth", {}),
        (DRCT, "b.safetensors", {}),
        (COMPACT, "b.pth", {}),
        (COMPACT, "b.safetensors", {}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_exported_files_give_the_same_image_in_spandrel(tmp_path, options, target, chosen):
    spandrel = pytest.importorskip("spandrel")
    net = network(options)
    if target.endswith("pth"):
        save_weights(tmp_path / "a.safetensors", net.state_dict(), {"network": json.dumps(options)})
        convert(tmp_path / "a.safetensors", tmp_path / target, **chosen)
    else:
        save_basicsr(tmp_path / "a.pth", {"params": net.state_dict()})
        convert(tmp_path / "a.pth", tmp_path / target)
    model = spandrel.ModelLoader().load_from_file(tmp_path / target).eval()
    assert model.scale == options.get("scale", options.get("upscale"))
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = net(image).clamp(0, 1)  # as a spandrel model clamps it
        assert (model(image) - expected).abs().max() < 1e-5
        assert expected.std() > 0.05, "an image that is not flat after clamping"
    assert torch.equal(output(load_network(tmp_path / target)[0], 16), output(net, 16))


def test_a_state_folder_gives_both_sets(tmp_path):
    folder = tmp_path / "state"
    plain = written(folder / "net_g.safetensors", seed=1, iteration="9")
    averaged = written(folder / "net_g_ema.safetensors", seed=2, iteration="9")
    assert str(convert(folder, tmp_path / "both.pth")) == f"{tmp_path / 'both.pth'}: params, params_ema"
    assert torch.equal(output(load_network(tmp_path / "both.pth", "params")[0]), output(plain))
    assert torch.equal(output(load_network(tmp_path / "both.pth", "params_ema")[0]), output(averaged))
    for key, net in ((None, averaged), ("params_ema", averaged), ("none", averaged), ("params", plain)):
        convert(folder, tmp_path / f"{key}.safetensors", key)
        again, info = load_network(tmp_path / f"{key}.safetensors")
        assert torch.equal(output(again), output(net))
        assert info.metadata["iteration"] == "9"
    convert(folder, tmp_path / "bare.pth", "none")
    assert list(torch.load(tmp_path / "bare.pth", weights_only=True)) == list(averaged.state_dict())
    convert(folder, tmp_path / "params.pth", "params")
    assert list(torch.load(tmp_path / "params.pth", weights_only=True)) == ["params", "metadata"]
    (folder / "net_g_ema.safetensors").unlink()
    convert(folder, tmp_path / "two.safetensors")
    assert torch.equal(output(load_network(tmp_path / "two.safetensors")[0]), output(plain))
    convert(folder, tmp_path / "ema.pth", "params_ema")  # a psnr training without averaging has one set only
    assert torch.equal(output(load_network(tmp_path / "ema.pth", "params_ema")[0]), output(plain))


def test_a_key_chooses_what_is_read_and_where_it_is_written(tmp_path):
    plain, averaged = network(seed=1), network(seed=2)
    save_basicsr(tmp_path / "a.pth", {"params": plain.state_dict(), "params_ema": averaged.state_dict()})
    for key, net in ((None, averaged), ("params_ema", averaged), ("params", plain)):
        convert(tmp_path / "a.pth", tmp_path / f"{key}.pth", key)
        assert list(torch.load(tmp_path / f"{key}.pth", weights_only=True)) == [key or "params_ema", "metadata"]
        assert torch.equal(output(load_network(tmp_path / f"{key}.pth")[0]), output(net))


@pytest.mark.parametrize(
    ("options", "names", "default"),
    [
        ({**GENERATOR, "scale": 3}, "bsrgan", "basicsr"),
        ({**GENERATOR, "scale": 3}, "old-esrgan", "basicsr"),
        ({**GENERATOR, "scale": 2, "unshuffle": False}, "basicsr", "bsrgan"),
        (autoencoder_options(), "bsrgan", "basicsr"),
        (COMPACT, "old-esrgan", "basicsr"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["type"],
)
def test_names_that_a_network_does_not_have(tmp_path, options, names, default):
    written(tmp_path / "a.safetensors", options)
    with pytest.raises(ValueError, match=rf"{options['type']}.*, which has no {names} names; use --names {default}, the"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth", names=names)
    assert not (tmp_path / "b.pth").exists()
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth", key="none", names=default)
    assert load_network(tmp_path / "b.pth")[1].options.items() >= options.items()


def test_converting_refuses_to_overwrite_and_what_it_cannot_do(tmp_path):
    source, target = tmp_path / "a.safetensors", tmp_path / "b.pth"
    save_weights(source, network().state_dict(), {})
    target.write_text("precious")
    with pytest.raises(ValueError, match=r"b\.pth exists: choose another name"):
        convert(source, target)
    assert target.read_text() == "precious"
    with pytest.raises(ValueError, match=r"exists"):
        convert(source, source)
    with pytest.raises(ValueError, match=r"must end in \.pth or \.safetensors"):
        convert(source, tmp_path / "b.onnx")
    with pytest.raises(ValueError, match="--key must be one of params, params_ema, none, found 'ema'"):
        convert(source, tmp_path / "c.pth", key="ema")
    with pytest.raises(ValueError, match="--names must be one of basicsr, bsrgan, old-esrgan, found 'esrgan'"):
        convert(source, tmp_path / "c.pth", names="esrgan")
    with pytest.raises(ValueError, match=r"c\.safetensors: --names is for \.pth files"):
        convert(source, tmp_path / "c.safetensors", names="basicsr")
    with pytest.raises(WeightsError, match="is not a state folder: it has no net_g"):
        convert(tmp_path, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"none\.pth does not exist"):
        convert(tmp_path / "none.pth", tmp_path / "c.safetensors")
    with pytest.raises(WeightsError, match=r"clear does not exist(.|\n)*did you mean clean"):
        convert(Path("clear"), tmp_path / "c.safetensors")
    torch.save({"strange": torch.zeros(2)}, tmp_path / "strange.pth")
    incomplete = {name: value for name, value in network().state_dict().items() if name != "conv_hr.bias"}
    torch.save({"params": incomplete}, tmp_path / "incomplete.pth")
    for name in ("c.safetensors", "c.pth"):
        with pytest.raises(WeightsError, match="the weights of an unknown network"):
            convert(tmp_path / "strange.pth", tmp_path / name)
        with pytest.raises(WeightsError, match=r"do not fit RRDBNet: 1 missing \(conv_hr\.bias\)"):
            convert(tmp_path / "incomplete.pth", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.pth", "incomplete.pth", "strange.pth"]


def test_on_the_command_line(tmp_path):
    written(tmp_path / "a.safetensors", ESRGAN)
    arguments = ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.pth"), "--key", "none", "--names", "bsrgan"]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout.strip()) == (0, f"{tmp_path / 'b.pth'}: a bare state dict")
    assert "RRDB_trunk.0.RDB1.conv1.weight" in torch.load(tmp_path / "b.pth", weights_only=True)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "b.pth exists: choose another name" in result.stderr
