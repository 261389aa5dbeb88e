"""Tiled upscaling against the untiled network, and what happens to files."""

import io
import json
import math
import os
import re
import warnings
from collections import Counter
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms
from rich.console import Console
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.archs.rrdbnet import RRDBNet
from aesop.cli import app
from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_results import Summary
from aesop.inference import tiling
from aesop.inference.final_size import FinalSize
from aesop.inference.shipped_models import shipped_model
from aesop.inference.tiling import Axis, upscale_image
from aesop.inference.upscaler import Upscaler
from aesop.pictures.jpeg_quality import jpeg_quality
from aesop.system.device import reason_against_bf16
from aesop.weights.load import LoadedInfo, load_generator

CPU = torch.device("cpu")
SHARED = Path(os.environ.get("AESOP_SHARED", "../shared"))
NETWORKS = {
    "RRDBNet": {"num_feat": 8, "num_block": 1, "num_grow_ch": 4},
    "SwinIR": {"img_size": 8, "window_size": 4, "depths": [2], "embed_dim": 12, "num_heads": [2], "upscale": 4}
    | {"upsampler": "pixelshuffle"},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 4},
}
ANIME = SHARED / "weights" / "RealESRGAN_x4plus_anime_6B.safetensors"


class Nearest(nn.Module):
    """Repeats each pixel, remembers the shapes it saw, and may run out of memory on tiles above `limit`."""

    def __init__(self, scale: int = 4, limit: int | None = None, error: type[Exception] = torch.OutOfMemoryError):
        super().__init__()
        self.scale, self.limit, self.error = scale, limit, error
        self.seen: list[tuple[int, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.shape[-2], x.shape[-1]))
        if self.limit is not None and max(x.shape[-2:]) > self.limit:
            raise self.error("MPS backend out of memory (MPS allocated: 1 GB)")
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


class SmallField(nn.Module):
    """A network whose output depends on at most 3 LR pixels around: less than what tiles cut off at overlap 16."""

    def __init__(self, scale: int = 4):
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.first, self.second = nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(F.leaky_relu(self.first(x), 0.2), scale_factor=self.scale, mode="nearest")
        return self.second(x) + 0.5


def noise(height: int, width: int, channels: int = 3, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def repeat(image: np.ndarray, scale: int) -> np.ndarray:
    return image.repeat(scale, 0).repeat(scale, 1)


def write(path: Path, image: np.ndarray) -> Path:
    """By OpenCV itself, so that `aesop.images` is checked too. `image` is RGB(A) or gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    cv2.imencode(path.suffix, image)[1].tofile(path)
    return path


def read(path: Path) -> np.ndarray:
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`upscale_files` with the nearest-neighbour network instead of a weight file."""
    load = lambda path: (Nearest(2), LoadedInfo("RRDBNet", 2, {}, {}))  # noqa: E731
    monkeypatch.setattr("aesop.weights.load.load_generator", load)
    (tmp_path / "w.safetensors").touch()

    def call(inputs, output, **options):
        inputs = inputs if isinstance(inputs, list) else [inputs]
        options = {"model": tmp_path / "w.safetensors", "console": Console(file=io.StringIO())} | options
        return list(upscale_files(inputs, output, **{"device": "cpu"} | options))

    return call


# --- one image -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 70), (32, 32), (33, 47), (71, 90), (36, 101)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_equal_the_whole(shape, scale):
    model, image = SmallField(scale).eval(), noise(*shape)
    whole = upscale_image(model, image, scale, tile=0, device=CPU)
    tiled = upscale_image(model, image, scale, tile=32, overlap=16, device=CPU)
    assert tiled.dtype == np.uint16
    assert tiled.shape == whole.shape == (shape[0] * scale, shape[1] * scale, 3)
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_the_whole_is_what_the_bare_network_makes():
    model, image = SmallField().eval(), noise(21, 30, dtype=np.uint8)
    with torch.no_grad():
        direct = model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0).numpy()
    expected = np.round(direct.clip(0, 1).astype(np.float64) * 255)
    assert np.abs(upscale_image(model, image, 4, device=CPU) - expected).max() <= 1  # halves may round either way
    assert (upscale_image(model, image, 4, device=CPU) == expected).mean() > 0.999


