"""Measure what `aesop upscale --consistent` gains and costs, for clean inputs and for JPEG files.

    python benchmarks/consistency.py [MODEL ...] [--data FOLDER ...] [--jpeg 75] [--record NAME]

The HR photographs of every FOLDER, by default the bundled held-out ones, are reduced by bicubic interpolation and enlarged
without and with --consistent: as they are, and once more after JPEG compression. All values are against the photograph;
those of LR-PSNR against the clean reduced one. LPIPS and DISTS need weights, which AESOP_WEIGHTS names.
"""

import argparse
import time
from itertools import product
from pathlib import Path
from typing import Any

from aesop import Upscaler
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import Image
from aesop.metrics.build import Metric
from enlarged_photographs import CPU, HELD_OUT, compressed, means, metrics_of, photographs
from record import described, write


def measured(upscaler: Upscaler, pairs: MeasuredPairs, quality: int | None, metrics: dict[str, Metric]) -> dict[str, Any]:
    """Means over the photographs, and processor seconds per photograph."""
    reached, seconds = [], 0.0

    def enlarge(lq: Image) -> Image:
        nonlocal seconds
        seen = compressed(lq, quality) if quality else lq
        begun = time.process_time()
        made = upscaler(seen)
        seconds += time.process_time() - begun
        reached.append(upscaler.lr_psnr)
        return made

    values = means(enlarge, pairs, metrics)
    row = {"consistent": upscaler.consistent, **values, "seconds": seconds / len(pairs)}
    return row | ({"lowest_lr_psnr": min(reached)} if upscaler.consistent else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="weight files (default: the shipped model)")
    parser.add_argument("--data", nargs="*", type=Path, default=[HELD_OUT], metavar="FOLDER", help="HR photographs")
    parser.add_argument("--jpeg", type=int, default=75, help="quality of the JPEG files")
    parser.add_argument("--record", metavar="NAME", help="write results/NAME_<date>_cpu.json, such as consistency")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("| model | photographs | input | consistent | PSNR | LPIPS | DISTS | LR-PSNR | s |")
    print("| --- " * 9 + "|")
    for model in arguments.models or [None]:
        upscalers = [Upscaler(model, "cpu", "fp32", consistent=consistent) for consistent in (False, True)]
        metrics = metrics_of(upscalers[0].scale)
        for name, pairs in photographs(arguments.data, upscalers[0].scale).items():
            for quality, upscaler in product((None, arguments.jpeg), upscalers):
                row = measured(upscaler, pairs, quality, metrics)
                rows.append({"model": upscaler.name, "photographs": name, "count": len(pairs), "jpeg": quality, **row})
                source, answer = f"JPEG {quality}" if quality else "clean", "yes" if upscaler.consistent else "no"
                values = f"{row['psnr']:.2f} | {row['lpips']:.4f} | {row['dists']:.4f} | {row['lrpsnr']:.2f}"
                print(f"| {upscaler.name} | {name} | {source} | {answer} | {values} | {row['seconds']:.2f} |", flush=True)
    if arguments.record:
        write(arguments.record, described(CPU) | {"rows": rows})


if __name__ == "__main__":
    main()
