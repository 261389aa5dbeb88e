"""Measure the map of `aesop upscale --hallucination-map` on photographs whose originals are known.

    python benchmarks/hallucination_map.py --data FOLDER ... [--figure FILE.png] [--record NAME]

The HR photographs of every FOLDER are reduced by 4, by bicubic interpolation or by area and saved as JPEG, and enlarged by
the bundled model. Two things are measured on blocks of 8 x 8 pixels: Spearman's rank correlation between the map and
|SR - HR|, also for signals that cost nothing, and by deciles of the map its mean value beside the mean of |SR - HR|.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from aesop import Upscaler
from aesop.images.listing import list_images
from aesop.images.resize import imresize, mod_crop
from aesop.inference.hallucination import BLOCK
from aesop.inference.shipped_models import faithful_partner, shipped_model
from aesop.pictures.picture import Frame
from enlarged_photographs import CPU
from record import described, write

QUALITIES = (None, 80, 60)
Array = np.ndarray


def reduced(hr: Array, quality: int | None) -> Array:
    if quality is None:
        return imresize(hr, 0.25)
    small = Image.fromarray(hr).resize((hr.shape[1] // 4, hr.shape[0] // 4), Image.Resampling.BOX)
    _, data = cv2.imencode(".jpg", np.asarray(small)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def of_blocks(values: Array) -> Array:
    """Means of blocks, (H, W) -> (H / 8, W / 8)."""
    height, width = (side // BLOCK for side in values.shape)
    return values.reshape(height, BLOCK, width, BLOCK).mean((1, 3))


def difference(first: Array, second: Array) -> Array:
    return of_blocks(np.abs(first.astype(np.float32) - second.astype(np.float32)).mean(2))


def contrast(image: Array) -> Array:
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return np.sqrt(np.maximum(of_blocks(luma**2) - of_blocks(luma) ** 2, 0))


def measure(folder: Path, quality: int | None, upscaler: Upscaler, faithful: Upscaler | None) -> dict[str, Any]:
    """Rank correlations, the mean over the photographs and of all blocks together, and deciles of the map."""
    columns: dict[str, list[Array]] = {}
    for image in list_images(folder):
        hr = mod_crop(image.read_uint8(), BLOCK)
        hr = np.dstack([hr] * 3) if hr.ndim == 2 else hr
        low = reduced(hr, quality)
        frame = Frame(low)
        made = upscaler.upscale_frame(frame)
        sr, found = made.pixels, upscaler.hallucination_map(frame, made)
        assert found.is_calibrated or quality
        enlarged = cv2.resize(low, sr.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        signals = {"map": found.levels, "|SR - bicubic|": difference(sr, enlarged), "contrast of SR": contrast(sr)}
        if faithful:
            signals["|SR - PSNR net|"] = difference(sr, faithful(low))
        for name, values in (signals | {"error": difference(sr, hr)}).items():
            columns.setdefault(name, []).append(values.ravel())
    errors = columns.pop("error")
    ranks = {
        name: {
            "mean": float(np.mean([spearmanr(*pair).statistic for pair in zip(values, errors, strict=True)])),
            "all_blocks": float(spearmanr(np.concatenate(values), np.concatenate(errors)).statistic),
        }
        for name, values in columns.items()
    }
    estimates, error = np.concatenate(columns["map"]), np.concatenate(errors)
    parts = np.array_split(np.argsort(estimates), 10)
    deciles = [(float(estimates[part].mean()), float(error[part].mean())) for part in parts]
    return {"photographs": folder.parent.name if folder.name == "HR" else folder.name, "jpeg_quality": quality,
            "count": len(errors), "rank_correlation": ranks, "deciles": deciles}  # fmt: skip


def draw(sets: list[dict[str, Any]], file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 4.4), layout="constrained")
    for each in sets:
        saved = "no JPEG" if each["jpeg_quality"] is None else f"JPEG {each['jpeg_quality']}"
        label = f"{each['photographs']}, {saved}"
        axes.plot(*zip(*each["deciles"], strict=True), marker="o", markersize=3, linewidth=1, label=label)
    limit = max(value for each in sets for pair in each["deciles"] for value in pair) * 1.05
    axes.plot([0, limit], [0, limit], color="0.6", linewidth=1, linestyle="--")
    axes.set(xlim=(0, limit), ylim=(0, limit), xlabel="map, grey levels", ylabel="measured |SR - HR|, grey levels")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FOLDER", help="HR photographs")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the deciles")
    parser.add_argument("--record", metavar="NAME", help="write results/NAME_<date>_cpu.json, such as hallucination_map")
    arguments = parser.parse_args()
    upscaler, partner = Upscaler(None, "cpu", "fp32"), faithful_partner(shipped_model())
    faithful = Upscaler(partner, "cpu", "fp32") if partner else None
    sets, show = [], "{:.3f} | {:.3f} |".format
    for folder in arguments.data:
        for quality in QUALITIES:
            each = measure(folder, quality, upscaler, faithful)
            sets.append(each)
            print(f"\n{each['photographs']}, {each['count']} photographs, JPEG quality: {quality}\n")
            print("| rank correlation with abs(SR - HR) | mean of the photographs | all blocks |\n| --- | --- | --- |")
            for name, ranks in each["rank_correlation"].items():
                print(f"| {name} | {show(ranks['mean'], ranks['all_blocks'])}")
            print(
                "\ndeciles, map: " + "  ".join(f"{estimate:.1f}: {error:.1f}" for estimate, error in each["deciles"]),
                flush=True,
            )
    if arguments.figure:
        draw(sets, arguments.figure)
    if arguments.record:
        write(arguments.record, described(CPU) | {"model": upscaler.name, "block": BLOCK, "sets": sets})


if __name__ == "__main__":
    main()
