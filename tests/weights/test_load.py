"""Loading weight files of every project: networks, options, tensors that do not fit."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from aesop.weights.errors import WeightsError
from aesop.weights.load import load_autoencoder, load_generator, load_into, load_network
from aesop.weights.read import read_state_dict
from aesop.weights.save import save_pth, save_weights
from checkpoint_kinds import (
    COMPACT,
    ESRGAN,
    GENERATOR,
    KINDS,
    SHARED,
    SWINIR,
    Kind,
    autoencoder_options,
    first_generation,
    golden_table,
    network,
    output,
    round_trip,
    second_generation,
)


def holds(options: object, wanted: object) -> bool:
    """Whether options are the wanted ones, perhaps with more beside them (spandrel names every default)."""
    if isinstance(wanted, dict):
        return isinstance(options, dict) and all(holds(options.get(name), value) for name, value in wanted.items())
    return (list(options) if isinstance(options, tuple) else options) == wanted


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_loads_with_nothing_but_its_path_and_converts_there_and_back(tmp_path, kind: Kind):
    reference = output(kind.network(), kind.side)
    assert reference.abs().max() > 1e-2
    result = round_trip(kind.write(tmp_path), tmp_path, reference, kind.side, kind.back)
    assert holds(result.info.options, kind.options)
    assert result.info.arch == kind.options["type"]
    size = kind.side if "dec_opt" in kind.options else kind.side * result.info.scale  # an auto-encoder keeps it
    assert reference.ndim != 4 or reference.shape[-1] == size  # a discriminator may answer with one number
    assert result.difference == 0
    assert result.identical != bool(kind.altered)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.golden], ids=lambda kind: kind.name)
def test_the_kinds_have_the_names_that_were_published(kind: Kind):
    published = golden_table(kind.golden)
    if not published:
        pytest.skip("no golden vectors here: set AESOP_GOLDEN")
    ours = {name: value.ndim for name, value in kind.tensors().items()}
    assert ours == {name: len(shape) for name, shape in published}


def test_a_single_enlargement_is_x2_in_former_names_and_x3_in_basicsrs(tmp_path):
    """The tensors of the two networks are alike but for their names."""
    options = {**ESRGAN, "scale": 3}
    net = network(options)
    for rename, expected in ((dict, options), (second_generation, {**ESRGAN, "scale": 2, "unshuffle": False})):
        torch.save({f"module.{k}": v for k, v in rename(net.state_dict()).items()}, tmp_path / "net.pth")
        again, info = load_network(tmp_path / "net.pth")
        assert (info.options, info.scale) == (expected, expected["scale"])
        assert output(again).shape[-1] == 8 * expected["scale"]


@pytest.mark.parametrize(
    "options",
    [
        {"plus": True},
        {"scale": 1},
        {"scale": 1, "plus": True},
        {"scale": 2},
        {"scale": 8},
        {"scale": 4, "shuffle_factor": 2, "in_nc": 12},
    ],
)
def test_relatives_of_esrgan_under_its_first_names(tmp_path, options):
    """What else such files hold: ESRGAN+, networks that keep the size; those that are none of ours are spandrel's."""
    spandrel = pytest.importorskip("spandrel")
    from spandrel.architectures.ESRGAN import ESRGAN as Original

    torch.save(Original(num_filters=8, num_blocks=2, **options).state_dict(), tmp_path / "net.pth")
    net, info = load_network(tmp_path / "net.pth")
    oracle = spandrel.ModelLoader().load_from_file(tmp_path / "net.pth")
    assert info.scale == oracle.scale
    assert (output(net) - output(oracle.model.eval())).abs().max() < 1e-6


def test_metadata_survive_in_a_pth_and_do_not_come_from_others(tmp_path):
    net = network(SWINIR)
    described = {"network": json.dumps({**SWINIR, "img_range": 255.0}), "iteration": "7"}
    save_pth(tmp_path / "net.pth", {"params": net.state_dict(), "metadata": described})
    info = load_network(tmp_path / "net.pth")[1]
    assert info.options["img_range"] == 255.0
    assert info.metadata == described
    torch.save({"params": net.state_dict(), "metadata": {1: 2, "numbers": [1]}}, tmp_path / "other.pth")
    assert read_state_dict(tmp_path / "other.pth")[1] == {}


@pytest.mark.parametrize(("size", "other"), [(32, 24), (24, 32)])
def test_tables_that_the_constructor_computes_come_from_there(size, other):
    """A SwinIR trained on one image size fits a network built for another: its masks are not learned."""
    trained = network({**SWINIR, "img_size": size})
    state = trained.state_dict()
    net = network({**SWINIR, "img_size": other}, seed=1)
    masks = {name: value.clone() for name, value in net.state_dict().items() if "attn_mask" in name}
    load_into(net, state, "file")
    assert torch.equal(output(net, 16), output(trained, 16))
    assert all(torch.equal(net.state_dict()[name], value) for name, value in masks.items())
    assert state[next(iter(masks))].shape != masks[next(iter(masks))].shape
    without = {name: value for name, value in state.items() if not name.endswith(("attn_mask", "relative_position_index"))}
    again = network({**SWINIR, "img_size": size}, seed=2)
    load_into(again, without, "file")
    assert torch.equal(output(again, 16), output(trained, 16))


