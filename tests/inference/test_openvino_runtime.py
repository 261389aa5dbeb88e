"""Upscaling on the CPU: the faster ways make the image that PyTorch's plain operations make, and say when they cannot."""

import io
import json
import sys
from importlib.util import find_spec
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.archs.rrdbnet import ResidualDenseBlock
from aesop.commands.upscale import upscale_files
from aesop.inference import openvino_runtime as runtime
from aesop.inference.openvino_runtime import Converted, with_runtime
from aesop.inference.tiling import upscale_image
from aesop.weights.save import save_weights

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(
    not (find_spec("openvino") and find_spec("onnxscript")), reason="needs openvino: pip install aesop-sr[cpu]"
)

NETWORKS = {
    "rrdb_x4": {"type": "RRDBNet", "num_feat": 16, "num_block": 2, "num_grow_ch": 8},
    "rrdb_x2": {"type": "RRDBNet", "num_feat": 16, "num_block": 2, "num_grow_ch": 8, "scale": 2},
    "compact": {"type": "Compact", "num_feat": 16, "num_conv": 2, "upscale": 4},
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(name: str) -> nn.Module:
    """With weights that make all of the image's range out of noise, and let every layer contribute."""
    torch.manual_seed(0)
    net = build_network(NETWORKS[name]).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, 0.2)
            layer.bias.data.normal_(0, 0.1)
    return net


def plain_block(self: ResidualDenseBlock, x: Tensor) -> Tensor:
    """The paper's block, not in place."""
    features = [x]
    for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
        features.append(F.leaky_relu(F.conv2d(torch.cat(features, 1), conv.weight, conv.bias, padding=1), 0.2))
    return self.conv5(torch.cat(features, 1)) * 0.2 + x


def photograph(height: int = 70, width: int = 90) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def plainly(net: nn.Module, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The whole image through PyTorch, contiguous, and rounded."""
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(ResidualDenseBlock, "forward", plain_block)
        result = net(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous().float() / 255)[0]
    return (result.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


def apart(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    assert a.std() > 20  # something that can differ
    return np.abs(a.astype(int) - b).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_image_is_the_plain_networks(name, monkeypatch):
    net, image = network(name), photograph()
    scale = 2 if name == "rrdb_x2" else 4
    assert apart(plainly(net, image, monkeypatch), upscale_image(net, image, scale, tile=0, device=CPU)) <= 1


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_lie_side_by_side_all_through_our_networks(name, monkeypatch):
    net, seen = network(name), []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(
                lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
            )
    upscale_image(net, photograph(8, 12), 2 if name == "rrdb_x2" else 4, device=CPU)
    assert set(seen) == {name != "compact"}


@needs_openvino
@pytest.mark.parametrize("name", NETWORKS)
def test_openvino_makes_the_same_image(name, monkeypatch):
    net, image = network(name), photograph()
    converted, line = with_runtime(net, "openvino", CPU, "fp32")
    assert line is not None
    assert line.startswith("converted for openvino in ")
    scale = 2 if name == "rrdb_x2" else 4
    whole = upscale_image(converted, image, scale, tile=0, device=CPU)
    monkeypatch.setattr(converted.original, "forward", None)  # nobody else did it
    np.testing.assert_array_equal(whole, upscale_image(converted, image, scale, tile=0, device=CPU))
    monkeypatch.undo()
    assert apart(plainly(net, image, monkeypatch), whole) <= 1
    tiled = upscale_image(converted, image, scale, tile=40, device=CPU)
    assert apart(upscale_image(net, image, scale, tile=40, device=CPU), tiled) <= 1
    small = photograph(6, 10)
    assert apart(plainly(net, small, monkeypatch), upscale_image(converted, small, scale, device=CPU)) <= 1


@needs_openvino
def test_a_network_that_cannot_be_exported_is_left_to_pytorch():
    class DecidesByValues(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.mean().item() > 2 else x + 1

    net = DecidesByValues().eval()
    used, line = with_runtime(net, "openvino", CPU, "fp32")
    assert used is net
    assert line is not None
    assert line.startswith("note: openvino cannot convert this network")
    assert line.endswith("using PyTorch")
    assert "\n" not in line


@pytest.fixture
def stand_in(monkeypatch):
    """An installed package of that name; what it would make of a network is the test's to say."""
    for package in ("openvino", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    return lambda compiled: monkeypatch.setattr(runtime, "_compile", lambda model, *_: compiled(model))


def test_failures_and_other_images_fall_back_with_a_line(stand_in):
    net = network("rrdb_x4")

    def fails(model):
        raise RuntimeError("unsupported operator\nand a long trace")

    stand_in(fails)
    assert with_runtime(net, "openvino", CPU, "fp32") == (
        net,
        "note: openvino cannot convert this network (RuntimeError: unsupported operator); using PyTorch",
    )
    half = nn.Sequential(net, nn.Sigmoid())  # stays away from the ends of the range
    for error, is_used in ((0.5 / 255, True), (2 / 255, False), (np.nan, False)):
        stand_in(lambda model, error=error: lambda x: [model(torch.from_numpy(x)).numpy() + np.float32(error)])
        used, line = with_runtime(half, "openvino", CPU, "fp32")
        assert isinstance(used, Converted) == is_used
        assert line is not None
        assert line.startswith("converted" if is_used else "note: openvino computes different images")


@pytest.mark.parametrize(("device", "precision"), [("cuda", "fp32"), ("cpu", "bf16")])
def test_other_devices_and_precisions_stay_with_pytorch(device, precision, stand_in):
    stand_in(lambda model: pytest.fail("converted"))
    net = network("rrdb_x4")
    used, line = with_runtime(net, "openvino", torch.device(device), precision)
    assert used is net
    assert line == f"note: openvino runs on the CPU in fp32 only; using PyTorch on {device} in {precision}"


def test_files_with_the_runtime_missing_unknown_or_failing(tmp_path, monkeypatch, stand_in):
    source, weights = tmp_path / "a.png", tmp_path / "w.safetensors"
    cv2.imwrite(str(source), photograph(8, 9))
    save_weights(weights, network("rrdb_x4").state_dict(), {"network": json.dumps(NETWORKS["rrdb_x4"])})
    out, log = tmp_path / "out", io.StringIO()

    def run(name: str):
        return [
            *upscale_files(
                [source], out, weights, device="cpu", overwrite=True, runtime=name, progress="bar", console=Console(file=log)
            )
        ]

    run("pytorch")
    assert log.getvalue() == ""
    stand_in(lambda model: 1 / 0)
    assert run("openvino")[0].error is None
    assert log.getvalue().count("\n") == 1
    assert "ZeroDivisionError" in log.getvalue()
    with pytest.raises(ValueError, match="unknown runtime 'onnx': use pytorch or openvino"):
        run("onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r'pip install "aesop-sr\[cpu\]"'):
        run("openvino")
