"""Bicubic resizing as in MATLAB's `imresize` (Keys, 1981, a = -1/2), which super-resolution benchmarks are made with.

An output pixel is a weighted sum of a few input pixels, first along the columns, then along the rows. Indices and weights
depend on the sizes alone, so there is one table per axis. Antialiasing widens the kernel by 1/scale when shrinking. Outside
the image, pixels are mirrored, the edge pixel included, as often as the kernel needs.
"""

import math
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Table = tuple[NDArray[np.int64], NDArray[np.float64]]
Image = TypeVar("Image", NDArray[Any], Tensor)
KERNEL_WIDTH = 4  # of the cubic kernel, in pixels of the coarser grid
TIE = 1e-9  # above the rounding error of a sum, so that halves round alike, whatever the order of summation


@lru_cache(maxsize=512)
def axis_table(size: int, scale: float, antialiasing: bool = True) -> Table:
    """Return the input indices and weights of each pixel of an output axis, (taps, ceil(size * scale))."""
    position, weight = _taps(size, scale, antialiasing)
    return _mirrored(position, size), weight


def _taps(size: int, scale: float, antialiasing: bool = True) -> Table:
    """Like `axis_table`, but with positions outside the image instead of mirrored indices."""
    stretch = scale if scale < 1 and antialiasing else 1.0
    width = KERNEL_WIDTH / stretch
    out_size = math.ceil(round(size * scale, 9))  # 50 * 1.1 is slightly above 55
    centre = (np.arange(out_size) + 0.5) / scale - 0.5
    position = np.floor(centre - width / 2) + np.arange(math.ceil(width) + 2)[:, None]
    d = np.abs(centre - position) * stretch
    near, far = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    weight = np.where(d <= 1, near, np.where(d <= 2, far, 0.0))
    weight /= weight.sum(axis=0)
    used = (weight != 0).any(axis=1)
    return position[used].astype(np.int64), weight[used]


def _mirrored(position: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    index = position % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def imresize(image: Image, scale: float, antialiasing: bool = True) -> Image:
    """Resize to ceil(size * scale) with MATLAB's bicubic kernel.

    Args:
        image: an array (H, W) or (H, W, C), or a floating-point tensor (..., H, W). The result has the same type.
            Floats are not clamped. Arrays are computed in float64, tensors in their own type, but at least float32, and
            differentiably. For uint8 and uint16 arrays both passes are rounded (halves away from zero) and clipped, as in
            the MATLAB releases that made the usual benchmark files.
        antialiasing: widen the kernel when shrinking.
    """
    if not scale > 0:
        raise ValueError(f"imresize: the scale must be above 0, found {scale}")
    if isinstance(image, Tensor):
        return _resize_tensor(image, scale, antialiasing)  # ty: ignore[invalid-explicit-return]
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"imresize takes images (H, W) or (H, W, C) of at least one pixel, found {image.shape}")
    if image.dtype.kind != "f" and image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"imresize takes float, uint8 or uint16 arrays, found {image.dtype}")
    result = image.astype(np.float64)
    for size in image.shape[:2]:
        # Tap by tap, not as a matrix product: large images need no large intermediate array, and loader processes start no
        # BLAS threads. Each pass works on (length of the axis, everything else), so that it takes whole rows of memory.
        lines = result.reshape(size, -1)
        indices, weights = axis_table(size, scale, antialiasing)
        total = np.zeros((indices.shape[1], lines.shape[1]))
        term = np.empty_like(total)
        for index, weight in zip(indices, weights, strict=True):
            np.take(lines, index, axis=0, out=term, mode="clip")
            term *= weight[:, None]
            total += term
        if image.dtype.kind != "f":
            total = _rounded(total, np.iinfo(image.dtype).max)
        result = total.reshape(-1, *result.shape[1:]).swapaxes(0, 1)
    return np.ascontiguousarray(result, dtype=image.dtype)  # ty: ignore[invalid-explicit-return]


def _rounded(total: NDArray[np.float64], top: int) -> NDArray[np.float64]:
    """Round halves away from zero and clip to 0..top, in place."""
    total += 0.5 + TIE
    np.floor(total, out=total)
    return np.clip(total, 0, top, out=total)


def _resize_tensor(image: Tensor, scale: float, antialiasing: bool) -> Tensor:
    if not image.is_floating_point() or image.ndim < 2 or image.numel() == 0:
        found = f"{image.dtype} {tuple(image.shape)}"
        raise ValueError(f"imresize takes float tensors (..., H, W), found {found} (see to_tensor)")
    result = image.to(torch.promote_types(image.dtype, torch.float32))
    for dim, per_line in ((-2, (-1, 1)), (-1, (-1,))):
        indices, weights = axis_table(image.shape[dim], scale, antialiasing)
        taps = zip(torch.tensor(indices).to(result.device), torch.tensor(weights).to(result), strict=True)
        # Tap by tap as above: unlike a convolution or a matrix product, this never uses TF32.
        result = sum(weight.view(per_line) * result.index_select(dim, index) for index, weight in taps)
    return result.to(image.dtype)


def lr_crop(hr: NDArray[np.uint8], top: int, left: int, size: int, scale: int) -> NDArray[np.uint8]:
    """Return the part of `imresize(hr, 1 / scale)` under an HR window, without resizing the rest of the image.

    Args:
        hr: the whole image (H, W) or (H, W, C), sides multiples of `scale`. Of a memory map only the pixels needed are read.
        top, left, size: the HR window, multiples of `scale`, inside the image.

    Returns:
        Exactly `imresize(hr, 1 / scale)[top // scale : (top + size) // scale, left // scale : (left + size) // scale]`.
    """
    assert not any(value % scale for value in (*hr.shape[:2], top, left, size))
    assert 0 <= top < top + size <= hr.shape[0]
    assert 0 <= left < left + size <= hr.shape[1]
    offset, weight = _window(scale)
    places = offset + np.arange(size - scale + len(weight))
    rows, columns = (_mirrored(start + places, side) for start, side in ((top, hr.shape[0]), (left, hr.shape[1])))
    result = hr[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    for index in (rows, columns):
        lines = np.ascontiguousarray(result[index - index.min()], np.float64)
        step, *others = lines.strides
        shape = (size // scale, len(weight), *lines.shape[1:])
        windows = np.ndarray(shape, lines.dtype, lines, 0, (scale * step, step, *others))
        # The last bit of a sum may differ from imresize's; TIE is far larger.
        result = _rounded(np.einsum("nt...,t->n...", windows, weight), 255).swapaxes(0, 1)
    return np.ascontiguousarray(result, dtype=np.uint8)


@lru_cache
def _window(scale: int) -> tuple[int, NDArray[np.float64]]:
    """Return the weights of the input pixels that make an output pixel of 1 / scale, and the first one's offset from its."""
    position, weight = _taps(scale, 1 / scale)
    weights = np.zeros(position.max() - position.min() + 1)
    weights[position[:, 0] - position.min()] = weight[:, 0]
    return int(position.min()), weights


def mod_crop(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return the top left part of an image (H, W) or (H, W, C) whose sides are multiples of `scale`, as a view."""
    height, width = (side - side % scale for side in image.shape[:2])
    if not (height and width):
        raise ValueError(f"an image of {image.shape[0]}x{image.shape[1]} is too small for scale {scale}")
    return image[:height, :width]
