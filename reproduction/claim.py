"""Measure the GANs of claim_queue.yml: what fidelity does each loss leave at the same perceptual quality, and why?

    python reproduction/lanes.py --queue reproduction/claim_queue.yml start    # trains them, in the background
    python reproduction/claim.py --test-data FOLDER [--run NAME]... [--add RECORD] [--record]

FOLDER contains Set14 and BSDS_test50: HR images in SET/HR with LR images in SET/LRx4, or HR images in SET itself. Missing LR
images are made by bicubic downscaling. The weights of LPIPS are read from the folder in AESOP_WEIGHTS. Runs that are not
finished are left out, and nothing is measured twice, so the command may be repeated while others train. --run measures some
runs and makes no report. --record writes benchmarks/results/claim_<date>_<device>.json. --add takes the runs of such a
record, made on another machine, into the report and the new record.

Of each run are measured, with EMA weights: on Set14 five networks on the way, on both sets the last one and its blend with
the PSNR net, from which all runs start. A blend has less texture and more fidelity: it shows what a run reaches at another
LPIPS than its own. Output in experiments/lanes/claim: measured/, report.md, claim.webp, crops.webp.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

import aesop
from aesop.cli import USER_ERRORS
from aesop.data.measured_pairs import MeasuredPairs
from aesop.diagnosis.run_record import read_run
from aesop.evaluation.image_views import Image, View
from aesop.evaluation.measure import measuring
from aesop.evaluation.methods import predict
from aesop.images.resize import imresize
from aesop.images.tensors import to_tensor
from aesop.inference.shipped_models import shipped_model
from aesop.metrics.build import make_metrics
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.system.device import pick_device
from aesop.system.files import replacing, sha256_of
from aesop.training.image_readings import split_of_the_error
from aesop.weights.blend import with_texture
from aesop.weights.load import load_autoencoder, load_generator

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import record
from lanes import ROOT, Run, finished_weights, read_queue, total_of

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit('error: the plots need matplotlib: pip install ".[reproduction]"')

QUEUE = Path(__file__).resolve().parent / "claim_queue.yml"
START = shipped_model().with_name("aesop_compact_x4_psnr.safetensors")
AUTOENCODER = QUEUE.parent / "weights" / "claim_autoencoder.safetensors"
FOLDER = ROOT / "claim"
FOLLOWED, SETS = "Set14", ("Set14", "BSDS_test50")
DEVICE = pick_device()
SCALE = 4
STEPS = 5  # networks on a run's way that are measured
SHARE = 0.75  # of the GAN, in its blend with the PSNR net
METRICS = ("psnr", "lrpsnr", "lpips")
SPLIT = ("se", "ve")  # fidelity bias and perceptual variance
# Run's name without its seed -> label.
LOSSES = {
    "aesop": "AESOP, weight 1",
    "pixel": "pixel L1, weight 1",
    "pixel001": "pixel L1, weight 0.01",
    "lr_pixel": "L1 of LR, weight 1",
}
RESAMPLES = 2000
Of = TypeVar("Of")


@dataclass(frozen=True)
class Point:
    """What was measured of a network: the run's at an iteration, or that part of its blend with the PSNR net."""

    iteration: int
    share: float
    set: str
    values: Mapping[str, Sequence[float]]
    """Of each image, by metric."""

    def mean(self, metric: str) -> float:
        return mean(self.values[metric])


