"""`aesop convert`: weights from and to self-describing safetensors and the `.pth` files of other projects."""

import json
from pathlib import Path

from aesop.archs.rrdbnet import RRDBNET_NAMES
from aesop.weights.description import HASH_KEY, Description, modelspec
from aesop.weights.errors import WeightsError
from aesop.weights.load import build_described, fit
from aesop.weights.read import METADATA_KEY, read_state_dict
from aesop.weights.save import save_pth, save_weights
from aesop.weights.tensor_names import published_names

# The weights in a state folder, by BasicSR's keys.
STATE_FILES = {"params": "net_g.safetensors", "params_ema": "net_g_ema.safetensors"}


def convert(source: Path, target: Path, key: str | None = None, names: str | None = None) -> str:
    """Write `target` from a weight file or the state folder of a run; returns a line that describes it.

    A `.safetensors` file holds one set of weights (the averaged one, if there is one) and the network's options. A `.pth`
    file has BasicSR's layout, with metadata: a state folder gives `params` and `params_ema`, a file gives `params_ema`.
    Nothing is written unless the weights are complete and belong to a known network.

    `key` converts only `params` or `params_ema`, and is the key of a `.pth`. `none` writes the averaged weights as a bare
    state dict, without metadata such as SwinIR's img_range. `names` are those of an RRDBNet's tensors in a `.pth`.
    """
    if target.suffix not in (".pth", ".safetensors"):
        raise ValueError(f"{target}: the target must end in .pth or .safetensors")
    if target.exists():
        raise ValueError(f"{target} exists: choose another name, or remove it first")
    for option, value, known in (("--key", key, (*STATE_FILES, "none")), ("--names", names, RRDBNET_NAMES)):
        if value not in (None, *known):
            raise ValueError(f"{option} must be one of {', '.join(known)}, found {value!r}")
    if names and target.suffix == ".safetensors":
        raise ValueError(f"{target}: --names is for .pth files; a .safetensors file always has BasicSR's names")

    weights, options, metadata = {}, {}, {}
    for name, file in _files(source, key, target.suffix == ".safetensors").items():
        state, metadata = read_state_dict(file, None if key == "none" else key)
        net, options = build_described(state, metadata, str(file))
        weights[name] = fit(net, state, str(file))
    metadata = {**modelspec(Description(source.stem), options), **metadata, "network": json.dumps(options)}
    if target.suffix == ".safetensors":
        save_weights(target, *weights.values(), metadata)
        return f"{target}: {metadata['network']}"
    metadata.pop(HASH_KEY, None)  # of a safetensors file
    names = _names(options, names, source)
    published = {name: published_names(state, names) for name, state in weights.items()}
    if key == "none":
        save_pth(target, *published.values())
        return f"{target}: a bare state dict"
    save_pth(target, {**published, METADATA_KEY: metadata})
    return f"{target}: {', '.join(published)}"


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


def _names(options: dict, wanted: str | None, source: Path) -> str:
    """Tensor names with which the file is recognised as the same network again: `wanted`, if they are among these."""
    possible = RRDBNET_NAMES
    if options["type"] != "RRDBNet" or options["scale"] == 3:
        possible = ("basicsr",)
    elif not options.get("unshuffle", True) and options["scale"] == 2:
        possible = ("bsrgan", "old-esrgan")  # with BasicSR's names, these tensors would be taken for an x3 network
    if wanted and wanted not in possible:
        shown = json.dumps({name: options[name] for name in ("type", "scale", "unshuffle") if name in options})
        default = f"use --names {possible[0]}, the default for this network"
        raise ValueError(f"{source} holds {shown}, which has no {wanted} names; {default}")
    return wanted or possible[0]