@pytest.mark.parametrize(("tile", "overlap"), [(32, 0), (32, 3), (32, 16), (50, 25), (48, 8), (256, 16)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_seams(tile, overlap, dtype):
    """Weights sum to one: constants stay constant, ramps and noise come out pixel for pixel."""
    peak = np.iinfo(dtype).max
    ramp = np.linspace(0, peak, 97 * 75).reshape(97, 75, 1).repeat(3, 2).astype(dtype)
    for image in (np.full((97, 75, 3), peak // 3, dtype), ramp, noise(97, 75, dtype=dtype)):
        result = upscale_image(Nearest(4), image, 4, tile=tile, overlap=overlap, device=CPU)
        np.testing.assert_array_equal(result, repeat(image, 4))


def test_different_tiles_are_faded_into_each_other():
    """A network that answers with the running number of its call: from one tile to the next in small steps."""

    class Counting(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return torch.full((1, 3, x.shape[2] * 4, x.shape[3] * 4), self.calls / 10)

    result = upscale_image(Counting(), noise(60, 60), 4, tile=40, overlap=16, device=CPU).astype(float) / 65535
    assert np.allclose(result[[0, 0, -1, -1], [0, -1, 0, -1], 0], [0.1, 0.2, 0.3, 0.4], atol=1e-4)
    assert np.abs(np.diff(result, axis=1)).max() <= 0.1 / (8 * 4) + 1e-4  # overlap / 2 LR pixels from one to the next
    assert np.abs(np.diff(result, axis=0)).max() <= 0.2 / (8 * 4) + 1e-4


@pytest.mark.parametrize("side", [1, 31, 64, 65, 66, 67, 100, 513, 1000, 4001])
@pytest.mark.parametrize("overlap", [0, 8, 32])
@pytest.mark.parametrize("multiple", [1, 2, 4])
def test_cutting_covers_a_side(side, overlap, multiple):
    side = -(-side // multiple) * multiple
    axis = Axis.cut(side, 64, overlap, multiple)
    assert axis.length <= 64
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.length == side
    assert all(start % multiple == 0 for start in axis.starts)
    assert all(b - a <= axis.length - overlap for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    total = torch.zeros(side * 3)
    for start, weight in zip(axis.starts, axis.weights(3), strict=True):
        assert weight.min() >= 0
        total[start * 3 : (start + axis.length) * 3] += weight
    torch.testing.assert_close(total, torch.ones(side * 3), rtol=0, atol=3e-7)


def test_the_network_sees_equal_tiles_and_never_a_larger_one():
    model, calls = Nearest(4), []
    upscale_image(model, noise(150, 211), 4, tile=64, device=CPU, on_tile=lambda *at: calls.append(at))
    assert len(set(model.seen)) == 1
    assert all(side <= 64 and side % 4 == 0 for side in model.seen[0])
    assert calls == [(i + 1, len(model.seen)) for i in range(len(model.seen))]


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (37, 51), (83, 70)])
def test_networks_that_unshuffle_keep_all_rows(scale, shape):
    torch.manual_seed(0)
    model = RRDBNet(scale=scale, num_feat=8, num_block=1, num_grow_ch=4).eval()
    nn.init.normal_(model.conv_last.weight, std=0.3)
    image = noise(*shape)
    whole = upscale_image(model, image, scale, tile=0, device=CPU)
    assert whole.shape == (shape[0] * scale, shape[1] * scale, 3)
    if min(shape) > 1:  # the rows that the bare network makes, away from the border it drops
        with torch.no_grad():
            bare = model(torch.from_numpy(image.astype(np.float32) / 65535).permute(2, 0, 1)[None])[0]
        rows, columns = (side - 16 * scale for side in bare.shape[1:])
        difference = whole[:rows, :columns] - bare.clamp(0, 1).permute(1, 2, 0).numpy()[:rows, :columns] * 65535
        assert np.abs(difference).max() < 16
    tiled = upscale_image(model, image, scale, tile=64, overlap=32, device=CPU)
    assert np.abs(tiled.astype(int) - whole).max() < 65535 / 200
    assert np.abs(tiled.astype(int) - whole).mean() < 10


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_tiles_shrink_until_they_fit(error):
    model, image = Nearest(2, limit=64, error=error), noise(150, 140)
    np.testing.assert_array_equal(upscale_image(model, image, 2, tile=128, device=CPU), repeat(image, 2))
    assert max(model.seen[0]) > 64
    assert max(max(shape) for shape in model.seen[2:]) <= 64


def test_a_whole_image_is_never_silently_cut_into_tiles():
    with pytest.raises(ValueError, match="whole image of 140x150: use tiles"):
        upscale_image(Nearest(2, limit=64), noise(150, 140), 2, tile=0, device=CPU)


def test_want_of_memory_and_other_errors_are_told_apart():
    model = Nearest(2, limit=16)
    with pytest.raises(ValueError, match="tile"):
        upscale_image(model, noise(100, 100), 2, tile=80, overlap=40, device=CPU)
    assert model.seen == [(72, 72), (40, 40), (32, 32)]
    broken = Nearest(2)
    broken.forward = lambda x: (_ for _ in ()).throw(RuntimeError("mat1 and mat2 shapes"))
    with pytest.raises(RuntimeError, match="mat1"):
        upscale_image(broken, noise(9, 9), 2, device=CPU)


def test_misuse_is_refused():
    image = noise(8, 8)
    for bad in (image.astype(np.float64), image[..., 0], image[:0]):
        with pytest.raises(ValueError, match="expected an image"):
            upscale_image(Nearest(), bad, 4, device=CPU)
    with pytest.raises(ValueError, match="tile"):
        upscale_image(Nearest(), image, 4, tile=8, device=CPU)
    with pytest.raises(ValueError, match="overlap must be"):
        upscale_image(Nearest(), image, 4, tile=64, overlap=40, device=CPU)
    with pytest.raises(ValueError, match="scale 3"):
        upscale_image(Nearest(4), image, 3, device=CPU)


class StandIn(TorchFunctionMode):
    """Replaces CUDA by another device, and records what is copied to and from it."""

    def __init__(self, device: str, most: float = math.inf):
        super().__init__()
        self.device, self.most = torch.device(device), most
        self.pinned: list[Tensor] = []
        self.uploads: list[bool] = []  # pinned and non_blocking
        self.weights = 0
        self.downloads: list[tuple[tuple[int, ...], torch.dtype]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if name == "zeros" and "device" in kwargs:
            if math.prod(args) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            kwargs["device"] = self.device
        if name == "pin_memory":
            self.pinned.append(args[0].clone())
            return self.pinned[-1]
        if name == "to" and torch.device("cuda") in args:
            if args[0].ndim == 4:
                self.uploads.append(kwargs["non_blocking"] and any(args[0] is tensor for tensor in self.pinned))
            else:
                self.weights += 1
            args = (args[0], self.device)
        if name == "cpu":
            self.downloads.append((tuple(args[0].shape), args[0].dtype))
            assert args[0].is_contiguous()
            return torch.zeros(args[0].shape, dtype=args[0].dtype) if self.device.type == "meta" else args[0]
        return function(*args, **kwargs)


@pytest.mark.parametrize(("dtype", "kind"), [(np.uint8, torch.uint8), (np.uint16, torch.uint16)])
def test_a_gpu_gets_pinned_tiles_and_returns_bytes_of_whole_strips(dtype, kind):
    image, cuda = noise(100, 70, dtype=dtype), torch.device("cuda")
    rows, columns = Axis.cut(100, 32, 16, 1), Axis.cut(70, 32, 16, 1)
    with StandIn("cpu") as gpu:
        result = upscale_image(SmallField(2).eval(), image, 2, tile=32, device=cuda)
    np.testing.assert_array_equal(result, upscale_image(SmallField(2).eval(), image, 2, tile=32, device=CPU))
    assert gpu.uploads == [True] * len(rows.starts) * len(columns.starts)
    assert gpu.weights == 2
    heights = [2 * (end - start) for start, end in pairwise((*rows.starts, 100))]
    assert gpu.downloads == [((height, 140, 3), kind) for height in heights]
    with StandIn("cpu") as gpu:
        upscale_image(SmallField(2).eval(), image, 2, tile=32, device=cuda, finite=True)
    assert sum(kind == torch.bool for _, kind in gpu.downloads) == len(rows.starts)  # asked once for each strip
    with StandIn("meta") as gpu:  # refuses to compute with tensors of the CPU
        assert upscale_image(SmallField(2).eval().to("meta"), image, 2, tile=32, device=cuda).shape == (200, 140, 3)
    assert len(gpu.downloads) == len(rows.starts)


def test_tiles_shrink_until_the_strip_fits():
    model, image = Nearest(2), noise(150, 140)
    with StandIn("cpu", most=3 * 64 * 2 * 140 * 2):
        np.testing.assert_array_equal(
            upscale_image(model, image, 2, tile=128, device=torch.device("cuda")), repeat(image, 2)
        )
    assert max(map(max, model.seen)) <= 64


def test_channels_last_on_a_gpu_in_16_bits(monkeypatch):
    monkeypatch.setattr(tiling, "autocast", lambda device, precision: nullcontext())
    model, layouts = SmallField(2).eval(), []
    model.register_forward_pre_hook(lambda _, x: layouts.append(x[0].is_contiguous(memory_format=torch.channels_last)))
    for precision in ("fp32", "bf16", "fp16"):
        with StandIn("cpu"):
            upscale_image(model, noise(40, 20), 2, tile=32, device=torch.device("cuda"), precision=precision)
    assert layouts == [False] * 2 + [True] * 4


class CastAgain(nn.Module):
    """Lets autocast forget the casts of weights before each tile."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.channels_last_on_cpu = model, model.channels_last_on_cpu

    def forward(self, x: Tensor) -> Tensor:
        torch.clear_autocast_cache()
        return self.model(x)


class Casts(TorchDispatchMode):
    """Counts casts of float32 tensors to bfloat16 by shape."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if "_to_copy" in str(function) and args[0].dtype == torch.float32 and result.dtype == torch.bfloat16:
            self.count[tuple(args[0].shape)] += 1
        return result


@pytest.mark.skipif(reason_against_bf16(CPU) is not None, reason="this processor has no bfloat16")
@pytest.mark.parametrize("network", ["RRDBNet", "SwinIR", "SPAN"])
def test_weights_are_cast_once_for_all_tiles_and_the_numbers_stay(network):
    model = build_network({"type": network, **NETWORKS[network]}).eval()
    next(model.parameters()).requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    image = noise(60, 60, dtype=np.uint8)
    upscale_image(model, image, 4, tile=32, device=CPU)  # SPAN keeps tensors of inference mode
    upscale = partial(upscale_image, image=image, scale=4, tile=32, device=CPU, precision="bf16")
    with Casts() as once:
        result = upscale(model)
    with Casts() as again:
        np.testing.assert_array_equal(upscale(CastAgain(model)), result)
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.dtype == torch.float32 for p in model.parameters())
    weights = Counter(tuple(p.shape) for p in model.parameters() if p.ndim == 4)
    assert sum(again.count[shape] for shape in weights) > sum(once.count[shape] for shape in weights)
    if network != "SPAN":  # computes its weights in each tile
        assert all(once.count[shape] <= number for shape, number in weights.items())
        assert any(once.count[shape] for shape in weights)


# --- files -----------------------------------------------------------------------------------------------------------


def test_one_file_to_a_named_file_or_into_a_folder(run, tmp_path):
    image = noise(9, 7, dtype=np.uint8)
    source = write(tmp_path / "-ein Bild ü 写.png", image)
    (result,) = run(source, tmp_path / "made" / "x y.png")
    assert result.error is None
    np.testing.assert_array_equal(read(tmp_path / "made" / "x y.png"), repeat(image, 2))
    run([source, source], tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out" / "-ein Bild ü 写_x2.png"), repeat(image, 2))
    run(source, tmp_path / "out", suffix="", ext="webp")
    assert (tmp_path / "out" / "-ein Bild ü 写.webp").exists()


def test_leading_dash_in_the_current_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("-o.png"), noise(3, 3, dtype=np.uint8))
    run(Path("-o.png"), Path("-out"))
    assert read(tmp_path / "-out" / "-o_x2.png").shape == (6, 6, 3)


def test_folders_keep_their_structure_and_results_are_no_inputs(run, tmp_path):
    image = noise(4, 4, dtype=np.uint8)
    for name in ("a.png", "deep/er/a.png", "b.bmp"):
        write(tmp_path / "in" / name, image)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    out = tmp_path / "in" / "out"
    for _ in range(2):
        results = run(tmp_path / "in", out, overwrite=True)
        assert {r.target.relative_to(out).as_posix() for r in results} == {"a_x2.png", "deep/er/a_x2.png", "b_x2.png"}
    assert all(r.error is None and r.target.exists() for r in results)


def test_gray_alpha_and_depth(run, tmp_path):
    gray, deep, clear = noise(6, 5, 1, np.uint8)[..., 0], noise(6, 5), noise(6, 5, 4, np.uint8)
    clear[..., 3] = np.linspace(0, 255, 30).reshape(6, 5)
    sources = [write(tmp_path / f"{n}.png", i) for n, i in (("gray", gray), ("deep", deep), ("clear", clear))]
    out = tmp_path / "out"
    assert [r.error for r in run(sources, out)] == [None] * 3
    np.testing.assert_array_equal(cv2.imread(str(out / "gray_x2.png"), cv2.IMREAD_UNCHANGED), repeat(gray, 2))
    np.testing.assert_array_equal(read(out / "deep_x2.png"), repeat(deep, 2))
    result = read(out / "clear_x2.png")
    np.testing.assert_array_equal(result[..., 3], cv2.resize(clear[..., 3], (10, 12), interpolation=cv2.INTER_CUBIC))

    results = run(sources, out, ext="jpg")
    text = Summary.of(results).text()
    assert read(out / "deep_x2.jpg").dtype == np.uint8
    assert read(out / "clear_x2.jpg").shape == (12, 10, 3)
    assert "upscaled 3 of 3 images" in text
    assert text.count("transparency") == 1
    assert re.search(r"note: .*transparency.*\(clear\.png\)", text)
    assert len(re.findall(r"note: .*8 bits.*\(deep\.png\)", text)) == 1


def test_deep_images_with_alpha_in_tiff(run, tmp_path):
    clear = noise(5, 6, 4)
    clear[..., 3] = 40_000
    run(write(tmp_path / "a.png", clear), tmp_path / "a.tiff")
    result = read(tmp_path / "a.tiff")
    assert (result.dtype, result.shape) == (np.uint16, (10, 12, 4))
    np.testing.assert_array_equal(result, repeat(clear, 2))


def test_a_broken_file_does_not_stop_the_others(run, tmp_path):
    for name in ("a.png", "c.png"):
        write(tmp_path / "in" / name, noise(4, 4, dtype=np.uint8))
    (tmp_path / "in" / "b.png").write_bytes(b"no PNG")
    results = run(tmp_path / "in", tmp_path / "out")
    assert [bool(r.error) for r in results] == [False, True, False]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_x2.png", "c_x2.png"]
    assert "upscaled 2 of 3" in Summary.of(results).text()
    assert "b.png" in Summary.of(results).text()


def test_nothing_is_overwritten_unasked(run, tmp_path):
    image = noise(4, 4, dtype=np.uint8)
    a, b = write(tmp_path / "a.png", image), write(tmp_path / "b.png", image)
    existing = write(tmp_path / "out" / "b_x2.png", image)
    with pytest.raises(ValueError, match=r"b_x2\.png exists(.|\n)*--overwrite"):
        run([a, b], tmp_path / "out")
    assert not (tmp_path / "out" / "a_x2.png").exists()
    with pytest.raises(ValueError, match="input itself"):
        run(a, a)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="input itself"):
            run(tmp_path / "a.png", tmp_path, suffix="", overwrite=overwrite)
    np.testing.assert_array_equal(read(a), image)
    run([a, b], tmp_path / "out", overwrite=True)
    assert read(existing).shape == (8, 8, 3)
    run(a, a, overwrite=True)
    assert read(a).shape == (8, 8, 3)


def test_targets_that_collide_are_refused(run, tmp_path):
    image = noise(4, 4, dtype=np.uint8)
    paths = [write(tmp_path / name, image) for name in ("1/a.png", "2/a.png", "1/a_x2.png")]
    with pytest.raises(ValueError, match="would both become"):
        run(paths[:2], tmp_path / "out", overwrite=True)
    with pytest.raises(ValueError, match="another input"):
        run([paths[0], paths[2]], tmp_path / "1", overwrite=True)
    with pytest.raises(ValueError, match="another input"):
        run(tmp_path / "1", tmp_path / "1", skip_existing=True)
    assert not (tmp_path / "out").exists()


def test_bad_arguments_are_named(run, tmp_path):
    a, b = (write(tmp_path / name, noise(4, 4, dtype=np.uint8)) for name in ("a.png", "b.png"))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"gone\.png: no such(.|\n)*notes\.txt: not an(.|\n)*no image in .*empty"):
        run([tmp_path / "gone.png", tmp_path / "notes.txt", tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ValueError, match="name a folder"):
        run([a, b], tmp_path / "out.png")
    with pytest.raises(ValueError, match="disagree"):
        run(a, tmp_path / "out.png", ext="jpg")
    with pytest.raises(ValueError, match="--ext"):
        run(a, tmp_path / "out", ext="psd")
    with pytest.raises(ValueError, match="--progress"):
        run(a, tmp_path / "out", progress="dots")
    with pytest.raises(ValueError, match="--suffix"):
        run(a, tmp_path / "out", suffix="/../x")
    (tmp_path / "notes").write_text("no folder")
    with pytest.raises(ValueError, match="cannot make the folder"):
        run(a, tmp_path / "notes")
    with pytest.raises(ValueError, match="precision"):
        run(a, tmp_path / "out", precision="fp8")
    with pytest.raises(ValueError, match="no image was named"):
        run([], tmp_path / "out")


def test_progress_on_a_terminal(run, tmp_path):
    source, log = write(tmp_path / "[red]a.png", noise(70, 40, dtype=np.uint8)), io.StringIO()
    run(source, tmp_path / "3", tile=32, console=Console(file=log, force_terminal=True))
    assert "[red]a.png" in log.getvalue()
    assert "0/1" not in log.getvalue()


def test_progress_as_lines(run, tmp_path):
    sources = [write(tmp_path / f"[red]{name}.png", noise(70, 40, dtype=np.uint8)) for name in "ab"]
    log = io.StringIO()
    run(sources, tmp_path / "1", tile=32, overlap=16, console=Console(file=log))
    lines = log.getvalue().splitlines()
    assert lines[0] == "0% [red]a.png (1 of 2)"
    assert re.fullmatch(r"\d+% \[red\]a.png \(1 of 2, \d:\d\d:\d\d left\)", lines[1])
    assert lines[-1] == "100% [red]b.png (2 of 2)"
    percents = [int(line.partition("%")[0]) for line in lines]
    assert percents == sorted(percents)
    assert len(set(percents)) > 4

    log = io.StringIO()
    run(sources[:1], tmp_path / "2", console=Console(file=log), progress="json")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["percent"] for line in lines] == [0, 99, 100]  # computed, but not yet written
    assert lines[0] == {"percent": 0, "image": "[red]a.png", "number": 1, "of": 1, "seconds_left": None}

    log = io.StringIO()
    run(sources, tmp_path / "3", console=Console(file=log), progress="bar")
    assert log.getvalue() == ""


@pytest.mark.skipif(reason_against_bf16(CPU) is not None, reason="this processor has no bfloat16")
def test_bf16_is_close(tmp_path):
    image = noise(12, 12, dtype=np.uint8)
    model = SmallField().eval()
    fp32, bf16 = (upscale_image(model, image, 4, device=CPU, precision=p).astype(int) for p in ("fp32", "bf16"))
    assert 0 < np.abs(fp32 - bf16).max() < 8


# --- the cases of users' reports -------------------------------------------------------------------------------------


def photograph(width: int = 24, height: int = 20) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.dstack((x * 9, y * 11, (x + y) * 5)).astype(np.uint8))


@pytest.fixture
def command(run, tmp_path, monkeypatch):
    """The command line, with the nearest-neighbour network as the default model."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object, given: bytes | None = None):
        return CliRunner().invoke(app, ["upscale", "--device", "cpu", *map(str, words)], input=given)

    return call


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        (["--scale", 2.5], "a_x2.5.png", (60, 50)),
        (["--width", 100], "a_w100.png", (100, 83)),  # two passes of an x2 network and a half
        (["--longest", 12], "a_12px.png", (12, 10)),
        (["--megapixels", 0.0048], "a_0.0048mp.png", (76, 63)),
    ],
)
def test_final_sizes(command, tmp_path, options, name, size):
    photograph().save(tmp_path / "a.png")
    assert command("a.png", "-o", "out", *options).exit_code == 0
    with Image.open(tmp_path / "out" / name) as made:
        assert made.size == size
    again = command("a.png", "-o", "out", "--skip-existing", *options)
    assert "upscaled 0 of 1 image (1 was there already)" in again.stdout


def test_shards_take_every_image_once(command, tmp_path):
    for k in range(12):
        photograph().save(tmp_path / f"{k}.png")
    images = [f"{k}.png" for k in range(12)]
    made = []
    for shard in ("1/3", "2/3", "3/3"):
        done = command(*images, "-o", "out", "--shard", shard)  # a result that is there already would be an error
        assert done.exit_code == 0
        made.append(len(list((tmp_path / "out").iterdir())))
    assert made == sorted(made)
    assert made[-1] == 12
    for wrong in ("4/3", "a", "0/2"):
        assert "such as 3/8" in command(*images, "-o", "more", "--shard", wrong).stderr
    empty = {command("0.png", "-o", "more", "--shard", f"{k}/2").stdout for k in (1, 2)}
    assert any("upscaled 0 of 0 images" in printed for printed in empty)


def test_skipping_never_replaces_what_is_there(command, tmp_path):
    photograph().save(tmp_path / "a.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:], duration=100)
    (tmp_path / "out").mkdir()
    photograph(5, 5).save(tmp_path / "out" / "a_x2.png")
    photograph().save(tmp_path / "c.png")
    (tmp_path / "out" / "c_x2.png").write_text("notes")
    Image.new("RGB", (16, 16)).save(tmp_path / "out" / "b_x2.gif")
    before = [(tmp_path / "out" / name).read_bytes() for name in ("a_x2.png", "b_x2.gif")]
    result = command("a.png", "b.gif", "c.png", "-o", "out", "--skip-existing")
    assert result.exit_code == 1
    assert result.stdout.count("exists, but is no picture, of another size, or has other frames") == 3
    assert [(tmp_path / "out" / name).read_bytes() for name in ("a_x2.png", "b_x2.gif")] == before
    assert command("a.png", "b.gif", "-o", "out", "--skip-existing", "--overwrite").exit_code == 0
    with Image.open(tmp_path / "out" / "b_x2.gif") as made:
        assert made.n_frames == 2


def test_final_sizes_that_exclude_each_other(command, tmp_path):
    photograph().save(tmp_path / "a.png")
    result = command("a.png", "--scale", 2, "--longest", 100)
    assert result.exit_code != 0
    assert "--scale and --longest exclude each other" in f"{result.output}{result.exception}"


@pytest.mark.parametrize("ext", ["png", "jpg", "tif", "webp"])
def test_profile_exif_and_resolution_stay(run, tmp_path, ext):
    """Cases 1, 3, and 4."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x112], exif[0x13B] = 6, "Somebody"
    photograph().save(tmp_path / f"a.{ext}", icc_profile=icc, exif=exif, dpi=(300, 300))
    run(tmp_path / f"a.{ext}", tmp_path / "kept")
    run(tmp_path / f"a.{ext}", tmp_path / "stripped", strip_metadata=True)
    with (
        Image.open(tmp_path / "kept" / f"a_x2.{ext}") as kept,
        Image.open(tmp_path / "stripped" / f"a_x2.{ext}") as stripped,
    ):
        assert kept.size == stripped.size == (40, 48)  # upright
        assert kept.info["icc_profile"] == stripped.info["icc_profile"] == icc
        assert kept.getexif().get(0x112, 1) == 1
        assert kept.getexif()[0x13B] == "Somebody"
        assert 0x13B not in stripped.getexif()
        if ext != "webp":
            assert kept.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_transparent_values_and_palettes_survive(run, tmp_path):
    """Cases 5 and 6."""
    gray = Image.new("L", (64, 64))
    gray.paste(200, (16, 16, 48, 48))
    gray.save(tmp_path / "5.png", transparency=0)
    palette = Image.new("P", (64, 64))
    palette.putpalette([0, 255, 0, 255, 0, 0] + [0] * 762)
    palette.paste(1, (16, 16, 48, 48))
    palette.save(tmp_path / "6.png", transparency=0)
    assert [r.error for r in run([tmp_path / "5.png", tmp_path / "6.png"], tmp_path / "out")] == [None, None]
    five, six = (np.asarray(Image.open(tmp_path / "out" / f"{n}_x2.png")) for n in (5, 6))
    assert five.shape == (128, 128, 2)
    assert (five[five[..., 1] > 0] == (200, 255)).all()
    assert (five[..., 1] > 0).sum() == 64 * 64
    assert (six.reshape(-1, 4)[:, :3] == (255, 0, 0)).all()


@pytest.mark.parametrize("ext", ["png", "jpg", "tif"])
def test_gray_stays_gray(run, tmp_path, ext):
    """Case 8."""
    photograph().convert("L").save(tmp_path / f"a.{ext}")
    run(tmp_path / f"a.{ext}", tmp_path / "out")
    assert Image.open(tmp_path / "out" / f"a_x2.{ext}").mode == "L"


def test_other_depths(run, tmp_path):
    """Cases 9 and 10."""
    tifffile.imwrite(tmp_path / "9.tif", np.full((16, 24), 65535 - 20000, np.uint16), photometric="miniswhite")
    ramp = np.linspace(0, 1, 16 * 24 * 3, dtype=np.float32).reshape(16, 24, 3)
    tifffile.imwrite(tmp_path / "10.tif", ramp, photometric="rgb")
    run([tmp_path / "9.tif", tmp_path / "10.tif"], tmp_path / "out")
    assert set(tifffile.imread(tmp_path / "out" / "9_x2.tif").ravel()) == {20000}
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "10_x2.tif"), repeat(ramp, 2), atol=1e-6)


