"""Golden group D, degradations: blur kernels, filtering, sharpening, JPEG and the statistics of the noise.

A case is recognised by the first function it calls (`callable`); kernels, settings and statistics by the names and
arguments the folder gives them, so another set of seeds and sizes works too.
"""

import math
import re
from collections.abc import Callable

import golden_lib as golden
import numpy as np
import pytest
import torch
from torch import Tensor

from aesop.data.degradation import random_degradation as degradations
from aesop.data.degradation.blur_kernels import bivariate_kernels, sinc_kernels
from aesop.data.degradation.jpeg import jpeg
from aesop.data.degradation.operations import filter2d, gaussian_noise, poisson_noise, usm_sharpen
from aesop.options.degradation import DegradationOptions

# Both sides are one run of some 16 000 values: differences of correlations and of means (in standard deviations) spread by
# 0.011, those of standard deviations by less.
STATISTICS = 0.05


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def bivariate(size: int, sigma_x: float, sigma_y: float, theta: float, beta: float, plateau: bool) -> Tensor:
    arguments = (torch.tensor([value], dtype=torch.float64) for value in (sigma_x, sigma_y, theta, beta))
    return bivariate_kernels(torch.tensor([size]), *arguments, torch.tensor([plateau]), grid=size)[0]


def run_kernels(case: dict) -> None:
    for name, options in case["args"].items():
        size = options["kernel_size"]
        if name.startswith("sinc"):
            cutoff = torch.tensor([options["cutoff"]], dtype=torch.float64)
            ours = sinc_kernels(torch.tensor([size]), cutoff, grid=max(size, options["pad_to"] or 0))[0]
        else:
            sigma_y, theta = (options["sig_x"], 0) if options["isotropic"] else (options["sig_y"], options["theta"])
            beta = options.get("beta", 1)
            ours = bivariate(size, options["sig_x"], sigma_y, theta, beta, name.startswith("plateau"))
        golden.check(case, name, golden.max_abs(ours, golden.tensor(case, name)), golden.LIMITS["kernel"])


def run_random_order(case: dict) -> None:
    """The published sampler's random calls, made here in its order; our kernels for what they give."""
    for name, options in case["args"].items():
        family = options["kernel_list"][0]
        if options["noise_range"] and not family.startswith("plateau"):
            continue  # kernels with noise: no published recipe uses them, and we have none
        random = np.random.RandomState(options["seed"])
        sigma_x = random.uniform(*options["sigma_x_range"])
        sigma_y, theta = sigma_x, 0.0
        if family.endswith("aniso"):
            sigma_y = random.uniform(*options["sigma_y_range"])
            assert options["rotation_range"] == ["-pi", "pi"]
            theta = random.uniform(-math.pi, math.pi)
        beta = 1.0
        if "_" in family:
            low, high = options["betap_range" if family.startswith("plateau") else "betag_range"]
            beta = random.uniform(low, 1) if random.uniform() < 0.5 else random.uniform(1, high)
        ours = bivariate(options["kernel_size"], sigma_x, sigma_y, theta, beta, family.startswith("plateau"))
        golden.check(case, name, golden.max_abs(ours, golden.tensor(case, name)), golden.LIMITS["kernel"])


def run_filter2d(case: dict) -> None:
    images, kernels = golden.inputs(case)["img"], golden.tensor(case, "kernels")
    for name, chosen in {"per_sample": kernels, "shared": kernels[:1]}.items():
        deviation = golden.max_abs(filter2d(images, chosen), golden.tensor(case, name))
        golden.check(case, name, deviation, golden.LIMITS["data"])


