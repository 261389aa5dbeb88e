"""Compare `aesop test` with values that other code measured with the same weights and images: a table of every cell.

    python benchmarks/reference_figures.py reference_figures.json --weights WEIGHTS --data DATA --output TABLE.md

The JSON file has the form {results: {set: {method: {per_image: {file: {metric: value}}, mean: {...}}}}}. Metrics are
psnr_y, ssim_y, lpips_alex, lpips_vgg, and dists, each also as NAME_cropN. DATA contains <set>/HR and <set>/LRx4. WEIGHTS
contains a <method>.safetensors for each method except bicubic, and the weights of LPIPS and DISTS. The record keeps
finished cells (a method on a set), so an interrupted run continues; `--sets` and `--methods` select a part.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from aesop.commands.test import test
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import measure
from aesop.images.resize import imresize
from aesop.metrics.build import make_metrics
from aesop.options.config import TestConfig
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.system.distributed import World
from aesop.system.files import replacing
from aesop.weights.load import load_network

SCALE = 4
KINDS = {"psnr_y": "psnr", "ssim_y": "ssim", "lpips_alex": "lpips", "lpips_vgg": "lpips_vgg", "dists": "dists"}
LIMITS = {"psnr": 0.01, "ssim": 1e-4, "lpips": 1e-4, "lpips_vgg": 1e-4, "dists": 1e-4}
Figures = dict[str, dict[str, float]]  # file -> metric -> value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", help="default: all")
    parser.add_argument("--methods", nargs="*", help="default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--record", type=Path, default=Path("reference_figures_record.json"), help="the finished cells")
    parser.add_argument("--output", type=Path, help="write the table to this file as well")
    args = parser.parse_args()
    os.environ["AESOP_WEIGHTS"] = str(args.weights.resolve())
    reference = json.loads(args.figures.read_text())["results"]
    record: dict[str, Figures] = json.loads(args.record.read_text()) if args.record.is_file() else {}
    for dataset, methods in reference.items():
        for method, expected in methods.items():
            cell = f"{dataset}/{method}"
            asked = dataset in (args.sets or reference) and method in (args.methods or methods)
            if cell in record or not asked:
                continue
            print(f"measuring {cell}", flush=True)
            options = {name: metric_options(name) for name in expected["mean"]}
            data = PairedDataset(dataroot_gt=str(args.data / dataset / "HR"), dataroot_lq=str(args.data / dataset / "LRx4"))
            record[cell] = run_cell(method, data, options, args.weights, args.device)
            with replacing(args.record) as temporary:
                temporary.write_text(json.dumps(record, indent=1))
    text = table(reference, record)
    print(text)
    if args.output:
        with replacing(args.output) as temporary:
            temporary.write_text(text, encoding="utf-8")


def metric_options(name: str) -> MetricOptions:
    """psnr_y -> the protocol's PSNR; dists_crop4 -> DISTS without a border of 4."""
    base, _, border = name.partition("_crop")
    return MetricOptions(type=KINDS[base], crop_border=int(border) if border else None)


def run_cell(method: str, data: PairedDataset, options: dict[str, MetricOptions], weights: Path, device: str) -> Figures:
    """Measure every image of a set as `aesop test` does; bicubic, which has no weights, with the same metrics."""
    if method == "bicubic":
        metrics = make_metrics(options, SCALE, torch.device(device))
        pairs, world = MeasuredPairs.find(data, "test", SCALE), World(device=torch.device(device))
        rows = measure(lambda lq, gt: bicubic(lq), pairs, metrics, world)
        values = {row.pop("image"): row for row in rows}
    else:
        file = weights / f"{method}.safetensors"
        with tempfile.TemporaryDirectory() as folder:
            config = TestConfig.model_validate(
                {
                    "name": method, "scale": SCALE, "device": device, "network_g": load_network(file)[1].options,
                    "datasets": {"test": data}, "val": {"save_img": False, "metrics": options},
                    "path": {"pretrain_network_g": str(file), "results_root": folder},
                }
            )  # fmt: skip
            values = test(config, Console(quiet=True)).methods[-1].values["test"]
    return {f"{image}.png": dict(row) for image, row in values.items()}


def bicubic(lq: np.ndarray) -> np.ndarray:
    """Upscale with MATLAB's bicubic kernel and round once."""
    return np.clip(np.floor(imresize(lq.astype(np.float64), SCALE) + 0.5), 0, 255).astype(np.uint8)


def table(reference: dict, record: dict[str, Figures]) -> str:
    rows, outside = [], []
    largest = dict.fromkeys(LIMITS, 0.0)
    for dataset, methods in reference.items():
        for method, expected in methods.items():
            ours = record.get(f"{dataset}/{method}")
            if ours is None:
                continue
            assert ours.keys() == expected["per_image"].keys(), f"{dataset}: the images differ from those of the reference"
            for name, mean in expected["mean"].items():
                kind = KINDS[name.partition("_crop")[0]]
                limit = LIMITS[kind]
                own = float(np.mean([image[name] for image in ours.values()]))
                off = {file: abs(image[name] - expected["per_image"][file][name]) for file, image in ours.items()}
                worst = max(off, key=off.__getitem__)
                largest[kind] = max(largest[kind], off[worst])
                fits = abs(own - mean) <= limit and off[worst] <= limit
                if not fits:
                    outside.append(f"{dataset} {method} {name} ({worst})")
                rows.append(
                    f"| {dataset} | {method} | {name} | {own:.6f} | {mean:.6f} | {own - mean:+.1e} | {off[worst]:.1e} "
                    f"({Path(worst).stem}) | {limit:g} | {'yes' if fits else '**no**'} |"
                )
    images = sum(len(figures) for figures in record.values())
    lines = [
        "# Reference figures",
        "",
        "What `aesop test` measures compared with values that other code measured with the same weights and images",
        "(`python benchmarks/reference_figures.py`). PSNR and SSIM are computed on luma without a border of 4 pixels,",
        "LPIPS and DISTS on RGB, `_cropN` without a border of N pixels. Gray images are repeated to three channels. A",
        "cell is within tolerance if its mean and each of its images are.",
        "",
        f"{len(rows) - len(outside)} of {len(rows)} cells within tolerance, {images} images (one per method and input). "
        f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}, {platform.machine()}.",
        "Largest deviation of a single image: " + ", ".join(f"{kind} {value:.1e}" for kind, value in largest.items()) + ".",
        "The deviation of PSNR comes mostly from the 1e-8 that both versions add to the mean squared error.",
        *(["", "Outside: " + "; ".join(outside) + "."] if outside else []),
        "",
        "| set | method | metric | ours | reference | difference | largest deviation of an image | tolerance | within |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
