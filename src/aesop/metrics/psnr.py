"""PSNR."""

import torch
from torch import Tensor

from aesop.metrics.luma import as_batch, cropped_channels, quantise

EPS = 1e-8
"""Added to the mean squared error on the [0, 1] scale, as in BasicSR's torch version: identical images give 80 dB."""


def psnr(sr: Tensor, hr: Tensor, crop_border: int = 4, test_y_channel: bool = True, eps: float = EPS) -> Tensor:
    """Peak signal-to-noise ratio in dB, (N,). `eps=0` is BasicSR's numpy version: identical images give infinity."""
    sr, hr = as_batch(sr, hr)
    return unrounded_psnr(quantise(sr), quantise(hr), crop_border, test_y_channel, eps)


def unrounded_psnr(sr: Tensor, hr: Tensor, crop_border: int, test_y_channel: bool, eps: float = EPS) -> Tensor:
    """PSNR in dB of images (N, 3, H, W) that are not rounded to 8 bit first, (N,)."""
    difference = cropped_channels(sr, crop_border, test_y_channel) - cropped_channels(hr, crop_border, test_y_channel)
    return -10 * torch.log10(difference.square().mean(dim=(1, 2, 3)) + eps).cpu()
