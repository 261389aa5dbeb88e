"""Between the planes of YUV video and RGB, by ITU-T H.273: matrix, range, and where samples of chroma lie.

swscale is exact for 8 bits only: what it makes of 10 bits is up to one level of 255 too dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]

BT709, UNKNOWN, BT601 = 1, 2, 6
MATRICES = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    BT601: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""Luma's parts of red and blue, by the numbers of H.273: BT.709, FCC, BT.601 (5 and 6), SMPTE 240M, BT.2020."""
HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of high dynamic range."""
_STRIP = 64  # rows that are converted at a time: their floats stay in the processor's cache


@dataclass(frozen=True)
class Colour:
    """How samples are to be understood; numbers of H.273, 2 where nothing is stated."""

    matrix: int
    """A key of MATRICES."""
    full: bool
    """Whether samples use their whole range, not 16 to 235 of 255."""
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN


def likely_matrix(width: int, height: int) -> int:
    """The matrix of a clip that does not state one, as players guess it."""
    return BT709 if width >= 1280 or height >= 720 else BT601


def to_rgb(planes: Sequence[Plane], bits: int, colour: Colour, centred: bool = False) -> Plane:
    """Convert planes of `bits` bits, Y alone or Y, U and V, to RGB (H, W, 3): uint8 for 8 bits, otherwise uint16.

    Chroma is interpolated linearly. Its samples lie at the left ones of luma, or in the middle if `centred`, as in JPEG;
    vertically they always lie in the middle.
    """
    luma, *chroma = planes
    height, width = luma.shape
    if chroma:
        whole = [luma.astype(np.float32), *(_enlarged(plane, width, height, centred) for plane in chroma)]
        codes, matrix = np.dstack(whole), np.linalg.inv(_to_yuv(colour.matrix))
    else:
        codes, matrix = luma.astype(np.float32)[..., None], np.ones((3, 1))
    scale, offset = _codes(bits, colour.full)
    matrix = matrix / scale[: codes.shape[2]]
    shift = -matrix @ offset[: codes.shape[2]]
    kind = np.uint8 if bits == 8 else np.uint16
    rgb = np.empty((height, width, 3), kind)
    top = np.iinfo(kind).max
    for strip in _strips(height):
        rgb[strip] = _rounded(_transformed(codes[strip], matrix * top, shift * top), top)
    return rgb


def from_rgb(rgb: Plane, bits: int, colour: Colour, step: tuple[int, int]) -> list[Plane]:
    """Convert RGB (H, W, 3), uint8 or uint16, to planes Y, U and V of `bits` bits.

    `step` is how many samples of luma there are for one of chroma, horizontally and vertically, 1 or 2, of which the sides
    are multiples. Chroma lies at the left samples of luma, and vertically in the middle, as in H.264, AV1 and VP9.
    """
    height, width = rgb.shape[:2]
    across, down = step
    assert width % across == 0
    assert height % down == 0
    scale, offset = _codes(bits, colour.full)
    matrix = _to_yuv(colour.matrix) * scale[:, None] / np.iinfo(rgb.dtype).max
    kind, top = (np.uint8, 255) if bits == 8 else (np.uint16, 2**bits - 1)
    planes = [np.empty((height, width), kind), *(np.empty((height // down, width // across), kind) for _ in "uv")]
    for strip in _strips(height):
        part = rgb[strip].astype(np.float32)
        planes[0][strip] = _rounded(_transformed(part, matrix[:1], offset[:1]), top)
        part = _reduced(part, across, down)
        rows = slice(strip.start // down, strip.start // down + len(part))
        chroma = _rounded(_transformed(part, matrix[1:], offset[1:]), top)
        planes[1][rows], planes[2][rows] = chroma[..., 0], chroma[..., 1]
    return planes


def _to_yuv(matrix: int) -> NDArray[np.float64]:
    """Y in [0, 1], U and V in [-0.5, 0.5], of RGB in [0, 1]."""
    red, blue = MATRICES[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack([luma, (np.array([0, 0, 1]) - luma) / (2 - 2 * blue), (np.array([1, 0, 0]) - luma) / (2 - 2 * red)])


def _codes(bits: int, full: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By what Y, U and V are multiplied to be stored, and what is added."""
    unit = 2.0 ** (bits - 8)
    if full:
        return np.full(3, 2.0**bits - 1), np.array([0, 128, 128]) * unit
    return np.array([219, 224, 224]) * unit, np.array([16, 128, 128]) * unit


def _enlarged(plane: Plane, width: int, height: int, centred: bool) -> Plane:
    """Interpolate chroma at the places of luma."""
    rows, columns = plane.shape
    if (columns, rows) == (width, height):
        return plane.astype(np.float32)
    across, down = _power_of_two(width / columns), _power_of_two(height / rows)
    place = np.array([[1 / across, 0, (1 / across - 1) / 2 * centred], [0, 1 / down, (1 / down - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(plane.astype(np.float32), place, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _power_of_two(ratio: float) -> int:
    """The next one that is not smaller: at odd sides, the last sample of chroma stands for fewer of luma."""
    return 1 << math.ceil(math.log2(ratio))


def _reduced(rgb: Plane, across: int, down: int) -> Plane:
    """Average the pixels around each sample of chroma: 1 2 1 horizontally, pairs vertically."""
    if down == 2:
        rgb = (rgb[::2] + rgb[1::2]) / 2
    if across == 2:
        kernel = np.array([1, 2, 1], np.float32) / 4
        rgb = cv2.sepFilter2D(rgb, -1, kernel, np.ones(1, np.float32), borderType=cv2.BORDER_REPLICATE)[:, ::2]
    return np.ascontiguousarray(rgb)


def _strips(height: int) -> list[slice]:
    return [slice(top, top + _STRIP) for top in range(0, height, _STRIP)]


def _transformed(pixels: Plane, matrix: Plane, shift: Plane) -> Plane:
    return cv2.transform(pixels, np.column_stack([matrix, shift]).astype(np.float32))


def _rounded(values: Plane, top: int) -> Plane:
    return np.clip(np.rint(values, out=values), 0, top, out=values)
