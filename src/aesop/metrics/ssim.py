"""SSIM."""

from torch import Tensor

from aesop.losses.ms_ssim import SSIM_WINDOW, ssim_maps
from aesop.metrics.luma import as_batch, cropped_channels, quantise


def ssim(sr: Tensor, hr: Tensor, crop_border: int = 4, test_y_channel: bool = True) -> Tensor:
    """Structural similarity (Wang et al., 2004), (N,): 11x11 Gaussian window of sigma 1.5, only where it fits entirely.

    Computed in float64 on the 0..255 scale; for RGB the mean over the channels.
    """
    x, y = (cropped_channels(quantise(image), crop_border, test_y_channel) * 255 for image in as_batch(sr, hr))
    if min(x.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels per side after cropping, found {x.shape[-2]}x{x.shape[-1]}")
    luminance, structure = ssim_maps(x, y)
    return (luminance * structure).mean(dim=(1, 2, 3)).cpu()
