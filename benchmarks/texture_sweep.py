"""Measure the perception-distortion curve of `aesop upscale --texture`: T = 0, 0.1 ... 1.5.

    python benchmarks/texture_sweep.py MODEL FAITHFUL [--data FOLDER ...] [--step 0.1] [--figure FILE.png] [--record NAME]

MODEL is a GAN and FAITHFUL the PSNR network that it was trained from. The HR photographs of every FOLDER, by default the
bundled held-out ones, are reduced by bicubic interpolation and enlarged. LPIPS and DISTS need weights, which AESOP_WEIGHTS
names.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from aesop import Upscaler
from aesop.inference.models import find_model
from aesop.weights.blend import MOST_TEXTURE, distance, load_parents
from enlarged_photographs import CPU, HELD_OUT, means, metrics_of, photographs
from record import described, write


def is_monotone(points: list[dict[str, float]], name: str) -> bool:
    """Whether a metric only falls from T = 0 to 1."""
    return bool((np.diff([point[name] for point in points if point["texture"] <= 1]) < 0).all())


def draw(sets: list[dict[str, Any]], file: Path) -> None:
    """Draw the curves in the perception-distortion plane; points beyond the two networks are hollow."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 4), layout="constrained")
    for each in sets:
        x, y = ([point[name] for point in each["points"]] for name in ("psnr", "lpips"))
        (line,) = axes.plot(x, y, linewidth=1, label=each["photographs"])
        for point in each["points"]:
            colour = line.get_color() if point["texture"] <= 1 else "white"
            axes.plot(point["psnr"], point["lpips"], "o", color=line.get_color(), markerfacecolor=colour, markersize=5)
            axes.annotate(
                f"{point['texture']:g}", (point["psnr"], point["lpips"]), (5, 4), textcoords="offset points", fontsize=8
            )
    axes.set(xlabel="PSNR in dB, better to the right", ylabel="LPIPS, better below")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("faithful", metavar="FAITHFUL")
    parser.add_argument("--data", nargs="*", type=Path, default=[HELD_OUT], metavar="FOLDER", help="HR photographs")
    parser.add_argument("--step", type=float, default=0.1)
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the curves")
    parser.add_argument("--record", metavar="NAME", help="write results/NAME_<date>_cpu.json, such as texture")
    arguments = parser.parse_args()
    files = [find_model(file) for file in (arguments.model, arguments.faithful)]
    textures = [round(k * arguments.step, 6) for k in range(int(MOST_TEXTURE / arguments.step + 1e-6) + 1)]
    apart = distance(*load_parents([str(file) for file in files]))
    print(f"distance of the weights: {apart:.3f}")
    scale = Upscaler(files[0], "cpu").scale
    metrics, sets = metrics_of(scale), []
    for name, pairs in photographs(arguments.data, scale).items():
        print(
            f"\n{name}, {len(pairs)} photographs\n\n| T | PSNR | LPIPS | DISTS | LR-PSNR |\n| --- | --- | --- | --- | --- |"
        )
        points = []
        for texture in textures:
            upscaler = Upscaler(files[0], "cpu", "fp32", texture=texture, faithful_model=files[1])
            point = {"texture": texture, **means(upscaler, pairs, metrics)}
            points.append(point)
            values = f"{point['psnr']:.2f} | {point['lpips']:.4f} | {point['dists']:.4f} | {point['lrpsnr']:.2f}"
            print(f"| {texture:g} | {values} |", flush=True)
        monotone = {metric: is_monotone(points, metric) for metric in ("psnr", "lpips", "dists")}
        print(f"\nfalls from T = 0 to 1: {monotone}")
        sets.append({"photographs": name, "count": len(pairs), "falls_from_0_to_1": monotone, "points": points})
    if arguments.figure:
        draw(sets, arguments.figure)
    if arguments.record:
        record: dict[str, Any] = {"model": files[0].name, "faithful": files[1].name, "distance": apart, "sets": sets}
        write(arguments.record, described(CPU) | record)


if __name__ == "__main__":
    main()
