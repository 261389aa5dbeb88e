"""Measure the memory of `aesop upscale` and of its encoders: the largest resident set of a process for each case.

    python benchmarks/upscaling_memory.py [--encoders 3000] [--sides 4000 8000] [--record]

Encoders: bytes per pixel that writing a picture takes beyond the array of its pixels, for each format.
Upscaling: a picture of each side goes through `aesop upscale` by x4 into PNG and TIFF, with a tiny SRVGGNetCompact, so that
what is measured are pictures, not activations. The input is a JPEG in colour; the array is that of the result.
"Beyond the start" leaves out what the process takes before it opens the picture: libraries and weights.
Pictures are smooth, with some noise, as photographs are.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console

from aesop.archs import build_network
from aesop.commands.upscale import upscale_files
from aesop.pictures.picture import Frame, Metadata, Picture
from aesop.pictures.write import SaveOptions, write_picture
from aesop.system.device import keep_freed_memory
from record import described, write

SCALE = 4
FORMATS = ("png", "tif", "jpg", "bmp", "webp", "lossless.webp", "avif", "gif")


def picture(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (max(2, side // 100),) * 2 + (3,), np.uint8)
    made = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    for top in range(0, side, 256):
        part = made[top : top + 256]
        part[:] = np.clip(part + rng.integers(-4, 5, (*part.shape[:2], 1), np.int16), 0, 255)
    return made


def status(name: str) -> int:
    """Bytes of a line such as `VmHWM`, the largest resident set so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def forget_peak() -> int:
    """Let `VmHWM` begin with what is resident now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def encode(target: Path, side: int, with_alpha: bool) -> dict[str, Any]:
    pixels = picture(side)
    alpha = np.ascontiguousarray(pixels[..., 0]) if with_alpha else None
    frame = Frame(pixels, alpha)
    like = Picture("png", (side, side), 1, False, None, True, Metadata(), (), lambda: iter([frame]))
    options = SaveOptions(lossless=True if target.name.startswith("lossless") else None)
    begun, before = time.process_time(), forget_peak()
    write_picture(target, iter([frame]), like, Metadata(), options)
    return {"bytes_per_pixel": (status("VmHWM") - before) / side**2, "seconds": time.process_time() - begun}


def upscale(folder: Path, target: Path, side: int) -> dict[str, Any]:
    keep_freed_memory()  # as the command line does
    torch.manual_seed(0)
    net = build_network({"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 1, "upscale": SCALE})
    weights, source = folder / "weights.pth", folder / f"{side}.jpg"
    torch.save({"params": net.state_dict()}, weights)
    if not source.exists():
        cv2.imwrite(str(source), picture(side))
    with open(os.devnull, "w") as nothing:
        results = upscale_files([source], target, weights, device="cpu", console=Console(file=nothing))
        begun, start = time.process_time(), forget_peak()
        (result,) = results
    if result.error:
        raise SystemExit(result.error)
    peak, array = status("VmHWM"), 3 * (side * SCALE) ** 2
    sizes = {"array": array, "start": start, "peak": peak, "seconds": time.process_time() - begun}
    return sizes | {"peak_of_array": peak / array, "beyond_start_of_array": (peak - start) / array}


def in_a_process(folder: Path, *case: object) -> dict[str, Any]:
    command = [sys.executable, __file__, "--run", *map(str, case), "--folder", str(folder)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(f"{case}: {made.stderr}")
    return json.loads(made.stdout.splitlines()[-1])


def run(folder: Path, kind: str, form: str, side: int) -> dict[str, Any]:
    target = folder / (form if "." in form else f"made.{form}")
    try:
        return upscale(folder, target, side) if kind == "upscale" else encode(target, side, kind == "alpha")
    finally:
        target.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", type=int, nargs="*", default=[3000], metavar="SIDE", help="of the written pictures")
    parser.add_argument("--sides", type=int, nargs="*", default=[8000], help="of the pictures to upscale")
    parser.add_argument("--folder", type=Path, help="where pictures are written (default: the system's folder for that)")
    parser.add_argument("--note", help="note for the record, such as other load on the machine")
    parser.add_argument("--record", action="store_true", help="write results/upscaling_memory_<date>_cpu.json")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        kind, form, side = arguments.run
        print(json.dumps(run(arguments.folder, kind, form, int(side))))
        return
    record = described(torch.device("cpu")) | {"note": arguments.note, "encoders": [], "upscaling": []}
    with TemporaryDirectory(dir=arguments.folder) as name:
        print("| written | format | pixels | bytes per pixel beyond the array | s |\n| --- | --- | --- | --- | --- |")
        for side in arguments.encoders:
            for form in FORMATS:
                for kind in ("colour",) if form in ("jpg", "bmp") else ("colour", "alpha"):
                    case = in_a_process(Path(name), kind, form, side)
                    record["encoders"].append({"format": form, "pixels": kind, "side": side} | case)
                    measured = f"{case['bytes_per_pixel']:.1f} | {case['seconds']:.0f}"
                    print(f"| {side} x {side} | {form} | {kind} | {measured} |", flush=True)
        print("\n| input | format | array | at the start | peak | peak / array | beyond the start / array | s |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for side in arguments.sides:
            for form in ("png", "tif"):
                case = in_a_process(Path(name), "upscale", form, side)
                record["upscaling"].append({"format": form, "side": side} | case)
                sizes = " | ".join(f"{case[key] / 1e6:.0f} MB" for key in ("array", "start", "peak"))
                ratios = f"{case['peak_of_array']:.2f} | {case['beyond_start_of_array']:.2f} | {case['seconds']:.0f}"
                print(f"| {side} x {side} | {form} | {sizes} | {ratios} |", flush=True)
    if arguments.record:
        write("upscaling_memory", record)


if __name__ == "__main__":
    main()
