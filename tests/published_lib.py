"""The published option files of the golden folder, cut down so that each runs on tiny images with tiny networks.

Used by test_published_files.py and by the script that writes the table of the 23 files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from checkpoint_kinds import save_basicsr

GOLDEN = Path(os.environ.get("AESOP_GOLDEN") or Path(__file__).resolve().parents[2] / "shared" / "golden")

# What makes each published network small; the rest of its options stays.
SMALL = {
    "RRDBNet": {"num_feat": 16, "num_block": 1, "num_grow_ch": 8},
    "MSRResNet": {"num_feat": 16, "num_block": 1},
    "EDSR": {"num_feat": 16, "num_block": 1},
    "RRDBNet_LEGACY": {"nf": 16, "nb": 1, "gc": 8},
    "SPSRNet": {"nf": 4, "nb": 20},
    "SwinIR": {"embed_dim": 12, "depths": [2], "num_heads": [2], "img_size": 16},
    "DRCT": {"embed_dim": 12, "depths": [2], "num_heads": [2], "img_size": 16, "window_size": 8},
}


def option_files() -> dict[str, dict[str, Any]]:
    """Name -> what is in the file; empty where there is no golden folder."""
    path = GOLDEN / "options.json"
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    return {name: entry["yaml"] for name, entry in content.get("options", content).items()}


def write(options: Mapping[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(dict(options), sort_keys=False))
    return path


class Substitutes:
    """Tiny images and weights in a folder, made once, and the overrides that put a published file onto them."""

    def __init__(self, folder: Path):
        self.folder = folder
        draw = np.random.default_rng(0)
        for name, side in (("HR", 288), ("LR", 72), ("smallHR", 64), ("smallLR", 16)):
            (folder / name).mkdir(parents=True)
            for index in range(2 if side > 64 else 1):
                coarse = draw.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
                cv2.imwrite(
                    str(folder / name / f"{index}.png"), cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
                )
        torch.manual_seed(0)

    def overrides(self, options: Mapping[str, Any]) -> list[str]:
        """`key=value` for everything of a file that has to be small or on this machine."""
        return [f"{key}={json.dumps(value)}" for key, value in self._overrides(options)]

    def _overrides(self, options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        trains = "train" in options
        yield "device", "cpu"
        yield "path.experiments_root", str(self.folder / "experiments")
        yield "path.results_root", str(self.folder / "results")
        for section, data in options["datasets"].items():
            size = "" if section == "train" else "small"
            for key in ("dataroot_gt", "dataroot_lq"):
                if data.get(key):
                    lone = data["type"] == "SingleImageDataset"
                    image = (
                        "HR"
                        if key.endswith("gt") or (options["network_g"]["type"].startswith("AutoEncoder") and lone)
                        else "LR"
                    )
                    yield f"datasets.{section}.{key}", str(self.folder / f"{size}{image}")
        network = dict(options["network_g"])
        yield from self._small("network_g", network)
        metrics = options.get("val", {}).get("metrics", {})
        for name in metrics:
            if name in ("lpips", "dists"):  # their weights are no part of a fresh machine
                yield f"val.metrics.{name}", {"type": "psnr"}
        for option in ("pretrain_network_g", "pretrain_network_decoder"):
            if options["path"].get(option):
                wanted = network["dec_opt"] if option.endswith("decoder") else network
                yield f"path.{option}", str(self._weights(wanted, option))
        if trains:
            yield from self._training(options)

    def _small(self, where: str, network: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        if "dec_opt" in network:
            network["dec_opt"] = dict(network["dec_opt"])
            yield from self._small(f"{where}.dec_opt", network["dec_opt"])
        else:
            for key, value in SMALL[network["type"]].items():
                network[key] = value
                yield f"{where}.{key}", value

    def _training(self, options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        train = options["train"]
        yield "train.total_iter", 1
        yield "datasets.train.batch_size_per_gpu", 2
        yield "datasets.train.num_worker_per_gpu", 0
        yield "val.val_freq", 1
        yield "logger.use_tb_logger", False
        yield "logger.wandb", None
        if "network_d" in options:
            yield "network_d.num_feat", 4
        if "aesop_opt" in train:
            small = {"type": "RRDBNet", **SMALL["RRDBNet"]}
            autoencoder = {"type": "AutoEncoder_RRDBNet", "dec_opt": small}
            yield "train.aesop_opt.autoencoder_load.path", str(self._weights(autoencoder, "autoencoder"))
        if "perceptual_opt" in train:
            yield "train.perceptual_opt.vgg_path", str(self.vgg())
        if "queue_size" in options:
            yield "queue_size", 4

    def _weights(self, network: Mapping[str, Any], name: str) -> Path:
        """A published `.pth` of the cut-down network with random weights."""
        path = self.folder / f"{name}_{network['type']}.pth"
        if not path.exists():
            options = dict(network)
            if options["type"] == "RRDBNet_LEGACY":
                options = {"type": "RRDBNet", **SMALL["RRDBNet"]}
            options.pop("use_checkpoint", None)
            state = build_network(options).state_dict()
            if network["type"] == "RRDBNet_LEGACY":
                torch.save({former_name(key): value for key, value in state.items()}, path)
            else:
                save_basicsr(path, {"params": state, "params_ema": state})
        return path

    def vgg(self) -> Path:
        path = self.folder / "vgg19.pth"
        if not path.exists():
            torch.save(VGGFeatureExtractor(["conv5_4"]).state_dict(), path)
        return path


def former_name(name: str) -> str:
    """RRDBNet's tensor names as ESRGAN's second release had them."""
    name = re.sub(r"body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", name)
    for now, then in {"conv_body": "trunk_conv", "conv_up": "upconv", "conv_hr": "HRconv"}.items():
        name = name.replace(now, then)
    return name
