"""MATLAB's bicubic: against the benchmarks' own LR files, against Pillow's bicubic, and by its properties."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aesop.images.listing import list_images
from aesop.images.read import ImageFile
from aesop.images.resize import axis_table, imresize, lr_crop, mod_crop

SHARED = Path(os.environ.get("AESOP_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
RNG = np.random.default_rng(11)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no test images in {SHARED} (set AESOP_SHARED)")
@pytest.mark.parametrize(
    ("hr", "lr", "scale"),
    [
        ("Set5/HR", "Set5/LRx4", 4),
        ("Set5/HR", "Set5/LRx2", 2),
        ("Set5/HRx3", "Set5/LRx3", 3),
        ("Set14/HR", "Set14/LRx4", 4),
    ],
)
def test_the_benchmarks_own_files(hr, lr, scale):
    # Those files were made with the edge repeated rather than mirrored: two LR pixels at the border differ.
    for image in list_images(SHARED / hr):
        made, published = imresize(image.read(), 1 / scale), ImageFile.at(SHARED / lr / image.name).read()
        assert made.shape == published.shape
        assert made.dtype == np.uint8
        np.testing.assert_array_equal(made[2:-2, 2:-2], published[2:-2, 2:-2], err_msg=str(image))


@pytest.mark.parametrize(
    ("size", "new"), [((48, 60), (12, 15)), ((45, 51), (15, 17)), ((20, 16), (40, 32)), ((9, 7), (36, 28))]
)
def test_pillows_bicubic_has_the_same_kernel(size, new):
    # Pillow cuts the kernel off at the border instead of mirroring, so only the inside is comparable.
    image = RNG.random(size, dtype=np.float32)
    expected = np.asarray(Image.fromarray(image).resize(new[::-1], Image.Resampling.BICUBIC))
    made = imresize(image, new[0] / size[0])
    border = 3 if new[0] < size[0] else 2 * new[0] // size[0]
    inside = (slice(border, -border),) * 2
    np.testing.assert_allclose(made[inside], expected[inside], atol=1e-6)


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (3, 17), (8, 12)])
def test_outside_is_mirrored_as_often_as_needed(scale, size):
    image = RNG.random((*size, 3))
    made = imresize(image, scale)
    assert made.shape == (*(int(np.ceil(side * scale)) for side in size), 3)
    pad = 24  # a multiple of every 1 / scale, wider than the widest kernel
    padded = imresize(np.pad(image, ((pad, pad), (pad, pad), (0, 0)), "symmetric"), scale)
    start = round(pad * scale)
    np.testing.assert_allclose(made, padded[start : start + made.shape[0], start : start + made.shape[1]], atol=1e-12)


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.7, 1, 1.5, 4])
@pytest.mark.parametrize("antialiasing", [True, False])
def test_constants_and_ramps(scale, antialiasing):
    np.testing.assert_allclose(imresize(np.full((9, 13), 0.7), scale, antialiasing), 0.7, atol=1e-14)
    # The weights keep a ramp's value at the centre, exactly where the table is symmetric about it.
    index, weight = axis_table(40, scale, antialiasing)
    assert index.shape == weight.shape
    np.testing.assert_allclose(weight.sum(axis=0), 1, atol=1e-14)
    if scale in (0.25, 1):
        centre = (np.arange(index.shape[1]) + 0.5) / scale - 0.5
        inside = slice(2, -2)
        np.testing.assert_allclose((index * weight).sum(axis=0)[inside], centre[inside], atol=1e-12)


def test_scale_one_changes_nothing():
    image = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(imresize(image, 1), image)


def test_output_size_is_rounded_up():
    for size, scale, expected in ((45, 0.25, 12), (53, 0.5, 27), (510, 1 / 3, 170), (45, 0.7, 32), (50, 1.1, 55)):
        assert imresize(np.zeros((size, 4)), scale).shape[0] == expected


@pytest.mark.parametrize(("third", "expected"), [(8, 4), (24, 3)])
def test_halves_are_rounded_away_from_zero(third, expected):
    # Weights of 1/2 without antialiasing: (-1, 9, 9, -1) / 16. First row: 3.5 and 2.5 (to even would give 4 and 2).
    image = np.repeat(np.array([[8], [0], [third], [0]], np.uint8), 4, axis=1)
    assert imresize(image, 0.5, antialiasing=False)[0].tolist() == [expected] * 2


def test_integer_images_are_rounded_between_the_passes_and_clipped():
    image = RNG.choice(np.array([0, 255], np.uint8), (16, 16))
    image[4:12, 4:12] = 255
    made = imresize(image, 2).astype(float)
    (rows, row_weights), (columns, column_weights) = axis_table(16, 2), axis_table(16, 2)

    def rounded(x):
        return np.clip(np.floor(x + 0.5 + 1e-9), 0, 255)

    down = rounded(np.einsum("to,tow->ow", row_weights, image[rows].astype(float)))
    expected = rounded(np.einsum("to,hto->ho", column_weights, down[:, columns]))
    np.testing.assert_array_equal(made, expected)
    deep = imresize(image.astype(np.uint16) * 257, 2)
    assert deep.dtype == np.uint16
    assert deep.max() == 65535
    assert np.abs(deep / 257 - made).max() < 2


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 2.0, 0.7])
@pytest.mark.parametrize("antialiasing", [True, False])
def test_tensors_agree_with_arrays(scale, antialiasing):
    image = RNG.random((15, 22, 3))
    expected = imresize(image, scale, antialiasing)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    made = imresize(tensor, scale, antialiasing)
    assert made.dtype == torch.float64
    np.testing.assert_allclose(made.permute(1, 2, 0).numpy(), expected, atol=1e-13)
    batch = torch.stack([tensor, 1 - tensor]).float()
    made = imresize(batch, scale, antialiasing)
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made[0].permute(1, 2, 0).numpy(), expected, atol=2e-6)
    torch.testing.assert_close(made[1], 1 - made[0], atol=2e-6, rtol=0)
    assert imresize(image.astype(np.float32), scale, antialiasing).dtype == np.float32
    np.testing.assert_array_equal(imresize(image[..., 0], scale, antialiasing), expected[..., 0])


def test_half_precision_is_computed_in_single():
    half = torch.rand(1, 3, 32, 32).bfloat16()
    made = imresize(half, 0.25)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made, imresize(half.float(), 0.25).bfloat16(), atol=0, rtol=0)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_gradient(scale):
    image = torch.rand(1, 2, 8, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: imresize(x, scale), image)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_lr_crop_is_the_crop_of_the_whole(scale, channels):
    hr = RNG.integers(0, 256, (6 * scale, 9 * scale, *channels), dtype=np.uint8)
    lr = imresize(hr, 1 / scale)
    for size in range(1, 7):
        for top in range(7 - size):
            for left in range(10 - size):
                crop = lr_crop(hr, top * scale, left * scale, size * scale, scale)
                assert crop.dtype == np.uint8
                assert crop.flags.c_contiguous
                np.testing.assert_array_equal(crop, lr[top : top + size, left : left + size])


def test_lr_crop_of_a_memory_map(tmp_path):
    hr = RNG.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    np.save(tmp_path / "hr.npy", hr)
    mapped = np.load(tmp_path / "hr.npy", mmap_mode="r")
    np.testing.assert_array_equal(lr_crop(mapped, 16, 8, 32, 4), imresize(hr, 0.25)[4:12, 2:10])


def test_mod_crop():
    image = np.arange(21 * 34 * 3).reshape(21, 34, 3)
    np.testing.assert_array_equal(mod_crop(image, 4), image[:20, :32])
    np.testing.assert_array_equal(mod_crop(image[..., 0], 3), image[:, :33, 0])
    with pytest.raises(ValueError, match="3x34 is too small for scale 4"):
        mod_crop(image[:3], 4)


def test_errors():
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="above 0"):
        imresize(image, 0)
    with pytest.raises(ValueError, match="int64"):
        imresize(image.astype(np.int64), 0.5)
    with pytest.raises(ValueError, match="at least one pixel"):
        imresize(np.zeros((0, 4)), 0.5)
    with pytest.raises(ValueError, match="see to_tensor"):
        imresize(torch.zeros(3, 8, 8, dtype=torch.uint8), 0.5)
    with pytest.raises(AssertionError):
        lr_crop(image, 2, 0, 8, 4)
    with pytest.raises(AssertionError):
        lr_crop(image, 0, 0, 3, 3)
    for top, left, size in ((-4, 0, 8), (0, 12, 8), (0, 0, 0)):
        with pytest.raises(AssertionError):
            lr_crop(image, top, left, size, 4)
