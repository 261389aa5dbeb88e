"""Add a trained generator to the package: in half precision and without options that refer to a machine.

    python reproduction/ship.py experiments/reproduction/x4/3_adversarial/models/net_g_00004000.safetensors aesop_compact_x4

Then run tests/inference/test_shipped_models.py, which checks the quality of the model, and update assets/models/README.md.
"""

import sys
from pathlib import Path

import yaml

import aesop
from aesop.inference.shipped_models import shipped_model
from aesop.weights.load import load_generator
from aesop.weights.save import save_weights


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
        "licence": "Apache-2.0; trained on photographs with the licences in CREDITS.md in the same folder",
    }
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
