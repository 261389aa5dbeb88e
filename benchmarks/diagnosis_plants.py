"""Plant each cause that `aesop diagnose` knows in a small training, and see whether the verdict names it.

    python benchmarks/diagnosis_plants.py -o FOLDER [--photos FOLDER] [--only judging] [--processes 2] [--record]

`calibration` runs are those that the thresholds in src/aesop/diagnosis/causes.py were looked at with. `judging` runs have
another seed, other photographs, other networks and other doses; no threshold was set on them. Finished runs are kept, so
that the verdicts can be repeated. --record writes results/diagnosis_<date>_cpu.json and docs/evidence/diagnosis.md.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import aesop
from aesop.images.listing import list_images
from aesop.images.resize import imresize
from aesop.options.read import build_config
from aesop.training.train import train

ASSETS = Path(aesop.__file__).parent / "assets" / "photos"
Raw = dict[str, Any]
HEALTHY = "healthy"


@dataclass(frozen=True)
class Bench:
    """Where the runs of one split lie, and what they have in common."""

    split: str
    folder: Path
    photos: Path
    seed: int
    generator: Raw
    length: int

    @property
    def psnr(self) -> str:
        return str(self.folder / "psnr" / "models" / f"net_g_{3 * self.length:08d}.safetensors")

    def autoencoder(self, name: str = "autoencoder") -> str:
        return str(self.folder / name / "models" / f"net_g_{2 * self.length:08d}.safetensors")

    def options(self, name: str, stage: str, iterations: int, **train: Any) -> Raw:
        """Options of a run that starts from scratch, or in the adversarial stage from the PSNR net."""
        raw: Raw = {
            "name": name, "stage": stage, "device": "cpu", "scale": 4, "manual_seed": self.seed,
            "network_g": self.generator,
            "datasets": {
                "train": {
                    "dataroot_gt": str(self.photos), "gt_size": 64, "batch_size_per_gpu": 4, "num_worker_per_gpu": 0,
                    "cache": True,
                }
            },
            "path": {"experiments_root": str(self.folder), "from_scratch": True},
            "train": {"total_iter": iterations, **train},
            "val": {"val_freq": 0},
            "logger": {
                "print_freq": 10, "readings_freq": 10, "save_checkpoint_freq": 100_000, "use_tb_logger": False,
            },
        }  # fmt: skip
        return raw

    def pixels(self, name: str, times: int = 1, **train: Any) -> Raw:
        given = {"ema_decay": 0.98, "optim_g": {"lr": 2e-3}, "pixel_opt": {"type": "L1Loss"}}
        return self.options(name, "psnr", times * self.length, **given | train)

    def encoded(self, name: str, **train: Any) -> Raw:
        given = {"ema_decay": 0.98, "optim_g": {"lr": 2e-3}, "pixel_opt": {}, "pixel_at_LR_opt": {}}
        raw = self.options(name, "autoencoder", 2 * self.length, **given | train)
        raw["network_g"] = {
            "type": "AutoEncoder_RRDBNet",
            "enc_opt": {"num_feat": 48, "num_grow_ch": 8},
            "dec_opt": self.generator,
        }
        raw["path"]["pretrain_network_decoder"] = self.psnr
        return raw

    def gan(self, name: str, **train: Any) -> Raw:
        given = {
            "ema_decay": 0.98, "optim_g": {"lr": 2e-4}, "optim_d": {"lr": 2e-4},
            "aesop_opt": {"autoencoder_load": {"path": self.autoencoder()}}, "artifacts_opt": {}, "gan_opt": {},
        }  # fmt: skip
        kept = {option: value for option, value in (given | train).items() if value is not None}
        raw = self.options(name, "adversarial", self.length, **kept)
        raw["network_d"] = {"type": "UNetDiscriminatorSN", "num_feat": 8}
        raw["datasets"]["train"]["batch_size_per_gpu"] = 2
        raw["path"]["pretrain_network_g"] = self.psnr
        return raw


def with_lr(raw: Raw, bench: Bench, kind: str, reduce: Callable[[np.ndarray], np.ndarray], swap: bool = False) -> Raw:
    """The run on LR files that are made here; with `swap` each HR image gets the LR image of the next one of its size."""
    folder = bench.folder / "data" / kind
    if not folder.exists():
        making = folder.with_name(f".{kind}.{os.getpid()}")
        images = {file.name: cv2.imread(str(bench.photos / file.name)) for file in list_images(bench.photos)}
        names = list(images)
        for k, name in enumerate(names):
            hr = images[name]
            sides = [side // 4 * 4 for side in hr.shape[:2]]
            source = images[names[(k + 1) % len(names)]] if swap else hr
            if source.shape[:2] != hr.shape[:2]:
                source = cv2.resize(source, hr.shape[1::-1], interpolation=cv2.INTER_AREA)
            for part, image in (("gt", hr), ("lq", reduce(source[: sides[0], : sides[1]]))):
                (making / part).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(making / part / f"{Path(name).stem}.png"), image)
        making.rename(folder)
    raw["datasets"]["train"] |= {"dataroot_gt": str(folder / "gt"), "dataroot_lq": str(folder / "lq")}
    return raw


def bicubic(image: np.ndarray) -> np.ndarray:
    return imresize(image, 1 / 4)


def nearest(image: np.ndarray) -> np.ndarray:
    """Every fourth pixel: shifted by 1.5 HR pixels, and aliased."""
    return np.ascontiguousarray(image[::4, ::4])


def blurred(image: np.ndarray) -> np.ndarray:
    return imresize(cv2.GaussianBlur(image, (0, 0), 5), 1 / 4)


def starts(bench: Bench) -> Iterator[Raw]:
    """What other runs start from. The first two are healthy runs themselves."""
    yield bench.pixels("psnr", 3)
    yield bench.encoded("autoencoder")


def faulty_autoencoders(bench: Bench) -> dict[str, Raw]:
    colour = bench.encoded("autoencoder_colour")
    colour["network_g"]["enc_opt"]["num_feat"] = 32 if bench.split == "calibration" else 16
    free = bench.encoded("autoencoder_free", pixel_at_LR_opt=None)
    free["path"].pop("pretrain_network_decoder")
    free["train"].pop("pixel_at_LR_opt")
    kernel = nearest if bench.split == "calibration" else blurred
    other = with_lr(bench.encoded("autoencoder_kernel"), bench, kernel.__name__, kernel)
    return {"autoencoder_colour": colour, "autoencoder_bottleneck": free, "autoencoder_kernel": other}


def plants(bench: Bench) -> dict[str, Raw]:
    """A run for each cause, by the cause's name in `aesop.diagnosis.causes`."""
    first = bench.split == "calibration"
    shuffled = {"type": "MSRResNet", "num_feat": 16, "num_block": 2}
    pixel = {"aesop_opt": None, "pixel_opt": {"loss_weight": 1e-2}}
    made = {
        "discriminator_wins": bench.gan("", optim_d={"lr": 6e-3} if first else {"lr": 4e-3}, **({} if first else pixel)),
        "discriminator_blind": bench.gan("", optim_d={"lr": 1e-9 if first else 1e-8}),
        "gan_drowned": bench.gan("", gan_opt={"loss_weight": 1e-6 if first else 1e-5}),
        "gan_drowning": bench.gan("", gan_opt={"loss_weight": 10.0 if first else 1.0}),
        "losses_opposed": bench.gan(
            "", gan_opt={"loss_weight": 0.1}, gan_gt_usm=True, aesop_opt=None, pixel_opt={"loss_weight": 1.0},
            artifacts_opt=None,
        ),
        "colour_drift": bench.gan("", aesop_opt=None, artifacts_opt=None, msssim_opt={}, optim_g={"lr": 1e-3}),
        "checkerboard": bench.pixels("", optim_g={"lr": 5e-3}) | {"network_g": shuffled},
        "blur": bench.gan("", pixel_opt={"loss_weight": 1000.0 if first else 300.0}),
        "average_too_slow": bench.pixels("", ema_decay=0.9999 if first else 0.9995, ema_warmup=False),
        "learning_rate_high": bench.pixels("", optim_g={"lr": 0.05 if first else 0.03}),
        "learning_rate_low": bench.pixels("", optim_g={"lr": 1e-8 if first else 1e-7}),
        "swapped_pairs": with_lr(bench.pixels(""), bench, "swapped", bicubic, swap=True),
    }  # fmt: skip
    for cause, raw in faulty_autoencoders(bench).items():
        made[cause] = bench.gan("", aesop_opt={"autoencoder_load": {"path": bench.autoencoder(raw["name"])}})
    for cause, raw in made.items():
        raw["name"] = cause
    return made


