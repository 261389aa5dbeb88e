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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from aesop.config import DegradationOptions
from aesop.data.kernels import KernelParameters, render, sample_blur_kernels, sample_final_kernels, uniform

MODES = ("area", "bilinear", "bicubic")

# --- operations --------------------------------------------------------------------------------------------------------


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


# --- JPEG --------------------------------------------------------------------------------------------------------------

# The example tables of the JPEG standard (ITU-T T.81, annex K.1), rows: vertical frequency.
_LUMA_TABLE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
_CHROMA_TABLE = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


@lru_cache(maxsize=1)
def _jpeg_constants() -> tuple[Tensor, Tensor, Tensor]:
    """DCT matrix (8, 8), luma and chroma table (8, 8), as float32 on the CPU."""
    frequency, place = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    dct = torch.cos((2 * place + 1) * frequency * math.pi / 16) / 2
    dct[0] /= math.sqrt(2)
    # The published simulation uses the luma table transposed, horizontal and vertical frequencies exchanged.
    luma = torch.tensor(_LUMA_TABLE, dtype=torch.float32).T
    chroma = torch.full((8, 8), 99.0)
    chroma[:4, :4] = torch.tensor(_CHROMA_TABLE)
    return dct, luma, chroma


def jpeg(images: Tensor, quality: Tensor | float, differentiable: bool = False) -> Tensor:
    """What JPEG leaves of images (N, 3, H, W) in [0, 1]: the simulation (DiffJPEG) that the published recipe uses.

    4:2:0 chroma (mean of 2x2, repeated), the standard's tables times the quality's factor, no rounding but that of the
    coefficients. Borders are filled with black to multiples of 16. Between 96 and 100 steps become smaller than 1, the
    least a real encoder has. `benchmarks/jpeg_simulation.py` measures the difference from a real one.

    Args:
        quality: in (0, 100], one for all or (N,); never written to.
        differentiable: round by the soft rule r + (x - r)^3, r the nearest integer, so that a gradient flows.

    Raises:
        ValueError: a quality outside (0, 100].
    """
    quality = torch.as_tensor(quality, dtype=torch.float32).view(-1, 1, 1, 1, 1, 1)
    if not bool(((quality > 0) & (quality <= 100)).all()):
        raise ValueError(f"JPEG quality must be in (0, 100], found {quality.flatten().tolist()}")
    # At 100 the formula says 0, by which nothing can be divided.
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp_min(1e-3).to(images)
    dct, luma_table, chroma_table = (constant.to(images) for constant in _jpeg_constants())
    height, width = images.shape[-2:]
    r, g, b = (255 * F.pad(images, (0, -width % 16, 0, -height % 16))).split(1, dim=1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b - 128
    blue, red = -0.168736 * r - 0.331264 * g + 0.5 * b, 0.5 * r - 0.418688 * g - 0.081312 * b
    luma = _quantise_blocks(luma, luma_table * factor, dct, differentiable) + 128
    chroma = _quantise_blocks(F.avg_pool2d(torch.cat([blue, red], 1), 2), chroma_table * factor, dct, differentiable)
    blue, red = chroma.repeat_interleave(2, 2).repeat_interleave(2, 3).split(1, dim=1)
    rgb = torch.cat([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return rgb[..., :height, :width].clamp(0, 255) / 255


def _quantise_blocks(planes: Tensor, steps: Tensor, dct: Tensor, differentiable: bool) -> Tensor:
    """(N, C, H, W) with the coefficients of each 8x8 block rounded to multiples of steps, (N or 1, 1, 1, 1, 8, 8)."""
    # (N, C, rows, columns, 8, 8)
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    scaled = dct @ blocks @ dct.T / steps
    rounded = scaled.round()
    if differentiable:
        rounded = rounded + (scaled - rounded) ** 3
    return (dct.T @ (rounded * steps) @ dct).transpose(3, 4).flatten(4, 5).flatten(2, 3)


# --- what is drawn -----------------------------------------------------------------------------------------------------


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


# --- what is done ------------------------------------------------------------------------------------------------------


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


# --- from images to training pairs -------------------------------------------------------------------------------------


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


class TrainingPool:
    """Pairs of former batches, so that a batch mixes several degradations (Real-ESRGAN, section 4.1: training pair pool).

    Until `queue_size` pairs are there, batches are stored and passed through. Then every batch is exchanged for as many
    pairs from random places, which is the published shuffling without moving the rest. Images are kept as uint8 on their
    device: LR images are 8-bit values, and so must HR images be (sharpen after the pool, as published).

    Raises:
        ValueError: a queue_size that is no positive multiple of the batch.
    """

    def __init__(self, queue_size: int, batch_size_per_gpu: int):
        if queue_size < batch_size_per_gpu or queue_size % batch_size_per_gpu:
            nearest = max(1, round(queue_size / batch_size_per_gpu)) * batch_size_per_gpu
            raise ValueError(
                f"queue_size {queue_size} must be a positive multiple of batch_size_per_gpu {batch_size_per_gpu}, "
                f"such as {nearest}"
            )
        self.queue_size, self.batch_size = queue_size, batch_size_per_gpu
        self._images: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Pairs held."""
        return len(self._images["lq"]) if self._images else 0

    def exchange(self, lq: Tensor, gt: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Put a batch in and take one out: (N, 3, h, w) and (N, 3, H, W) in [0, 1] -> the same shapes."""
        assert len(lq) == len(gt) == self.batch_size, "the pool takes whole batches"
        new = {name: (images * 255).round().to(torch.uint8) for name, images in (("lq", lq), ("gt", gt))}
        if len(self) < self.queue_size:
            held = self._images or {name: images[:0] for name, images in new.items()}
            self._images = {name: torch.cat([held[name], images]) for name, images in new.items()}
            return lq, gt
        places = torch.randperm(self.queue_size, generator=generator)[: len(lq)].to(lq.device)
        taken = {name: images[places].to(lq.dtype).div_(255) for name, images in self._images.items()}
        for name, images in new.items():
            self._images[name][places] = images
        return taken["lq"], taken["gt"]

    def state_dict(self) -> dict[str, Tensor]:
        """The pairs held, uint8: {lq, gt}, (len, 3, h, w) and (len, 3, H, W); nothing while the pool is empty."""
        return {name: images.clone() for name, images in self._images.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Continue with the pairs of `state_dict`, on the device of the training.

        Raises:
            ValueError: more pairs than queue_size, or no multiple of the batch.
        """
        held = len(state["lq"]) if state else 0
        if held > self.queue_size or held % self.batch_size:
            raise ValueError(
                f"the saved pool holds {held} pairs, which do not fit queue_size {self.queue_size} and batch_size_per_gpu "
                f"{self.batch_size}: resume with the options it was saved with"
            )
        self._images = {name: images.to(device, copy=True) for name, images in state.items()}
