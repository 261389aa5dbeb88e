"""Luma of images, rounding to 8 bit, borders: what all metrics have in common."""

import torch
from torch import Tensor

# BT.601, studio range: RGB in [0, 1] -> Y in 16..235, Cb and Cr in 16..240; before the division by 255.
YCBCR_MATRIX = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
YCBCR_OFFSET = (16.0, 128.0, 128.0)


def quantise(x: Tensor) -> Tensor:
    """Float image in about [0, 1] -> float32 multiples of 1/255 in [0, 1]; halves are rounded to even."""
    return x.float().mul(255).clamp(0, 255).round().div(255)


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """RGB (..., 3, H, W) in [0, 1] -> Y, Cb, Cr (..., 3, H, W): BT.601 studio range (Y 16..235) divided by 255."""
    matrix = torch.tensor(YCBCR_MATRIX, dtype=x.dtype, device=x.device)
    offset = torch.tensor(YCBCR_OFFSET, dtype=x.dtype, device=x.device)
    # A sum of products rather than a matrix product, which a GPU may round to TF32.
    return ((matrix[:, :, None, None] * x.unsqueeze(-4)).sum(-3) + offset[:, None, None]) / 255


def rgb_to_y(x: Tensor) -> Tensor:
    """RGB (..., 3, H, W) in [0, 1] -> Y (..., 1, H, W): BT.601 studio range (16..235) divided by 255."""
    red, green, blue = (c * x[..., i : i + 1, :, :] for i, c in enumerate(YCBCR_MATRIX[0]))
    return (red + green + blue + YCBCR_OFFSET[0]) / 255


def _batch(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    if sr.shape != hr.shape or sr.ndim not in (3, 4) or sr.shape[-3] != 3:
        raise ValueError(
            f"a metric compares RGB images of one size, (N, 3, H, W) or (3, H, W); found {tuple(sr.shape)} and "
            f"{tuple(hr.shape)}: check that SR and HR belong together and that the scale is right"
        )
    return (sr, hr) if sr.ndim == 4 else (sr[None], hr[None])


def crop(x: Tensor, border: int) -> Tensor:
    """Images (..., H, W) without `border` pixels at each side; ValueError where that leaves nothing."""
    if border < 0 or min(x.shape[-2:]) <= 2 * border:
        raise ValueError(f"a border of {border} leaves nothing of {x.shape[-2]}x{x.shape[-1]}: lower crop_border")
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def _compared(x: Tensor, crop_border: int, test_y_channel: bool) -> Tensor:
    """Cropped, in float64, Y or RGB."""
    x = crop(x, crop_border)
    x = (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64
    return rgb_to_y(x) if test_y_channel else x