def test_every_page_and_frame(run, tmp_path):
    """Cases 11 and 12."""
    pages = [np.asarray(photograph())[:: 1 - 2 * n] for n in (0, 1, 0)]
    with tifffile.TiffWriter(tmp_path / "11.tif") as file:
        for page in pages:
            file.write(page, photometric="rgb")
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    timing = {"duration": [100, 200, 300], "loop": 2, "save_all": True, "append_images": frames[1:]}
    frames[0].save(tmp_path / "12.webp", lossless=True, **timing)
    frames[0].save(tmp_path / "12.gif", **timing)
    results = run([tmp_path / name for name in ("11.tif", "12.webp")], tmp_path / "out")
    results += run(tmp_path / "12.gif", tmp_path / "out")
    assert [r.error for r in results] == [None] * 3
    with tifffile.TiffFile(tmp_path / "out" / "11_x2.tif") as file:
        assert len(file.pages) == 3
        for page, source in zip(file.pages, pages, strict=True):
            np.testing.assert_array_equal(page.asarray(), repeat(source, 2))
    for name in ("12_x2.webp", "12_x2.gif"):
        with Image.open(tmp_path / "out" / name) as animation:
            assert animation.info["loop"] == 2
            for index, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255))):
                animation.seek(index)
                animation.load()
                assert animation.info["duration"] == 100 * (index + 1)
                assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - colour).max() <= 2


