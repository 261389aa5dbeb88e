"""JPEG compression simulated on tensors (DiffJPEG)."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.system.device import float32_on_cuda

# The example tables of the JPEG standard (ITU-T T.81, annex K.1), rows: vertical frequency. DiffJPEG transposes the luma
# table, that is, swaps horizontal and vertical frequencies.
_LUMA_TABLE = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
], dtype=torch.float32).T  # fmt: skip
_CHROMA_TABLE = torch.full((8, 8), 99.0)
_CHROMA_TABLE[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])
_DCT = torch.cos((2 * torch.arange(8.0) + 1) * torch.arange(8.0)[:, None] * math.pi / 16) / 2
_DCT[0] /= math.sqrt(2)


def jpeg(images: Tensor, quality: Tensor | float, differentiable: bool = False) -> Tensor:
    """Compress and decompress images (N, 3, H, W) in [0, 1] as DiffJPEG does, the simulation that Real-ESRGAN uses.

    Chroma is subsampled 4:2:0 (mean of 2x2, repeated). Only the DCT coefficients are rounded, to multiples of the standard's
    tables times the quality's factor. Borders are padded with black to multiples of 16. At qualities above 95 quantisation
    steps fall below 1, the smallest step of a real encoder. `benchmarks/jpeg_simulation.py` measures the difference.

    Args:
        quality: in (0, 100], one for all images or (N,).
        differentiable: round x softly to r + (x - r)^3, where r is the nearest integer, so that gradients flow.
    """
    return compress(images, table_factor(quality).to(images.device), differentiable)


def table_factor(quality: Tensor | float) -> Tensor:
    """Return what a quality in (0, 100] multiplies the tables by, float32. Compute it on the CPU, because this checks it."""
    quality = torch.as_tensor(quality, dtype=torch.float32)
    assert ((quality > 0) & (quality <= 100)).all()
    # The formula gives 0 at quality 100.
    return torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp_min(1e-3)


@float32_on_cuda(tf32=False)  # its error in a coefficient may be half a quantisation step
def compress(images: Tensor, factor: Tensor, differentiable: bool = False) -> Tensor:
    """Do as `jpeg`, given the quality's `table_factor`, one or (N,), on the images' device."""
    factor = factor.to(images.dtype).view(-1, 1, 1, 1, 1, 1)
    dct, luma_table, chroma_table = _constants(images.device, images.dtype)
    height, width = images.shape[-2:]
    r, g, b = (255 * F.pad(images, (0, -width % 16, 0, -height % 16))).split(1, dim=1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b - 128
    blue, red = -0.168736 * r - 0.331264 * g + 0.5 * b, 0.5 * r - 0.418688 * g - 0.081312 * b
    luma = _quantise_blocks(luma, luma_table * factor, dct, differentiable) + 128
    chroma = _quantise_blocks(F.avg_pool2d(torch.cat([blue, red], 1), 2), chroma_table * factor, dct, differentiable)
    blue, red = chroma.repeat_interleave(2, 2).repeat_interleave(2, 3).split(1, dim=1)
    rgb = torch.cat([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return rgb[..., :height, :width].clamp(0, 255) / 255


@cache
def _constants(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    with torch.inference_mode(False):  # whoever asks first
        return tuple(constant.to(device, dtype) for constant in (_DCT, _LUMA_TABLE, _CHROMA_TABLE))


def _quantise_blocks(planes: Tensor, steps: Tensor, dct: Tensor, differentiable: bool) -> Tensor:
    """Round the coefficients of each 8x8 block of (N, C, H, W) to multiples of steps, (N or 1, 1, 1, 1, 8, 8)."""
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (N, C, rows, columns, 8, 8)
    scaled = dct @ blocks @ dct.T / steps
    rounded = scaled.round()
    if differentiable:
        rounded = rounded + (scaled - rounded) ** 3
    return (dct.T @ (rounded * steps) @ dct).transpose(3, 4).flatten(4, 5).flatten(2, 3)
