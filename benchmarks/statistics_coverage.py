"""Check by simulation what the intervals and tests of `aesop table` promise.

    python benchmarks/statistics_coverage.py [--experiments 5000] [--record]

* Coverage: how often the 95 % interval of a mean, and of a mean paired difference, contains the population's value.
* False positives: how often at least one of four methods without any difference is called significantly better than
  another, by the test of all pairs (marks in tables) and by the test against one reference. A fifth of the experiments.

Each experiment draws a new test set. The populations of means and differences are

* photographs: PSNR, SSIM, and LPIPS of the bundled model, and their differences to bicubic, on 100 photographs of BSDS (50
  for testing, every fourth of the 200 for training; photograph_values.json), drawn with replacement,
* distributions of similar shape: `normal`, `beta` (skewness 0.8), `skewed` (1.2),
* and two that are worse than any metric measured here: `log-normal` (1.75), `heavy tails` (t with 3 degrees of freedom).

With --record, writes results/statistics_coverage_<date>_cpu.json, and the coverage of means to the package
(assets/interval_coverage.json), which `aesop table` prints beside intervals. `--photographs results.json` makes
photograph_values.json from `aesop measure bicubic aesop_compact_x4 --metrics psnr,ssim,lpips`, and does nothing else.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import torch

import aesop
from aesop.evaluation.combine import read_results
from aesop.evaluation.statistics import RESAMPLES, corrected, mean_intervals, paired_test
from aesop.system.files import replacing
from record import described, write

PHOTOGRAPHS = Path(__file__).parent / "photograph_values.json"
"""Method -> metric -> values of photographs."""
PACKAGED = Path(aesop.__file__).parent / "assets" / "interval_coverage.json"
COUNTS = (5, 6, 8, 10, 14, 20, 30, 50, 100)
FEW_COUNTS = (5, 8, 14, 50, 100)
METHODS = 4
FAMILIES = {
    "all pairs": list(itertools.combinations(range(METHODS), 2)),
    "against one": [(0, k) for k in range(1, METHODS)],
}
AT_ONCE = 50
"""Experiments that share the images drawn by the bootstrap."""
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def photographs(name: str, *, difference: bool = False) -> tuple[Draw, float]:
    """A metric of the bundled model on photographs, or its difference to bicubic; see MEANS."""
    measured = json.loads(PHOTOGRAPHS.read_text())["values"]
    values = np.array(measured["aesop_compact_x4"][name])
    if difference:
        values = values - np.array(measured["Bicubic"][name])
    return lambda rng, shape: values[rng.integers(len(values), size=shape)], float(values.mean())


SKEWED = (2 / 1.2) ** 2
"""Shape of the gamma distribution with skewness 1.2 and mean 1 (scale 1 / SKEWED)."""
MEANS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(28, 3, shape), 28),
    "beta": (lambda rng, shape: rng.beta(2, 8, shape), 0.2),
    "photographs, PSNR": photographs("psnr"),
    "photographs, SSIM": photographs("ssim"),
    "photographs, LPIPS": photographs("lpips"),
    "log-normal": (lambda rng, shape: rng.lognormal(0, 0.5, shape), math.exp(0.5**2 / 2)),
}
DIFFERENCES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(0.3, 0.3, shape), 0.3),
    "skewed": (lambda rng, shape: rng.gamma(SKEWED, 1 / SKEWED, shape), 1),
    "photographs, PSNR": photographs("psnr", difference=True),
    "photographs, SSIM": photographs("ssim", difference=True),
    "photographs, LPIPS": photographs("lpips", difference=True),
    "heavy tails": (lambda rng, shape: 0.3 + 0.3 * rng.standard_t(3, shape), 0.3),
}
"""Population -> (values of images, their mean)."""
NOISE: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(0, 0.2, shape),
    "skewed": lambda rng, shape: 0.2 * rng.gamma(SKEWED, 1 / SKEWED, shape),
    "heavy tails": lambda rng, shape: 0.2 * rng.standard_t(3, shape),
    "ties": lambda rng, shape: np.round(rng.normal(0, 0.2, shape), 1),
}
"""What a method adds to an image's difficulty. With `ties`, an eighth of the differences is 0, and most others are equal."""
SLOW = ("ties", 8)
"""Up to 13 images with ties, scipy enumerates all signs, which is exact and takes 40 ms."""


