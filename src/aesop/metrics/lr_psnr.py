"""LR-PSNR: does SR agree with its LR image?"""

from torch import Tensor

from aesop.images.resize import imresize
from aesop.metrics.luma import as_batch, quantise
from aesop.metrics.psnr import psnr


def lr_psnr(sr: Tensor, hr: Tensor, scale: int, crop_border: int = 0, test_y_channel: bool = True) -> Tensor:
    """PSNR in dB between SR and HR after MATLAB's bicubic downscaling by `scale`, (N,).

    Both are rounded to 8 bit before and after the downscaling. The paper (Lee et al., 2025) defines neither channel nor
    border; the defaults are luma and no border, because a pixel here stands for `scale` x `scale` pixels.
    """
    small_sr, small_hr = (imresize(quantise(image), 1 / scale) for image in as_batch(sr, hr))
    return psnr(small_sr, small_hr, crop_border, test_y_channel)
