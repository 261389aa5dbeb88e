"""Run the experiment of docs/evidence/reproduction.md: train, measure, and plot GANs that differ in one loss.

    python reproduction/run.py --test-data FOLDER [--seeds 3] [--only LOSS]... [--all] [--compare FILE]...
        [--without METRIC]... [key.path=value ...]

FOLDER contains Set5, Set14, and BSDS_test50: HR images in SET/HR, with optional LR images in SET/LRx4, or HR images in SET
itself. Missing LR images are made by bicubic downscaling. The weights of VGG16, LPIPS, and DISTS are read from the folder in
AESOP_WEIGHTS. Options of reproduction.yml are set as for `aesop pipeline`. The same command continues an interrupted run and
does not repeat finished parts; `timeout -s TERM 9m python ...` runs it in pieces. For x2, add scale=2 name=x2.

Output in <experiments_root>/<name>: the runs, results.json, table.md, plot.png, crops.png.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import cv2
import numpy as np
import torch
from torch import nn

import aesop
from aesop.cli import USER_ERRORS
from aesop.commands.pipeline import dry_run_pipeline, run_step
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import View
from aesop.evaluation.measure import averages, measure
from aesop.evaluation.methods import Predictor, method_names, predict
from aesop.images.resize import imresize
from aesop.metrics import METRICS
from aesop.metrics.build import Metric, check_metrics, make_metrics
from aesop.options.config import TrainConfig
from aesop.options.datasets import PairedDataset
from aesop.options.pipeline import plan
from aesop.options.validation import MetricOptions
from aesop.system.device import pick_device
from aesop.system.distributed import World
from aesop.system.files import replacing, sha256_of
from aesop.system.signals import Interrupted
from aesop.weights.load import load_autoencoder, load_generator

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit('error: the experiment needs matplotlib: pip install ".[reproduction]"')

FILE = Path(__file__).parent / "reproduction.yml"
SETS = ("Set5", "Set14", "BSDS_test50")
FOLLOWED = "Set14"  # measured during training, for the trajectories
# Metric -> decimals in the tables.
MEASURED = {"psnr": 2, "ssim": 4, "lrpsnr": 2, "aepsnr": 2, "lpips": 4, "dists": 4}
DRAWN = ("psnr", "lpips")  # the axes of the plot

GAN = "stages.adversarial.train."
NO_AESOP = GAN + "aesop_opt=null"
NO_ARTIFACT = GAN + "artifacts_opt=null"
# Name -> label, and the overrides of reproduction.yml.
LOSSES = {
    "pixel": ("pixel L1, weight 1", [NO_AESOP, GAN + "pixel_opt={type: L1Loss, loss_weight: 1.0}"]),
    "pixel_0.01": ("pixel L1, weight 0.01", [NO_AESOP, GAN + "pixel_opt={type: L1Loss, loss_weight: 0.01}"]),
    "lr_pixel": ("L1 of LR, weight 1", [NO_AESOP, GAN + "pixel_opt={type: LRL1Loss, loss_weight: 1.0}"]),
    "aesop": ("AESOP, weight 1", []),
}
VARIANTS = LOSSES | {
    f"{name}_no_artifact": (f"{label}, no artifact loss", [*changes, NO_ARTIFACT])
    for name, (label, changes) in LOSSES.items()
}


@dataclass
class Row:
    """The results of a method: set -> metric -> mean over its images."""

    method: str
    figures: dict[str, dict[str, float]]
    seed: int | None = None
    trajectory: list[dict[str, float]] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="use the seeds 0 to N-1")
    parser.add_argument("--only", action="append", choices=VARIANTS, metavar="LOSS", help=f"one of {', '.join(VARIANTS)}")
    parser.add_argument("--all", action="store_true", help="all four losses, with and without the artifact loss")
    parser.add_argument(
        "--compare", action="append", type=Path, default=[], metavar="FILE", help="additional weights to measure"
    )
    spared = [metric for metric in MEASURED if metric not in DRAWN]
    parser.add_argument(
        "--without",
        action="append",
        choices=spared,
        default=[],
        metavar="METRIC",
        help=f"metric to leave out: {', '.join(spared)}",
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    given = parser.parse_intermixed_args()
    chosen = list(VARIANTS) if given.all else list(dict.fromkeys(given.only or LOSSES))
    logging.getLogger("aesop").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("aesop").setLevel(logging.INFO)
    try:
        experiment(given.test_data, chosen, given.seeds, given.compare, given.overrides, given.without)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    except (Interrupted, KeyboardInterrupt) as stop:
        print("stopped; run the same command to continue")
        sys.exit(stop.exit_code if isinstance(stop, Interrupted) else 130)


def experiment(
    data: Path,
    variants: Sequence[str],
    seeds: int,
    others: Sequence[Path],
    overrides: Sequence[str],
    without: Sequence[str] = (),
) -> None:
    """Train and measure the missing variants, and write tables and images.

    Raises:
        ValueError: If an input is missing or does not fit. Raised before anything is trained.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: must be at least 1")
    steps = plan(FILE, overrides)
    gan = steps["adversarial"]
    if isinstance(gan, Path):
        raise ValueError("stages.adversarial.weights: the experiment trains the GANs itself; remove this option")
    scale, device, folder = gan.scale, pick_device(gan.device), gan.run_folder.parent
    tests = {name: test_set(data, name, scale) for name in SETS}
    wanted = {name: MetricOptions() for name in MEASURED if name not in without}
    faults = dry_run_pipeline(steps)[1] + check_metrics(wanted, has_autoencoder=True)
    faults += [
        f"--compare {file}: x{found} model, expected x{scale}" for file in others if (found := scale_of(file)) != scale
    ]
    if faults:
        raise ValueError("the experiment cannot run:\n  " + "\n  ".join(faults))
    sets = {name: MeasuredPairs.find(options, name, scale) for name, options in tests.items()}
    start, judged_by = (run_step(stage, steps[stage]) for stage in ("psnr", "autoencoder"))
    metrics = make_metrics(wanted, scale, device, load_autoencoder(judged_by).to(device))

    def measured(method: str, cache: Path, answer: Callable[[], Predictor], *weights: Path) -> dict[str, dict[str, float]]:
        source = {
            "images": {name: [options.dataroot_gt, options.dataroot_lq] for name, options in tests.items()},
            "weights": [sha256_of(file) for file in (judged_by, *weights)],
        }
        return figures(method, cache, source, answer, sets, metrics, device)

    def network(file: Path) -> Callable[[], Predictor]:
        return lambda: answer_of(load_generator(file)[0].to(device), scale, device)

    rows = [
        Row("bicubic", measured("bicubic", folder / "bicubic.json", lambda: lambda lq, _: imresize(lq, scale))),
        Row("Lanczos", measured("Lanczos", folder / "lanczos.json", lambda: lambda lq, _: lanczos(lq, scale))),
        *(
            Row(name, measured(name, folder / f"other_{name}.json", network(file), file))
            for name, file in zip(method_names([str(file) for file in others]), others, strict=True)
        ),
        Row("PSNR net", measured("PSNR net", folder / "psnr_net.json", network(start), start)),
    ]
    finals = {}
    for seed in range(seeds):
        for name in variants:
            label, changes = VARIANTS[name]
            config = plan(FILE, [*overrides, *changes])["adversarial"]
            assert isinstance(config, TrainConfig)
            config = config.derive({"name": f"{config.name.rpartition('/')[0]}/3_{name}_{seed}", "manual_seed": seed})
            config = followed(config, tests[FOLLOWED])
            file = run_step(config.name, config)
            found = measured(f"{label}, seed {seed}", config.run_folder / "figures.json", network(file), file)
            rows.append(Row(label, found, seed, list(trajectory(config))))
            finals.setdefault(label, file)
            write(folder, rows)
    draw_plot(folder / "plot.png", rows)
    answers = {label: network(file)() for label, file in {"PSNR net": start, **finals}.items()}
    draw_crops(folder / "crops.png", answers, scale)
    print((folder / "table.md").read_text(encoding="utf-8"))
    print(f"in {folder}: results.json, table.md, plot.png, crops.png")


