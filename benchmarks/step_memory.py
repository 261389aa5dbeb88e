"""Compare the memory of a step as `aesop doctor` counts it on fake tensors with what a CPU takes.

    python benchmarks/step_memory.py [--batch 4] [--recipes aesop autoencoder] [--ways fp32 bf16+channels_last] [--record]

Every step runs in a process of its own, whose peak of resident memory, less what it held before, is the measured value.
Fake tensors count no workspaces, no gaps between tensors and no libraries.
"""

import argparse
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from aesop.check.step_count import count_step
from record import described, write
from training_step import RECIPES, ours

CPU = torch.device("cpu")


def build(name: str, way: str, batch: int) -> Callable[[int], object]:
    recipe = RECIPES[name]
    _, step = ours(recipe, way, CPU)
    lq = torch.rand(batch, 3, recipe.side // 4, recipe.side // 4)
    gt = torch.rand(batch, 3, recipe.side, recipe.side)
    return lambda iteration: step(lq, gt, iteration)


def resident(which: str) -> int:
    """Resident bytes of this process, now (VmRSS) or at most (VmHWM)."""
    found = re.search(rf"{which}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def measured(name: str, way: str, batch: int) -> int:
    before = resident("VmRSS")
    step = build(name, way, batch)
    step(1)
    step(2)
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--recipes", nargs="+", default=["aesop", "autoencoder"], choices=list(RECIPES))
    parser.add_argument("--ways", nargs="+", default=["fp32", "bf16+channels_last"])
    parser.add_argument("--record", action="store_true", help="write results/step_memory_<date>_cpu.json")
    arguments = parser.parse_args()
    rows = []
    print("| step | counted, GiB | measured, GiB | measured / counted |\n| --- | --- | --- | --- |")
    for name in arguments.recipes:
        for way in arguments.ways:
            counted = count_step(partial(build, name, way, arguments.batch)).peak
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                taken = process.submit(measured, name, way, arguments.batch).result()
            rows.append({"recipe": name, "way": way, "counted": counted, "measured": taken})
            print(f"| {name}, {way} | {counted / 2**30:.2f} | {taken / 2**30:.2f} | {taken / counted:.2f} |", flush=True)
    if arguments.record:
        write("step_memory", described(CPU) | {"batch": arguments.batch, "rows": rows})


if __name__ == "__main__":
    main()
