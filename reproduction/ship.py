"""Add a trained generator to the package: in half precision and without options that refer to a machine.

    python reproduction/ship.py experiments/lanes/web/3_adversarial/models/net_g_00001200.safetensors aesop_web_x4
    python reproduction/ship.py GAN.safetensors aesop_compact_x4 --between 0.8 FAITHFUL.safetensors

The second is the network between two, as `aesop upscale --texture` takes it.

Then run tests/inference/test_shipped_models.py, which checks the quality of the model, and update assets/models/README.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

import aesop
from aesop.inference.shipped_models import SHIPPED_FOR, shipped_model
from aesop.weights.blend import with_texture
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


def ship(source: Path, target: Path, between: tuple[float, Path] | None = None) -> None:
    """Write the generator of `source` to `target`, without paths, data sets, and logger options in the metadata.

    With `between` = (T, faithful), the weights are those at T on the line from `faithful`, at 0, to `source`, at 1.

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
    state = net.state_dict()
    if between:
        texture, faithful = between
        state = with_texture(str(faithful), str(source), texture)
        metadata["blend"] = f"{texture:g} of the training, {1 - texture:g} of {faithful.name}"
    save_weights(target, {key: tensor.half() for key, tensor in state.items()}, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FILE", help="net_g_*.safetensors of a training")
    parser.add_argument("name", choices=SHIPPED_FOR)
    parser.add_argument("--between", nargs=2, metavar=("T", "FAITHFUL"), help="ship the network at T from FAITHFUL to FILE")
    arguments = parser.parse_args()
    shipped = shipped_model().with_name(f"{arguments.name}.safetensors")
    try:
        between = arguments.between and (float(arguments.between[0]), Path(arguments.between[1]))
        ship(arguments.source, shipped, between)
        print(shipped)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
