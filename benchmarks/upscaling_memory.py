"""Measure the memory of `aesop upscale`, by format: the largest resident set of a process that upscales one picture x4.

    python benchmarks/upscaling_memory.py [--sides 2000 4000] [--formats png tif jpg ...] [--large 8000] [--record]

The network is a tiny SRVGGNetCompact, so that what is measured are pictures, not activations. The picture is in colour,
stored as JPEG, and each case runs in a process of its own. "Beyond the start" leaves out what the process takes before it
opens the picture (libraries and weights). The array is that of the result: width x height x 3 bytes.
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

from aesop.archs import build_network
from record import described, write

SCALE = 4
FORMATS = ("png", "tif", "jpg", "bmp", "webp", "avif", "gif")


def make_picture(path: Path, side: int) -> None:
    """Smooth areas and some noise, as in a photograph."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (max(2, side // 100),) * 2 + (3,), np.uint8)
    picture = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-4, 5, (side, side, 1), np.int8)
    for top in range(0, side, 256):
        part = slice(top, top + 256)
        picture[part] = np.clip(picture[part].astype(np.int16) + noise[part], 0, 255)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])


def make_weights(path: Path) -> None:
    torch.manual_seed(0)
    net = build_network({"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 1, "upscale": SCALE})
    torch.save({"params": net.state_dict()}, path)


def status(name: str) -> int:
    """Bytes of `VmHWM`, the largest resident set so far, or of another line."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def upscale(source: Path, weights: Path, target: Path) -> dict[str, Any]:
    from rich.console import Console

    from aesop.commands.upscale import upscale_files

    with open(os.devnull, "w") as nothing:
        results = upscale_files([source], target, weights, device="cpu", console=Console(file=nothing))
        start, begun = status("VmRSS"), time.perf_counter()
        (result,) = results
    if result.error:
        raise SystemExit(result.error)
    return {"start": start, "peak": status("VmHWM"), "seconds": round(time.perf_counter() - begun)}


def measure(folder: Path, side: int, form: str) -> dict[str, Any]:
    target = folder / f"made.{form}"
    command = [sys.executable, __file__, "--run", folder / f"{side}.jpg", folder / "weights.pth", target]
    printed = subprocess.run(command, check=False, capture_output=True, text=True)
    array = 3 * (side * SCALE) ** 2
    case: dict[str, Any] = {"side": side, "format": form, "array": array}
    if printed.returncode:
        return case | {"error": printed.stderr.strip().splitlines()[-1]}
    case |= json.loads(printed.stdout)
    target.unlink()
    return case | {"peak_of_array": case["peak"] / array, "beyond_start_of_array": (case["peak"] - case["start"]) / array}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="*", default=[2000, 4000], help="of the pictures, before upscaling")
    parser.add_argument("--formats", nargs="*", default=FORMATS)
    parser.add_argument("--large", type=int, nargs="*", default=[8000], help="sides of pictures for png and tif alone")
    parser.add_argument("--folder", type=Path, help="where pictures are written (default: the system's folder for that)")
    parser.add_argument("--record", action="store_true", help="write results/upscaling_memory_<date>_cpu.json")
    parser.add_argument("--run", type=Path, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(upscale(*arguments.run)))
        return
    cases = [(side, form) for side in arguments.sides for form in arguments.formats]
    cases += [(side, form) for side in arguments.large for form in ("png", "tif")]
    measured = []
    print("| input | format | array | at the start | peak | peak / array | beyond the start / array | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make_weights(folder / "weights.pth")
        for side, form in cases:
            if not (folder / f"{side}.jpg").exists():
                make_picture(folder / f"{side}.jpg", side)
            case = measure(folder, side, form)
            measured.append(case)
            if "error" in case:
                print(f"| {side} x {side} | {form} | {case['error']} |", flush=True)
                continue
            sizes = " | ".join(f"{case[key] / 1e6:.0f} MB" for key in ("array", "start", "peak"))
            ratios = f"{case['peak_of_array']:.2f} | {case['beyond_start_of_array']:.2f} | {case['seconds']}"
            print(f"| {side} x {side} | {form} | {sizes} | {ratios} |", flush=True)
    if arguments.record:
        write("upscaling_memory", described(torch.device("cpu")) | {"cases": measured})


if __name__ == "__main__":
    main()
