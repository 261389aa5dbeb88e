"""Measure the cost of the real-world degradation: images per second and its share of a training step.

    python benchmarks/degradation.py [--device cuda] [--quick] [--record]

Batches of twelve 400x400 crops of the demo's photographs are sharpened and degraded with Real-ESRGAN's values in three ways:

* as in training: one draw per batch, all kernels of a batch computed together;
* per_sample: a separate draw for each image;
* as published: one draw per batch, the three kernels of each image computed one after the other with NumPy. This is a
  stand-in: it evaluates the formulas kernel by kernel as the published loader does, then runs our operations on the
  device. It does not include the additional cost of the published noise and JPEG functions. The published loader computes
  kernels in parallel with the training, so their time is also reported separately.

All three process the same images; the first and the third use the same kernels and draws. The share of a step is the time
of sharpening, degradation, cropping, and pool divided by that time plus the step: RRDBNet 64/23, 256x256 crops, and batch
12 on a GPU; a small network and batch on the CPU, which says little about a real training. Weights are random, which does
not affect the time.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy.special
import torch
from torch import Tensor

import aesop
from aesop.archs import build_network
from aesop.data.degradation.blur_kernels import (
    GENERALIZED,
    PLATEAU,
    SINC,
    KernelParameters,
    render,
    sample_blur_kernels,
    sample_final_kernels,
)
from aesop.data.degradation.degrader import Degrader
from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.random_degradation import batch_generator, degrade
from aesop.data.loader import to_device
from aesop.data.training_crops import HRCrops
from aesop.losses import build_losses
from aesop.losses.aesop import AESOPLoss
from aesop.losses.perceptual import PerceptualLoss
from aesop.options.datasets import TrainDataset
from aesop.options.degradation import DegradationOptions
from aesop.options.read import build_config
from aesop.system.device import pick_device
from aesop.system.distributed import World
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.stage import Stage
from record import described, write

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "train"
SCALE, BATCH, CROP, GRID = 4, 12, 400, 21
OPTIONS = DegradationOptions()


def render_one_by_one(parameters: KernelParameters, grid: int) -> Tensor:
    """Compute the kernels like `blur_kernels.render`, one at a time in NumPy."""
    names = list(parameters.__dataclass_fields__)
    rows = zip(*(getattr(parameters, name).tolist() for name in names), strict=True)
    return torch.from_numpy(np.stack([kernel(**dict(zip(names, row, strict=True)), grid=grid) for row in rows]))


def kernel(
    kind: int, size: int, sigma_x: float, sigma_y: float, theta: float, beta: float, cutoff: float, grid: int
) -> np.ndarray:
    """Compute one kernel on size x size pixels and pad it to (grid, grid), float32."""
    line = np.arange(size) - size // 2
    x, y = np.meshgrid(line, line)
    if kind == SINC:
        r = np.sqrt(x**2 + y**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = cutoff * scipy.special.j1(cutoff * r) / (2 * np.pi * r)
        values[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    else:
        turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        inverse = np.linalg.inv(turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T)
        offsets = np.stack([x, y], -1).astype(np.float64)
        q = np.sum((offsets @ inverse) * offsets, -1)
        shape = beta if kind // 2 in (GENERALIZED, PLATEAU) else 1.0
        values = 1 / (1 + q**shape) if kind // 2 == PLATEAU else np.exp(-0.5 * q**shape)
    return np.pad(values / values.sum(), (grid - size) // 2).astype(np.float32)


def seconds(work: Callable[[int], Any], device: torch.device, repeats: int, first: int = 0) -> list[float]:
    """Return the duration of each call with first, first + 1, ..., including synchronisation."""
    durations = []
    for number in range(first, first + repeats):
        _wait(device)
        begun = time.perf_counter()
        work(number)
        _wait(device)
        durations.append(time.perf_counter() - begun)
    return durations


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def photographs(n: int, device: torch.device) -> Tensor:
    options = TrainDataset(dataroot_gt=str(PHOTOS), type="RealESRGANDataset")
    crops = HRCrops(options, CROP, seed=0)
    return to_device(torch.stack([crops[k]["gt"] for k in range(n)]), device)


def measure_degradation(device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """Return images/s and milliseconds per batch for each method. The methods alternate, draw by draw."""
    gt = photographs(BATCH, device)

    def work(number: int, per_sample: bool = False) -> None:
        degrade(usm_sharpen(gt), OPTIONS, SCALE, batch_generator(0, number), per_sample)

    def published(number: int) -> None:
        with patch("aesop.data.degradation.random_degradation.render", render_one_by_one):
            work(number)

    ways = {"a draw a batch": work, "per_sample": lambda number: work(number, True), "as published (stand-in)": published}
    for way in ways.values():
        seconds(way, device, 2)
    durations: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats):
        for name, way in ways.items():
            durations[name] += seconds(way, device, 1, number)
    return {
        name: {
            "images_per_s": BATCH * repeats / sum(each),
            "ms_per_batch": 1000 * statistics.median(each),
            "slowest_ms": 1000 * max(each),
        }
        for name, each in durations.items()
    }


def measure_kernels(repeats: int) -> dict[str, float]:
    """Return the time for the kernels of a batch on the CPU, in ms, and the largest difference between both methods."""
    rounds = (OPTIONS, OPTIONS.second_round)
    drawn = [sample_blur_kernels(BATCH, options, batch_generator(0, number)) for number, options in enumerate(rounds, 1)]
    drawn.append(sample_final_kernels(BATCH, OPTIONS.final_sinc_prob, GRID, batch_generator(0, 3)))
    cpu, result = torch.device("cpu"), {}
    for name, way in (("ours_ms", render), ("one_by_one_ms", render_one_by_one)):
        seconds(lambda _: [way(p, GRID) for p in drawn], cpu, 2)  # noqa: B023
        result[name] = 1000 * statistics.median(seconds(lambda _: [way(p, GRID) for p in drawn], cpu, repeats))  # noqa: B023
    result["largest_difference"] = max((render(p, GRID) - render_one_by_one(p, GRID)).abs().max().item() for p in drawn)
    return result


def measure_steps(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Return the ms of degradation and step, and the share of the degradation, for the psnr and the adversarial stage."""
    full = device.type == "cuda"
    rrdb = {"type": "RRDBNet", "num_feat": 64, "num_block": 23, "num_grow_ch": 32}
    if not full:
        rrdb |= {"num_feat": 16, "num_block": 1, "num_grow_ch": 8}
    batch, side = (BATCH, 256) if full else (2, 128)
    rows = []
    for kind in ("psnr", "adversarial"):
        config, _ = build_config(
            {
                "name": kind,
                "stage": kind,
                "network_g": rrdb,
                "network_d": {"type": "UNetDiscriminatorSN", "num_feat": 64 if full else 16},
                "datasets": {
                    "train": {
                        "type": "RealESRGANDataset",
                        "dataroot_gt": str(PHOTOS),
                        "gt_size": side,
                        "batch_size_per_gpu": batch,
                    }
                },
                "degradation": {"queue_size": batch, "crop_pad_size": CROP},
                "path": {"from_scratch": True},
                "train": {"total_iter": 1} | (PSNR if kind == "psnr" else ADVERSARIAL),
            },
            "the benchmark",
        )
        stage = make_stage(config, World(device=device))
        degrader = Degrader(config, 0)
        crops = photographs(batch, device)
        pairs: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

        def make(iteration: int, degrader: Degrader = degrader, crops: Tensor = crops, pairs: dict = pairs) -> None:
            lq, gt = degrader(crops, iteration)
            pairs[0] = lq, gt, usm_sharpen(gt)

        def step(iteration: int, stage: Stage = stage, pairs: dict = pairs) -> None:
            lq, gt, sharpened = pairs[0]
            stage.step(lq, gt, iteration, sharpened)

        made, stepped = [], []
        for iteration in range(1, repeats + 3):
            made += seconds(make, device, 1, iteration)
            stepped += seconds(step, device, 1, iteration)
        degradation, rest = (1000 * statistics.median(each[2:]) for each in (made, stepped))
        rows.append(
            {
                "stage": kind,
                "network": f"RRDBNet {rrdb['num_feat']}/{rrdb['num_block']}" + ("" if full else " (small: CPU)"),
                "gt_size": side,
                "batch": batch,
                "degradation_ms": degradation,
                "step_ms": rest,
                "share": degradation / (degradation + rest),
            }
        )
    return rows


