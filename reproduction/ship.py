"""A trained generator into the package: half precision, and of its options only what belongs to nobody's machine.

    python reproduction/ship.py experiments/reproduction/x4/3_ship/models/net_g_00002000.safetensors aesop_compact_x4

tests/test_shipped_model.py then measures whether it may be shipped, and assets/models/README.md is to be written anew.
"""

import sys
from pathlib import Path

import yaml

import aesop
from aesop.inference import shipped_model
from aesop.weights import load_generator, save_weights


def ship(source: Path, name: str) -> Path:
    """Write assets/models/<name>.safetensors. What a file says of paths, sets and logs is left out."""
    net, info = load_generator(source)
    config = yaml.safe_load(info.metadata["config"])
    train = config["train"]
    (train.get("aesop_opt") or {}).pop("autoencoder_load", None)
    batch = {key: config["datasets"]["train"][key] for key in ("gt_size", "batch_size_per_gpu")}
    recipe = {"scale": info.scale, "datasets": {"train": batch}, "train": train, "network_d": config["network_d"]}
    metadata = {
        "network": info.metadata["network"],
        "recipe": yaml.safe_dump(recipe, sort_keys=False),
        "total_iter": info.metadata["total_iter"],
        "stage": info.metadata["stage"],
        "written_by": f"aesop {aesop.__version__}",
        "licence": "Apache-2.0; trained on photographs with the licences in CREDITS.md beside this file",
    }
    target = shipped_model().with_name(f"{name}.safetensors")
    target.parent.mkdir(exist_ok=True)
    save_weights(target, {key: tensor.half() for key, tensor in net.state_dict().items()}, metadata)
    return target


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(ship(Path(sys.argv[1]), sys.argv[2]))