def run_usm(case: dict) -> None:
    """Settings are in the names: y, y_w1_t20 (weight, threshold), y_r11 (radius; its sigma in the kernel's name)."""
    images = golden.tensor(case, "img")
    kernels = {}
    for name in case["outputs"]:
        if match := re.fullmatch(r"kernel_(\d+)|kernel_r(\d+)_sigma([\d.]+)", name):
            radius, sigma = int(match[1] or match[2]), float(match[3] or 0)
            kernels[match[2] or ""] = (sigma, golden.tensor(case, name))
            # With a mask that is 1 everywhere and weight -1 the result is the blur alone: of one bright pixel, its kernel.
            impulse = torch.zeros(1, 1, 2 * radius + 1, 2 * radius + 1)
            impulse[..., radius, radius] = 1
            around = slice(radius - radius // 2, radius + radius // 2 + 1)
            ours = usm_sharpen(impulse, -1, radius, -1, sigma)[0, 0, around, around]
            golden.check(case, name, golden.max_abs(ours, golden.tensor(case, name)), golden.LIMITS["data"])
    for name in case["outputs"]:
        if name == "img" or name.startswith("kernel_"):
            continue
        match = re.fullmatch(r"y(?:_w([\d.]+)_t([\d.]+))?(?:_r(\d+))?|usm_sharp_numpy_img0", name)
        assert match, f"unknown output {name}"
        weight, threshold, radius = float(match[1] or 0.5), float(match[2] or 10), match[3] or ""
        sigma, kernel = kernels[radius]
        ours = usm_sharpen(images, weight, int(radius or 50), threshold, sigma)
        if name.startswith("usm"):
            ours = ours[0].permute(1, 2, 0)
        # But for the default setting a pixel of the mask may fall on the other side of the threshold.
        residual = images - filter2d(images, kernel[None])
        undecided = int(((residual.abs() * 255 - threshold).abs() < case["threshold_margin_default"] / 2).sum())
        limit = golden.LIMITS["data"] + undecided * weight * (residual.abs().max() * kernel.max()).item()
        golden.check(case, name, golden.max_abs(ours, golden.tensor(case, name)), limit)


def run_jpeg(case: dict) -> None:
    if "y" in case["outputs"]:
        quality = float(re.search(r"quality (\d+)", case["what"])[1])
        images = golden.inputs(case)["img"].requires_grad_()
        ours = jpeg(images, quality, differentiable=True)
        ours.mean().backward()
        golden.check(case, "y", golden.max_abs(ours, golden.tensor(case, "y")), golden.LIMITS["data"])
        gradient = golden.tensor(case, "grad_x_of_mean_y")
        golden.check(case, "gradient", golden.rel_l2(images.grad, gradient), golden.LIMITS["loss_grad"])
        return
    images = golden.tensor(case, "img")
    for name in case["outputs"]:
        if name == "img":
            continue
        if name.startswith("q_tensor_"):
            qualities = torch.tensor(numbers(name))
            given = qualities.clone()
            ours = jpeg(images, qualities)
            assert torch.equal(qualities, given), "the quality tensor was written to"
        else:
            ours = jpeg(images[:1], numbers(name)[0])
        golden.check(case, name, golden.max_abs(ours, golden.tensor(case, name)), golden.LIMITS["data"])


def noise_statistics(noise: Tensor) -> dict[str, object]:
    def correlation(a: Tensor, b: Tensor) -> float:
        return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()

    return {
        "mean": noise.mean().item(),
        "std_per_image": noise.std((1, 2, 3)).tolist(),
        "corr_channels_0_1_per_image": [correlation(image[0], image[1]) for image in noise],
        "corr_image0_image1": correlation(noise[0], noise[1]),
    }


def check_statistics(case: dict, name: str, noise: Tensor, reference: dict) -> None:
    ours = noise_statistics(noise)
    for what, value in reference.items():
        theirs, mine = np.atleast_1d(value), np.atleast_1d(ours[what])
        if what == "std_per_image":
            deviation = golden.rel_max(mine, theirs)
        elif what == "mean":
            deviation = golden.max_abs(mine, theirs) / max(reference["std_per_image"])
        else:
            deviation = golden.max_abs(mine, theirs)
        golden.check(case, f"{name}: {what}", deviation, STATISTICS)


def per_image(name: str, option: str, images: int, default: float) -> Tensor:
    """`option=3` or `option=[3,4]` in the name of a statistic -> (images,)."""
    match = re.search(rf"{option}=(\[[^\]]*\]|[\d.]+)", name)
    values = numbers(match[1]) if match else [default]
    return torch.tensor(values * (images if len(values) == 1 else 1))


def run_noise(case: dict) -> None:
    """`base` is flat 0.5, `ramp` holds each of the 256 levels equally often (the case's `what`)."""
    generator = torch.Generator().manual_seed(0)
    base = torch.full((4, 3, 128, 128), 0.5)
    ramp = (torch.arange(256.0).view(16, 16) / 255).tile(2, 3, 8, 8)
    for name, reference in case["values"].items():
        gray_all = float(" gray" in name and "gray=" not in name)
        if name.startswith("generate_gaussian_noise_pt"):
            sigma, gray = per_image(name, "sigma", 4, 0), per_image(name, "gray", 4, gray_all)
            check_statistics(case, name, gaussian_noise(base, sigma / 255, gray.bool(), generator), reference)
        elif name.startswith("generate_poisson_noise_pt") and "ramp" in name:
            scale, gray = per_image(name, "scale", 2, 1), per_image(name, "gray", 2, gray_all)
            check_statistics(case, name, poisson_noise(ramp, scale, gray.bool(), generator), reference)
        elif name.startswith("generate_poisson_noise_pt flat"):
            # The level is not told. With one distinct level, hence v = 1, it is the variance of the noise.
            level = np.square(reference["std_per_image"]).mean().item()
            ours = poisson_noise(torch.full((2, 3, 128, 128), level), torch.ones(2), torch.zeros(2).bool(), generator)
            std = torch.tensor(reference["std_per_image"])
            golden.check(case, f"{name}: std", golden.rel_max(ours.std((1, 2, 3)), std), STATISTICS)
        elif name.startswith("random_generate_gaussian_noise_pt"):
            low, high, gray_prob, n = numbers(name)
            options = DegradationOptions(noise_range=(low, high), gray_noise_prob=gray_prob, gaussian_noise_prob=1.0)
            drawn = degradations.draw(options, int(n), generator).first
            assert drawn.noise == "gaussian"
            # Two runs of n samples: their means differ by sqrt(2 / n) standard deviations.
            limit = 4 * math.sqrt(2 / n)
            spread = (high - low) / math.sqrt(12)
            mean, gray = drawn.strength.mean().item(), drawn.gray.double().mean().item()
            golden.check(case, f"{name}: mean", abs(mean - reference["sigma_mean"]) / spread, limit)
            golden.check(case, f"{name}: gray", abs(gray - reference["gray_fraction"]), limit / 2)
            assert low <= drawn.strength.min() < reference["sigma_min"] + 0.02 * (high - low)
            assert reference["sigma_max"] - 0.02 * (high - low) < drawn.strength.max() <= high
        else:
            assert name.startswith("random_add_gaussian_noise_pt"), f"unknown statistic {name}"
            sigma = torch.full((4,), numbers(name)[0])
            ours = (base + gaussian_noise(base, sigma / 255, torch.zeros(4).bool(), generator)).clamp(0, 1)
            mean, std = ours.mean().item(), ours.std().item()
            golden.check(case, f"{name}: mean", abs(mean - reference["mean"]) / reference["std"], STATISTICS)
            golden.check(case, f"{name}: std", abs(std / reference["std"] - 1), STATISTICS)


RUNNERS: dict[str, Callable[[dict], None]] = {
    "bivariate_Gaussian": run_kernels,
    "random_mixed_kernels": run_random_order,
    "filter2D": run_filter2d,
    "USMSharp": run_usm,
    "DiffJPEG": run_jpeg,
    "generate_gaussian_noise_pt": run_noise,
}


def is_degradation(case: dict) -> bool:
    return case["callable"].partition(",")[0] in RUNNERS


@pytest.mark.parametrize("case", golden.params("D", is_degradation))
def test_golden(case: dict) -> None:
    RUNNERS[case["callable"].partition(",")[0]](case)
