"""Upscaling on the CPU: the faster ways make the image that PyTorch's plain operations make, and say when they cannot."""

import io
import json
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
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
from aesop.conversion.onnx_format import to_onnx
from aesop.inference import runtime_cache, runtimes
from aesop.inference.runtimes import RUNTIMES, Converted, Runtime, with_runtime
from aesop.inference.tiling import upscale_image
from aesop.inference.upscaler import Upscaler
from aesop.weights.save import save_weights

CPU = torch.device("cpu")
INSTALLED = [name for name in RUNTIMES if find_spec(name) and find_spec("onnxscript")]

NETWORKS = {
    "rrdb_x4": {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8},
    "rrdb_x2": {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8, "scale": 2},
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


needs_a_runtime = pytest.mark.skipif(not INSTALLED, reason="needs openvino or onnxruntime: pip install aesop-sr[cpu]")


@needs_a_runtime
@pytest.mark.parametrize("name", ["rrdb_x2", "compact"])  # test_onnx_format exports an RRDBNet without unshuffling
def test_runtimes_make_the_same_image(name, monkeypatch):
    net, image = network(name), photograph()
    monkeypatch.setattr(runtimes, "to_onnx", cache(to_onnx))  # takes most of the time
    scale = 2 if name == "rrdb_x2" else 4
    small = photograph(6, 10)
    plain, plain_small = (plainly(net, picture, monkeypatch) for picture in (image, small))
    tiles = upscale_image(net, image, scale, tile=40, device=CPU)
    for runtime in INSTALLED:
        converted, line = with_runtime(net, runtime, CPU, "fp32")
        assert isinstance(converted, Converted), line
        assert line is not None
        assert line.startswith(f"converted for {runtime} in ")
        assert apart(plain_small, upscale_image(converted, small, scale, device=CPU)) <= 1
        converted.original = Failing()  # nobody else does it
        assert apart(plain, upscale_image(converted, image, scale, tile=0, device=CPU)) <= 1
        assert apart(tiles, upscale_image(converted, image, scale, tile=40, device=CPU)) <= 1


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pytest.fail("computed by PyTorch")


@needs_a_runtime
def test_a_network_that_cannot_be_exported_is_left_to_pytorch():
    class DecidesByValues(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.mean().item() > 2 else x + 1

    net = DecidesByValues().eval()
    used, line = with_runtime(net, INSTALLED[0], CPU, "fp32")
    assert used is net
    assert line is not None
    assert line.startswith(f"note: {INSTALLED[0]} cannot convert this network")
    assert line.endswith("using PyTorch")
    assert "\n" not in line


# --- choosing, checking and keeping, with a stand-in for the runtime -------------------------------------------------


@pytest.fixture
def stand_in(monkeypatch):
    """An installed package of that name; what it computes is the test's to say. Return the list of exports."""
    exports = []
    for package in ("openvino", "onnxscript"):
        module = ModuleType(package)
        module.__version__ = "1"
        monkeypatch.setitem(sys.modules, package, module)

    def export(net: nn.Module, channels: int) -> bytes:
        exports.append(net)
        return b"network"

    monkeypatch.setattr(runtimes, "to_onnx", export)

    def put(compute):
        """`compute` is given the network that was exported last, and the precision."""
        monkeypatch.setitem(
            RUNTIMES,
            "openvino",
            Runtime(("fp32", "bf16"), lambda package, content, precision: compute(exports[-1], precision)),
        )
        return exports

    return put


def adding(error: float):
    def compiled(net: nn.Module, precision: str):
        return lambda x: net(torch.from_numpy(x)).numpy() + np.float32(error)

    return compiled


def test_failures_and_other_images_fall_back_with_a_line(stand_in):
    net = network("rrdb_x4")

    def fails(net, precision):
        raise RuntimeError("unsupported operator\nand a long trace")

    stand_in(fails)
    assert with_runtime(net, "openvino", CPU, "fp32") == (
        net,
        "note: openvino cannot convert this network (RuntimeError: unsupported operator); using PyTorch",
    )
    half = nn.Sequential(net, nn.Sigmoid())  # stays away from the ends of the range
    decibel = [10 ** (-psnr / 20) for psnr in (50.1, 49.9)]
    for precision, error, is_used in (
        ("fp32", 0.5 / 255, True),
        ("fp32", 2 / 255, False),
        ("fp32", np.nan, False),
        ("bf16", decibel[0], True),
        ("bf16", decibel[1], False),
        ("bf16", np.nan, False),
    ):
        stand_in(adding(error))
        used, line = with_runtime(half, "openvino", CPU, precision)
        assert isinstance(used, Converted) == is_used
        assert line is not None
        assert line.startswith("converted" if is_used else "note: openvino computes different images")


@pytest.mark.parametrize(("device", "precision"), [("cuda", "fp32"), ("cpu", "fp16")])
def test_other_devices_and_precisions_stay_with_pytorch(device, precision, stand_in):
    stand_in(lambda *_: pytest.fail("converted"))
    net = network("rrdb_x4")
    used, line = with_runtime(net, "openvino", torch.device(device), precision)
    assert used is net
    assert line == f"note: openvino runs on the CPU in fp32 or bf16; using PyTorch on {device} in {precision}"


def test_onnxruntime_has_no_bf16_on_a_cpu():
    used, line = with_runtime(net := network("rrdb_x4"), "onnxruntime", CPU, "bf16")
    assert used is net
    assert line == "note: onnxruntime runs on the CPU in fp32; using PyTorch on cpu in bf16"


@pytest.fixture
def weights(tmp_path) -> Path:
    file = tmp_path / "w.safetensors"
    save_weights(file, network("rrdb_x4").state_dict(), {"network": json.dumps(NETWORKS["rrdb_x4"])})
    return file


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return runtime_cache.folder()


def test_a_network_is_exported_once(weights, own_cache, stand_in, monkeypatch):
    exports = stand_in(adding(0))

    def notes(precision: str = "fp32") -> tuple[str, ...]:
        return Upscaler(weights, "cpu", precision, runtime="openvino").notes

    assert notes()[0].startswith("converted for openvino in ")
    assert notes() == ()
    assert len(exports) == 1
    (entry,) = own_cache.iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])  # damaged
    notes()
    assert len(exports) == 2
    assert notes() == ()
    notes("bf16")
    assert len(exports) == 3
    monkeypatch.setattr(sys.modules["openvino"], "__version__", "2")
    notes()
    assert len(exports) == 4
    other = network("rrdb_x4")
    next(other.parameters()).data += 0.1
    save_weights(weights, other.state_dict(), {"network": json.dumps(NETWORKS["rrdb_x4"])})
    notes()
    assert len(exports) == 5
    monkeypatch.setattr(runtimes, "processor", lambda: "another one")
    notes()
    assert len(exports) == 6
    assert notes() == ()
    assert len(list(own_cache.iterdir())) == 5


