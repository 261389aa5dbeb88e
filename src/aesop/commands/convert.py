"""`aesop convert`: weights from and to self-describing safetensors and the `.pth` files of other projects."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aesop.archs import State
from aesop.archs.rrdbnet import RRDBNET_NAMES
from aesop.conversion.portable import ROUNDING, difference_in_spandrel, portability, portable_weights
from aesop.inference.models import find_model
from aesop.system.files import replacing
from aesop.weights.description import Description, modelspec
from aesop.weights.errors import WeightsError
from aesop.weights.load import build_described, fit, load_network
from aesop.weights.read import METADATA_KEY, read_state_dict
from aesop.weights.save import save_pth, save_weights
from aesop.weights.tensor_hash import HASH
from aesop.weights.tensor_names import published_names

# The weights in a state folder, by BasicSR's keys.
STATE_FILES = {"params": "net_g.safetensors", "params_ema": "net_g_ema.safetensors"}


@dataclass(frozen=True)
class Converted:
    source: Path
    target: Path
    holds: str
    """The network's options, or the keys of the sets of weights."""
    difference: float | None = None
    """With `portable`, the largest between the images that the source and, in spandrel, the target make of a photograph."""

    def __str__(self) -> str:
        line = f"{self.target}: {self.holds}"
        if self.difference is None:
            return line
        return f"{line}; spandrel loads it, largest difference on a photograph {self.difference:.2g}"


def convert(
    source: Path, target: Path, key: str | None = None, names: str | None = None, portable: bool = False
) -> Converted:
    """Write `target` from a weight file, which may be named as for `find_model`, or the state folder of a run.

    A `.safetensors` file holds one set of weights (the averaged one, if there is one) and the network's options. A `.pth`
    file has BasicSR's layout, with metadata: a state folder gives `params` and `params_ema`, a file gives `params_ema`.
    Nothing is written unless the weights are complete and belong to a known network.

    `key` converts only `params` or `params_ema`, and is the key of a `.pth`. `none` writes the averaged weights as a bare
    state dict, without metadata such as SwinIR's img_range. `names` are those of an RRDBNet's tensors in a `.pth`.

    With `portable`, spandrel loads the file, and makes of a photograph the image that the source makes; WeightsError if
    there is no such file of this network.
    """
    if target.suffix not in (".pth", ".safetensors"):
        raise ValueError(f"{target}: the target must end in .pth or .safetensors")
    if target.exists():
        raise ValueError(f"{target} exists: choose another name, or remove it first")
    for option, value, known in (("--key", key, (*STATE_FILES, "none")), ("--names", names, RRDBNET_NAMES)):
        if value not in (None, *known):
            raise ValueError(f"{option} must be one of {', '.join(known)}, found {value!r}")
    if names and target.suffix == ".safetensors":
        raise ValueError(f"{target}: --names is for .pth files; a .safetensors file gets the names by itself")

    source = source if source.is_dir() else find_model(source)
    weights, options, metadata = {}, {}, {}
    files = _files(source, key, target.suffix == ".safetensors")
    for name, file in files.items():
        state, metadata = read_state_dict(file, None if key == "none" else key)
        net, options = build_described(state, metadata, str(file))
        weights[name] = fit(net, state, str(file))
        if portable:
            if (found := portability(options)).loads == "no":
                raise WeightsError(f"{file} holds a network that cannot be made portable: {found.reason}")
            weights[name], options = portable_weights(weights[name], options)
    # The checksum is that of the source's tensors, in its form.
    kept = {name: text for name, text in metadata.items() if name != HASH}
    metadata = {**modelspec(Description(source.stem), options), **kept, "network": json.dumps(options)}
    if portable or target.suffix == ".pth":
        names = _names(options, names, source)
        weights = {name: published_names(state, names) for name, state in weights.items()}
    if not portable:
        return Converted(source, target, _write(target, weights, metadata, key))
    with replacing(target) as written:
        # Of two sets of weights, programs take the averaged one, which comes last.
        holds = _write(written, weights, metadata, key)
        return Converted(source, target, holds, _checked(written, list(files.values())[-1], key))


def _write(target: Path, weights: Mapping[str, State], metadata: Mapping[str, str], key: str | None) -> str:
    """Write one or two sets of weights; returns what the file holds."""
    if target.suffix == ".safetensors":
        save_weights(target, *weights.values(), metadata)
        return metadata["network"]
    if key == "none":
        save_pth(target, *weights.values())
        return "a bare state dict"
    save_pth(target, {**weights, METADATA_KEY: metadata})
    return ", ".join(weights)


def _checked(target: Path, source: Path, key: str | None) -> float:
    """Compare a file as spandrel loads it with its source; returns the difference, or raises WeightsError."""
    net, info = load_network(source, None if key == "none" else key)
    try:
        difference = difference_in_spandrel(net, target, info.options)
    except Exception as error:
        brief = str(error).partition("\n")[0]
        raise WeightsError(f"{source} cannot be made portable: spandrel does not load the result ({brief})") from error
    if not difference <= ROUNDING:
        raise WeightsError(f"{source} cannot be made portable: spandrel's image of a photograph differs by {difference:.2g}")
    return difference


def _files(source: Path, key: str | None, one: bool) -> dict[str, Path]:
    """The source files, by the key that each gets in a `.pth`. `one`: a single file."""
    if not source.is_dir():
        return {"params" if key == "params" else "params_ema": source}
    found = {name: source / file for name, file in STATE_FILES.items() if (source / file).is_file()}
    if not found:
        raise WeightsError(f"{source} is not a state folder: it has no {STATE_FILES['params']}")
    if key is None and not one:
        return found
    name = key if key in found else list(found)[-1]
    return {key if key in STATE_FILES else name: found[name]}


def _names(options: Mapping[str, Any], wanted: str | None, source: Path) -> str:
    """Tensor names with which the file is recognised as the same network again: `wanted`, if they are among these."""
    possible = RRDBNET_NAMES
    if options["type"] != "RRDBNet" or options.get("scale") == 3:
        possible = ("basicsr",)
    elif not options.get("unshuffle", True) and options.get("scale") == 2:
        possible = ("bsrgan", "old-esrgan")  # with BasicSR's names, these tensors would be taken for an x3 network
    if wanted and wanted not in possible:
        shown = json.dumps({name: options[name] for name in ("type", "scale", "unshuffle") if name in options})
        default = f"use --names {possible[0]}, the default for this network"
        raise ValueError(f"{source} holds {shown}, which has no {wanted} names; {default}")
    return wanted or possible[0]