def followed(config: TrainConfig, data: PairedDataset) -> TrainConfig:
    """Derive a run that validates eight times."""
    return config.derive(
        {
            "datasets.val": data,
            "val.val_freq": max(config.train.total_iter // 8, 1),
            "val.save_img": False,
            "val.metrics": {name: MetricOptions() for name in DRAWN},
        }
    )


def trajectory(config: TrainConfig) -> Iterator[dict[str, float]]:
    """Yield iteration and metrics of every validation of a run."""
    for line in (config.run_folder / "scalars.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        found = {name.partition("/")[2]: value for name, value in values.items() if name.startswith("val/")}
        if found:
            yield {"iter": values["iter"], **found}


def test_set(folder: Path, name: str, scale: int) -> PairedDataset:
    """Return HR and, if present, LR images of a test set.

    Raises:
        ValueError: If the set does not exist, or its HR images cannot be identified.
    """
    folder = folder.resolve()  # stored in the options of the runs, so it must not depend on the working directory
    whole = folder / name
    hr, lr = whole / "HR", whole / f"LRx{scale}"
    if hr.is_dir():
        return PairedDataset(name=name, dataroot_gt=str(hr), dataroot_lq=str(lr) if lr.is_dir() else None)
    if not whole.is_dir():
        raise ValueError(f"--test-data: {whole} does not exist; {folder} must hold {', '.join(SETS)}")
    below = sorted(path.name for path in whole.iterdir() if path.is_dir())
    if below:
        raise ValueError(f"--test-data: {whole} contains {', '.join(below)} but no HR folder: move the HR images to {hr}")
    return PairedDataset(name=name, dataroot_gt=str(whole))


def scale_of(file: Path) -> int:
    return load_generator(file)[1].scale


def answer_of(net: nn.Module, scale: int, device: torch.device) -> Predictor:
    return lambda lq, gt: predict(net, lq, gt, scale, device)


def lanczos(lq: np.ndarray, scale: int) -> np.ndarray:
    return cv2.resize(lq, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4)


def figures(
    method: str,
    cache: Path,
    source: dict[str, object],
    answer: Callable[[], Predictor],
    sets: dict[str, MeasuredPairs],
    metrics: dict[str, Metric],
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Return mean metrics by set. They are cached in `cache` and measured again if `source` differs."""
    kept = json.loads(cache.read_text()) if cache.is_file() else {}
    found = kept["figures"] if kept.get("source") == source else {}
    for name, pairs in sets.items():
        if metrics.keys() - found.get(name, {}).keys():
            found[name] = averages(measure(answer(), pairs, metrics, World(device=device)))
            with replacing(cache) as temporary:
                temporary.write_text(json.dumps({"source": source, "figures": found}, indent=1))
            print(
                f"{method} on {name}: " + "  ".join(f"{metric} {value:.4f}" for metric, value in found[name].items()),
                flush=True,
            )
    return {name: {metric: found[name][metric] for metric in metrics} for name in sets}


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write results.json and table.md."""
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(json.dumps([vars(row) for row in rows], indent=1))
    with replacing(folder / "table.md") as temporary:
        tables = [*(table(name, rows) for name in SETS), at_equal_lpips(rows)]
        temporary.write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def table(name: str, rows: Sequence[Row]) -> str:
    """Return a table of the means on a set, with the standard deviation over several seeds."""
    measured = [metric for metric in MEASURED if metric in rows[0].figures[name]]
    lines = [
        f"| {name} | " + " | ".join(METRICS[metric].label for metric in measured) + " | runs |",
        "| --- |" + " --- |" * (len(measured) + 1),
    ]
    for method in dict.fromkeys(row.method for row in rows):
        runs = [row.figures[name] for row in rows if row.method == method]
        cells = [spread([run[metric] for run in runs], MEASURED[metric]) for metric in measured]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {len(runs)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], decimals: int) -> str:
    if any(map(math.isnan, values)):  # stdev raises on NaN
        return "nan"
    around = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{mean(values):.{decimals}f}{around}"


def way(row: Row, rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Return PSNR and LPIPS of a run on FOLLOWED, starting with those of the PSNR network."""
    start = next(row for row in rows if row.method == "PSNR net").figures[FOLLOWED]
    psnr, lpips = ([point[metric] for point in (start, *(row.trajectory or []))] for metric in DRAWN)
    return psnr, lpips


def at_equal_lpips(rows: Sequence[Row]) -> str:
    """Return a table of PSNR where each run first reaches LPIPS values that all runs reach, by linear interpolation.

    NaN for a run whose LPIPS never fell below that of the PSNR network.
    """
    ways = [(row.method, *way(row, rows)) for row in rows if row.trajectory]
    start = ways[0][2][0]
    fell = [min(lpips) for _, _, lpips in ways if min(lpips) < start]
    if not fell:
        return f"No run's LPIPS on {FOLLOWED} fell below the PSNR net's."
    levels = np.linspace(start, max(fell), 5)[1:].tolist()
    lines = [
        f"| {FOLLOWED}: PSNR at LPIPS | " + " | ".join(f"{level:.3f}" for level in levels) + " |",
        "| --- |" + " --- |" * len(levels),
    ]
    for method in dict.fromkeys(name for name, *_ in ways):
        cells = [spread([reached(level, *run) for name, *run in ways if name == method], 2) for level in levels]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reached(level: float, psnr: Sequence[float], lpips: Sequence[float]) -> float:
    """Return PSNR where LPIPS first falls to `level`, or NaN if it does not."""
    for at in range(1, len(lpips)):
        if lpips[at] <= level <= lpips[at - 1]:
            return float(np.interp(level, [lpips[at], lpips[at - 1]], [psnr[at], psnr[at - 1]]))
    return math.nan


def draw_plot(file: Path, rows: Sequence[Row]) -> None:
    """Plot LPIPS against PSNR for each run, from the PSNR network to the marked end."""
    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    colours: dict[str, str] = {}
    for row in rows:
        if row.trajectory is None:
            continue
        psnr, lpips = way(row, rows)
        label = None if row.method in colours else row.method
        colour = colours.setdefault(row.method, f"C{len(colours)}")
        axes.plot(psnr, lpips, color=colour, alpha=0.5, linewidth=1)
        axes.plot(psnr[-1], lpips[-1], "o", color=colour, label=label)
    axes.plot(psnr[0], lpips[0], "k*", markersize=12, label="PSNR net (start of all runs)")
    axes.set(xlabel=f"PSNR-Y on {FOLLOWED} (dB), higher is better", ylabel=f"LPIPS on {FOLLOWED}, lower is better")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_crops(file: Path, answers: dict[str, Predictor], scale: int) -> None:
    """Draw crops of the demo's held-out photographs where bicubic has the largest error, side by side."""
    held_out = Path(aesop.__file__).parent / "assets" / "photos" / "heldout"
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(held_out)), "heldout", scale)
    views = []
    for sample in (pairs[index] for index in range(len(pairs))):
        found = {"bicubic": imresize(sample.lq, scale)}
        found |= {label: answer(sample.lq, sample.gt) for label, answer in answers.items()}
        views.append(View.of(sample, found, scale, side=96, crop=96))
    labels = list(views[0].crops)
    figure, grid = plt.subplots(
        len(views), len(labels), figsize=(1.7 * len(labels), 1.8 * len(views)), layout="constrained", squeeze=False
    )
    for axes, label in zip(grid[0], labels, strict=True):
        axes.set_title(label.replace(", ", "\n"), fontsize=8)
    for line, view in zip(grid, views, strict=True):
        for axes, label in zip(line, labels, strict=True):
            axes.imshow(view.crops[label])
            axes.set_axis_off()
    figure.savefig(file, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
