"""SSIM."""

import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.metrics.luma import as_batch, cropped_channels, quantise

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def ssim(sr: Tensor, hr: Tensor, crop_border: int = 4, test_y_channel: bool = True) -> Tensor:
    """Structural similarity (Wang et al., 2004), (N,): 11x11 Gaussian window of sigma 1.5, only where it fits entirely.

    Computed in float64 on the 0..255 scale; for RGB the mean over the channels.
    """
    x, y = (cropped_channels(quantise(image), crop_border, test_y_channel) * 255 for image in as_batch(sr, hr))
    if min(x.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels per side after cropping, found {x.shape[-2]}x{x.shape[-1]}")
    luminance, structure = ssim_maps(x, y)
    return (luminance * structure).mean(dim=(1, 2, 3)).cpu()


def ssim_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The luminance term and the contrast-structure term of images (N, C, H, W) in 0..255: (N, C, H - 10, W - 10) each."""
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    var_x, var_y = _local_mean(x * x) - mean_x**2, _local_mean(y * y) - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (var_x + var_y + c2)


def _local_mean(x: Tensor) -> Tensor:
    """Gaussian-weighted local means: (N, C, H, W) -> (N, C, H - 10, W - 10)."""
    distance = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    window = torch.exp(-(distance**2) / (2 * SSIM_SIGMA**2))
    window = (window / window.sum()).view(1, 1, -1)
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, window[..., None]), window[:, :, None])
    return planes.view(*x.shape[:2], *planes.shape[-2:])
