"""MS-SSIM, the multi-scale structural similarity (Wang et al., Asilomar 2003), on luma."""

from torch import Tensor

from aesop.losses.ms_ssim import SSIM_WINDOW, WEIGHTS, ms_ssim_of
from aesop.metrics.luma import as_batch, cropped_channels, quantise

SMALLEST_SIDE = SSIM_WINDOW * 2 ** (len(WEIGHTS) - 1)


def ms_ssim(sr: Tensor, hr: Tensor, crop_border: int = 4) -> Tensor:
    """The product of the contrast-structure terms of five scales and the luminance term of the smallest one, (N,).

    Each scale is the 2x2 average of the previous one. A negative mean counts as 0, as in pytorch-msssim.
    """
    x, y = (cropped_channels(quantise(image), crop_border, test_y_channel=True) * 255 for image in as_batch(sr, hr))
    check_size(*x.shape[-2:])
    return ms_ssim_of(x, y).cpu()


def check_size(height: int, width: int) -> None:
    """Raise ValueError for a cropped image that has no complete window at the smallest scale."""
    if min(height, width) < SMALLEST_SIDE:
        needed = f"MS-SSIM needs {SMALLEST_SIDE} pixels per side after cropping"
        raise ValueError(f"{needed}, found {width}x{height}. Leave out the image or the metric")
