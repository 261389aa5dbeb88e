"""Real-ESRGAN's random degradation of HR images into LR images (Wang et al., ICCVW 2021, section 3), batched, on any device.

Two rounds of blur, resizing, noise and JPEG, then a sinc filter (figure 2 of the paper). What happens is drawn first, on
the CPU, from one explicit generator (`draw`), and then done (`apply`); nothing touches a global random state. The noise of
single pixels comes from a second generator on the images' device, seeded by the draw. So a batch is a pure function of
(options, images, generator), and with `batch_generator` of (options, images, seed, iteration, rank), on one type of device;
another type has other noise of the same distribution.

As published, one draw serves the whole batch for: the factors and modes of resizing, the kind of noise, whether there is a
second blur, the order at the end, and the noise field of Gaussian noise without colour. Each image has its own kernels,
strength and colour of the noise, and JPEG qualities. With `per_sample` each image has its own draw of everything.

All images are float (N, 3, H, W), RGB, in [0, 1].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from aesop.data.degradation.blur_kernels import KernelParameters, render, sample_blur_kernels, sample_final_kernels, uniform
from aesop.data.degradation.jpeg import jpeg
from aesop.data.degradation.operations import MODES, filter2d, gaussian_noise, poisson_noise, resize
from aesop.options.degradation import DegradationOptions


@dataclass(frozen=True)
class Round:
    """One round for N images: blur, resize, noise, JPEG. Tensors are (N,), on the CPU."""

    blur: KernelParameters | None
    """None: no blur for the whole batch."""
    factor: float
    """Of the sides: in the first round of what comes in, in the second of the final size."""
    mode: str
    """Of resizing."""
    noise: str
    """gaussian or poisson."""
    strength: Tensor
    """Standard deviation in grey levels (gaussian), or factor of the noise (poisson)."""
    gray: Tensor
    """Noise without colour?"""
    quality: Tensor
    """JPEG quality."""


@dataclass(frozen=True)
class Draw:
    """All that is drawn for N images, but for the noise of single pixels, which follows from `noise_seed`."""

    first: Round
    second: Round
    final_blur: KernelParameters
    final_mode: str
    """Of resizing to the final size."""
    jpeg_last: bool
    """The second JPEG after resizing and sinc; else before."""
    noise_seed: int

    def describe(self) -> list[dict[str, str]]:
        """For each image its steps in their order: name -> what was done."""
        described = []
        parts = zip(_describe(self.first, 1), _describe(self.second, 2), self.final_blur.describe(), strict=True)
        for first, second, sinc in parts:
            resize = {"resize 3": f"to the final size, {self.final_mode}", "blur 3": sinc}
            jpeg = {"jpeg 2": second.pop("jpeg 2")}
            described.append(first | second | (resize | jpeg if self.jpeg_last else jpeg | resize))
        return described


def _describe(step: Round, number: int) -> list[dict[str, str]]:
    blurs = step.blur.describe() if step.blur else ["none"] * len(step.quality)
    factor = f"by {step.factor:.2f}{' of the final size' if number == 2 else ''}, {step.mode}"
    unit = "sigma" if step.noise == "gaussian" else "scale"
    values = zip(blurs, step.strength.tolist(), step.gray.tolist(), step.quality.tolist(), strict=True)
    return [
        {
            f"blur {number}": blur,
            f"resize {number}": factor,
            f"noise {number}": f"{step.noise}, {unit} {strength:.2f}{', gray' if gray else ''}",
            f"jpeg {number}": f"quality {quality:.0f}",
        }
        for blur, strength, gray, quality in values
    ]


def batch_generator(seed: int, iteration: int, rank: int = 0) -> Generator:
    """The CPU generator for one batch of one process: a pure function of its arguments."""
    # 2: apart from the streams of data/pairs.py.
    state = np.random.SeedSequence((seed, 2, iteration, rank)).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state[0]))


def draw(options: DegradationOptions, n: int, generator: Generator) -> Draw:
    """Draw the degradation of a batch of n images; what is consumed of the CPU generator depends on n alone."""
    return Draw(
        first=_draw_round(options, "", 1.0, n, generator),
        second=_draw_round(options, "2", options.second_blur_prob, n, generator),
        final_blur=sample_final_kernels(n, options.final_sinc_prob, options.blur_kernel_size2, generator),
        final_mode=MODES[_choose((1, 1, 1), generator)],
        jpeg_last=_one(0, 1, generator) < 0.5,
        noise_seed=int(torch.randint(2**63 - 1, (), generator=generator)),
    )


def _draw_round(options: DegradationOptions, suffix: str, blur_prob: float, n: int, generator: Generator) -> Round:
    def option(name: str):  # the second round's options end in 2
        return getattr(options, name + suffix)

    blur = sample_blur_kernels(
        n,
        option("kernel_list"),
        option("kernel_prob"),
        option("sinc_prob"),
        option("blur_sigma"),
        option("betag_range"),
        option("betap_range"),
        option("blur_kernel_size"),
        generator,
    )
    blurred = _one(0, 1, generator) < blur_prob
    low, high = option("resize_range")
    part = ((1, high), (low, 1), (1, 1))[_choose(option("resize_prob"), generator)]
    factor, mode = _one(*part, generator), MODES[_choose((1, 1, 1), generator)]
    noise = "gaussian" if _one(0, 1, generator) < option("gaussian_noise_prob") else "poisson"
    strength = option("noise_range") if noise == "gaussian" else option("poisson_scale_range")
    return Round(
        blur=blur if blurred else None,
        factor=factor,
        mode=mode,
        noise=noise,
        strength=uniform(n, *strength, generator),
        gray=uniform(n, 0, 1, generator) < option("gray_noise_prob"),
        quality=uniform(n, *option("jpeg_range"), generator),
    )


def _one(low: float, high: float, generator: Generator) -> float:
    return uniform(1, low, high, generator).item()


def _choose(weights: Sequence[float], generator: Generator) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=generator))


def apply(gt: Tensor, drawn: Draw, options: DegradationOptions, scale: int) -> Tensor:
    """Degrade images (N, 3, H, W) in [0, 1] as drawn: (N, 3, H / scale, W / scale), 8-bit values k / 255."""
    # Metal has no Poisson before torch 2.14: its noise is drawn on the CPU.
    noise_device = "cpu" if gt.device.type == "mps" else gt.device
    generator = Generator(noise_device).manual_seed(drawn.noise_seed)
    height, width = gt.shape[-2:]
    first, second = drawn.first, drawn.second

    x = _blur(gt, first.blur, options.blur_kernel_size)
    x = resize(x, first.mode, first.factor)
    x = _add_noise(x, first, generator)
    x = jpeg(x, first.quality)

    x = _blur(x, second.blur, options.blur_kernel_size2)
    size = (int(height / scale * second.factor), int(width / scale * second.factor))
    x = resize(x, second.mode, size=size)
    x = _add_noise(x, second, generator)
    if not drawn.jpeg_last:
        x = jpeg(x, second.quality)
    x = resize(x, drawn.final_mode, size=(height // scale, width // scale))
    x = _blur(x, drawn.final_blur, options.blur_kernel_size2)
    if drawn.jpeg_last:
        x = jpeg(x.clamp(0, 1), second.quality)
    return (x * 255).round().clamp(0, 255) / 255


def _blur(images: Tensor, kernels: KernelParameters | None, grid: int) -> Tensor:
    return images if kernels is None else filter2d(images, render(kernels, grid))


def _add_noise(images: Tensor, step: Round, generator: Generator) -> Tensor:
    make = gaussian_noise if step.noise == "gaussian" else poisson_noise
    return (images + make(images, step.strength, step.gray, generator)).clamp(0, 1)


def smallest_side(options: DegradationOptions, scale: int) -> int:
    """The smallest side of HR images in pixels that can be degraded: every blur has to find what it mirrors."""
    first, second = options.blur_kernel_size // 2 + 1, options.blur_kernel_size2 // 2 + 1
    return max(first, math.ceil(second / min(options.resize_range[0], 1)), second * scale)


@torch.no_grad()
def degrade(
    gt: Tensor, options: DegradationOptions, scale: int, generator: Generator, per_sample: bool = False
) -> tuple[Tensor, list[dict[str, str]]]:
    """LR images for HR images (N, 3, H, W) in [0, 1], float32; in the published GAN recipe these are sharpened before.

    Args:
        generator: on the CPU; see `batch_generator`.
        per_sample: every image its own draw of everything (not as published: one draw for a batch, see above).

    Returns:
        (N, 3, H / scale, W / scale) with 8-bit values k / 255, and for each image what was done, step by step.

    Raises:
        ValueError: sides that are no multiples of scale, or below `smallest_side`.
    """
    height, width = gt.shape[-2:]
    smallest = smallest_side(options, scale)
    if height % scale or width % scale or min(height, width) < smallest:
        raise ValueError(
            f"degradation takes images with sides from {smallest} on, multiples of {scale}; found {height}x{width}. Larger "
            f"images, smaller blur kernels or a larger resize_range would do"
        )
    parts = gt.split(1) if per_sample else [gt]
    draws = [draw(options, len(part), generator) for part in parts]
    lq = torch.cat([apply(part, drawn, options, scale) for part, drawn in zip(parts, draws, strict=True)])
    return lq, [steps for drawn in draws for steps in drawn.describe()]


def paired_random_crop(
    gts: Sequence[Tensor], lq: Tensor, gt_size: int, scale: int, generator: Generator, per_sample: bool = False
) -> tuple[list[Tensor], Tensor]:
    """Crop HR batches (N, 3, H, W), which belong together, to gt_size and the LR batch to the same place.

    As published one position, drawn for the batch, serves all its images; with `per_sample` each image has its own.

    Raises:
        ValueError: HR that is not `scale` times LR, a gt_size that is no multiple of scale, or larger than the images.
    """
    height, width = lq.shape[-2:]
    side = gt_size // scale
    for gt in gts:
        if gt.shape[-2:] != (height * scale, width * scale):
            raise ValueError(f"HR images of {tuple(gt.shape[-2:])} are not {scale} times LR images of {(height, width)}")
    if gt_size % scale or side > min(height, width):
        raise ValueError(f"gt_size {gt_size} must be a multiple of {scale}, and at most {scale * min(height, width)} here")
    places = len(lq) if per_sample else 1
    tops = torch.randint(height - side + 1, (places,), generator=generator).tolist()
    lefts = torch.randint(width - side + 1, (places,), generator=generator).tolist()

    def crop(images: Tensor, factor: int) -> Tensor:
        parts = images.split(1) if per_sample else [images]
        n = side * factor
        return torch.cat(
            [
                part[..., top * factor : top * factor + n, left * factor : left * factor + n]
                for part, top, left in zip(parts, tops, lefts, strict=True)
            ]
        )

    return [crop(gt, scale) for gt in gts], crop(lq, 1)
