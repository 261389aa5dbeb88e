"""Measure each loss's share of the gradient under the published weights, for `aesop diagnose --weights`.

    AESOP_WEIGHTS=FOLDER python benchmarks/recipe_balance.py [--iterations 120] [--record]

The published networks take a GPU for days, so compact ones stand in: the PSNR net and the auto-encoder of
reproduction/weights (trained), a discriminator from scratch, and the bundled photographs. The perceptual loss uses VGG16
with the last layer of each block in place of VGG19. Shares are medians over the second half of the run.
--record writes src/aesop/assets/recipe_balance.json.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aesop
from aesop.diagnosis.run_record import read_run
from aesop.options.read import build_config
from aesop.system.files import replacing
from aesop.training.train import train
from aesop.weights.load import load_network
from record import commit

PACKAGE = Path(aesop.__file__).parent
WEIGHTS = Path(__file__).parents[1] / "reproduction" / "weights"
VGG16 = {
    "vgg_type": "vgg16",
    "layer_weights": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_3": 1.0, "conv4_3": 1.0, "conv5_3": 1.0},
}
REALWORLD = {
    **VGG16,
    "layer_weights": {name: weight for name, weight in VGG16["layer_weights"].items() if name != "conv1_2"},
}
RECIPES: dict[str, dict[str, Any]] = {
    "synthetic": {"artifacts_opt": {}, "perceptual_opt": VGG16, "gan_opt": {"loss_weight": 5e-3, "relativistic": True}},
    "realworld": {
        "perceptual_opt": REALWORLD, "percep_gt_usm": True, "gan_gt_usm": True,
        "gan_opt": {"loss_weight": 0.1, "relativistic": False},
    },
}  # fmt: skip


def shares(recipe: str, iterations: int, root: str) -> dict[str, float]:
    _, info = load_network(WEIGHTS / "web_psnr.safetensors")
    raw = {
        "name": recipe, "stage": "adversarial", "device": "cpu", "network_g": info.options,
        "network_d": {"type": "UNetDiscriminatorSN", "num_feat": 16},
        "datasets": {
            "train": {
                "dataroot_gt": str(PACKAGE / "assets" / "photos" / "train"), "gt_size": 64, "batch_size_per_gpu": 4,
                "num_worker_per_gpu": 0, "cache": True,
            }
        },
        "path": {"pretrain_network_g": str(WEIGHTS / "web_psnr.safetensors"), "experiments_root": root},
        "train": {
            "total_iter": iterations, "optim_g": {"lr": 1e-4}, "optim_d": {"lr": 1e-4},
            "aesop_opt": {"autoencoder_load": {"path": str(WEIGHTS / "web_autoencoder.safetensors")}}, **RECIPES[recipe],
        },
        "val": {"val_freq": 0},
        "logger": {"readings_freq": 5, "use_tb_logger": False},
    }  # fmt: skip
    config, _ = build_config(raw, recipe)
    train(config)
    return {name: float(f"{share:.3g}") for name, share in read_run(config.run_folder).shares().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    span = f"iterations {arguments.iterations // 2} to {arguments.iterations}"
    measured_on = f"compact networks in {span}, with VGG16 in VGG19's place"
    found = {}
    for recipe in RECIPES:
        with TemporaryDirectory() as root:
            found[recipe] = {"shares": shares(recipe, arguments.iterations, root), "measured_on": measured_on}
        print(recipe, found[recipe]["shares"], flush=True)
    if arguments.record:
        with replacing(PACKAGE / "assets" / "recipe_balance.json") as temporary:
            content = {**found, "written_by": "benchmarks/recipe_balance.py", "commit": commit()}
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
