"""Measure the time of the readings of a training, relative to that of the steps between them.

    AESOP_WEIGHTS=FOLDER python benchmarks/readings_cost.py [--repeats 8] [--record]

Steps and readings take turns, so that other load affects both. Weights are random and images noise, which does not affect
the time. That readings take no further memory is a test (tests/training/test_readings.py).
"""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from aesop.options.config import LoggerOptions
from aesop.options.read import build_config
from aesop.system.distributed import World
from aesop.training.build_stage import build_stage
from aesop.training.readings import Readings
from record import described, write

AUTOENCODER = Path(__file__).parents[1] / "reproduction" / "weights" / "web_autoencoder.safetensors"
COMPACT = {"type": "RRDBNet", "num_feat": 32, "num_block": 3, "num_grow_ch": 32}
LARGE = {"type": "RRDBNet"}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "PSNR, RRDB 32/3, batch 8": ("psnr", COMPACT, 8),
    "AESOP GAN, RRDB 32/3, batch 8": ("adversarial", COMPACT, 8),
    "AESOP GAN, RRDB 64/23, batch 4": ("adversarial", LARGE, 4),
}
VGG16 = {
    "vgg_type": "vgg16",
    "layer_weights": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_3": 1.0, "conv4_3": 1.0, "conv5_3": 1.0},
}
SIDE = 64


def measure(stage_name: str, network_g: dict[str, Any], batch: int, repeats: int, root: str) -> tuple[float, float]:
    """Median seconds of a step and of a reading."""
    raw: dict[str, Any] = {
        "name": "cost", "stage": stage_name, "device": "cpu", "network_g": network_g,
        "datasets": {"train": {"dataroot_gt": root, "gt_size": SIDE, "batch_size_per_gpu": batch}},
        "path": {"from_scratch": True, "experiments_root": root}, "val": {"val_freq": 0},
        "train": {"total_iter": 1000, "pixel_opt": {}}, "logger": {"readings_freq": 1},
    }  # fmt: skip
    if stage_name == "adversarial":
        raw["network_d"] = {"type": "UNetDiscriminatorSN"}
        raw["train"] = {
            "total_iter": 1000, "artifacts_opt": {}, "perceptual_opt": VGG16, "gan_opt": {"loss_weight": 5e-3},
            "aesop_opt": {"autoencoder_load": {"path": str(AUTOENCODER)}},
        }  # fmt: skip
    config, _ = build_config(raw, "readings_cost")
    stage = build_stage(config, World())
    readings = Readings(config, stage)
    lq, gt = torch.rand(batch, 3, SIDE // 4, SIDE // 4), torch.rand(batch, 3, SIDE, SIDE)
    steps, reads = [], []
    for iteration in range(1, repeats + 2):
        begun = time.perf_counter()
        stage.step(lq, gt, iteration)
        between = time.perf_counter()
        readings.before(iteration)  # what it keeps is compared at once: the same work as around a step
        readings.after(iteration, lq, gt)
        steps.append(between - begun)
        reads.append(time.perf_counter() - between)
    return statistics.median(steps[1:]), statistics.median(reads[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--record", action="store_true", help="write results/readings_cost_<date>_cpu.json")
    arguments = parser.parse_args()
    every, rows = LoggerOptions().readings_freq, []
    print(f"| training | a step, s | a reading, s | reading / step | cost, every {every} |\n| --- | --- | --- | --- | --- |")
    for name, case in CASES.items():
        with TemporaryDirectory() as root:
            step, reading = measure(*case, arguments.repeats, root)
        rows.append({"training": name, "step_s": step, "reading_s": reading, "cost": reading / step / every})
        print(f"| {name} | {step:.2f} | {reading:.2f} | {reading / step:.2f} | {reading / step / every:.2%} |", flush=True)
    if arguments.record:
        write("readings_cost", described(torch.device("cpu")) | {"side": SIDE, "every": every, "rows": rows})


if __name__ == "__main__":
    main()