def test_a_network_without_shifted_windows_is_another_one():
    """At an image size of one window SwinIR shifts nothing, and says so by having no masks."""
    with pytest.raises(WeightsError, match=r"2 unknown \(layers\.0\.residual_group\.blocks\.1\.attn_mask"):
        load_into(network({**SWINIR, "img_size": 8}), network(SWINIR).state_dict(), "file")


@pytest.mark.parametrize("options", [GENERATOR, {**GENERATOR, "scale": 2}, autoencoder_options(), autoencoder_options(8)])
def test_self_describing_safetensors(tmp_path, options):
    net = network(options)
    save_weights(tmp_path / "net.safetensors", net.state_dict(), {"network": json.dumps(options), "iteration": "7"})
    again, info = load_network(tmp_path / "net.safetensors")
    assert torch.equal(output(again), output(net))
    assert not again.training
    assert (info.arch, info.scale, info.options) == (options["type"], options["scale"], options)
    assert info.metadata["iteration"] == "7"


def test_metadata_is_believed_over_what_the_shapes_suggest(tmp_path):
    """Options that leave no trace in the tensors (`use_checkpoint`) come from the metadata."""
    options = {**GENERATOR, "use_checkpoint": True}
    save_weights(tmp_path / "net.safetensors", network().state_dict(), {"network": json.dumps(options)})
    assert load_network(tmp_path / "net.safetensors")[0].use_checkpoint


@pytest.mark.parametrize("rename", [first_generation, second_generation])
@pytest.mark.parametrize("num_block", [1, 2, 11])  # 11: "sub.1" and "sub.10" must not be confused
def test_former_names_load(tmp_path, rename, num_block):
    options = {**GENERATOR, "num_block": num_block, "num_grow_ch": 32}
    net = network(options)
    old = rename(net.state_dict())
    assert not old.keys() & {name for name in net.state_dict() if name.startswith(("body", "conv_body", "conv_up"))}
    torch.save(old, tmp_path / "old.pth")
    again, info = load_network(tmp_path / "old.pth")
    assert info.options == options
    assert torch.equal(output(again), output(net))
    # That these are the former names, spandrel knows.
    spandrel = pytest.importorskip("spandrel")
    oracle = spandrel.ModelLoader().load_from_state_dict(old)
    torch.testing.assert_close(output(oracle.model.eval()), output(net), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0.weight", "0.bias", "1.weight", "1.bias"], ", and 1 more). Expected: a generator"),
        (["features.0.weight", "features.0.bias"], "It contains an image classifier (torchvision's VGG, AlexNet or ResNet)"),
        (["conv1.weight", "bn1.weight", "layer1.0.conv1.weight"], "It contains an image classifier"),
        (["lin0.model.1.weight", "lin1.model.1.weight"], "It contains LPIPS's linear heads"),
        (["lora_unet_down_blocks_0_to_q.lora_down.weight", "lora_unet_down_blocks_0_to_q.alpha"], "It contains a LoRA"),
        (["unet.down_blocks.0.attentions.0.to_q.lora.down.weight"], "It contains a LoRA"),
        (["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"], "It contains a diffusion model"),
        (["first_stage_model.a.bias", "model.diffusion_model.input_blocks.0.0.bias"], "It contains a diffusion model"),
        (["0.exp_avg", "0.exp_avg_sq", "0.step"], "It contains a training state (of optimisers)"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_something_else(tmp_path, names, says, suffix, refused):
    state = {name: torch.zeros(2, 2) for name in names}
    torch.save(state, tmp_path / "net.pth") if suffix == ".pth" else save_file(state, tmp_path / "net.safetensors")
    message = refused(tmp_path / f"net{suffix}")
    assert "contains the weights of an unknown network (its first tensors: " in message
    assert names[0] in message
    assert says in message
    assert message.endswith("or AESOP's auto-encoder")
    with pytest.raises(WeightsError, match="do not fit RRDBNet"):
        load_into(network(), state, "file")


@pytest.mark.parametrize(
    "description", ["RRDBNet", "[1]", '"RRDBNet"', '{"type": "SwinIR5"}', "{}", '{"type": "RRDBNet", "depth": 3}']
)
def test_a_description_that_is_of_no_use(tmp_path, description, refused):
    save_weights(tmp_path / "net.safetensors", network().state_dict(), {"network": description})
    assert "describes no network that can be built" in refused(tmp_path / "net.safetensors")


def test_a_description_that_does_not_fit_the_tensors(tmp_path, refused):
    options = {**GENERATOR, "num_feat": 16}
    save_weights(tmp_path / "net.safetensors", network().state_dict(), {"network": json.dumps(options)})
    assert "do not fit RRDBNet: body.0.rdb1.conv1.weight: (4, 8, 3, 3) in the file, (4, 16, 3, 3) expected" in refused(
        tmp_path / "net.safetensors"
    )


def test_wrong_shapes_name_the_tensor_both_shapes_and_what_the_file_is():
    state = network().state_dict()
    wide = network({**GENERATOR, "num_feat": 16})
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_into(wide, state, "some/file.pth")
    text = str(caught.value)
    assert text.startswith("the weights in some/file.pth do not fit RRDBNet: ")
    assert "body.0.rdb1.conv1.weight: (4, 8, 3, 3) in the file, (4, 16, 3, 3) expected" in text
    assert f"The file looks like {json.dumps(GENERATOR)}." in text
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items()), "nothing is half loaded"
    with pytest.raises(WeightsError, match="expected"):
        load_into(wide, state, "some/file.pth", strict=False)