Measured = Mapping[str, Sequence[Point]]
"""Points by the run's name (`aesop_0`); `start` is the PSNR net."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--run", action="append", metavar="NAME", help="measure this run alone, as aesop_0")
    parser.add_argument("--add", type=Path, metavar="RECORD", help="report on the runs of this record as well")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    try:
        runs = finished_runs(read_queue(QUEUE))
        if unknown := set(given.run or ()) - runs.keys():
            raise ValueError(f"--run: {', '.join(sorted(unknown))} is not among the finished runs: {', '.join(runs)}")
        measured = measure_runs({name: runs[name] for name in given.run or runs}, given.test_data)
        if given.run is None:
            read = {name: readings(stage) for name, stage in runs.items()}
            if given.add is not None:
                known = json.loads(given.add.read_text(encoding="utf-8"))
                points = {name: [Point(**point) for point in each] for name, each in known["points"].items()}
                measured, read = in_order(points | measured), in_order(known["gradients"] | read)
            report(runs, measured, read)
            if given.record:
                points = {name: [vars(point) for point in each] for name, each in measured.items()}
                record.write("claim", record.described(DEVICE) | {"gradients": read, "points": points})
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")


def finished_runs(queue: Mapping[str, Sequence[Run]]) -> dict[str, Path]:
    """Name -> folder of the adversarial stage, by loss and seed.

    Raises:
        ValueError: If there is none.
    """
    done = {
        run.name.removeprefix("claim/"): run.folder / "3_adversarial"
        for lane in queue.values()
        for run in lane
        if run.is_finished
    }
    if not done:
        raise ValueError(f"no run of {QUEUE.name} is finished below {FOLDER}: see `lanes.py --queue {QUEUE} status`")
    return in_order(done)


def in_order(runs: Mapping[str, Of]) -> dict[str, Of]:
    """The start, then runs by loss and seed."""
    losses = ["", *LOSSES]
    return {name: runs[name] for name in sorted(runs, key=lambda name: (losses.index(loss_of(name)), name))}


def loss_of(run: str) -> str:
    """Empty for the start."""
    return run.rpartition("_")[0]


# --- measuring -----------------------------------------------------------------------------------------------------------


def measure_runs(runs: Mapping[str, Path], data: Path) -> Measured:
    """Measure what has not been measured of the start and the chosen runs.

    Raises:
        ValueError: If a test set is missing.
    """
    meter = Meter(data, load_autoencoder(AUTOENCODER))
    start = meter.measure("start", START, [(0, 0.0, name, lambda: load_generator(START)[0]) for name in SETS])
    return {"start": start} | {name: measure_run(meter, name, stage) for name, stage in runs.items()}


Wanted = tuple[int, float, str, Callable[[], nn.Module]]
"""Iteration, share, set, and how the network is made."""


def measure_run(meter: "Meter", run: str, stage: Path) -> list[Point]:
    total = total_of(stage / "config.yml")
    files = {at: stage / "models" / f"net_g_{at:08d}.safetensors" for at in range(total // STEPS, total + 1, total // STEPS)}

    def blended() -> nn.Module:
        net = load_generator(START)[0]
        net.load_state_dict(with_texture(str(START), str(files[total]), SHARE))
        return net

    wanted: list[Wanted] = [
        (at, 1.0, name, lambda file=file: load_generator(file)[0])
        for at, file in files.items()
        for name in (SETS if at == total else [FOLLOWED])
    ]
    return meter.measure(run, files[total], [*wanted, *((total, SHARE, name, blended) for name in SETS)])


class Meter:
    """Measures networks on whole images of the test sets, by the protocol of `aesop test`, and splits their errors."""

    def __init__(self, data: Path, autoencoder: nn.Module):
        self.sets = {name: test_set(data, name) for name in SETS}
        self.measure_image = measuring(make_metrics({name: MetricOptions() for name in METRICS}, SCALE, DEVICE), DEVICE)
        self.autoencoder = autoencoder.to(DEVICE).eval().requires_grad_(False)
        self.seen: dict[tuple[str, str], Tensor] = {}  # HR after the auto-encoder

    def measure(self, run: str, end: Path, nets: Iterable[Wanted]) -> list[Point]:
        """Points of a run; those that are not in its file are measured and added to it.

        The file counts as long as the run's last weights `end`, the start, and the auto-encoder are the same.
        """
        file = FOLDER / "measured" / f"{run}.json"
        source = [sha256_of(weights) for weights in (end, START, AUTOENCODER)]
        kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        points = [Point(**point) for point in kept["points"]] if kept.get("source") == source else []
        known = {(point.iteration, point.share, point.set) for point in points}
        for at, share, name, make in nets:
            if (at, share, name) not in known:
                points.append(Point(at, share, name, self._values(make().to(DEVICE).eval(), self.sets[name])))
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as temporary:
                    temporary.write_text(json.dumps({"source": source, "points": [vars(point) for point in points]}))
                means = "  ".join(f"{metric} {points[-1].mean(metric):.5g}" for metric in points[-1].values)
                print(f"{run} at {at}, share {share:g}, {name}: {means}", flush=True)
        return points

    def _values(self, net: nn.Module, pairs: MeasuredPairs) -> dict[str, list[float]]:
        values: dict[str, list[float]] = {name: [] for name in (*METRICS, *SPLIT)}
        for sample in (pairs[index] for index in range(len(pairs))):
            assert sample.gt is not None
            sr = predict(net, sample.lq, sample.gt, SCALE, DEVICE)
            found = self.measure_image(sr, sample.gt) | self._split(sr, sample.gt, sample.key)
            for name, each in values.items():
                each.append(float(f"{found[name]:.6g}"))
        return values

    @torch.inference_mode()
    def _split(self, sr_image: Image, hr_image: Image, key: tuple[str, str]) -> dict[str, float]:
        sr, hr = (to_tensor(image)[None].to(DEVICE) for image in (sr_image, hr_image))
        if key not in self.seen:
            self.seen[key] = self.autoencoder(hr)
        split = split_of_the_error(sr, hr, self.autoencoder(sr), self.seen[key])
        return {name: float(value) for name, value in split.items()}


def test_set(folder: Path, name: str) -> MeasuredPairs:
    """HR and, if present, LR images of a test set.

    Raises:
        ValueError: If the set does not exist, or its HR images cannot be identified.
    """
    whole = folder / name
    hr, lr = whole / "HR", whole / f"LRx{SCALE}"
    if not whole.is_dir():
        raise ValueError(f"--test-data: {whole} does not exist; {folder} must hold {' and '.join(SETS)}")
    below = sorted(path.name for path in whole.iterdir() if path.is_dir())
    if below and not hr.is_dir():
        raise ValueError(f"--test-data: {whole} contains {', '.join(below)} but no HR folder: move the HR images to {hr}")
    options = PairedDataset(dataroot_gt=str(hr if below else whole), dataroot_lq=str(lr) if lr.is_dir() else None)
    return MeasuredPairs.find(options, name, SCALE)


# --- the report ----------------------------------------------------------------------------------------------------------


def report(runs: Mapping[str, Path], measured: Measured, read: Mapping[str, Mapping[str, float]]) -> None:
    parts = [*(at_the_end(measured, name) for name in SETS), *(at_equal_lpips(measured, name) for name in SETS)]
    parts += [last_fifth(measured), on_the_way(measured), of_gradients(read)]
    with replacing(FOLDER / "report.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print((FOLDER / "report.md").read_text(encoding="utf-8"))
    draw_plot(FOLDER / "claim.webp", measured)
    draw_crops(FOLDER / "crops.webp", runs)


def seeds(measured: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Loss, and its runs; in the order of LOSSES."""
    for loss, runs in groupby((run for run in measured if run != "start"), key=loss_of):
        yield loss, list(runs)