def coverage(population: tuple[Draw, float], experiments: int, resamples: int, images: int) -> float:
    draw, mean = population
    hits = 0
    for start in range(0, experiments, AT_ONCE):
        values = draw(np.random.default_rng([images, start]), (min(AT_ONCE, experiments - start), images))
        low, high = mean_intervals(values, resamples, seed=start).T
        hits += int(np.sum((low <= mean) & (mean <= high)))
    return hits / experiments


def false_positives(experiments: int, images: int, noise: str) -> dict[str, float]:
    found = dict.fromkeys(FAMILIES, 0)
    rng = np.random.default_rng(images)
    for _ in range(experiments):
        values = rng.normal(28, 3, images) + NOISE[noise](rng, (METHODS, images))
        tests = {(a, b): paired_test(values[a] - values[b]) for a, b in FAMILIES["all pairs"]}
        for name, pairs in FAMILIES.items():
            found[name] += any(test.significant for test in corrected([tests[pair] for pair in pairs]))
    return {f"{noise}, {name}": count / experiments for name, count in found.items()}


def keep_photographs(file: Path) -> None:
    """Write photograph_values.json from results of `aesop measure`."""
    results = read_results(file)
    values: dict[str, dict[str, list[float]]] = {}
    for method in results.methods:
        rows = [(name, image, row) for name, images in method.values.items() for image, row in sorted(images.items())]
        values[method.name] = {metric: [float(f"{row[metric]:.6g}") for _, _, row in rows] for metric in results.metrics}
    sets = {name: record["images"] for name, record in results.protocol["sets"].items()}
    with replacing(PHOTOGRAPHS) as temporary:
        temporary.write_text(json.dumps({"sets": sets, "versions": results.protocol["versions"], "values": values}) + "\n")


def table(title: str, shares: dict[int, dict[str, float]]) -> None:
    print(f"\n| {title} | " + " | ".join(map(str, shares)) + " |\n" + "| --- " * (len(shares) + 1) + "|")
    for name in shares[max(shares)]:
        print(f"| {name} | " + " | ".join(f"{row[name]:.1%}" if name in row else "" for row in shares.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--photographs", type=Path)
    arguments = parser.parse_args()
    if arguments.photographs:
        return keep_photographs(arguments.photographs)
    experiments, resamples = arguments.experiments, arguments.resamples
    torch.set_num_threads(1)
    record = described(torch.device("cpu")) | {"experiments": experiments, "resamples": resamples, "methods": METHODS}
    record["versions"] |= {"numpy": np.__version__, "scipy": scipy.__version__}
    start = time.process_time()
    record["mean"] = {n: {name: coverage(each, experiments, resamples, n) for name, each in MEANS.items()} for n in COUNTS}
    table("mean: coverage by number of images", record["mean"])
    record["difference"] = {
        n: {name: coverage(each, experiments, resamples, n) for name, each in DIFFERENCES.items()} for n in FEW_COUNTS
    }
    table("paired difference: coverage", record["difference"])
    record["false_positives"] = {
        n: {k: v for name in NOISE if (name, n) != SLOW for k, v in false_positives(experiments // 5, n, name).items()}
        for n in FEW_COUNTS[1:]  # 5 images are never tested
    }
    table("no difference: false positives", record["false_positives"])
    errors = [1.96 * math.sqrt(0.05 * 0.95 / count) for count in (experiments, experiments // 5)]
    print(
        f"\n{experiments} experiments, and {experiments // 5} for false positives: 95 % and 5 % are known to "
        f"{errors[0]:.1%} and {errors[1]:.1%}; {resamples} resamples (in tables: {RESAMPLES}); "
        f"{time.process_time() - start:.0f} s of one thread"
    )
    if arguments.record:
        write("statistics_coverage", record)
        packaged = {"record": f"benchmarks/results/statistics_coverage_{record['date']}_cpu.json", "mean": record["mean"]}
        with replacing(PACKAGED) as temporary:
            temporary.write_text(json.dumps(packaged, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
