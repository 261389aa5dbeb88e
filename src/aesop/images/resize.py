"""Bicubic resizing as in MATLAB's `imresize` (Keys, 1981, a = -1/2), which super-resolution benchmarks are made with.

An output pixel is a weighted sum of a few input pixels, first along the columns, then along the rows. Indices and weights
depend on the sizes alone, so there is one table per axis. Antialiasing widens the kernel by 1/scale when shrinking. Outside
the image, pixels are mirrored, the edge pixel included, as often as the kernel needs.
"""

import math
from functools import lru_cache
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Table = tuple[NDArray[np.int64], NDArray[np.float64]]
KERNEL_WIDTH = 4  # of the cubic kernel, in pixels of the coarser grid
# The largest rounding error of a sum. Halves round alike, whatever the order of summation.
TIE = 1e-9


def cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate Keys' interpolation kernel with a = -1/2 at distances >= 0."""
    d = distance
    near = (1.5 * d - 2.5) * d**2 + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d <= 1, near, np.where(d <= 2, far, 0.0))


@lru_cache(maxsize=512)
def axis_table(size: int, scale: float, antialiasing: bool = True) -> Table:
    """Return the input indices and weights of each pixel of an output axis, read-only, (taps, ceil(size * scale))."""
    position, weight = _taps(size, scale, antialiasing)
    index = _mirrored(position, size)
    index.flags.writeable = weight.flags.writeable = False
    return index, weight


def _taps(size: int, scale: float, antialiasing: bool) -> Table:
    """Like `axis_table`, but with positions outside the image instead of mirrored indices."""
    stretch = scale if scale < 1 and antialiasing else 1.0
    width = KERNEL_WIDTH / stretch
    out_size = math.ceil(round(size * scale, 9))  # 50 * 1.1 is slightly above 55
    centre = (np.arange(out_size) + 0.5) / scale - 0.5
    position = np.floor(centre - width / 2) + np.arange(math.ceil(width) + 2)[:, None]
    weight = cubic(np.abs(centre - position) * stretch)
    weight /= weight.sum(axis=0)
    used = (weight != 0).any(axis=1)
    return position[used].astype(np.int64), weight[used]


