"""PSNR, and AESOP's LR-PSNR and AE-PSNR."""

from collections.abc import Callable

import torch
from torch import Tensor

from aesop.images.resize import imresize
from aesop.metrics.luma import _batch, _compared, quantise


def psnr(sr: Tensor, hr: Tensor, crop_border: int = 4, test_y_channel: bool = True, eps: float = 1e-8) -> Tensor:
    """Peak signal-to-noise ratio in dB, (N,).

    `eps` is added to the mean squared error on the [0, 1] scale, as the published torch version does: identical images
    give 80 dB. With 0 it is the numpy version, and identical images give infinity.

    Raises:
        ValueError: for shapes that differ or a border that leaves nothing.
    """
    sr, hr = _batch(sr, hr)
    return _psnr(quantise(sr), quantise(hr), crop_border, test_y_channel, eps)


def _psnr(sr: Tensor, hr: Tensor, crop_border: int, test_y_channel: bool, eps: float) -> Tensor:
    difference = _compared(sr, crop_border, test_y_channel) - _compared(hr, crop_border, test_y_channel)
    return -10 * torch.log10(difference.square().mean(dim=(1, 2, 3)) + eps).cpu()


def lr_psnr(sr: Tensor, hr: Tensor, scale: int, crop_border: int = 0, test_y_channel: bool = True) -> Tensor:
    """PSNR in dB between SR and HR after MATLAB's bicubic 1/scale: does SR agree with its LR image? (N,).

    Both are rounded to 8 bit before and after the down-scaling. No definition of the channel and the border is
    published; ours are Y and no border, since a pixel here stands for `scale` x `scale` pixels.
    """
    small_sr, small_hr = (imresize(quantise(image), 1 / scale) for image in _batch(sr, hr))
    return psnr(small_sr, small_hr, crop_border, test_y_channel)


def ae_psnr(
    sr: Tensor,
    hr: Tensor,
    autoencoder: Callable[[Tensor], Tensor],
    crop_border: int = 4,
    test_y_channel: bool = True,
) -> Tensor:
    """PSNR in dB between AE(SR) and AE(HR), (N,): fidelity without what cannot be known (Lee et al., 2025).

    The images are rounded to 8 bit before the auto-encoder; what comes out is neither rounded nor clamped.

    Args:
        autoencoder: (N, 3, H, W) -> the same shape, on the images' device.
    """
    sr, hr = _batch(sr, hr)
    with torch.no_grad():
        estimates = [autoencoder(quantise(image)) for image in (sr, hr)]
    return _psnr(*estimates, crop_border, test_y_channel, eps=1e-8)
