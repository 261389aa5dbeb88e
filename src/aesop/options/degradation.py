"""Options of the random degradation."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from aesop.system.option_types import Count, Options, Side

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Kernel = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
KERNELS: list[Kernel] = list(get_args(Kernel))
KERNEL_PROBABILITIES = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
SMALLEST_KERNEL = 7  # that is drawn
KernelSize = Annotated[int, Field(ge=SMALLEST_KERNEL, le=201)]


class RoundOptions(Options):
    """One round of blur, resizing, noise and JPEG. The defaults are those of Real-ESRGAN's first round."""

    blur_kernel_size: KernelSize = 21
    """Largest side of a blur kernel; odd sides from 7 on are drawn."""
    kernel_list: list[Kernel] = KERNELS
    """Families of blur kernels: Gaussian, generalised Gaussian and plateau, each isotropic or anisotropic."""
    kernel_prob: list[Probability] = KERNEL_PROBABILITIES
    """Probability of each family."""
    sinc_prob: Probability = 0.1
    """Probability of a sinc kernel instead."""
    blur_sigma: Range = (0.2, 3)
    """Standard deviation of the kernels in pixels."""
    betag_range: Range = (0.5, 4)
    """Shape of the generalised Gaussians."""
    betap_range: Range = (1, 2)
    """Shape of the plateaus."""
    resize_prob: tuple[Probability, Probability, Probability] = (0.2, 0.7, 0.1)
    """Probability of enlarging, shrinking and keeping the size."""
    resize_range: Range = (0.15, 1.5)
    """Smallest and largest factor."""
    gaussian_noise_prob: Probability = 0.5
    """Probability of Gaussian noise; otherwise the noise is Poisson."""
    noise_range: Range = (1, 30)
    """Standard deviation of the Gaussian noise in grey levels of 255."""
    poisson_scale_range: Range = (0.05, 3)
    """Strength of the Poisson noise."""
    gray_noise_prob: Probability = 0.4
    """Probability of gray noise."""
    jpeg_range: Range = (30, 95)
    """JPEG quality."""

    def faults(self, suffix: str = "") -> Iterator[str]:
        """Yield what is inconsistent. `suffix` ends the names of the options in the file."""
        if (side := self.blur_kernel_size) % 2 == 0:
            yield f"blur_kernel_size{suffix}: the side of a kernel must be odd: use {side - 1} or {side + 1}"
        families, probabilities = len(self.kernel_list), len(self.kernel_prob)
        if families != probabilities:
            yield f"kernel_prob{suffix} has {probabilities} numbers for the {families} of kernel_list{suffix}"
        for name, values in (("kernel_prob", self.kernel_prob), ("resize_prob", self.resize_prob)):
            if abs(sum(values) - 1) > 1e-6:
                yield f"{name}{suffix} must sum to 1, sums to {sum(values):g}"
        for name in RoundOptions.model_fields:
            value = getattr(self, name)
            if name.endswith(("_range", "_sigma")) and not 0 <= value[0] <= value[1]:
                yield f"{name}{suffix} must be [smallest, largest], found {list(value)}"
        if self.jpeg_range[1] > 100:
            yield f"jpeg_range{suffix} must not exceed 100, found {list(self.jpeg_range)}"


class DegradationOptions(RoundOptions):
    """Real-ESRGAN's random degradation of HR images into LR images in two rounds (Wang et al., ICCVW 2021, section 3).

    The options of the second round end in 2.
    """

    second_blur_prob: Probability = 0.8
    """Probability of a blur in the second round."""
    blur_kernel_size2: KernelSize = 21
    """As blur_kernel_size."""
    kernel_list2: list[Kernel] = KERNELS
    """As kernel_list."""
    kernel_prob2: list[Probability] = KERNEL_PROBABILITIES
    """As kernel_prob."""
    sinc_prob2: Probability = 0.1
    """As sinc_prob."""
    blur_sigma2: Range = (0.2, 1.5)
    """As blur_sigma."""
    betag_range2: Range = (0.5, 4)
    """As betag_range."""
    betap_range2: Range = (1, 2)
    """As betap_range."""
    resize_prob2: tuple[Probability, Probability, Probability] = (0.3, 0.4, 0.3)
    """As resize_prob."""
    resize_range2: Range = (0.3, 1.2)
    """As resize_range."""
    gaussian_noise_prob2: Probability = 0.5
    """As gaussian_noise_prob."""
    noise_range2: Range = (1, 25)
    """As noise_range."""
    poisson_scale_range2: Range = (0.05, 2.5)
    """As poisson_scale_range."""
    gray_noise_prob2: Probability = 0.4
    """As gray_noise_prob."""
    jpeg_range2: Range = (30, 95)
    """As jpeg_range."""
    final_sinc_prob: Probability = 0.8
    """Probability of a sinc kernel at the very end."""
    crop_pad_size: Side = 400
    """Side of the HR crop that is degraded; smaller images are padded by reflection. The training crop is cut from it."""
    per_sample: bool = False
    """Draw resizing, kind of noise and order for each image, so that no pool is needed. Published: for the batch."""
    queue_size: Count = 180
    """Pairs in the pool that mixes the degradations of several batches; a multiple of the batch. 0: no pool."""

    @property
    def second_round(self) -> RoundOptions:
        return RoundOptions.model_construct(**{name: getattr(self, f"{name}2") for name in RoundOptions.model_fields})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if faults := [*self.faults(), *self.second_round.faults("2")]:
            raise ValueError("\n".join(faults))
        return self
