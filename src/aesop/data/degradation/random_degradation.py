"""Real-ESRGAN's random degradation of HR images into LR images (Wang et al., ICCVW 2021, section 3), batched, on any device.

Two rounds of blur, resizing, noise and JPEG are followed by a sinc filter (figure 2 of the paper). `draw` draws all
parameters on the CPU from one explicit generator, `render_draw` computes the tensors that the device needs of them, and
`apply` degrades images with both. Pixel noise comes from a second generator on the images' device, seeded by the draw. So a
batch is a pure function of (options, images, generator); device types differ in the pixel noise, not its distribution.
Nothing here waits for the device. All images are float32 (N, 3, H, W), RGB, in [0, 1].

As published, the images of a batch share the factors and modes of resizing, the kind of noise, whether there is a second
blur, the order of the last steps, and the noise field of gray Gaussian noise. Each image has its own kernels, noise
strength, gray or colour noise, and JPEG qualities. With `per_sample` each image has its own draw of everything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from aesop.data.degradation.blur_kernels import KernelParameters, render, sample_blur_kernels, sample_final_kernels, uniform
from aesop.data.degradation.jpeg import compress, table_factor
from aesop.data.degradation.operations import MODES, filter2d, gaussian_noise, poisson_noise, resize
from aesop.data.degradation.transfer import Transfer
from aesop.options.config import SMALLEST_SHARPENED
from aesop.options.degradation import DegradationOptions, RoundOptions


@dataclass(frozen=True)
class Round:
    """The parameters of one round for N images. Tensors are (N,), on the CPU."""

    blur: KernelParameters | None  # None: no blur for the whole batch
    factor: float  # of the sides, in the first round from the input's size, in the second from the final size
    mode: str  # of resizing
    noise: str  # gaussian or poisson
    strength: Tensor  # standard deviation in grey levels (gaussian), or factor of the noise (poisson)
    gray: Tensor  # whether the noise is gray
    quality: Tensor  # of JPEG


@dataclass(frozen=True)
class Draw:
    """The parameters of the degradation of N images. Pixel noise follows from `noise_seed`."""

    first: Round
    second: Round
    final_blur: KernelParameters
    final_mode: str  # of resizing to the final size
    jpeg_last: bool  # whether the second JPEG comes after the final resizing and sinc, or before
    noise_seed: int

    def describe(self, i: int = 0) -> dict[str, str]:
        """Describe the steps of image i in their order: {name: what was done}."""
        steps = {}
        for number, step, of in ((1, self.first, ""), (2, self.second, " of the final size")):
            unit = "sigma" if step.noise == "gaussian" else "scale"
            steps[f"blur {number}"] = step.blur.describe(i) if step.blur else "none"
            steps[f"resize {number}"] = f"by {step.factor:.2f}{of}, {step.mode}"
            steps[f"noise {number}"] = f"{step.noise}, {unit} {step.strength[i]:.2f}{', gray' if step.gray[i] else ''}"
            steps[f"jpeg {number}"] = f"quality {step.quality[i]:.0f}"
        last = {"jpeg 2": steps.pop("jpeg 2")} if self.jpeg_last else {}
        return steps | {"resize 3": f"to the final size, {self.final_mode}", "blur 3": self.final_blur.describe(i)} | last


def batch_generator(seed: int, iteration: int, rank: int = 0) -> Generator:
    """Return the CPU generator for one batch of one process."""
    # 2 separates this stream from those of training_crops.py, 0 and 1.
    state = np.random.SeedSequence((seed, 2, iteration, rank)).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state[0]))


def draw(options: DegradationOptions, n: int, generator: Generator) -> Draw:
    """Draw the degradation of a batch of n images. How far the generator advances depends on n alone."""
    return Draw(
        first=_draw_round(options, 1.0, n, generator),
        second=_draw_round(options.second_round, options.second_blur_prob, n, generator),
        final_blur=sample_final_kernels(n, options.final_sinc_prob, options.blur_kernel_size2, generator),
        final_mode=MODES[_choose((1, 1, 1), generator)],
        jpeg_last=_one(0, 1, generator) < 0.5,
        noise_seed=int(torch.randint(2**63 - 1, (), generator=generator)),
    )


def _draw_round(options: RoundOptions, blur_prob: float, n: int, generator: Generator) -> Round:
    blur = sample_blur_kernels(n, options, generator)
    blurred = _one(0, 1, generator) < blur_prob
    low, high = options.resize_range
    part = ((1, high), (low, 1), (1, 1))[_choose(options.resize_prob, generator)]
    factor, mode = _one(*part, generator), MODES[_choose((1, 1, 1), generator)]
    noise = "gaussian" if _one(0, 1, generator) < options.gaussian_noise_prob else "poisson"
    strength = uniform(n, *(options.noise_range if noise == "gaussian" else options.poisson_scale_range), generator)
    gray = uniform(n, 0, 1, generator) < options.gray_noise_prob
    quality = uniform(n, *options.jpeg_range, generator)
    return Round(blur if blurred else None, factor, mode, noise, strength, gray, quality)


def _one(low: float, high: float, generator: Generator) -> float:
    return uniform(1, low, high, generator).item()


def _choose(weights: Sequence[float], generator: Generator) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=generator))


def render_draw(drawn: Draw, options: DegradationOptions) -> dict[str, Tensor]:
    """Compute what the device needs of a draw, on the CPU: kernels (N, grid, grid), all else (N,), by the steps' names."""
    rendered = {}
    for number, step, grid in ((1, drawn.first, options.blur_kernel_size), (2, drawn.second, options.blur_kernel_size2)):
        if step.blur is not None:
            rendered[f"blur {number}"] = render(step.blur, grid)
        rendered[f"noise {number}"] = step.strength / 255 if step.noise == "gaussian" else step.strength
        rendered[f"gray {number}"] = step.gray
        rendered[f"jpeg {number}"] = table_factor(step.quality)
    return rendered | {"blur 3": render(drawn.final_blur, options.blur_kernel_size2)}


