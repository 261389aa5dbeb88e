"""`aesop models info`: what a weight file says of its network, and what is measured on it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aesop.archs import image_channels
from aesop.conversion.portable import PROGRAMS, ROUNDING, Portability, difference_in_spandrel, portability
from aesop.evaluation.cost import OperationCounter
from aesop.evaluation.receptive_field import SHARE, receptive_field
from aesop.images.photograph import photograph_for
from aesop.inference.models import find_model
from aesop.publishing.training import find_recipe, training_facts
from aesop.system.files import sha256_of
from aesop.weights.description import PREFIX, read_description
from aesop.weights.load import load_generator
from aesop.weights.read import read_state_dict

SIDE = 96
"""Of the part of a photograph on which the receptive field and the operations are measured, in LR pixels."""
# Metadata that is said in another way, or for programs only.
_SAID = ("network", "config", "recipe", "format", "selected")
_LONGEST = 200
_LABELS = {"total iter": "iterations", "license": "licence"}


def model_info(model: str) -> tuple[dict[str, Any], list[str]]:
    """Return facts on the model, and the same as lines. WeightsError if it is no generator."""
    facts = _facts(find_model(model))
    return facts, [_printable(f"{name + ':':18}{text}") for name, text in _shown(facts).items() if text]


def _facts(path: Path) -> dict[str, Any]:
    net, info = load_generator(path)
    net.requires_grad_(False)
    state, metadata = read_state_dict(path)
    taken, made = image_channels(info.options)
    image = photograph_for(taken, SIDE, SIDE)
    with torch.inference_mode(), OperationCounter(net) as counter:
        net(image)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "precision": sorted(
            {str(value.dtype).removeprefix("torch.") for value in state.values() if value.is_floating_point()}
        ),
        "network": info.options,
        "scale": info.scale,
        "channels": {"in": taken, "out": made},
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "receptive_field": {"side": receptive_field(net, image), "share": SHARE, "measured_on": SIDE},
        "gflops_per_output_megapixel": counter.flops / 1e9 / ((SIDE * info.scale) ** 2 / 1e6),
        "description": asdict(read_description(metadata)),
        "losses": _losses(metadata, path),
        "metadata": {
            name: text
            for name, text in metadata.items()
            if name not in _SAID and not name.startswith(PREFIX) and len(text) <= _LONGEST and "\n" not in text
        },
        "programs": asdict(_portability(net, path, info.options)),
    }


def _portability(net: nn.Module, path: Path, options: Mapping[str, Any]) -> Portability:
    """Whether other programs load the file: not only the network, but these tensors with these names."""
    with suppress(Exception):  # loaders raise anything
        if difference_in_spandrel(net, path, options) <= ROUNDING:
            return Portability("as it is")
    found = portability(options)
    if found.loads == "as it is":
        return Portability("converted", "spandrel does not read the tensors in this file as the same network")
    return found


def _losses(metadata: Mapping[str, str], path: Path) -> dict[str, float]:
    """The losses of the training that made the file, with their weights, from the options that it recorded."""
    with suppress(ValueError, TypeError, AttributeError):  # another project's metadata
        losses = training_facts(find_recipe(metadata, path), metadata).losses or {}
        return {name.removesuffix("_opt"): weight for name, weight in losses.items()}
    return {}


def _shown(facts: Mapping[str, Any]) -> dict[str, str]:
    network, field = dict(facts["network"]), facts["receptive_field"]
    channels, side, whole = facts["channels"], field["side"], field["measured_on"]
    reach = "not measured: the network changes its features in place"
    if side is not None:
        least = "at least " if side > 0.8 * whole else ""  # near the border, part of the gradient is lost
        how = f"{field['share']:.0%} of the gradient, on a photograph of {whole}x{whole}"
        reach = f"{least}{side}x{side} LR pixels ({how})"
    recorded = {name.replace("_", " "): text for name, text in facts["metadata"].items()}
    described = {name: ", ".join(text) if name == "tags" else text for name, text in facts["description"].items() if text}
    measured = {
        "file": f"{facts['file']} ({facts['bytes'] / 1e6:.1f} MB)",
        "sha256": facts["sha256"],
        "precision": ", ".join(facts["precision"]),
        "network": ", ".join([network.pop("type"), *(f"{name} {value}" for name, value in network.items())]),
        "scale": f"x{facts['scale']}",
        "channels": f"{channels['in']} in, {channels['out']} out",
        "parameters": f"{facts['parameters'] / 1e6:.2f} million",
        "receptive field": reach,
        "operations": f"{facts['gflops_per_output_megapixel']:.4g} GFLOPs per megapixel of output",
        "losses": ", ".join(f"{name} {weight:g}" for name, weight in facts["losses"].items()),
        "other programs": _programs(facts["programs"], channels["in"]),
    }
    return {_LABELS.get(name, name): text for name, text in (recorded | described).items()} | measured


def _programs(found: Mapping[str, Any], channels: int) -> str:
    if found["loads"] == "no":
        return f"{PROGRAMS} do not load it: {found['reason']}"
    how = "as it is" if found["loads"] == "as it is" else f"after `aesop convert --portable` ({found['reason']})"
    gray = "; of these, only chaiNNer runs gray networks" if channels == 1 else ""
    return f"{PROGRAMS} load it {how}{gray}"


def _printable(text: str) -> str:
    """Without characters that a terminal takes for commands: a file may come from anybody."""
    return "".join(character if character.isprintable() else " " for character in text)