PSNR: dict[str, Any] = {"pixel_opt": {}, "l1_gt_usm": True}
ADVERSARIAL: dict[str, Any] = {
    "aesop_opt": {"autoencoder_load": {"path": "random"}},
    "perceptual_opt": {"layer_weights": {"conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1}},
    "gan_opt": {"loss_weight": 0.1, "relativistic": False},
    "percep_gt_usm": True,
}


def make_stage(config: Any, world: World) -> Stage:
    """Build the stage with random weights, including the auto-encoder and VGG."""
    torch.manual_seed(0)
    network = config.network_g.model_dump()
    net_g = build_network(network)
    if config.stage == "psnr":
        return Stage(config.train, net_g, world)
    autoencoder = build_network({"type": "AutoEncoder_RRDBNet", "scale": SCALE, "dec_opt": network})
    perceptual = PerceptualLoss(config.train.perceptual_opt.layer_weights)
    ready = {"aesop_opt": AESOPLoss(autoencoder), "perceptual_opt": perceptual}
    losses = build_losses(config.train, SCALE, world, ready)
    return AdversarialStage(config.train, net_g, build_network(config.network_d.model_dump()), world, losses=losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="few repetitions, to check that the script runs")
    parser.add_argument("--record", action="store_true", help="write results/degradation_<date>_<device>.json")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    repeats = 5 if arguments.quick else 30
    record: dict[str, Any] = described(device) | {"repeats": repeats}

    print(f"{record['date']}, {record['machine']}, torch {torch.__version__}, on {device.type}\n")
    record["degradation"] = ways = measure_degradation(device, repeats)
    published = ways["as published (stand-in)"]["images_per_s"]
    print(f"Sharpening and degrading, batch {BATCH} of {CROP}x{CROP}:\n")
    print("| method | images/s | relative to the published method | ms per batch, median | ms, slowest |")
    print("| --- | --- | --- | --- | --- |")
    for name, way in ways.items():
        rate = way["images_per_s"]
        print(f"| {name} | {rate:.1f} | {rate / published:.2f} | {way['ms_per_batch']:.1f} | {way['slowest_ms']:.1f} |")

    record["kernels"] = kernels = measure_kernels(repeats)
    print(
        f"\nThe {3 * BATCH} kernels of a batch on the CPU: {kernels['ours_ms']:.2f} ms batched, "
        f"{kernels['one_by_one_ms']:.2f} ms one by one ({kernels['one_by_one_ms'] / kernels['ours_ms']:.1f} times); largest "
        f"difference: {kernels['largest_difference']:.0e}.\n"
    )

    record["steps"] = steps = measure_steps(device, max(3, repeats // 6))
    print("| stage | network | crop | batch | degradation, ms | step, ms | share of the degradation |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in steps:
        times = f"{row['degradation_ms']:.0f} | {row['step_ms']:.0f} | {row['share']:.1%}"
        print(f"| {row['stage']} | {row['network']} | {row['gt_size']} | {row['batch']} | {times} |")

    if arguments.record:
        write("degradation", record)


if __name__ == "__main__":
    main()