def healthy(bench: Bench) -> dict[str, Raw]:
    """Runs without a cause, on networks and losses of their own."""
    residual = bench.pixels("healthy_msrresnet", ema_decay=0.99, optim_g={"lr": 1e-3})
    residual["network_g"] = {"type": "MSRResNet", "num_feat": 16, "num_block": 2}
    plain = bench.gan("healthy_plain_gan", gan_opt={"relativistic": False}, aesop_opt=None, pixel_opt={"loss_weight": 1.0})
    return {raw["name"]: raw for raw in (bench.gan("healthy_aesop"), plain, residual)}


def make_run(raw: Raw) -> str:
    torch.set_num_threads(1)
    config, _ = build_config(raw, raw["name"])
    if not config.final_model.exists():
        shutil.rmtree(config.run_folder, ignore_errors=True)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of this task)
        train(config)
    return str(config.run_folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--photos", type=Path, default=ASSETS / "heldout", help="photographs of the judging runs")
    parser.add_argument("--only", choices=["calibration", "judging"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    benches = [
        Bench("calibration", arguments.output / "calibration", ASSETS / "train", 1,
              {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8}, 120),
        Bench("judging", arguments.output / "judging", arguments.photos, 2,
              {"type": "RRDBNet", "num_feat": 20, "num_block": 1, "num_grow_ch": 10}, 150),
    ]  # fmt: skip
    benches = [bench for bench in benches if arguments.only in (None, bench.split)]
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), max_tasks_per_child=1) as processes:
        for make in (
            lambda b: list(starts(b))[:1],
            lambda b: list(starts(b))[1:] + list(faulty_autoencoders(b).values()),
            lambda b: [*plants(b).values(), *healthy(b).values()],
        ):
            jobs = {processes.submit(make_run, raw): raw["name"] for bench in benches for raw in make(bench)}
            for job in as_completed(jobs):
                print(jobs[job], job.exception() or job.result(), flush=True)


if __name__ == "__main__":
    main()
