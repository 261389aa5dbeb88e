"""Options of the random degradation."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aesop.system.option_types import Count, Options, Side

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Kernel = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
KERNELS: list[Kernel] = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
KERNEL_PROBABILITIES = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise ValueError(f"a kernel's side is odd: {side - 1} or {side + 1}")
    return side


# At least 7, the smallest side that is drawn.
KernelSize = Annotated[int, Field(ge=7, le=201), AfterValidator(_odd)]


class DegradationOptions(Options):
    """Real-ESRGAN's random degradation of HR images into LR images (Wang et al., ICCVW 2021, section 3), in two rounds; the
    options of the second end in 2. Published files have these at the top and below datasets.train: both are read."""

    blur_kernel_size: KernelSize = 21
    """Largest side of a blur kernel; odd sides from 7 on are drawn."""
    kernel_list: list[Kernel] = KERNELS
    """Families of blur kernels: Gaussian, generalised Gaussian, plateau; isotropic or not."""
    kernel_prob: list[Probability] = KERNEL_PROBABILITIES
    """Probability of each family."""
    sinc_prob: Probability = 0.1
    """Probability of a sinc kernel in their place."""
    blur_sigma: Range = (0.2, 3)
    """Standard deviation of the kernels in pixels."""
    betag_range: Range = (0.5, 4)
    """Shape of the generalised Gaussians."""
    betap_range: Range = (1, 2)
    """Shape of the plateaus."""
    resize_prob: tuple[Probability, Probability, Probability] = (0.2, 0.7, 0.1)
    """Probability of enlarging, reducing, keeping."""
    resize_range: Range = (0.15, 1.5)
    """Smallest and largest factor."""
    gaussian_noise_prob: Probability = 0.5
    """Probability of Gaussian noise; else Poisson."""
    noise_range: Range = (1, 30)
    """Standard deviation of the Gaussian noise in grey levels of 255."""
    poisson_scale_range: Range = (0.05, 3)
    """Strength of the Poisson noise."""
    gray_noise_prob: Probability = 0.4
    """Probability of noise without colour."""
    jpeg_range: Range = (30, 95)
    """JPEG quality."""
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
    """Side of the HR crop that is degraded; smaller images are continued by reflection. The training crop is cut from it."""
    per_sample: bool = False
    """Every image of a batch is degraded in its own way, without a need for the pool; published: resizing, kind of noise and
    order are drawn for the batch."""
    queue_size: Count = 180
    """Pairs in the pool that mixes the degradations of several batches; a multiple of the batch. 0: no pool."""

    @model_validator(mode="after")
    def _sums(self) -> Self:
        faults = []
        for suffix in ("", "2"):
            names, probs = getattr(self, f"kernel_list{suffix}"), getattr(self, f"kernel_prob{suffix}")
            if len(names) != len(probs):
                faults.append(f"kernel_prob{suffix} has {len(probs)} numbers for the {len(names)} of kernel_list{suffix}")
            for option in (f"kernel_prob{suffix}", f"resize_prob{suffix}"):
                if abs(sum(getattr(self, option)) - 1) > 1e-6:
                    faults.append(f"{option} must sum to 1, sums to {sum(getattr(self, option)):g}")
        for name, value in self:
            if name.rstrip("2").endswith(("_range", "_sigma")) and not 0 <= value[0] <= value[1]:
                faults.append(f"{name} must be [smallest, largest], found {list(value)}")
        if faults:
            raise ValueError("\n".join(faults))
        return self
