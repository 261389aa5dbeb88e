"""Compare 10 000 draws of the real-world degradation with the distributions that its options request.

    python benchmarks/degradation_statistics.py [OUTPUT.md]

Deviations are in standard deviations of the count or mean; a correct sampler stays below about 4.
"""

import math
import sys
from pathlib import Path

import torch

from aesop.data.degradation.blur_kernels import KINDS
from aesop.data.degradation.random_degradation import Draw, batch_generator, draw
from aesop.options.degradation import DegradationOptions

N = 10_000


def main() -> None:
    options = DegradationOptions()
    draws = [draw(options, 1, batch_generator(0, k)) for k in range(N)]
    lines = ["| parameter | requested | sampled | deviation |", "| --- | --- | --- | --- |"]
    for number, suffix in ((1, ""), (2, "2")):
        lines += rounds(options, draws, number, suffix)
    sinc = [d.final_blur.size.item() > 1 for d in draws]
    lines += [share("final sinc", sinc, options.final_sinc_prob), share("JPEG last", [d.jpeg_last for d in draws], 0.5)]
    text = "\n".join(lines) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)
    else:
        print(text)


def rounds(options: DegradationOptions, draws: list[Draw], number: int, suffix: str) -> list[str]:
    def option(name: str):
        return getattr(options, name + suffix)

    steps = [d.first if number == 1 else d.second for d in draws]
    kernels = [step.blur for step in steps if step.blur is not None]
    lines = [share(f"blur {number}", [step.blur is not None for step in steps], options.second_blur_prob)] * (number == 2)
    kinds = [KINDS[int(kernel.kind)] for kernel in kernels]
    lines.append(share(f"blur {number}: sinc", [kind == "sinc" for kind in kinds], option("sinc_prob")))
    for family, probability in zip(option("kernel_list"), option("kernel_prob"), strict=True):
        chosen = [kind == family for kind in kinds]
        lines.append(share(f"blur {number}: {family}", chosen, probability * (1 - option("sinc_prob"))))
    sizes = torch.tensor([int(kernel.size) for kernel in kernels], dtype=torch.float64)
    sides = torch.arange(7, option("blur_kernel_size") + 1, 2, dtype=torch.float64)
    lines.append(mean(f"blur {number}: side", sizes, sides.mean().item(), sides.std(correction=0).item()))
    sigmas = torch.tensor([kernel.sigma_x.item() for kernel in kernels])
    lines.append(uniform_mean(f"blur {number}: sigma", sigmas, option("blur_sigma")))
    factors = [step.factor for step in steps]
    for name, chosen, probability in zip(
        ("enlarged", "reduced", "kept"),
        ([f > 1 for f in factors], [f < 1 for f in factors], [f == 1 for f in factors]),
        option("resize_prob"),
        strict=True,
    ):
        lines.append(share(f"resize {number}: {name}", chosen, probability))
    gaussian = [step.noise == "gaussian" for step in steps]
    lines.append(share(f"noise {number}: Gaussian", gaussian, option("gaussian_noise_prob")))
    lines.append(share(f"noise {number}: gray", [bool(step.gray) for step in steps], option("gray_noise_prob")))
    for kind, name in (("gaussian", "noise_range"), ("poisson", "poisson_scale_range")):
        strengths = torch.tensor([step.strength.item() for step in steps if step.noise == kind])
        lines.append(uniform_mean(f"noise {number}: strength, {kind}", strengths, option(name)))
    qualities = torch.tensor([step.quality.item() for step in steps])
    lines.append(uniform_mean(f"JPEG {number}: quality", qualities, option("jpeg_range")))
    return lines


def share(name: str, chosen: list[bool], probability: float) -> str:
    found = sum(chosen) / len(chosen)
    deviation = (found - probability) / math.sqrt(probability * (1 - probability) / len(chosen))
    return f"| {name} | {probability:.3f} | {found:.3f} | {deviation:+.1f} |"


def uniform_mean(name: str, values: torch.Tensor, bounds: tuple[float, float]) -> str:
    low, high = bounds
    return mean(f"{name}, mean", values, (low + high) / 2, (high - low) / math.sqrt(12))


def mean(name: str, values: torch.Tensor, expected: float, spread: float) -> str:
    found = values.double().mean().item()
    return f"| {name} | {expected:.3f} | {found:.3f} | {(found - expected) / (spread / math.sqrt(len(values))):+.1f} |"


if __name__ == "__main__":
    main()
