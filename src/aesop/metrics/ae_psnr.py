"""AE-PSNR: fidelity of what an auto-encoder keeps of an image."""

from collections.abc import Callable

import torch
from torch import Tensor

from aesop.metrics.luma import as_batch, quantise
from aesop.metrics.psnr import unrounded_psnr


@torch.no_grad()
def ae_psnr(
    sr: Tensor, hr: Tensor, autoencoder: Callable[[Tensor], Tensor], crop_border: int = 4, test_y_channel: bool = True
) -> Tensor:
    """PSNR in dB between AE(SR) and AE(HR), (N,): fidelity without the detail that LR does not determine (Lee et al., 2025).

    Images are rounded to 8 bit before the auto-encoder; its output is neither rounded nor clamped.
    """
    sr, hr = (autoencoder(quantise(image)) for image in as_batch(sr, hr))
    return unrounded_psnr(sr, hr, crop_border, test_y_channel)
