"""Blur kernels of Real-ESRGAN's degradation (Wang et al., ICCVW 2021, sections 3.1 and 3.4), drawn and rendered by batch."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from aesop.options.degradation import KERNELS, SMALLEST_KERNEL, RoundOptions

KINDS = (*KERNELS, "sinc")
SINC = KINDS.index("sinc")
# The number of a family halved is its formula. Odd families are anisotropic.
GENERALIZED, PLATEAU = 1, 2


def uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    """Draw n numbers from [low, high), float64, on the CPU."""
    return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class KernelParameters:
    """Parameters of n kernels, each (n,). A kernel uses those of its kind."""

    kind: Tensor  # index into KINDS
    size: Tensor  # side in pixels, odd. The kernel is zero outside. 1: no blur, whatever the kind
    sigma_x: Tensor  # standard deviations along the two axes, in pixels; equal in isotropic families
    sigma_y: Tensor
    theta: Tensor  # rotation of the axes in radians
    beta: Tensor  # shape of the generalised and plateau families. 1 is the Gaussian, or 1 / (1 + q)
    cutoff: Tensor  # of a sinc, in radians per pixel

    def describe(self, i: int) -> str:
        """Describe kernel i, such as `aniso 13 px, sigma 1.20 x 0.35, turned by 40 degrees`."""
        kind, size = int(self.kind[i]), self.size[i]
        if size == 1:
            return "none"
        if kind == SINC:
            return f"sinc {size} px, cutoff {self.cutoff[i]:.2f}"
        text = f"{KINDS[kind]} {size} px, sigma {self.sigma_x[i]:.2f}"
        if kind % 2:
            text += f" x {self.sigma_y[i]:.2f}, turned by {math.degrees(self.theta[i]):.0f} degrees"
        return text if kind // 2 == 0 else f"{text}, beta {self.beta[i]:.2f}"


def sample_blur_kernels(n: int, options: RoundOptions, generator: Generator) -> KernelParameters:
    """Draw one kernel for each of n images, as Real-ESRGAN's dataset does.

    The side is an odd number in 7..blur_kernel_size. With probability sinc_prob the kernel is a sinc with a cutoff in
    pi/3..pi or, for sides of at least 13, pi/5..pi. Otherwise it belongs to a family of kernel_list: sigmas in blur_sigma,
    rotation in -pi..pi, and beta in the family's range, below and above 1 with equal probability.
    """
    size = _sizes(n, options.blur_kernel_size, generator)
    chosen = torch.multinomial(torch.tensor(options.kernel_prob, dtype=torch.float64), n, True, generator=generator)
    kind = torch.tensor([KERNELS.index(name) for name in options.kernel_list])[chosen]
    kind = torch.where(uniform(n, 0, 1, generator) < options.sinc_prob, SINC, kind)
    sigma_x, sigma_y = uniform(n, *options.blur_sigma, generator), uniform(n, *options.blur_sigma, generator)
    theta = uniform(n, -math.pi, math.pi, generator)
    below = uniform(n, 0, 1, generator) < 0.5
    place = uniform(n, 0, 1, generator)
    ranges = (options.betag_range, options.betap_range)
    beta_g, beta_p = (torch.where(below, low + (1 - low) * place, 1 + (high - 1) * place) for low, high in ranges)
    beta = torch.where(kind // 2 == GENERALIZED, beta_g, torch.where(kind // 2 == PLATEAU, beta_p, 1.0))
    lowest = torch.where(size < 13, math.pi / 3, math.pi / 5)
    cutoff = lowest + (math.pi - lowest) * uniform(n, 0, 1, generator)
    return KernelParameters(kind, size, sigma_x, torch.where(kind % 2 == 1, sigma_y, sigma_x), theta, beta, cutoff)


def sample_final_kernels(n: int, sinc_prob: float, largest: int, generator: Generator) -> KernelParameters:
    """Draw n final kernels: with probability `sinc_prob` a sinc with a cutoff in pi/3..pi, otherwise none (side 1)."""
    size = _sizes(n, largest, generator)
    size = torch.where(uniform(n, 0, 1, generator) < sinc_prob, size, 1)
    unused = torch.ones(n, dtype=torch.float64)
    cutoff = uniform(n, math.pi / 3, math.pi, generator)
    return KernelParameters(torch.full((n,), SINC), size, unused, unused, unused, unused, cutoff)


def _sizes(n: int, largest: int, generator: Generator) -> Tensor:
    return SMALLEST_KERNEL + 2 * torch.randint((largest - SMALLEST_KERNEL) // 2 + 1, (n,), generator=generator)


def render(parameters: KernelParameters, grid: int) -> Tensor:
    """Compute the kernels on the CPU, (n, grid, grid), each with a sum of 1. `grid` is odd and at least the largest side."""
    p = parameters
    bivariate = bivariate_kernels(p.size, p.sigma_x, p.sigma_y, p.theta, p.beta, p.kind // 2 == PLATEAU, grid)
    is_sinc = (p.kind == SINC)[:, None, None]
    return torch.where(is_sinc, sinc_kernels(p.size, p.cutoff, grid), bivariate).float()


def bivariate_kernels(
    size: Tensor, sigma_x: Tensor, sigma_y: Tensor, theta: Tensor, beta: Tensor, plateau: Tensor, grid: int
) -> Tensor:
    """Compute generalised Gaussians exp(-q^beta / 2) or plateaus 1 / (1 + q^beta): (n,) -> (n, grid, grid), float64.

    At the offset v = (x, y) from the centre q = v' S^-1 v, where S has the standard deviations sigma_x and sigma_y (pixels)
    along axes turned by theta. Kernels are zero outside the middle size x size pixels and have a sum of 1.
    """
    y, x = _offsets(grid)
    cos, sin = theta.cos()[:, None, None], theta.sin()[:, None, None]
    along, across = (x * cos + y * sin) / sigma_x[:, None, None], (y * cos - x * sin) / sigma_y[:, None, None]
    q = (along**2 + across**2) ** beta[:, None, None]
    return _cut(torch.where(plateau[:, None, None], 1 / (1 + q), torch.exp(-q / 2)), size)


def sinc_kernels(size: Tensor, cutoff: Tensor, grid: int) -> Tensor:
    """Compute circular low-pass filters w J1(w r) / (2 pi r), or w^2 / (4 pi) at r = 0: (n,) -> (n, grid, grid), float64.

    w is the cutoff in radians per pixel and r the distance from the centre. Kernels are zero outside the middle size x size
    pixels and have a sum of 1.
    """
    y, x = _offsets(grid)
    w, r = cutoff[:, None, None], torch.hypot(x, y)
    ring = w * torch.special.bessel_j1(w * r) / (2 * math.pi * r)  # NaN at the centre
    return _cut(torch.where(r == 0, w * w / (4 * math.pi), ring), size)


def _offsets(grid: int) -> tuple[Tensor, Tensor]:
    line = torch.arange(grid, dtype=torch.float64) - grid // 2
    return line[:, None], line[None]


def _cut(kernels: Tensor, size: Tensor) -> Tensor:
    """Set pixels outside the middle size x size to zero and normalise the sum to 1."""
    y, x = _offsets(kernels.shape[-1])
    kernels = torch.where(torch.maximum(y.abs(), x.abs()) <= (size // 2)[:, None, None], kernels, 0.0)
    return kernels / kernels.sum((1, 2), keepdim=True)
