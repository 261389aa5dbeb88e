"""YUV against published values, Pillow, swscale, and ramps whose interpolation is known."""

import numpy as np
import pytest
from PIL import Image

from aesop.video.colour import BT601, BT709, Colour, from_rgb, to_rgb

FULL = (4, 4)  # a size


def planes_of(colour: tuple[int, int, int], how: Colour) -> tuple[int, int, int]:
    rgb = np.full((*FULL, 3), colour, np.uint8)
    return tuple(int(plane[0, 0]) for plane in from_rgb(rgb, 8, how, (2, 2)))


@pytest.mark.parametrize(
    ("matrix", "colour", "yuv"),
    [
        # Colour bars of 100 %, as BT.601 and BT.709 define them.
        (BT709, (255, 255, 255), (235, 128, 128)),
        (BT709, (0, 0, 0), (16, 128, 128)),
        (BT709, (255, 0, 0), (63, 102, 240)),
        (BT709, (0, 255, 0), (173, 42, 26)),
        (BT709, (0, 0, 255), (32, 240, 118)),
        (BT601, (255, 0, 0), (81, 90, 240)),
        (BT601, (0, 255, 0), (145, 54, 34)),
        (BT601, (0, 0, 255), (41, 240, 110)),
        (9, (255, 255, 255), (235, 128, 128)),
        (9, (255, 0, 0), (74, 97, 240)),
    ],
)
def test_primary_colours_have_their_published_codes(matrix, colour, yuv):
    assert planes_of(colour, Colour(matrix, False)) == yuv
    back = to_rgb([np.full(FULL, value, np.uint8) for value in yuv], 8, Colour(matrix, False))
    assert np.abs(back[0, 0].astype(int) - colour).max() <= 1


def test_full_range_is_that_of_jpeg():
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    theirs = np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(int)
    ours = np.dstack(from_rgb(rgb, 8, Colour(5, True), (1, 1))).astype(int)
    assert np.abs(ours - theirs).max() <= 1  # Pillow truncates


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
def test_there_and_back_costs_rounding_alone(matrix, full, bits):
    kind = np.uint8 if bits == 8 else np.uint16
    rgb = np.random.default_rng(1).integers(0, np.iinfo(kind).max + 1, (70, 20, 3), kind)  # more rows than a strip
    colour = Colour(matrix, full)
    back = to_rgb(from_rgb(rgb, bits, colour, (1, 1)), bits, colour)
    assert back.dtype == kind
    # Half a level of Y, and half a level of U and V, which weigh at most 1.9 (BT.2020), of 219 or 224 levels at 8 bits.
    bound = (0.5 / 219 + 0.5 * 1.9 / 224) * np.iinfo(kind).max / 2 ** (bits - 8) + 0.5
    assert np.abs(back.astype(float) - rgb).max() <= bound


def test_chroma_of_420_lies_left_and_in_the_middle_of_rows():
    # Blue grows linearly, so that an average around a place is the value there.
    x, y = np.arange(64), np.arange(32)
    blue = np.clip(np.add.outer(4 * y, 512 * x / 64) * 32, 0, 65535).astype(np.uint16)
    rgb = np.dstack([np.zeros_like(blue), np.zeros_like(blue), blue])
    colour = Colour(BT601, True)
    _, u, _ = from_rgb(rgb, 12, colour, (2, 2))
    at = np.add.outer(4 * (y[::2] + 0.5), 512 * x[::2] / 64) * 32 / 65535
    np.testing.assert_allclose(u[:, 1:-1], (0.5 * at * 4095 + 2048)[:, 1:-1], atol=0.6)


@pytest.mark.parametrize(("centred", "first"), [(False, 0.0), (True, 0.5)])
def test_chroma_is_interpolated_between_its_places(centred, first):
    u = np.add.outer(np.arange(8) * 16, np.arange(8) * 8) + 1024  # of 12 bits, where 2048 is no colour
    grey = np.full((16, 16), 2048, np.uint16)
    planes = [grey, u.astype(np.uint16), np.full((8, 8), 2048, np.uint16)]
    blue = to_rgb(planes, 12, Colour(BT601, True), centred)[..., 2] / 65535
    rows, columns = (np.arange(16) - 0.5) / 2, (np.arange(16) - first) / 2
    u_there = np.add.outer(rows * 16, columns * 8) + 1024
    expected = 2048 / 4095 + (2 - 2 * 0.114) * (u_there - 2048) / 4095
    np.testing.assert_allclose(blue[1:-1, 1:-1], expected[1:-1, 1:-1], atol=2e-5)


def test_gray_has_three_equal_channels():
    luma = np.array([[16, 126], [235, 255]], np.uint8)
    rgb = to_rgb([luma], 8, Colour(BT601, False))
    np.testing.assert_array_equal(rgb, np.array([[0, 128], [255, 255]], np.uint8)[..., None].repeat(3, 2))


@pytest.mark.parametrize(("size", "chroma"), [((7, 5), (4, 3)), ((6, 4), (2, 4)), ((5, 3), (2, 1)), ((3, 1), (2, 1))])
def test_odd_sides(size, chroma):
    luma = np.full(size[::-1], 126, np.uint8)
    rgb = to_rgb([luma, np.full(chroma[::-1], 128, np.uint8), np.full(chroma[::-1], 128, np.uint8)], 8, Colour(BT601, False))
    assert (rgb == 128).all()
    assert rgb.shape == (size[1], size[0], 3)
