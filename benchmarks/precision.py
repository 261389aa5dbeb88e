"""Compare bf16 with fp32 training: loss curves and final metrics of three seeds each.

    python benchmarks/precision.py [--device cpu] [--iterations 2000] [--ways fp32 bf16+channels_last] [--record]

A small RRDBNet and an auto-encoder are trained once in fp32 on the bundled photographs. From there, each way and seed
trains a GAN with the AESOP and the artifact loss. Each loss curve is divided into ten windows; the range of the fp32
seeds in a window is the spread. Half of the runs of one distribution lie outside the range of three others. The table
therefore also states the share of windows in which an fp32 seed lies between the other two, and the same for each way:
equal shares indicate equal ways. PSNR-Y, and LPIPS if its weights are found, are measured on photographs outside the
training set.
"""

import argparse
import itertools
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import aesop
from aesop.metrics import METRICS
from aesop.options.config import TrainConfig
from aesop.system.device import pick_device, reason_against_bf16
from aesop.training.train import train
from aesop.weights.pretrained import has_pretrained
from record import described, write

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos"
RRDB = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "enc_opt": {"num_feat": 48}, "dec_opt": RRDB}
SEEDS, WINDOWS, PREPARING = (0, 1, 2), 10, 600
BASELINE = "fp32"


def options(stage: str, name: str, root: Path, device: torch.device, iterations: int, seed: int = 0) -> dict[str, Any]:
    return {
        "name": name, "stage": stage, "device": str(device), "manual_seed": seed,
        "network_g": AUTOENCODER if stage == "autoencoder" else RRDB,
        "datasets": {
            "train": {"dataroot_gt": str(PHOTOS / "train"), "gt_size": 48, "batch_size_per_gpu": 4, "num_worker_per_gpu": 1,
                      "cache": True},
            "val": {"dataroot_gt": str(PHOTOS / "heldout")},
        },
        "path": {"experiments_root": str(root)},
        "train": {"total_iter": iterations, "optim_g": {"lr": 1e-3}},
        "val": {"val_freq": iterations, "save_img": False, "metrics": {"psnr": {"crop_border": 4, "test_y_channel": True}}},
        "logger": {"print_freq": 10, "save_checkpoint_freq": iterations, "use_tb_logger": False},
    }  # fmt: skip


def prepared(root: Path, device: torch.device) -> tuple[Path, Path]:
    """Train the PSNR network and the auto-encoder that all GANs start from."""
    psnr = options("psnr", "psnr", root, device, PREPARING)
    psnr["train"] |= {"pixel_opt": {}, "ema_decay": 0}  # an average lags behind in a short training
    net = train(config_of(psnr))
    autoencoder = options("autoencoder", "autoencoder", root, device, PREPARING)
    autoencoder["train"] |= {"pixel_opt": {}, "pixel_at_LR_opt": {}, "ema_decay": 0}
    autoencoder["path"]["pretrain_network_decoder"] = str(net)
    return net, train(config_of(autoencoder))


def config_of(raw: dict[str, Any]) -> TrainConfig:
    return TrainConfig.model_validate(raw)


def gan(way: str, seed: int, root: Path, device: torch.device, iterations: int, net: Path, autoencoder: Path) -> Path:
    """Train a GAN with the options in `way` and return its run folder."""
    precision, *switches = way.split("+")
    raw = options("adversarial", f"{way}_{seed}", root, device, iterations, seed)
    raw |= {"precision": precision, "network_d": {"type": "UNetDiscriminatorSN", "num_feat": 8}}
    raw |= dict.fromkeys(switches, True)
    raw["path"]["pretrain_network_g"] = str(net)
    raw["train"] |= {
        "optim_g": {"lr": 1e-4}, "optim_d": {"lr": 1e-4}, "gan_opt": {"loss_weight": 5e-3}, "artifacts_opt": {},
        "aesop_opt": {"autoencoder_load": {"path": str(autoencoder)}},
    }  # fmt: skip
    if has_pretrained(*METRICS["lpips"].weights):
        raw["val"]["metrics"]["lpips"] = {}
    config = config_of(raw)
    train(config)
    return config.run_folder


def curves(folder: Path) -> dict[str, list[float]]:
    """Return the mean of each loss in each window and the metrics of the last validation."""
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "lr" in row]
    found = {}
    for name in (key for key in losses[0] if key not in ("iter", "lr")):
        values = [row[name] for row in losses]
        size = len(values) // WINDOWS
        found[name] = [statistics.mean(values[k * size : (k + 1) * size]) for k in range(WINDOWS)]
    return found | {name: [value] for name, value in rows[-1].items() if "/" in name}


def share_within(runs: list[dict[str, list[float]]], others: list[list[dict[str, list[float]]]], name: str) -> float:
    """Return the share of windows in which a run lies in the range of a group of others, over all runs and groups."""
    inside = []
    for run, group in itertools.product(runs, others):
        if run not in group:
            for k, value in enumerate(run[name]):
                values = [other[name][k] for other in group]
                inside.append(min(values) <= value <= max(values))
    return statistics.mean(inside)


def compare(found: dict[str, list[dict[str, list[float]]]]) -> list[dict[str, Any]]:
    """Return, for each way and curve, the last values and the shares inside the ranges of the fp32 seeds."""
    base = found[BASELINE]
    pairs = [list(pair) for pair in itertools.combinations(base, 2)]
    return [
        {
            "way": way,
            "curve": name,
            "last": [run[name][-1] for run in runs],
            "within_three": share_within(runs, [base], name) if way != BASELINE else None,
            "within_two": share_within(runs, pairs, name),
        }
        for name in base[0]
        for way, runs in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--ways", nargs="+", default=["bf16+channels_last"], help="in addition to fp32")
    parser.add_argument("--record", action="store_true", help="write results/precision_<date>_<device>.json")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    if reason := reason_against_bf16(device):
        parser.error(f"bf16 is not available: {reason}")
    found: dict[str, list[dict[str, list[float]]]] = {}
    with TemporaryDirectory() as folder:
        net, autoencoder = prepared(Path(folder), device)
        for way in (BASELINE, *arguments.ways):
            found[way] = [
                curves(gan(way, seed, Path(folder), device, arguments.iterations, net, autoencoder)) for seed in SEEDS
            ]
    rows = compare(found)
    record = described(device) | {"iterations": arguments.iterations, "windows": WINDOWS, "curves": found, "rows": rows}
    print(f"{record['date']}, {record['machine']}, torch {torch.__version__}; {arguments.iterations} iterations\n")
    print(
        "| curve | way | last window, three seeds | within the range of three fp32 seeds | of two |\n| - | - | - | - | - |"
    )
    for row in rows:
        last = ", ".join(f"{value:.4g}" for value in row["last"])
        three = "" if row["within_three"] is None else f"{row['within_three']:.0%}"
        print(f"| {row['curve']} | {row['way']} | {last} | {three} | {row['within_two']:.0%} |")
    if arguments.record:
        write("precision", record)


if __name__ == "__main__":
    main()
