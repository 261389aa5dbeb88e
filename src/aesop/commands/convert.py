"""`aesop convert`: between self-describing safetensors and the `.pth` files of other projects."""

import json
from pathlib import Path

from aesop.archs.rrdbnet import RRDBNET_NAMES
from aesop.weights.errors import WeightsError
from aesop.weights.load import build_described, fit
from aesop.weights.read import METADATA_KEY, read_state_dict
from aesop.weights.save import save_pth, save_weights
from aesop.weights.tensor_names import published_names

# The weights of a state folder, under BasicSR's names for them.
STATE_FILES = {"params": "net_g.safetensors", "params_ema": "net_g_ema.safetensors"}
KEYS = (*STATE_FILES, "none")


def convert(source: Path, target: Path, key: str | None = None, names: str | None = None) -> str:
    """Write `target` from a weight file, or from a run's state folder; returns what was done.

    `.safetensors` gets one set of weights, the averaged one, and in its metadata the network's options. `.pth` gets
    BasicSR's layout: {'params', 'params_ema'}, both from a state folder, from a file its one set as `params_ema`, beside
    the metadata. Nothing is written unless the weights are complete and of a network known here.

    Args:
        key: `params` or `params_ema`: take this set only, and write it under this key of a `.pth`; `none`: write a `.pth`
            with the averaged weights alone, a bare state dict (without metadata: SwinIR's img_range, say, is not in it).
        names: what a `.pth` calls an RRDBNet's tensors: `basicsr` (the default), `bsrgan`, `old-esrgan` (RRDBNET_NAMES).

    Raises:
        WeightsError: unreadable source, or weights of no network known here.
        ValueError: another extension, key or names; names that this network does not have; a target that exists.
    """
    if target.suffix not in (".pth", ".safetensors"):
        raise ValueError(f"{target}: the target must end in .pth or .safetensors")
    if target.exists():
        raise ValueError(f"{target} exists: choose another name, or remove it first")
    if key not in (None, *KEYS):
        raise ValueError(f"--key must be one of {', '.join(KEYS)}, found {key!r}")
    if names not in (None, *RRDBNET_NAMES):
        raise ValueError(f"--names must be one of {', '.join(RRDBNET_NAMES)}, found {names!r}")
    if names and target.suffix == ".safetensors":
        raise ValueError(f"{target}: --names is for .pth files; a .safetensors file always has BasicSR's names")

    weights, options, metadata = {}, {}, {}
    for name, file in _files(source, key, target.suffix == ".safetensors").items():
        state, metadata = read_state_dict(file, None if key == "none" else key)
        net, options = build_described(state, metadata, str(file))
        weights[name] = fit(net, state, str(file))
    metadata = {**metadata, "network": json.dumps(options)}
    if target.suffix == ".safetensors":
        save_weights(target, *weights.values(), metadata)
        return f"{target}: {metadata['network']}"
    names = _names(options, names, source)
    published = {name: published_names(state, names) for name, state in weights.items()}
    if key == "none":
        save_pth(target, *published.values())
        return f"{target}: a bare state dict"
    save_pth(target, {**published, METADATA_KEY: metadata})
    return f"{target}: {', '.join(published)}"


def _files(source: Path, key: str | None, one: bool) -> dict[str, Path]:
    """Which file becomes which key of a `.pth`."""
    if not source.is_dir():
        return {"params" if key == "params" else "params_ema": source}
    found = {name: source / file for name, file in STATE_FILES.items() if (source / file).is_file()}
    if not found:
        raise WeightsError(f"{source} is no state folder: it has no {STATE_FILES['params']}")
    if key is None and not one:
        return found
    name = key if key in found else list(found)[-1]
    return {key if key in STATE_FILES else name: found[name]}


def _names(options: dict, wanted: str | None, source: Path) -> str:
    """The names for an RRDBNet's tensors, such that the file is taken for this network again."""
    former = ("bsrgan", "old-esrgan")
    if options["type"] != "RRDBNet":
        possible = ("basicsr",)
    elif not options.get("unshuffle", True) and options["scale"] == 2:
        possible = former  # BasicSR has no such network: with its names these tensors pass for our x3 network
    else:
        possible = RRDBNET_NAMES if options["scale"] != 3 else ("basicsr",)
    if wanted and wanted not in possible:
        shown = {name: options[name] for name in ("type", "scale", "unshuffle") if name in options}
        raise ValueError(
            f"{source} holds {json.dumps(shown)}, which has no {wanted} names; with --names {possible[0]}, the default "
            "here, the file loads again"
        )
    return wanted or possible[0]
