"""Blur kernels of Real-ESRGAN's degradations (Wang et al., ICCVW 2021, sections 3.1 and 3.4): drawn and computed for a
whole batch at once.

Everything here is computed on the CPU in float64 (a few hundred numbers a kernel); `render` returns float32, to be moved.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

FAMILIES = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
KINDS = (*FAMILIES, "sinc")
SINC = KINDS.index("sinc")
# A family's number, halved, is its formula; odd families are anisotropic.
GENERALIZED, PLATEAU = 1, 2
SMALLEST = 7
"""Smallest side of a drawn kernel."""


def uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    """(n,) draws from [low, high), float64, on the CPU."""
    return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class KernelParameters:
    """What n kernels are computed from; every field (n,). A kernel uses those that its kind has."""

    kind: Tensor
    """Place in KINDS."""
    size: Tensor
    """Side in pixels, odd; outside of it the kernel is zero. 1: no blur, whatever the kind."""
    sigma_x: Tensor
    sigma_y: Tensor
    """Standard deviations along the two axes, in pixels; the same for the isotropic families."""
    theta: Tensor
    """Rotation of the axes in radians."""
    beta: Tensor
    """Shape of the generalised and plateau families: 1 is the Gaussian, or 1 / (1 + q)."""
    cutoff: Tensor
    """Cutoff of a sinc in radians per pixel."""

    def describe(self) -> list[str]:
        """One line for each kernel, such as `aniso 13 px, sigma 1.20 x 0.35, turned by 40 degrees`."""
        rows = zip(*(getattr(self, name).tolist() for name in self.__dataclass_fields__), strict=True)
        return [_describe(*row) for row in rows]


def _describe(kind: int, size: int, sigma_x: float, sigma_y: float, theta: float, beta: float, cutoff: float) -> str:
    if size == 1:
        return "none"
    if kind == SINC:
        return f"sinc {size} px, cutoff {cutoff:.2f}"
    text = f"{KINDS[kind]} {size} px, sigma {sigma_x:.2f}"
    if kind % 2:
        text += f" x {sigma_y:.2f}, turned by {math.degrees(theta):.0f} degrees"
    return text if kind // 2 == 0 else f"{text}, beta {beta:.2f}"


def sample_blur_kernels(
    n: int,
    families: Sequence[str],
    probabilities: Sequence[float],
    sinc_prob: float,
    sigma: tuple[float, float],
    betag: tuple[float, float],
    betap: tuple[float, float],
    largest: int,
    generator: Generator,
) -> KernelParameters:
    """n kernels as the published data set draws them, one for an image.

    The side is any odd number of 7..largest. With probability `sinc_prob` a sinc, its cutoff from pi/3..pi or, from side 13
    on, pi/5..pi; else one of `families`: both sigmas from `sigma`, the rotation from -pi..pi, beta from the range of its
    family, where the part below 1 and the part above it are equally likely.

    Raises:
        ValueError: unknown families, a number of probabilities other than theirs, or a `largest` that is even or below 7.
    """
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown or len(families) != len(probabilities):
        raise ValueError(
            f"kernel_list and kernel_prob: as many probabilities as families, out of {', '.join(FAMILIES)}; "
            f"found {list(families)} and {list(probabilities)}"
        )
    size = _sizes(n, largest, generator)
    chosen = torch.multinomial(torch.tensor(probabilities, dtype=torch.float64), n, True, generator=generator)
    kind = torch.tensor([FAMILIES.index(name) for name in families])[chosen]
    kind = torch.where(uniform(n, 0, 1, generator) < sinc_prob, SINC, kind)
    sigma_x, sigma_y = uniform(n, *sigma, generator), uniform(n, *sigma, generator)
    theta = uniform(n, -math.pi, math.pi, generator)
    below = uniform(n, 0, 1, generator) < 0.5
    place = uniform(n, 0, 1, generator)
    beta_g, beta_p = (torch.where(below, low + (1 - low) * place, 1 + (high - 1) * place) for low, high in (betag, betap))
    lowest = torch.where(size < 13, math.pi / 3, math.pi / 5)
    return KernelParameters(
        kind=kind,
        size=size,
        sigma_x=sigma_x,
        sigma_y=torch.where(kind % 2 == 1, sigma_y, sigma_x),
        theta=theta,
        beta=torch.where(kind // 2 == GENERALIZED, beta_g, torch.where(kind // 2 == PLATEAU, beta_p, 1.0)),
        cutoff=lowest + (math.pi - lowest) * uniform(n, 0, 1, generator),
    )


def sample_final_kernels(n: int, sinc_prob: float, largest: int, generator: Generator) -> KernelParameters:
    """n kernels for the end: with probability `sinc_prob` a sinc of cutoff pi/3..pi, side as above; else none (side 1)."""
    size = _sizes(n, largest, generator)
    ones = torch.ones(n, dtype=torch.float64)
    return KernelParameters(
        kind=torch.full((n,), SINC),
        size=torch.where(uniform(n, 0, 1, generator) < sinc_prob, size, 1),
        sigma_x=ones,
        sigma_y=ones,
        theta=ones,
        beta=ones,
        cutoff=uniform(n, math.pi / 3, math.pi, generator),
    )


def _sizes(n: int, largest: int, generator: Generator) -> Tensor:
    if largest < SMALLEST or largest % 2 == 0:
        raise ValueError(f"blur_kernel_size must be an odd number from {SMALLEST} on, found {largest}")
    return SMALLEST + 2 * torch.randint((largest - SMALLEST) // 2 + 1, (n,), generator=generator)


def render(parameters: KernelParameters, grid: int) -> Tensor:
    """The kernels (n, grid, grid), float32, each summing to 1; `grid` is odd and no smaller than any of them."""
    p = parameters
    bivariate = bivariate_kernels(p.size, p.sigma_x, p.sigma_y, p.theta, p.beta, p.kind // 2 == PLATEAU, grid)
    is_sinc = (p.kind == SINC)[:, None, None]
    return torch.where(is_sinc, sinc_kernels(p.size, p.cutoff, grid), bivariate).float()


def bivariate_kernels(
    size: Tensor, sigma_x: Tensor, sigma_y: Tensor, theta: Tensor, beta: Tensor, plateau: Tensor, grid: int
) -> Tensor:
    """n generalised Gaussians exp(-q^beta / 2), or plateaus 1 / (1 + q^beta): arguments (n,) -> (n, grid, grid), float64.

    q = v' S^-1 v at the offset v = (x, y) from the centre, S with the standard deviations sigma_x and sigma_y (pixels)
    along axes turned by theta. beta = 1 is the Gaussian. Zero outside the middle size x size pixels; sums to 1.
    """
    y, x = _offsets(grid)
    cos, sin = theta.cos()[:, None, None], theta.sin()[:, None, None]
    along, across = (x * cos + y * sin) / sigma_x[:, None, None], (y * cos - x * sin) / sigma_y[:, None, None]
    q = (along**2 + across**2) ** beta[:, None, None]
    return _cut(torch.where(plateau[:, None, None], 1 / (1 + q), torch.exp(-q / 2)), size)


def sinc_kernels(size: Tensor, cutoff: Tensor, grid: int) -> Tensor:
    """n circular low-pass filters w J1(w r) / (2 pi r), w^2 / (4 pi) at r = 0: arguments (n,) -> (n, grid, grid), float64.

    The cutoff w is in radians per pixel, r the distance from the centre. Zero outside the middle size x size pixels; sums
    to 1, with rings of negative values.
    """
    y, x = _offsets(grid)
    w, r = cutoff[:, None, None], torch.hypot(x, y)
    ring = w * torch.special.bessel_j1(w * r) / (2 * math.pi * r)  # NaN at the centre, replaced below
    return _cut(torch.where(r == 0, w * w / (4 * math.pi), ring), size)


def _offsets(grid: int) -> tuple[Tensor, Tensor]:
    """(y, x) of each pixel from the centre: (grid, 1) and (1, grid)."""
    line = torch.arange(grid, dtype=torch.float64) - grid // 2
    return line[:, None], line[None]


def _cut(kernels: Tensor, size: Tensor) -> Tensor:
    y, x = _offsets(kernels.shape[-1])
    inside = torch.maximum(y.abs(), x.abs()) <= (size // 2)[:, None, None]
    kernels = torch.where(inside, kernels, 0.0)
    return kernels / kernels.sum((1, 2), keepdim=True)
