"""JPEG compression, simulated on tensors."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# The example tables of the JPEG standard (ITU-T T.81, annex K.1), rows: vertical frequency.
_LUMA_TABLE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
_CHROMA_TABLE = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


@lru_cache(maxsize=1)
def _jpeg_constants() -> tuple[Tensor, Tensor, Tensor]:
    """DCT matrix (8, 8), luma and chroma table (8, 8), as float32 on the CPU."""
    frequency, place = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    dct = torch.cos((2 * place + 1) * frequency * math.pi / 16) / 2
    dct[0] /= math.sqrt(2)
    # The published simulation uses the luma table transposed, horizontal and vertical frequencies exchanged.
    luma = torch.tensor(_LUMA_TABLE, dtype=torch.float32).T
    chroma = torch.full((8, 8), 99.0)
    chroma[:4, :4] = torch.tensor(_CHROMA_TABLE)
    return dct, luma, chroma


def jpeg(images: Tensor, quality: Tensor | float, differentiable: bool = False) -> Tensor:
    """What JPEG leaves of images (N, 3, H, W) in [0, 1]: the simulation (DiffJPEG) that the published recipe uses.

    4:2:0 chroma (mean of 2x2, repeated), the standard's tables times the quality's factor, no rounding but that of the
    coefficients. Borders are filled with black to multiples of 16. Between 96 and 100 steps become smaller than 1, the
    least a real encoder has. `benchmarks/jpeg_simulation.py` measures the difference from a real one.

    Args:
        quality: in (0, 100], one for all or (N,); never written to.
        differentiable: round by the soft rule r + (x - r)^3, r the nearest integer, so that a gradient flows.

    Raises:
        ValueError: a quality outside (0, 100].
    """
    quality = torch.as_tensor(quality, dtype=torch.float32).view(-1, 1, 1, 1, 1, 1)
    if not bool(((quality > 0) & (quality <= 100)).all()):
        raise ValueError(f"JPEG quality must be in (0, 100], found {quality.flatten().tolist()}")
    # At 100 the formula says 0, by which nothing can be divided.
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp_min(1e-3).to(images)
    dct, luma_table, chroma_table = (constant.to(images) for constant in _jpeg_constants())
    height, width = images.shape[-2:]
    r, g, b = (255 * F.pad(images, (0, -width % 16, 0, -height % 16))).split(1, dim=1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b - 128
    blue, red = -0.168736 * r - 0.331264 * g + 0.5 * b, 0.5 * r - 0.418688 * g - 0.081312 * b
    luma = _quantise_blocks(luma, luma_table * factor, dct, differentiable) + 128
    chroma = _quantise_blocks(F.avg_pool2d(torch.cat([blue, red], 1), 2), chroma_table * factor, dct, differentiable)
    blue, red = chroma.repeat_interleave(2, 2).repeat_interleave(2, 3).split(1, dim=1)
    rgb = torch.cat([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return rgb[..., :height, :width].clamp(0, 255) / 255


def _quantise_blocks(planes: Tensor, steps: Tensor, dct: Tensor, differentiable: bool) -> Tensor:
    """(N, C, H, W) with the coefficients of each 8x8 block rounded to multiples of steps, (N or 1, 1, 1, 1, 8, 8)."""
    # (N, C, rows, columns, 8, 8)
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    scaled = dct @ blocks @ dct.T / steps
    rounded = scaled.round()
    if differentiable:
        rounded = rounded + (scaled - rounded) ** 3
    return (dct.T @ (rounded * steps) @ dct).transpose(3, 4).flatten(4, 5).flatten(2, 3)