def test_each_texture_is_exported_once(weights, tmp_path, own_cache, stand_in):
    exports = stand_in(adding(0))
    faithful = tmp_path / "psnr.safetensors"
    for by in (0.01, 0.02):
        other = network("rrdb_x4")
        next(other.parameters()).data *= 1 + by
        save_weights(faithful, other.state_dict(), {"network": json.dumps(NETWORKS["rrdb_x4"])})
        for texture in (0.5, 0.6, 0.5, None, 0.6):
            of = {} if texture is None else {"texture": texture, "faithful_model": faithful}
            Upscaler(weights, "cpu", "fp32", runtime="openvino", **of)
    assert len(exports) == 5  # each of two textures for two partners, and the model alone


def test_a_kept_network_is_checked_too(weights, own_cache, stand_in):
    stand_in(adding(0))
    Upscaler(weights, "cpu", "fp32", runtime="openvino")
    exports = stand_in(adding(0.5))
    assert "computes different images" in Upscaler(weights, "cpu", "fp32", runtime="openvino").notes[0]
    assert len(exports) == 1


def test_without_a_folder_to_keep_it_a_line_says_so(weights, tmp_path, stand_in, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    exports = stand_in(adding(0))
    for _ in range(2):
        upscaler = Upscaler(weights, "cpu", "fp32", runtime="openvino")
        assert "cannot be kept" in upscaler.notes[0]
        assert upscaler(photograph(8, 9)).shape == (32, 36, 3)
    assert len(exports) == 2


def test_deep_pictures_never_see_a_network_in_bf16(weights, own_cache, stand_in):
    stand_in(adding(0.002))
    upscaler, exact = (Upscaler(weights, "cpu", "bf16", runtime="openvino"), Upscaler(weights, "cpu", "fp32"))
    image = photograph(40, 48)
    for deep in (image.astype(np.uint16) * 257, image.astype(np.float32) / 255):
        np.testing.assert_array_equal(upscaler(deep), exact(deep))
        np.testing.assert_array_equal(upscaler(deep[..., 0]), exact(deep[..., 0]))
    assert (upscaler(image) != exact(image)).any()


def test_threads(weights, own_cache, stand_in):
    seen = []

    def compiled(net, precision):
        seen.append(torch.get_num_threads())
        return lambda x: seen.append(torch.get_num_threads()) or net(torch.from_numpy(x)).numpy()

    stand_in(compiled)
    torch.set_num_threads(2)
    upscaler = Upscaler(weights, "cpu", "fp32", runtime="openvino", threads=1)
    upscaler(photograph(40, 48))
    assert len(seen) > 2
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="threads must be at least 1"):
        Upscaler(weights, threads=0)


def test_files_with_the_runtime_missing_unknown_or_failing(tmp_path, weights, own_cache, monkeypatch, stand_in):
    source = tmp_path / "a.png"
    cv2.imwrite(str(source), photograph(8, 9))
    out, log = tmp_path / "out", io.StringIO()

    def run(name: str):
        how = {"runtime": name, "progress": "bar", "console": Console(file=log)}
        return [*upscale_files([source], out, weights, device="cpu", overwrite=True, **how)]

    run("pytorch")
    assert log.getvalue() == ""
    stand_in(lambda *_: 1 / 0)
    assert run("openvino")[0].error is None
    assert log.getvalue().count("\n") == 1
    assert "ZeroDivisionError" in log.getvalue()
    with pytest.raises(ValueError, match="unknown runtime 'onnx': use pytorch, openvino or onnxruntime"):
        run("onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r'pip install "aesop-sr\[cpu\]"'):
        run("openvino")
