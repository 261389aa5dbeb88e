"""Add a trained generator to the package: in half precision and without options that refer to a machine.

    python reproduction/ship.py experiments/lanes/clean/3_adversarial/models/net_g_00007800.safetensors aesop_compact_x4

Then run tests/inference/test_shipped_models.py, which checks the quality of the model, and update assets/models/README.md.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

import aesop
from aesop.inference.shipped_models import SHIPPED_FOR, shipped_model
from aesop.weights.description import Description, modelspec
from aesop.weights.load import load_generator
from aesop.weights.save import save_weights

AUTHOR = "The AESOP project's authors"


def described(name: str, network: dict[str, Any]) -> dict[str, str]:
    """ModelSpec's keys of a model that comes with aesop."""
    tags = ("photo", "jpeg", "compression-removal") if "web" in name else ("photo",)
    partner = f"The faithful partner of {name.removesuffix('_psnr')}: for the same photographs, without added texture."
    text = partner if name.endswith("_psnr") else f"For {SHIPPED_FOR[name]}."
    return modelspec(Description(name, AUTHOR, "Apache-2.0", tags, text), network)


def ship(source: Path, target: Path) -> None:
    """Write the generator of `source` to `target`, without paths, data sets, and logger options in the metadata.

    Raises:
        ValueError: If neither a PSNR stage nor an adversarial one of `aesop train` wrote the file.
    """
    net, info = load_generator(source)
    config = yaml.safe_load(info.metadata.get("config", "")) or {}
    if info.metadata.get("stage") not in ("psnr", "adversarial") or not config:
        raise ValueError(f"{source} does not come from a training of a generator; use a net_g_*.safetensors in its models/")
    train = config["train"]
    (train.get("aesop_opt") or {}).pop("autoencoder_load", None)
    batch = {key: config["datasets"]["train"][key] for key in ("gt_size", "batch_size_per_gpu")}
    recipe = {"scale": info.scale, "datasets": {"train": batch}, "train": train}
    if config.get("network_d"):
        recipe["network_d"] = config["network_d"]
    metadata = {
        "network": info.metadata["network"],
        "recipe": yaml.safe_dump(recipe, sort_keys=False),
        "total_iter": info.metadata["total_iter"],
        "stage": info.metadata["stage"],
        "written_by": f"aesop {aesop.__version__}",
        "trained_on": "photographs with the licences in src/aesop/assets/models/CREDITS.md",
    }
    if target.stem in SHIPPED_FOR:
        metadata |= described(target.stem, info.options)
    save_weights(target, {key: tensor.half() for key, tensor in net.state_dict().items()}, metadata)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        shipped = shipped_model().with_name(f"{sys.argv[2]}.safetensors")
        ship(Path(sys.argv[1]), shipped)
        print(shipped)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
