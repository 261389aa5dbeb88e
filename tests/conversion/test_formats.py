"""Every format: what other programs find in the files, and that these make PyTorch's images of any size."""

import copy
import json
from pathlib import Path
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from aesop.conversion.exported import Padded
from aesop.conversion.targets import TARGETS
from checkpoint_kinds import COMPACT, DRCT, GENERATOR, SWINIR, network

METADATA = {"scale": "2", "architecture": "RRDBNet", "author": "Ada & Söhne", "written_by": "aesop 1"}
needs = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnxscript", "openvino"),
    "torchscript": (),
    "ncnn": ("pnnx", "ncnn"),
}


def written(name: str, folder: Path, options: dict, half: bool = False, channels: int = 3) -> tuple[Path, torch.nn.Module]:
    for package in needs[name]:
        pytest.importorskip(package, reason="pip install aesop-sr[export]")
    net = network(options).requires_grad_(False)
    if options["type"] == "RRDBNet" and options["scale"] < 3:
        net = Padded(net, {1: 4, 2: 2}[options["scale"]], options["scale"]).eval()
    before = copy.deepcopy(net.state_dict())
    file = folder / f"net.v1{TARGETS[name].extensions[0]}"
    TARGETS[name].write(net, channels, file, METADATA, half)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert sorted(folder.iterdir()) == sorted(TARGETS[name].files(file))
    return file, net


def assert_same_images(name: str, file: Path, net: torch.nn.Module, limit: float, channels: int = 3) -> None:
    compute = TARGETS[name].load(file)
    for height, width in ((32, 45), (64, 96), (71, 50)):
        image = np.random.default_rng(0).random((1, channels, height, width), np.float32)
        with torch.no_grad():
            expected = net(torch.from_numpy(image)).numpy()
        found = compute(image)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < limit
        assert expected.std() > 0.05


FAST = [
    ("torchscript", {**GENERATOR, "scale": 2}),
    ("torchscript", SWINIR),
    ("ncnn", {**GENERATOR, "scale": 2}),
]
SLOW = [
    ("torchscript", DRCT),
    ("ncnn", COMPACT),
    ("onnx", {**GENERATOR, "scale": 1}),
    ("onnx", SWINIR),
    ("onnx", COMPACT),
    ("openvino", {**GENERATOR, "scale": 2}),
    ("openvino", DRCT),
]


@pytest.mark.parametrize(("name", "options"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_images_of_any_size(name, options, tmp_path):
    assert_same_images(name, *written(name, tmp_path, options), 1e-4)


@pytest.mark.parametrize(
    "name", ["torchscript", *(pytest.param(name, marks=pytest.mark.slow) for name in ("onnx", "openvino", "ncnn"))]
)
def test_gray_in_half_precision_is_half_as_large(name, tmp_path):
    options = {**GENERATOR, "num_in_ch": 1, "num_out_ch": 1, "num_feat": 16}
    weights = sum(value.numel() for value in network(options).parameters())
    sizes = []
    for half, limit in ((False, 1e-4), (True, 0.01)):
        (tmp_path / str(half)).mkdir()
        file, net = written(name, tmp_path / str(half), options, half, channels=1)
        assert_same_images(name, file, net, limit, channels=1)
        sizes.append(TARGETS[name].files(file)[-1].stat().st_size)  # of two files, the one with the weights
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, rel=0.25)


def test_torchscript_holds_the_metadata(tmp_path):
    file, _ = written("torchscript", tmp_path, {**GENERATOR, "scale": 4})
    found = {"metadata.json": ""}
    torch.jit.load(file, _extra_files=found)
    assert json.loads(found["metadata.json"]) == METADATA


def test_ncnn_has_the_names_that_vulkan_programs_expect_and_the_metadata(tmp_path):
    file, _ = written("ncnn", tmp_path, COMPACT)
    magic, count, *layers = [line.split() for line in file.read_text().splitlines()]
    assert magic == ["7767517"]
    assert int(count[0]) == len(layers)
    kind, name, *blobs = layers[0]
    assert (kind, blobs) == ("Input", ["0", "1", "data"])
    assert dict(parse_qsl(name)) == METADATA
    assert "output" in layers[-1]
    assert not {"in0", "out0"} & {word for layer in layers for word in layer}


def test_ncnn_leaves_out_metadata_that_its_names_have_no_room_for(tmp_path, monkeypatch):
    monkeypatch.setitem(METADATA, "description", "long " * 60)
    monkeypatch.setitem(METADATA, "written_by", METADATA.pop("written_by"))
    file, net = written("ncnn", tmp_path, COMPACT)
    name = file.read_text().splitlines()[2].split()[1]
    assert name == "scale=2&architecture=RRDBNet&author=Ada+%26+S%C3%B6hne"
    assert_same_images("ncnn", file, net, 1e-4)


def test_ncnn_says_which_layers_it_does_not_have(tmp_path):
    pytest.importorskip("pnnx", reason="pip install aesop-sr[export]")

    class ByItsSize(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.shape[-1]

    with pytest.raises(ValueError, match=r"ncnn has no layers for .*pnnx\.Expression"):
        TARGETS["ncnn"].write(ByItsSize(), 3, tmp_path / "net.param", METADATA, False)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_onnx_is_valid_for_older_readers_and_holds_the_metadata(tmp_path):
    file, _ = written("onnx", tmp_path, COMPACT, half=True)
    import onnx

    network = onnx.load(file)
    onnx.checker.check_model(network, full_check=True)
    assert (network.ir_version, network.opset_import[0].version) == (8, 18)
    assert {entry.key: entry.value for entry in network.metadata_props} == METADATA
    for value, name in ((network.graph.input[0], "input"), (network.graph.output[0], "output")):
        assert (value.name, value.type.tensor_type.elem_type) == (name, onnx.TensorProto.FLOAT)
    assert {tensor.data_type for tensor in network.graph.initializer if len(tensor.dims) == 4} == {onnx.TensorProto.FLOAT16}


@pytest.mark.slow
def test_openvino_holds_the_metadata(tmp_path):
    file, _ = written("openvino", tmp_path, COMPACT)
    info = ElementTree.parse(file).find("rt_info/aesop")
    assert info is not None
    assert {entry.tag: entry.get("value") for entry in info} == METADATA
