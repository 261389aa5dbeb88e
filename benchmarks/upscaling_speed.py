"""Measure upscaling on the CPU: the network in eager PyTorch and float32, and `aesop.Upscaler` by precision and runtime.

    python benchmarks/upscaling_speed.py [--models FILE ...] [--threads N] [--tile 128] [--repeats 5] [--record]

The ways take turns, tile by tile of one of the demo's photographs, each in a process of its own; all but the first keep
freed memory, as `aesop upscale` does. Ratios are relative to the first way: by the clock, and by the processor's time,
which is the better measure of a single thread on a busy machine. The PSNR is that of the 8-bit images, from the first
way's. Runtimes that are not installed are left out.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import aesop
from aesop.images.read import ImageFile
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.runtimes import RUNTIMES
from aesop.inference.shipped_models import shipped_model
from aesop.inference.upscaler import Upscaler
from aesop.system.device import fastest_precision, keep_freed_memory
from aesop.weights.load import load_generator
from record import described, write

PHOTO = Path(aesop.__file__).parent / "assets" / "photos" / "heldout" / "astronaut.png"
EAGER = "eager float32"
INSTALLED = [name for name in RUNTIMES if find_spec(name) and find_spec("onnxscript")]
WAYS = [("pytorch", "fp32"), ("pytorch", "bf16"), *((name, way) for name in INSTALLED for way in RUNTIMES[name].precisions)]

_upscale: Callable[[np.ndarray], np.ndarray]  # in the process of a way


def prepare(model: Path, threads: int, way: tuple[str, str] | None) -> None:
    """Load the network for one of WAYS, or for eager PyTorch."""
    global _upscale
    torch.set_num_threads(threads)
    if way is None:
        net = load_generator(model)[0].eval()

        @torch.inference_mode()
        def eagerly(tile: np.ndarray) -> np.ndarray:
            return to_array(net(to_tensor(tile)[None])[0], np.uint8)

        _upscale = eagerly
    else:
        keep_freed_memory()
        runtime, precision = way
        upscaler = Upscaler(model, "cpu", precision, tile=0, runtime=runtime, threads=threads)
        for note in upscaler.notes:
            print(f"{runtime} {precision}: {note}")
        _upscale = upscaler


def run(tile: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The image, and the seconds by the clock and of the processor."""
    begun, worked = time.perf_counter(), time.process_time()
    image = _upscale(tile)
    return image, time.perf_counter() - begun, time.process_time() - worked


def measure(model: Path, tiles: list[np.ndarray], repeats: int, threads: int) -> list[dict[str, Any]]:
    """Return a row for each way, the eager one first."""
    ways = {EAGER: None} | {" ".join(way): way for way in WAYS}
    pools = {
        name: ProcessPoolExecutor(1, get_context("spawn"), prepare, (model, threads, way)) for name, way in ways.items()
    }
    images = {name: pool.submit(run, tiles[0]).result()[0].astype(float) for name, pool in pools.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(repeats):
        for name, pool in pools.items():
            seconds[name].append(pool.submit(run, tiles[number % len(tiles)]).result()[1:])
    medians = {name: np.median(each, axis=0) for name, each in seconds.items()}
    rows = []
    for name, pool in pools.items():
        pool.shutdown()
        (clock, processor), (ratio, processor_ratio) = medians[name], medians[EAGER] / medians[name]
        error = np.square(images[name] - images[EAGER]).mean() / 255**2
        rows.append(
            {
                "way": name,
                "s_per_tile": float(clock),
                "processor_s_per_tile": float(processor),
                "ratio": float(ratio),
                "processor_ratio": float(processor_ratio),
                "psnr": float(-10 * np.log10(error)) if error else None,
            }
        )
    return rows


def work_of_a_tile(model: Path, side: int) -> float:
    """Return the floating-point operations of one tile with direct convolutions."""
    with FlopCounterMode(display=False) as counter:
        load_generator(model)[0].to("meta")(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops()


def matrix_rate(dtype: torch.dtype, side: int = 1024, repeats: int = 10) -> float:
    """Return the operations per second of a matrix product, an approximate upper bound: by the time of all threads."""
    a, b, seconds = torch.rand(side, side).to(dtype), torch.rand(side, side).to(dtype), []
    for _ in range(repeats):
        begun = time.process_time()
        a @ b
        seconds.append((time.process_time() - begun) / torch.get_num_threads())
    return 2 * side**3 / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", default=[shipped_model()], help="x4 models (default: aesop's own)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", help="note for the record, such as other load on the machine")
    parser.add_argument("--record", action="store_true", help="write results/upscale_<date>_cpu.json")
    arguments = parser.parse_args()
    side, threads = arguments.tile, arguments.threads
    torch.set_num_threads(threads)
    photo = ImageFile.at(PHOTO).read()
    tiles = [np.ascontiguousarray(photo[:side, x : x + side]) for x in (0, photo.shape[1] // 3, photo.shape[1] - side)]
    record = described(torch.device("cpu")) | {"tile": side, "repeats": arguments.repeats, "note": arguments.note}
    record["versions"] |= {name: version(name) for name in RUNTIMES if find_spec(name)}
    record["fastest_precision"] = fastest = fastest_precision(torch.device("cpu"))
    rates = {name: matrix_rate(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    record["matrix_flops_per_s"], record["models"] = rates, {}
    print(f"{record['date']}, {record['machine']}, {record['versions']}")
    for model in arguments.models:
        flops, rows = work_of_a_tile(model, side), measure(model, tiles, arguments.repeats, threads)
        record["models"][model.stem] = {"flops": flops, "ways": rows}
        print(f"\n{model.stem}, {side}x{side} pixels, {flops / 1e9:.0f} GFLOP:\n")
        print("| way | s per tile | of processor | ratio | of processor | PSNR, dB |\n| --- | --- | --- | --- | --- | --- |")
        for row in rows:
            seconds = f"{row['s_per_tile']:.2f} | {row['processor_s_per_tile']:.2f}"
            ratios = f"{row['ratio']:.2f} | {row['processor_ratio']:.2f}"
            print(
                f"| {row['way']} | {seconds} | {ratios} | {'same' if row['psnr'] is None else format(row['psnr'], '.1f')} |"
            )
    products = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    print(f"\nA matrix product runs at {products}; --precision auto takes {fastest} here.")
    if arguments.record:
        write("upscale", record)


if __name__ == "__main__":
    main()
