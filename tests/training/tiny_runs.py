"""Trainings that take a second each."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from aesop.archs import build_network
from aesop.options.read import build_config
from aesop.training.train import train
from aesop.weights.save import save_weights

RRDB = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "dec_opt": RRDB}


def options(stage: str, photos: Path, root: Path, total_iter: int, name: str = "run", **train_options) -> dict:
    raw = {
        "name": name,
        "stage": stage,
        "device": "cpu",
        "network_g": AUTOENCODER if stage == "autoencoder" else RRDB,
        "datasets": {
            "train": {"dataroot_gt": str(photos), "gt_size": 32, "batch_size_per_gpu": 4, "num_worker_per_gpu": 0},
            "val": {"dataroot_gt": str(photos)},
        },
        "path": {"experiments_root": str(root), "from_scratch": True},
        "train": {"total_iter": total_iter, "optim_g": {"lr": 1e-3}, **train_options},
        "val": {"val_freq": 2, "save_img": False},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }
    if stage == "adversarial":
        raw["network_d"] = {"type": "UNetDiscriminatorSN", "num_feat": 8}
        raw["train"] = {"gan_opt": {}, "artifacts_opt": {}, "optim_d": {"lr": 1e-3}, **raw["train"]}
        raw["train"].setdefault("aesop_opt", {"autoencoder_load": {"path": str(make_autoencoder(root))}})
    else:
        raw["train"]["pixel_opt"] = {"type": "L1Loss"}
    return raw


def make_autoencoder(folder: Path) -> Path:
    path = folder / "ae.safetensors"
    if not path.exists():
        torch.manual_seed(1)
        described = {**AUTOENCODER, "scale": 4}
        save_weights(path, build_network(described).state_dict(), {"network": json.dumps(described)})
    return path


def run(raw: dict, resume: bool = False) -> Path:
    config, _ = build_config(raw, "test")
    return train(config, resume)


def all_tensors(state: Path) -> dict[str, torch.Tensor]:
    return {f"{file.stem}/{k}": v for file in sorted(state.glob("*.safetensors")) for k, v in load_file(file).items()}
