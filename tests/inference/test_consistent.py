"""Results that are the input when reduced: against imresize, least squares, and pictures that cannot become their input."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from torch import nn

from aesop import Upscaler
from aesop.commands.upscale import upscale_files
from aesop.images.resize import imresize
from aesop.inference import consistent
from aesop.inference.consistent import LEAST_PSNR, made_consistent, shortfall
from aesop.pictures.picture import Frame
from aesop.weights.load import LoadedInfo


class Wrong(nn.Module):
    """Repeats each pixel, darker and a pixel to the right."""

    scale = 2

    def forward(self, x):
        return 0.9 * F.interpolate(x, scale_factor=self.scale, mode="nearest").roll(1, 3)


@pytest.fixture
def made(monkeypatch):
    def make(net: nn.Module | None = None, channels: int = 3, **options) -> Upscaler:
        info = LoadedInfo("Wrong", 2, {"num_in_ch": channels, "num_out_ch": channels}, {})
        monkeypatch.setattr("aesop.weights.load.load_generator", lambda path: ((net or Wrong()).eval(), info))
        return Upscaler(device="cpu", consistent=True, **options)

    return make


def photograph(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Smooth enough that a picture of its range can become it."""
    noise = torch.rand(1, 1, *(side // 4 + 2 for side in shape[:2]), generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(noise, shape[:2], mode="bicubic", align_corners=False)[0, 0].clamp(0, 1).numpy() * 0.6 + 0.2
    image = np.stack([smooth, 1 - smooth, smooth**2, smooth], 2)[..., : shape[2]] if len(shape) > 2 else smooth
    peak = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    return np.ascontiguousarray((image * peak).astype(dtype))


def reduced(image: np.ndarray, scale: int = 2) -> np.ndarray:
    peak = 1 if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    return imresize(image.astype(np.float64) / peak, 1 / scale)


def worst(image: np.ndarray, low: np.ndarray) -> float:
    """The largest difference between the reduced image and the input, in levels of 8 bits."""
    peak = 1 if low.dtype.kind == "f" else np.iinfo(low.dtype).max
    return 255 * float(np.abs(reduced(image, len(image) // len(low)) - low / peak).max())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(24, 31), (24, 31, 2), (24, 31, 3), (24, 31, 4)])
def test_every_kind_of_picture_becomes_its_input(made, dtype, shape):
    image = photograph(*shape, dtype=dtype)
    if len(shape) > 2 and shape[2] in (2, 4):
        image[..., -1] = image[..., -1].max()  # constant: colours are not mended
    upscaler = made()
    result = upscaler(image)
    colours = slice(None) if len(shape) == 2 or shape[2] == 3 else slice(-1)
    assert worst(result[..., colours], image[..., colours]) < 0.6  # half a level, and the result's own rounding
    assert upscaler.lr_psnr >= LEAST_PSNR
    upscaler.consistent = False
    assert worst(upscaler(image)[..., colours], image[..., colours]) > 5


def test_networks_of_one_channel_make_consistent_colours(made):
    image = photograph(20, 24, 3)
    assert worst(made(channels=1)(image), image) < 0.6


def test_values_beyond_the_range_are_consistent_too(made):
    image = photograph(20, 24, 3, dtype="float32") * 3 - 0.5
    result = made().upscale_frame(Frame(image)).pixels
    assert worst(result, image) < image.max() - image.min()


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 30)])
def test_sizes_and_scales(size, scale):
    low = photograph(*size)
    result, reached = made_consistent(np.full((size[0] * scale, size[1] * scale), 128, np.uint8), low)
    difference = reduced(result, scale) - low / 255
    assert np.abs(difference).max() < 0.6 / 255
    assert reached == pytest.approx(-10 * np.log10(max(np.square(difference).mean(), 1e-12)), abs=0.01)


def test_it_is_the_least_change():
    """Without clipping, that of least squares."""
    generator = np.random.default_rng(0)
    low = photograph(5, 4, dtype="float32")
    start = (generator.random((10, 8)) * 0.2 + 0.4).astype(np.float32)
    pixels = np.eye(80).reshape(80, 10, 8)
    matrix = np.stack([imresize(pixel, 0.5).ravel() for pixel in pixels], 1)
    change = np.linalg.lstsq(matrix, low.ravel() - matrix @ start.ravel(), rcond=None)[0].reshape(10, 8)
    assert 0 < (start + change).min() < (start + change).max() < 1
    np.testing.assert_allclose(made_consistent(start, low)[0], start + change, atol=1e-5)


def test_strips_change_nothing(monkeypatch):
    low, start = photograph(33, 20, 3), np.full((66, 40, 3), 90, np.uint8)
    whole = made_consistent(start, low)[0]
    monkeypatch.setattr(consistent, "STRIP", 4)
    np.testing.assert_array_equal(made_consistent(start, low)[0], whole)


def test_what_is_consistent_stays_as_it_is():
    image = photograph(32, 40, 3, dtype="float32")
    low = imresize(image.astype(np.float64), 0.5).astype(np.float32)
    np.testing.assert_allclose(made_consistent(image, low)[0], image, atol=1e-5)


def test_black_and_white_areas_need_several_steps(monkeypatch):
    hard = np.clip(6 * (photograph(64, 80, dtype="float32") - 0.5) + 0.5, 0, 1)
    low = (imresize(hard, 0.25).clip(0, 1) * 255).round().astype(np.uint8)
    start = np.full(hard.shape, 128, np.uint8)
    result, reached = made_consistent(start, low)
    assert reached >= LEAST_PSNR
    assert worst(result, low) < 3
    monkeypatch.setattr(consistent, "MOST_STEPS", 1)
    assert made_consistent(start, low)[1] < reached - 3


def test_what_no_picture_becomes_is_said():
    """Pixels that are black and white by turns are sharper than a reduced picture can be."""
    low = np.indices((12, 12)).sum(0).astype(np.uint8) % 2 * 255
    start = np.full((24, 24), 128, np.uint8)
    _, reached = made_consistent(start, low)
    begun = -10 * np.log10(np.square(reduced(start) - low / 255).mean())
    assert begun < reached < LEAST_PSNR
    assert f"{reached:.1f} dB" in shortfall(reached)[0]
    assert shortfall(LEAST_PSNR) == []


def test_several_passes_are_consistent_each(made):
    image = photograph(12, 10, 3)
    large = made()(image, scale=4)
    assert worst(imresize(large, 0.5), image) < 1.2
    assert made()(image, scale=3).shape == (36, 30, 3)


def test_frames_of_videos(made):
    frames = [photograph(16, 20, 3), photograph(16, 20, 3)[::-1].copy()]
    upscaler = made()
    for frame, result in zip(frames, upscaler.upscale_video_frames(frames, (40, 32)), strict=True):
        assert worst(result, frame) < 0.6
    assert upscaler.lr_psnr >= LEAST_PSNR


def test_networks_that_keep_the_size_are_refused(made, monkeypatch):
    info = LoadedInfo("Wrong", 1, {"num_in_ch": 3, "num_out_ch": 3}, {})
    monkeypatch.setattr("aesop.weights.load.load_generator", lambda path: (Wrong().eval(), info))
    with pytest.raises(ValueError, match="does not enlarge"):
        Upscaler(device="cpu", consistent=True)


def test_rows_are_not_written_before_all_are_computed(made):
    frame = Frame(photograph(8, 8, 3))
    upscaler = made()
    assert not upscaler.can_go_by_rows(frame, 2)
    with_it = upscaler.memory_of(frame, 2)
    upscaler.consistent = False
    assert upscaler.can_go_by_rows(frame, 2)
    assert with_it > upscaler.memory_of(frame, 2)


def test_the_command_says_once_how_far_a_picture_of_many_frames_is(made, tmp_path):
    sharp, smooth = np.indices((12, 12)).sum(0).astype(np.uint8) % 2 * 255, photograph(12, 12)
    for name, frames in (("sharp", [smooth, sharp, 255 - sharp]), ("smooth", [smooth, smooth // 2])):
        first, *rest = (Image.fromarray(frame) for frame in frames)
        first.save(tmp_path / f"{name}.tif", save_all=True, append_images=rest)
    made()  # installs the network
    console = Console(file=io.StringIO())
    options = {"device": "cpu", "consistent": True, "console": console}
    sharp, smooth = upscale_files([tmp_path / "sharp.tif", tmp_path / "smooth.tif"], tmp_path / "out", **options)
    assert (sharp.error, smooth.error) == (None, None)
    assert len([note for note in sharp.notes if "dB from the input" in note]) == 1
    assert not [note for note in smooth.notes if "dB" in note]