def _mirrored(position: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Map positions, which may lie outside the axis, to indices of pixels."""
    index = position % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


@lru_cache(maxsize=512)
def _strip(size: int, scale: int) -> Table:
    """Return `axis_table(size, 1 / scale)` as a strided sum: pixel i is the sum of weight[i] * image[index[i * scale :]].

    The index is (input pixels and mirrored borders), the weights are (output size, taps).
    """
    position, weight = _taps(size, 1 / scale, True)
    outputs = np.arange(position.shape[1])
    offset = position - scale * outputs  # may differ by one where a tap's weight is a rounding error
    first = offset.min()
    weights = np.zeros((len(outputs), offset.max() - first + 1))
    weights[outputs, offset - first] = weight
    length = scale * (len(outputs) - 1) + weights.shape[1]
    return _mirrored(first + np.arange(length), size), weights


@lru_cache(maxsize=512)
def _tensor_table(
    size: int, scale: float, antialiasing: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    index, weight = axis_table(size, scale, antialiasing)
    with torch.inference_mode(False):  # a later call may need gradients of the cached tensors
        return torch.tensor(index, device=device), torch.tensor(weight, dtype=dtype, device=device)


@overload
def imresize(image: NDArray[Any], scale: float, antialiasing: bool = ...) -> NDArray[Any]: ...


@overload
def imresize(image: Tensor, scale: float, antialiasing: bool = ...) -> Tensor: ...


def imresize(image: NDArray[Any] | Tensor, scale: float, antialiasing: bool = True) -> NDArray[Any] | Tensor:
    """Resize to ceil(size * scale) with MATLAB's bicubic kernel.

    Args:
        image: an array (H, W) or (H, W, C), or a floating-point tensor (..., H, W). The result has the same type.
            Floats are not clamped. Arrays are computed in float64, tensors in their own type, but at least float32, and
            differentiably. For uint8 and uint16 arrays both passes are rounded (halves away from zero) and clipped, as in
            the MATLAB releases that made the usual benchmark files.
        antialiasing: widen the kernel when shrinking.

    Raises:
        ValueError: the scale is not positive, or the image is empty or has another type or shape.
    """
    if not scale > 0:
        raise ValueError(f"imresize: the scale must be above 0, found {scale}")
    if isinstance(image, Tensor):
        return _resize_tensor(image, scale, antialiasing)
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"imresize takes images (H, W) or (H, W, C) of at least one pixel, found {image.shape}")
    rows, columns = (axis_table(size, scale, antialiasing) for size in image.shape[:2])
    return _resize_array(image, rows, columns)


def lr_crop(hr: NDArray[np.uint8], top: int, left: int, size: int, scale: int) -> NDArray[np.uint8]:
    """Return the part of `imresize(hr, 1 / scale)` under an HR window, without resizing the rest of the image.

    Args:
        hr: the whole image (H, W) or (H, W, C), sides multiples of `scale`. Of a memory map only the pixels needed are read.
        top, left, size: the HR window, multiples of `scale`, inside the image.

    Returns:
        Exactly `imresize(hr, 1 / scale)[top // scale : (top + size) // scale, left // scale : (left + size) // scale]`.
    """
    assert not any(value % scale for value in (*hr.shape[:2], top, left, size))
    assert size > 0
    assert 0 <= top <= hr.shape[0] - size
    assert 0 <= left <= hr.shape[1] - size
    rows, row_weights = _window(hr.shape[0], top, size, scale)
    columns, column_weights = _window(hr.shape[1], left, size, scale)
    first_row, first_column = rows.min(), columns.min()
    needed = hr[first_row : rows.max() + 1, first_column : columns.max() + 1]
    lines = needed.reshape(len(needed), -1)[rows - first_row].astype(np.float64)
    down = _strided_sum(lines, row_weights, scale)
    lines = down.reshape(len(down), needed.shape[1], -1).swapaxes(0, 1).reshape(needed.shape[1], -1)
    across = _strided_sum(lines[columns - first_column], column_weights, scale)
    result = across.reshape(len(across), len(down), *hr.shape[2:]).swapaxes(0, 1)
    return np.ascontiguousarray(result, dtype=np.uint8)


def _window(axis: int, start: int, length: int, scale: int) -> Table:
    """Return the part of `_strip` for the output pixels under `length` input pixels."""
    index, weight = _strip(axis, scale)
    weight = weight[start // scale : (start + length) // scale]
    return index[start : start + length - scale + weight.shape[1]], weight


def _strided_sum(lines: NDArray[np.float64], weight: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Return the sums of weight[i] * lines[i * step :], rounded to 0..255."""
    # The last bit of a sum may differ from imresize's; TIE is far larger.
    along, across = lines.strides
    windows = np.ndarray((*weight.shape, lines.shape[1]), lines.dtype, lines, 0, (step * along, along, across))
    return _rounded(np.einsum("nt,ntw->nw", weight, windows), 255)


def mod_crop(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return the top left part of an image (H, W) or (H, W, C) whose sides are multiples of `scale`, as a view.

    Raises:
        ValueError: a side is below `scale`.
    """
    height, width = (side - side % scale for side in image.shape[:2])
    if not (height and width):
        raise ValueError(f"an image of {image.shape[0]}x{image.shape[1]} is too small for scale {scale}")
    return image[:height, :width]


def _resize_array(image: NDArray[Any], rows: Table, columns: Table) -> NDArray[Any]:
    if image.dtype.kind == "f":
        top = None
    elif image.dtype in (np.uint8, np.uint16):
        top = np.iinfo(image.dtype).max
    else:
        raise ValueError(f"imresize takes float, uint8 or uint16 arrays, found {image.dtype}")
    # Each pass works on (length of the axis, everything else), so that it takes whole rows of memory.
    channels = image.shape[2:]
    down = _weighted_sum(image.astype(np.float64, order="C").reshape(len(image), -1), rows, top)
    across = down.reshape(len(down), image.shape[1], -1).swapaxes(0, 1).reshape(image.shape[1], -1)
    across = _weighted_sum(across, columns, top)
    result = across.reshape(len(across), len(down), *channels).swapaxes(0, 1)
    return np.ascontiguousarray(result, dtype=image.dtype)


def _weighted_sum(lines: NDArray[np.float64], table: Table, top: int | None) -> NDArray[np.float64]:
    """Sum weight * lines[index] over the taps; round and clip to 0..top if `top` is given."""
    # Tap by tap, not as a matrix product: a pixel's bits do not depend on what else is computed (see lr_crop), large images
    # need no large intermediate array, and loader processes start no BLAS threads.
    total = np.zeros((table[0].shape[1], lines.shape[1]))
    term = np.empty_like(total)
    for index, weight in zip(*table, strict=True):
        np.take(lines, index, axis=0, out=term, mode="clip")
        term *= weight[:, None]
        total += term
    return total if top is None else _rounded(total, top)


def _rounded(total: NDArray[np.float64], top: int) -> NDArray[np.float64]:
    """Round halves away from zero and clip to 0..top, in place."""
    total += 0.5 + TIE
    np.floor(total, out=total)
    return np.clip(total, 0, top, out=total)


def _resize_tensor(image: Tensor, scale: float, antialiasing: bool) -> Tensor:
    if not image.is_floating_point() or image.ndim < 2 or image.numel() == 0:
        raise ValueError(
            f"imresize takes float tensors (..., H, W), found {image.dtype} {tuple(image.shape)} (see to_tensor)"
        )
    result = image.to(torch.promote_types(image.dtype, torch.float32))
    for dim, per_line in ((-2, (-1, 1)), (-1, (-1,))):
        indices, weights = _tensor_table(image.shape[dim], scale, antialiasing, result.dtype, image.device)
        # Tap by tap as above: unlike a convolution or a matrix product, this never uses TF32.
        total = torch.zeros((), dtype=result.dtype, device=image.device)
        for index, weight in zip(indices, weights, strict=True):
            total = total + weight.view(per_line) * result.index_select(dim, index)
        result = total
    return result.to(image.dtype)