def last(points: Sequence[Point], name: str) -> Point:
    """The run's last network on a set."""
    return max((point for point in points if point.set == name and point.share in (0, 1)), key=lambda point: point.iteration)


def spread(values: Sequence[float], decimals: int) -> str:
    around = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{mean(values):.{decimals}f}{around}"


def table(*rows: Sequence[str]) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def at_the_end(measured: Measured, name: str) -> str:
    """Table of the means on a set; after ± the standard deviation over seeds. Bias and variance in 1e-4 of white squared."""
    groups = [("PSNR net", ["start"]), *((LOSSES[loss], runs) for loss, runs in seeds(measured))]
    columns = {"psnr": (1, 2), "lrpsnr": (1, 2), "lpips": (1, 4), "se": (1e4, 3), "ve": (1e4, 3)}
    return table(
        (name, "PSNR", "LR-PSNR", "LPIPS", "fidelity bias", "perceptual variance", "runs"),
        *(
            (
                label,
                *(
                    spread([factor * last(measured[run], name).mean(metric) for run in runs], decimals)
                    for metric, (factor, decimals) in columns.items()
                ),
                str(len(runs)),
            )
            for label, runs in groups
        ),
    )


def curve(measured: Measured, run: str, name: str) -> dict[str, NDArray]:
    """Metric -> (networks, images): the PSNR net, the run's blend, its last network."""
    end = last(measured[run], name).iteration
    points = [point for point in measured[run] if point.set == name and point.iteration == end]
    points = sorted([last(measured["start"], name), *points], key=lambda point: point.share)
    return {metric: np.array([point.values[metric] for point in points]) for metric in METRICS}