def test_every_page_gets_the_final_size_and_keeps_its_description(run, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as file:
        for width, height in ((20, 10), (10, 20), (8, 8)):
            file.write(noise(height, width, dtype=np.uint8), photometric="rgb", description=f"{width} wide", metadata=None)
    expected = {FinalSize(longest=30): [(30, 15), (15, 30), (30, 30)], FinalSize(width=50): [(50, 25), (50, 100), (50, 50)]}
    for number, (size, sides) in enumerate(expected.items()):
        target = tmp_path / f"{number}.tif"
        for _ in range(2):  # the second time, it is there
            (result,) = run(tmp_path / "a.tif", target, size=size, skip_existing=True)
            assert result.error is None
        assert result.skipped
        with tifffile.TiffFile(target) as file:
            assert [page.shape[1::-1] for page in file.pages] == sides
            assert [page.description for page in file.pages] == ["20 wide", "10 wide", "8 wide"]
    (result,) = run(tmp_path / "a.tif", tmp_path / "c.tif", size=FinalSize(width=600), strip_metadata=True)
    assert "8 x 8 pixels would be enlarged 75 times" in result.error
    assert not (tmp_path / "c.tif").exists()
    run(tmp_path / "a.tif", tmp_path / "c.tif", strip_metadata=True)
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        assert [page.description for page in file.pages] == [""] * 3


def test_other_kinds_in_a_folder_are_named(run, tmp_path):
    """Case 13."""
    folder = tmp_path / "in"
    folder.mkdir()
    photograph().save(folder / "a.jfif", "JPEG")
    photograph().save(folder / "b.gif")
    (folder / "c.jxl").write_bytes(b"\xff\x0a")
    (folder / "d.mp4").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    log = io.StringIO()
    results = run(folder, tmp_path / "out", console=Console(file=log, width=300))
    assert [r.error for r in results] == [None, None]
    assert re.search(r"left out c\.jxl .*djxl", log.getvalue())
    assert re.search(r"left out d\.mp4 .*ffmpeg", log.getvalue())
    assert "notes" not in log.getvalue()
    with pytest.raises(ValueError, match=r"c\.jxl: JPEG XL.*djxl"):
        run(folder / "c.jxl", tmp_path / "out")
    for name in ("a.jfif", "b.gif"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"no image in(.|\n)*djxl"):
        run(folder, tmp_path / "out")


@pytest.mark.parametrize(("name", "size"), [("14.webp", (8200, 8)), ("n" * 249 + ".png", (8, 8))])
def test_limits_are_checked_before_the_work(run, tmp_path, monkeypatch, name, size):
    """Cases 14 and 22."""
    Image.new("RGB", size).save(tmp_path / name)
    monkeypatch.setattr("aesop.inference.upscaler.upscale_image", lambda *_, **__: pytest.fail("computed"))
    (result,) = run(tmp_path / name, tmp_path / "out")
    assert re.search("16383|the name has 256 bytes", result.error or "")
    assert list((tmp_path / "out").iterdir()) == []


def test_after_an_interrupt_the_rest_is_done(command, run, tmp_path, monkeypatch):
    """Case 15."""
    for name in "abc":
        write(tmp_path / "in" / f"{name}.png", noise(4, 4, dtype=np.uint8))

    begun = []

    def stops_at_b(self, frame, *_, **__):
        begun.append(frame)
        if len(begun) == 1:
            return upscale(self, frame)
        raise KeyboardInterrupt  # while a is being written

    upscale = Upscaler.upscale_frame
    words = ("in", "-o", "out", "-m", "w.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(Upscaler, "upscale_frame", stops_at_b)
        stopped = command(*words)
    assert stopped.exit_code == 130
    assert "interrupted: 1 of 3 images is done; to go on, repeat the command with --skip-existing" in stopped.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_x2.png"]
    assert "--skip-existing" in command(*words).stderr
    (tmp_path / "out" / "b_x2.png").write_bytes((tmp_path / "out" / "a_x2.png").read_bytes()[:60])  # not whole
    before = (tmp_path / "out" / "a_x2.png").stat().st_mtime_ns
    done = command(*words, "--skip-existing")
    assert "upscaled 2 of 3 images (1 was there already): out" in done.stdout
    assert (tmp_path / "out" / "a_x2.png").stat().st_mtime_ns == before
    assert read(tmp_path / "out" / "b_x2.png").shape == read(tmp_path / "out" / "c_x2.png").shape == (8, 8, 3)


@pytest.mark.parametrize("name", ["out.mp4", "out.psd", "out.heic", "out.txt", "out.tar.gz", "out.svgz"])
def test_an_output_that_cannot_be_written_is_no_folder(run, tmp_path, name):
    """Case 16."""
    source = write(tmp_path / "a.png", noise(4, 4, dtype=np.uint8))
    with pytest.raises(ValueError, match=rf"cannot write \{Path(name).suffix} files"):
        run(source, tmp_path / name)
    assert not (tmp_path / name).exists()
    assert run(source, tmp_path / "v1.2")[0].target == tmp_path / "v1.2" / "a_x2.png"


def test_one_channel_weights(command, tmp_path):
    """Case 17."""
    torch.save({"params_ema": RRDBNet(1, 1, 4, 16, 1, 8).state_dict()}, tmp_path / "17.pth")
    photograph().save(tmp_path / "colour.png")
    photograph().convert("L").save(tmp_path / "gray.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aesop.weights.load.load_generator", load_generator)
        assert command("colour.png", "gray.png", "-m", "17.pth", "-o", "out").exit_code == 0
    assert Image.open(tmp_path / "out" / "colour_x4.png").mode == "RGB"
    assert Image.open(tmp_path / "out" / "gray_x4.png").mode == "L"


def test_quality_and_lossless(run, tmp_path):
    """Case 19: what is lossless stays so, and colours have full resolution at high qualities."""
    pixels = np.full((16, 16, 3), (0, 0, 255), np.uint8)
    pixels[:, ::2] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    run(tmp_path / "a.webp", tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a_x2.webp")), repeat(pixels, 2))
    sizes = []
    for quality in (50, 98):
        run(tmp_path / "b.png", tmp_path / f"{quality}.jpg", quality=quality)
        sizes.append((tmp_path / f"{quality}.jpg").stat().st_size)
        assert jpeg_quality(tmp_path / f"{quality}.jpg") == quality
    assert sizes[0] < sizes[1]
    made = np.asarray(Image.open(tmp_path / "98.jpg")).astype(int)
    assert np.abs(made - repeat(pixels, 2)).max() < 20


def test_lossless_over_a_mixed_folder(run, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.webp", "c.tif", "d.jpg", "e.jpg", "f.jpg", "g.jpg", "h.jpg"):
        photograph().save(tmp_path / "in" / name, quality=50)
    results = run(tmp_path / "in", tmp_path / "out", lossless=True)
    assert [r.error for r in results] == [None] * 8
    for result in results[:3]:
        made, source = Image.open(result.target), Image.open(result.source)
        np.testing.assert_array_equal(np.asarray(made), repeat(np.asarray(source.convert("RGB")), 2))
    text = Summary.of(results).text()
    assert (
        "jpg files cannot be lossless (keep every pixel with --ext png) (5 images: d.jpg, e.jpg, f.jpg, and 2 more)" in text
    )
    assert (
        "note: png files have no quality: --quality was ignored (a.png)"
        in Summary.of(run([tmp_path / "in" / "a.png", tmp_path / "in" / "d.jpg"], tmp_path / "other", quality=80)).text()
    )
    for output, ext in (("out", "jpg"), ("x.avif", None)):
        with pytest.raises(ValueError, match=r"--lossless: (jpg|avif) files cannot be lossless; use png"):
            run(tmp_path / "in" / "a.png", tmp_path / output, ext=ext, lossless=True)


def test_standard_input_and_output(command, tmp_path):
    """Case 20."""
    photograph().save(tmp_path / "a.png")
    given = (tmp_path / "a.png").read_bytes()
    for words, kind in (
        (("-", "-o", "-"), "PNG"),
        (("-",), "PNG"),
        (("-", "--ext", "jpg"), "JPEG"),
        (("a.png", "-o", "-"), "PNG"),
    ):
        result = command(*words, "-m", "w.safetensors", given=given)
        assert result.exit_code == 0
        assert "upscaled 1 of 1 image" in result.stderr
        made = Image.open(io.BytesIO(result.stdout_bytes))
        assert (made.format, made.size) == (kind, (48, 40))
    command("-", "-o", "out", "-m", "w.safetensors", given=given)
    assert (tmp_path / "out" / "stdin_x2.png").exists()
    assert "standard input is empty" in command("-", given=b"").stderr
    assert "standard input is no picture, but text" in command("-", given=b"nothing").stderr
    assert "no other input" in command("-", "a.png", given=given).stderr


def test_weights_that_make_nan_write_nothing(command, run, tmp_path, monkeypatch):
    """Case 21."""
    source = write(tmp_path / "a.png", noise(4, 4, dtype=np.uint8))
    monkeypatch.setattr(Nearest, "forward", lambda self, x: F.interpolate(x, scale_factor=2) * torch.nan)
    result = command(source, "-o", "out", "-m", "w.safetensors")
    assert result.exit_code == 1
    assert re.search(r"failed: .*a\.png: w: the network computes NaN", result.stdout.replace("\n", " "))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_positional_target_gets_a_hint(command, tmp_path):
    write(tmp_path / "in.png", noise(4, 4, dtype=np.uint8))
    assert "-o out.png" in command("in.png", "out.png").stderr
    assert "-o" not in command("gone.png").stderr


def test_each_picture_gets_the_model_that_suits_it(run, tmp_path, monkeypatch):
    """Case 24."""
    for quality in (40, 80, 97):
        photograph().save(tmp_path / f"{quality}.jpg", quality=quality)
        assert jpeg_quality(tmp_path / f"{quality}.jpg") == quality
    photograph().save(tmp_path / "a.png")
    sources = [tmp_path / name for name in ("40.jpg", "80.jpg", "97.jpg", "a.png")]
    assert [jpeg_quality(path) for path in sources] == [40, 80, 97, None]
    default = run(sources, tmp_path / "1", model=None)
    clean, web = shipped_model("clean").stem, shipped_model("web").stem
    assert [result.model for result in default] == [web, web, clean, clean]
    assert re.search(
        rf"with {web} \(2 images: 40.jpg, 80.jpg\)\nwith {clean} \(2 images: 97.jpg, a.png\)", Summary.of(default).text()
    )
    monkeypatch.setenv("AESOP_MODELS", str(tmp_path))
    for taken in ("web", "clean"):  # folders, and models of the user
        (tmp_path / taken).mkdir()
        (tmp_path / f"{taken}.pth").touch()
    monkeypatch.chdir(tmp_path)
    assert [result.model for result in run(sources, tmp_path / "3", model=None)] == [web, web, clean, clean]
    named = run(sources, tmp_path / "2")
    assert [result.model for result in named] == [None] * 4
    assert "with " not in Summary.of(named).text()


# --- real weights ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not ANIME.exists(), reason="needs shared/weights")
def test_real_weights_tiled_and_whole(tmp_path):
    source = SHARED / "data" / "Set5" / "LRx4" / "img_003.png"
    whole, tiled = tmp_path / "whole.png", tmp_path / "tiled.png"
    for target, tile in ((whole, 0), (tiled, 48)):
        (result,) = upscale_files([source], target, ANIME, tile=tile, overlap=16, device="cpu")
        assert result.error is None
    difference = np.abs(read(whole).astype(int) - read(tiled))
    warnings.warn(f"tiled - whole: max {difference.max()}, mean {difference.mean():.3f} grey levels", stacklevel=1)
    assert difference.mean() < 3


def test_without_pyav_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").touch()
    result = CliRunner().invoke(app, ["upscale", str(tmp_path / "a.mp4")])
    assert result.exit_code == 1
    assert 'videos need PyAV: pip install "aesop-sr[video]"' in result.stderr
