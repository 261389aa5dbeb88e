"""Blur, sharpening, noise and resizing of image batches."""

import cv2
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

MODES = ("area", "bilinear", "bicubic")


def filter2d(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each image (N, C, H, W) with its kernel, (N, kh, kw) or one for all (1, kh, kw); odd sides, reflect padding.

    Raises:
        ValueError: kernels of even sides, or images too small to be mirrored by half a kernel.
    """
    (n, channels, height, width), (rows, columns) = images.shape, kernels.shape[-2:]
    if rows % 2 == 0 or columns % 2 == 0 or height <= rows // 2 or width <= columns // 2:
        raise ValueError(f"a kernel of {rows}x{columns} needs odd sides and larger images than {height}x{width}")
    padded = F.pad(images, (columns // 2, columns // 2, rows // 2, rows // 2), mode="reflect")
    weight = kernels.to(images).expand(n, -1, -1).repeat_interleave(channels, 0)[:, None]
    return F.conv2d(padded.flatten(0, 1)[None], weight, groups=n * channels).view_as(images)


def usm_sharpen(images: Tensor, weight: float = 0.5, radius: int = 50, threshold: float = 10, sigma: float = 0) -> Tensor:
    """Unsharp masking as Real-ESRGAN sharpens its targets (section 3.3), (N, C, H, W) -> the same, in [0, 1].

    Adds `weight` times the difference from a Gaussian blur, only where that exceeds `threshold` grey levels of 255; the
    mask is blurred as well. `radius` is the side of the blur's window in pixels (made odd), sigma its standard deviation
    (0: OpenCV's choice for the side; 8 for 51).

    Raises:
        ValueError: images not larger than half the window.
    """
    line = torch.from_numpy(cv2.getGaussianKernel(radius + 1 - radius % 2, sigma).T)[None]

    def blur(x: Tensor) -> Tensor:
        return filter2d(filter2d(x, line), line.mT)

    residual = images - blur(images)
    mask = blur((residual.abs() * 255 > threshold).to(images))
    return torch.lerp(images, (images + weight * residual).clamp(0, 1), mask)


def gaussian_noise(images: Tensor, sigma: Tensor, gray: Tensor, generator: Generator) -> Tensor:
    """Gaussian noise for images (N, 3, H, W), to be added; drawn on the generator's device.

    Args:
        sigma: (N,), standard deviation in grey levels of 255.
        gray: (N,), bool: the same noise in the three channels. As published these images of a batch share one field.
    """
    n, channels, height, width = images.shape
    noise = torch.randn((n, channels, height, width), generator=generator, device=generator.device).to(images)
    shared = torch.randn((height, width), generator=generator, device=generator.device).to(images)
    return torch.where(_per_image(gray, images), shared, noise) * _per_image(sigma / 255, images)


def poisson_noise(images: Tensor, scale: Tensor, gray: Tensor, generator: Generator) -> Tensor:
    """Poisson (shot) noise for images (N, 3, H, W), to be added; drawn on the generator's device.

    With v the number of distinct 8-bit values in the image, rounded up to a power of two, and x the image rounded to 8
    bit: Poisson(x v) / v - x, times `scale`.

    Args:
        scale: (N,), factor of the noise.
        gray: (N,), bool: noise of the luma image, the same in the three channels.
    """
    is_gray = _per_image(gray, images)
    luma = 0.2989 * images[:, 0:1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:3]
    levels = (torch.where(is_gray, luma, images) * 255).round().clamp(0, 255)
    seen = torch.zeros(len(images), 256, device=images.device)
    distinct = seen.scatter_(1, levels.flatten(1).long(), 1.0).sum(1)
    powers = 2 ** torch.arange(9, device=images.device)  # compared, since a logarithm may be off by a rounding
    counts = _per_image(powers[(powers < distinct[:, None]).sum(1)], images)
    x = levels / 255
    drawn = torch.poisson((x * counts).to(generator.device), generator=generator).to(images)
    noise = drawn / counts - x
    return torch.where(is_gray, noise[:, :1], noise) * _per_image(scale, images)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1) beside the images; bool stays bool."""
    values = values.to(images.device) if values.dtype == torch.bool else values.to(images)
    return values.view(-1, 1, 1, 1)


def resize(images: Tensor, mode: str, factor: float | None = None, size: tuple[int, int] | None = None) -> Tensor:
    """`F.interpolate` by a factor or to a size (height, width); mode area, bilinear or bicubic, without antialiasing."""
    if mode == "area" and images.device.type == "mps":
        # Metal's pooling wants sides that divide each other.
        return F.interpolate(images.cpu(), size, factor, mode).to(images.device)
    return F.interpolate(images, size, factor, mode)