def at_level(lpips: NDArray, values: NDArray, level: float) -> float:
    """`values` where LPIPS, (networks,) both, first falls to `level`, by linear interpolation; NaN where it does not."""
    for at in range(1, len(lpips)):
        if lpips[at] <= level <= lpips[at - 1]:
            return float(np.interp(level, [lpips[at], lpips[at - 1]], [values[at], values[at - 1]]))
    return float("nan")


def at_equal_lpips(measured: Measured, name: str) -> str:
    """Table of what AESOP has more than each other loss at the highest LPIPS that a run ends with.

    Two intervals of 95 %: over seeds by Student's t, of differences between runs with the same seed; over images by
    bootstrap, of the mean over seeds.
    """
    curves = {run: curve(measured, run, name) for run in measured if run != "start"}

    def differences(images: NDArray, loss: str, metric: str) -> list[float]:
        means = {run: {key: each[:, images].mean(1) for key, each in of_run.items()} for run, of_run in curves.items()}
        level = max(each["lpips"][-1] for each in means.values())
        found = {run: at_level(each["lpips"], each[metric], level) for run, each in means.items()}
        return [found[f"aesop_{seed}"] - found[f"{loss}_{seed}"] for seed in shared_seeds(curves, loss)]

    count = len(next(iter(curves.values()))["lpips"][0])
    samples = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    rows = []
    for loss, _ in seeds(measured):
        if loss == "aesop" or not shared_seeds(curves, loss):
            continue
        for metric, label in (("psnr", "PSNR"), ("lrpsnr", "LR-PSNR")):
            found = differences(np.arange(count), loss, metric)
            resampled = [mean(differences(images, loss, metric)) for images in samples]
            over_images = np.quantile(resampled, [0.025, 0.975])
            rows.append(
                (
                    f"{LOSSES[loss]}: {label}",
                    f"{mean(found):+.3f}",
                    interval(over_seeds(found)),
                    interval(over_images),
                    str(len(found)),
                )
            )
    level = max(each["lpips"][-1].mean() for each in curves.values())
    return table((f"{name}, LPIPS {level:.4f}: AESOP has more than", "dB", "over seeds", "over images", "seeds"), *rows)


def shared_seeds(runs: Mapping[str, Any], loss: str) -> list[str]:
    """Seeds that AESOP and the loss both have."""
    numbers = (run.rpartition("_")[2] for run in runs if loss_of(run) == loss)
    return [seed for seed in numbers if f"aesop_{seed}" in runs]


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean; NaN for a single value."""
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = stats.t.interval(0.95, len(values) - 1, mean(values), stdev(values) / len(values) ** 0.5)
    return float(low), float(high)


def interval(ends: Sequence[float] | NDArray) -> str:
    low, high = ends
    return "" if np.isnan(low) else f"{low:+.3f} to {high:+.3f}"


def way(points: Sequence[Point]) -> list[Point]:
    """A run's networks on FOLLOWED, without blends."""
    return sorted(
        (point for point in points if point.set == FOLLOWED and point.share == 1), key=lambda point: point.iteration
    )


def last_fifth(measured: Measured) -> str:
    """Table of how much LPIPS changed in the last fifth of the iterations, of its end."""

    def change(run: str) -> float:
        *_, before, end = way(measured[run])
        return 100 * (end.mean("lpips") / before.mean("lpips") - 1)

    rows = [(LOSSES[loss], ", ".join(f"{change(run):+.1f} %" for run in runs)) for loss, runs in seeds(measured)]
    return table((f"{FOLLOWED}: LPIPS over the last fifth", "by seed"), *rows)