def apply(gt: Tensor, drawn: Draw, rendered: Mapping[str, Tensor], scale: int) -> Tensor:
    """Degrade images as drawn to (N, 3, H / scale, W / scale) with 8-bit values k / 255.

    `rendered` comes from `render_draw` and is on the images' device, float32.
    """
    # MPS has no Poisson distribution before torch 2.14, so its noise is drawn on the CPU.
    generator = Generator("cpu" if gt.device.type == "mps" else gt.device).manual_seed(drawn.noise_seed)
    height, width = gt.shape[-2:]
    first, second = drawn.first, drawn.second

    def add_noise(x: Tensor, kind: str, number: int) -> Tensor:
        make = gaussian_noise if kind == "gaussian" else poisson_noise
        strength, gray = rendered[f"noise {number}"], rendered[f"gray {number}"] > 0
        return (x + make(x, strength, gray, generator)).clamp(0, 1)

    x = filter2d(gt, rendered["blur 1"]) if first.blur else gt
    x = resize(x, first.mode, first.factor)
    x = add_noise(x, first.noise, 1)
    x = compress(x, rendered["jpeg 1"])

    x = filter2d(x, rendered["blur 2"]) if second.blur else x
    size = (int(height / scale * second.factor), int(width / scale * second.factor))
    x = resize(x, second.mode, size=size)
    x = add_noise(x, second.noise, 2)
    if not drawn.jpeg_last:
        x = compress(x, rendered["jpeg 2"])
    x = resize(x, drawn.final_mode, size=(height // scale, width // scale))
    x = filter2d(x, rendered["blur 3"])
    if drawn.jpeg_last:
        x = compress(x.clamp(0, 1), rendered["jpeg 2"])
    return (x * 255).round().clamp(0, 255) / 255


def draw_batch(
    options: DegradationOptions, n: int, generator: Generator, per_sample: bool
) -> tuple[list[Draw], list[dict[str, Tensor]]]:
    """Draw and render once for n images or, with `per_sample`, for each."""
    draws = [draw(options, 1, generator) for _ in range(n)] if per_sample else [draw(options, n, generator)]
    return draws, [render_draw(drawn, options) for drawn in draws]


def apply_batch(gt: Tensor, draws: Sequence[Draw], rendered: Sequence[Mapping[str, Tensor]], scale: int) -> Tensor:
    """Do as `apply` with what `draw_batch` returns, moved to the images' device."""
    parts = gt.split(len(gt) // len(draws))
    return torch.cat([apply(*each, scale) for each in zip(parts, draws, rendered, strict=True)])


def smallest_side(options: DegradationOptions, scale: int) -> int:
    """Return the smallest side, in pixels, of HR images that can be sharpened and degraded: padding limits each blur."""
    first, second = options.blur_kernel_size // 2 + 1, options.blur_kernel_size2 // 2 + 1
    return max(SMALLEST_SHARPENED, first, math.ceil(second / min(options.resize_range[0], 1)), second * scale)


@torch.no_grad()
def degrade(
    gt: Tensor, options: DegradationOptions, scale: int, generator: Generator, per_sample: bool = False
) -> tuple[Tensor, list[Draw]]:
    """Degrade HR images (N, 3, H, W) in [0, 1], float32, with sides of at least `smallest_side`, multiples of `scale`.

    Args:
        generator: on the CPU; see `batch_generator`.
        per_sample: draw everything for each image, instead of once for the batch where Real-ESRGAN does so.

    Returns:
        LR images (N, 3, H / scale, W / scale) with 8-bit values k / 255, and what was drawn: one draw, or one per sample.
    """
    assert min(gt.shape[-2:]) >= smallest_side(options, scale)
    assert gt.shape[-2] % scale == gt.shape[-1] % scale == 0
    draws, rendered = draw_batch(options, len(gt), generator, per_sample)
    return apply_batch(gt, draws, Transfer(rendered, gt.device).receive(), scale), draws


def draw_corners(count: int, height: int, width: int, side: int, generator: Generator) -> list[tuple[int, int]]:
    """Draw (top, left) of `count` crops of side x side from LR images of height x width."""
    tops, lefts = (torch.randint(end - side + 1, (count,), generator=generator).tolist() for end in (height, width))
    return list(zip(tops, lefts, strict=True))


def paired_crop(
    gt: Tensor, lq: Tensor, corners: Sequence[tuple[int, int]], gt_size: int, scale: int
) -> tuple[Tensor, Tensor]:
    """Crop HR (N, 3, H, W) to gt_size and LR to the same place. `corners` are LR's, one for the batch or one per image."""
    side = gt_size // scale
    assert gt.shape[-2:] == (lq.shape[-2] * scale, lq.shape[-1] * scale)
    assert gt_size % scale == 0
    n = len(lq) // len(corners)

    def cut(images: Tensor, factor: int) -> Tensor:
        parts = zip(images.split(n), corners, strict=True)
        return torch.cat([p[..., y * factor :, x * factor :][..., : side * factor, : side * factor] for p, (y, x) in parts])

    return cut(gt, scale), cut(lq, 1)
