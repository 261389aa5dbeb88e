"""Blur, sharpening, noise and resizing of image batches."""

from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

MODES = ("area", "bilinear", "bicubic")


def filter2d(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each image (N, C, H, W) with its kernel, (N, kh, kw), or all with one, (1, kh, kw), with reflect padding.

    Kernels have odd sides, less than twice the images' sides.
    """
    (n, channels), (rows, columns) = images.shape[:2], kernels.shape[-2:]
    assert rows % 2 == columns % 2 == 1
    padded = F.pad(images, (columns // 2, columns // 2, rows // 2, rows // 2), mode="reflect")
    weight = kernels.to(images).expand(n, -1, -1).repeat_interleave(channels, 0)[:, None]
    return F.conv2d(padded.flatten(0, 1)[None], weight, groups=n * channels).view_as(images)


def usm_sharpen(images: Tensor, weight: float = 0.5, radius: int = 50, threshold: float = 10, sigma: float = 0) -> Tensor:
    """Sharpen images (N, C, H, W) in [0, 1] by unsharp masking, as Real-ESRGAN does with its targets (section 3.3).

    Adds `weight` times the difference from a Gaussian blur where the difference exceeds `threshold` grey levels of 255. The
    mask is blurred, too.

    Args:
        radius: side of the blur's window in pixels; an even number is increased by one.
        sigma: standard deviation of the blur; 0 leaves it to OpenCV, which takes 8 for a side of 51.
    """
    line = _gaussian_line(radius + 1 - radius % 2, sigma, images.device)

    def blur(x: Tensor) -> Tensor:
        return filter2d(filter2d(x, line), line.mT)

    residual = images - blur(images)
    mask = blur((residual.abs() * 255 > threshold).to(images))
    return torch.lerp(images, (images + weight * residual).clamp(0, 1), mask)


@cache
def _gaussian_line(side: int, sigma: float, device: torch.device) -> Tensor:
    """Return OpenCV's kernel, (1, 1, side), float32."""
    with torch.inference_mode(False):  # whoever asks first
        return torch.from_numpy(cv2.getGaussianKernel(side, sigma).T[None].astype(np.float32)).to(device)


def gaussian_noise(images: Tensor, sigma: Tensor, gray: Tensor, generator: Generator) -> Tensor:
    """Draw Gaussian noise to add to images (N, 3, H, W), on the generator's device.

    Args:
        sigma: (N,), standard deviation, where the images' range is 1.
        gray: (N,), bool: the same noise in all channels. As published, these images of a batch share one noise field.
    """
    n, channels, height, width = images.shape
    noise = torch.randn((n, channels, height, width), generator=generator, device=generator.device).to(images)
    shared = torch.randn((height, width), generator=generator, device=generator.device).to(images)
    return torch.where(gray.view(-1, 1, 1, 1), shared, noise) * sigma.view(-1, 1, 1, 1)


def poisson_noise(images: Tensor, scale: Tensor, gray: Tensor, generator: Generator) -> Tensor:
    """Draw Poisson (shot) noise to add to images (N, 3, H, W), on the generator's device.

    The noise is (Poisson(x v) / v - x) times `scale`, where x is the image rounded to 8 bits, and v the number of its
    distinct values, rounded up to a power of two.

    Args:
        scale: (N,), factor of the noise.
        gray: (N,), bool: the noise of the luma image, the same in all channels.
    """
    is_gray = gray.view(-1, 1, 1, 1)
    luma = 0.2989 * images[:, 0:1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:3]
    levels = (torch.where(is_gray, luma, images) * 255).round().clamp(0, 255)
    seen = torch.zeros(len(images), 256, device=images.device)
    distinct = seen.scatter_(1, levels.flatten(1).long(), 1.0).sum(1)
    powers = 2 ** torch.arange(9, device=images.device)  # a logarithm may be rounded the wrong way
    counts = powers[(powers < distinct[:, None]).sum(1)].view(-1, 1, 1, 1).to(images)
    x = levels / 255
    drawn = torch.poisson((x * counts).to(generator.device), generator=generator).to(images)
    noise = drawn / counts - x
    return torch.where(is_gray, noise[:, :1], noise) * scale.view(-1, 1, 1, 1)


def resize(images: Tensor, mode: str, factor: float | None = None, size: tuple[int, int] | None = None) -> Tensor:
    """Resize by a factor or to a size (height, width) with `F.interpolate`, without antialiasing. `mode` is one of MODES."""
    # Pooling on MPS requires sides that divide each other.
    device = "cpu" if mode == "area" and images.device.type == "mps" else images.device
    return F.interpolate(images.to(device), size, factor, mode).to(images.device)