def test_missing_and_unknown_names_are_faults_only_when_strict():
    net, other = network(seed=1), network(seed=2)
    state = {k: v for k, v in other.state_dict().items() if k != "conv_hr.bias"} | {"stranger": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 missing \(conv_hr\.bias\); 1 unknown \(stranger\)"):
        load_into(net, state, "file")
    kept = net.state_dict()["conv_hr.bias"].clone()
    load_into(net, state, "file", strict=False)
    assert torch.equal(net.state_dict()["conv_hr.bias"], kept)
    assert torch.equal(net.state_dict()["conv_hr.weight"], other.state_dict()["conv_hr.weight"])


def test_without_strict_other_shapes_are_left_out(caplog):
    """An x2 RRDBNet unshuffles its input: its first convolution has 12 input channels, a x4 one's 3; all else is equal."""
    net, other = network({**GENERATOR, "scale": 2}, seed=1), network(seed=2)
    first = net.state_dict()["conv_first.weight"].clone()
    with pytest.raises(WeightsError, match=r"conv_first\.weight"):
        load_into(net, other.state_dict(), "x4.pth")
    load_into(net, other.state_dict(), "x4.pth", strict=False)
    loaded = net.state_dict()
    assert torch.equal(loaded.pop("conv_first.weight"), first)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in loaded.items())
    assert re.search(r"x4\.pth: left out 1 of \d+ tensors, whose shapes differ \(conv_first\.weight: ", caplog.text)


def test_generators_autoencoders_and_discriminators_are_told_apart(tmp_path):
    critic = {"type": "UNetDiscriminatorSN", "num_feat": 4}
    for name, options in (("g", GENERATOR), ("other", COMPACT), ("ae", autoencoder_options()), ("d", critic)):
        save_file(network(options).state_dict(), tmp_path / f"{name}.safetensors")
    assert load_generator(tmp_path / "g.safetensors")[1].arch == "RRDBNet"
    assert load_generator(tmp_path / "other.safetensors")[1].arch == "Compact"
    frozen = load_autoencoder(tmp_path / "ae.safetensors")
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    with pytest.raises(WeightsError, match=r"ae\.safetensors contains AutoEncoder_RRDBNet, not a generator: give"):
        load_generator(tmp_path / "ae.safetensors")
    with pytest.raises(WeightsError, match=r"d\.safetensors contains UNetDiscriminatorSN, not a generator: give"):
        load_generator(tmp_path / "d.safetensors")
    for name, found in (("g", "RRDBNet"), ("other", "Compact"), ("d", "UNetDiscriminatorSN")):
        with pytest.raises(WeightsError, match=rf"{name}\.safetensors contains {found}, not an auto-encoder"):
            load_autoencoder(tmp_path / f"{name}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B", "RealSR_DF2K_x4"])
def test_published_networks_load_by_their_path_alone(name):
    file = SHARED / "weights" / f"{name}.safetensors"
    if not file.is_file():
        pytest.skip(f"no {file}: set AESOP_SHARED to the folder that holds weights/")
    net, info = load_generator(file)
    assert (info.arch, info.scale) == ("RRDBNet", 4)
    assert info.options == {**GENERATOR, "num_feat": 64, "num_block": 6 if "6B" in name else 23, "num_grow_ch": 32}
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    spandrel = pytest.importorskip("spandrel")
    oracle = spandrel.ModelLoader().load_from_file(file).model.float().eval()
    torch.testing.assert_close(output(net, 16), output(oracle, 16), rtol=1e-5, atol=1e-5)