def on_the_way(measured: Measured) -> str:
    """Table of fidelity bias / perceptual variance, in 1e-4, means over seeds."""
    groups = list(seeds(measured))
    iterations = [point.iteration for point in way(measured[groups[0][1][0]])]
    rows = [
        (
            str(at),
            *(
                " / ".join(f"{1e4 * mean(way(measured[run])[place].mean(metric) for run in runs):.2f}" for metric in SPLIT)
                for _, runs in groups
            ),
        )
        for place, at in enumerate(iterations)
    ]
    start = last(measured["start"], FOLLOWED)
    rows.insert(0, ("0", *[" / ".join(f"{1e4 * start.mean(metric):.2f}" for metric in SPLIT)] * len(groups)))
    return table((f"{FOLLOWED}: bias / variance", *(LOSSES[loss] for loss, _ in groups)), *rows)


def readings(stage: Path) -> dict[str, float]:
    """The fidelity loss's share of the gradient's norms (medians), and its cosines with the other terms (means)."""
    run = read_run(stage)
    (mine,) = run.losses.keys() & {"aesop", "pix"}
    found = {f"share_{where}": run.shares(where, late=False)[mine] for where in ("sr", "weights")}
    return found | {
        f"{where}+{other}": float(run[f"{where}_cos/{mine}+{other}"][1].mean())
        for where in ("sr", "weights")
        for other in ("percep", "gan")
    }


def of_gradients(read: Mapping[str, Mapping[str, float]]) -> str:
    """Table of the readings; after ± the standard deviation over seeds."""
    rows = []
    for loss, runs in seeds(read):
        columns = [
            [read[run][key] for run in runs]
            for key in ("share_sr", "sr+percep", "sr+gan", "share_weights", "weights+percep", "weights+gan")
        ]
        rows.append((LOSSES[loss], *(spread(values, 4 if place in (0, 3) else 3) for place, values in enumerate(columns))))
    head = ("gradient of the fidelity loss", "share at SR", "cosine with perceptual", "with GAN")
    return table((*head, "share in weights", "cosine with perceptual", "with GAN"), *rows)


# --- pictures ------------------------------------------------------------------------------------------------------------


def draw_plot(file: Path, measured: Measured) -> None:
    """Perception against distortion, and variance against bias, of each run from the PSNR net to its end."""
    figure, panels = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    start = last(measured["start"], FOLLOWED)
    for axes, (x, y, factor) in zip(panels, (("psnr", "lpips", 1), ("se", "ve", 1e4)), strict=True):
        for number, (loss, runs) in enumerate(seeds(measured)):
            for run in runs:
                ends = [(factor * point.mean(x), factor * point.mean(y)) for point in (start, *way(measured[run]))]
                axes.plot(*zip(*ends, strict=True), color=f"C{number}", alpha=0.5, linewidth=1)
                axes.plot(*ends[-1], "o", color=f"C{number}", label=LOSSES[loss] if run == runs[0] else None)
        axes.plot(factor * start.mean(x), factor * start.mean(y), "k*", markersize=12, label="PSNR net (start of all runs)")
        axes.grid(alpha=0.3)
    panels[0].set(xlabel=f"PSNR-Y on {FOLLOWED} (dB), higher is better", ylabel=f"LPIPS on {FOLLOWED}, lower is better")
    panels[1].set(xlabel="fidelity bias (1e-4), lower is better", ylabel="perceptual variance (1e-4)")
    panels[0].legend()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_crops(file: Path, runs: Mapping[str, Path]) -> None:
    """The demo's held-out photographs where bicubic has the largest error, with the first seed of each loss."""
    held_out = Path(aesop.__file__).parent / "assets" / "photos" / "heldout"
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(held_out)), "heldout", SCALE)
    ends = {LOSSES[loss]: finished_weights(runs[names[0]]) for loss, names in seeds(runs)}
    nets = {label: load_generator(file)[0].to(DEVICE).eval() for label, file in {"PSNR net": START, **ends}.items() if file}
    views = []
    for sample in (pairs[index] for index in range(len(pairs))):
        images = {"bicubic": imresize(sample.lq, SCALE)}
        images |= {label: predict(net, sample.lq, None, SCALE, DEVICE) for label, net in nets.items()}
        views.append(View.of(sample, images, SCALE, side=96, crop=96))
    labels = list(views[0].crops)
    size = (1.7 * len(labels), 1.8 * len(views))
    figure, grid = plt.subplots(len(views), len(labels), figsize=size, layout="constrained", squeeze=False)
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
