"""MS-SSIM, the multi-scale structural similarity (Wang et al., Asilomar 2003), as a loss.

The metric is metrics/ms_ssim.py.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.losses.loss_term import LossOptions
from aesop.system.distributed import World
from aesop.system.option_types import Weight

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, from full resolution down (section 3.2)."""


class MSSSIMOptions(LossOptions):
    log_name: ClassVar[str] = "msssim"

    type: Literal["MSSSIMLoss"] = "MSSSIMLoss"
    """The loss's name."""
    loss_weight: Weight = 1.0
    """Factor of this loss in the sum."""

    def build(self, scale: int, world: World) -> Callable[..., Tensor]:
        return ms_ssim_loss


def ms_ssim_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """1 - MS-SSIM, averaged over batch and channels; sr, hr (N, C, H, W) in [0, 1] -> scalar, 0 for equal images.

    Images of less than 176 pixels have fewer than five scales, whose exponents are brought to the same sum.
    """
    if min(sr.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"MS-SSIM needs {SSIM_WINDOW} pixels per side, found {sr.shape[-1]}x{sr.shape[-2]}: raise gt_size")
    fitting = [k for k in range(len(WEIGHTS)) if min(sr.shape[-2:]) >> k >= SSIM_WINDOW]
    weights = [WEIGHTS[k] * sum(WEIGHTS) / sum(WEIGHTS[j] for j in fitting) for k in fitting]
    with torch.autocast(sr.device.type, enabled=False):
        sr, hr = (image if image.dtype == torch.float64 else image.float() for image in (sr, hr.detach()))
        # Above 0, where the gradient of the power is finite.
        return 1 - ms_ssim_of(sr * 255, hr * 255, weights, least=1e-4).mean()


def ms_ssim_of(x: Tensor, y: Tensor, weights: Sequence[float] = WEIGHTS, least: float = 0.0) -> Tensor:
    """Images (N, C, H, W) in 0..255 -> (N,): the product of the contrast-structure terms of all scales and the luminance
    term of the smallest one. Each scale is the 2x2 average of the previous one; a mean below `least` counts as that."""
    product = torch.ones(len(x), dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(weights, 1):
        luminance, similarity = ssim_maps(x, y)
        if scale == len(weights):
            similarity = luminance * similarity
        product = product * similarity.mean(dim=(1, 2, 3)).clamp(min=least) ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product


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
