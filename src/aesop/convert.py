"""`aesop convert`: between self-describing safetensors and BasicSR's `.pth`."""

import json
from pathlib import Path

from aesop.archs.autoencoder import fold_published_aliases
from aesop.weights import WeightsError, read_state_dict, recognise, save_basicsr, save_weights


def convert(source: Path, target: Path) -> str:
    """Write `target` from a weight file, or from a run's state folder; returns what was done.

    `.pth` gets {'params', 'params_ema'}: both from a state folder, from a file the one set of weights it has, as
    params_ema. `.safetensors` gets the averaged weights and, in its metadata, the network's options.

    Raises:
        WeightsError: unreadable source, or one that is no known network and so cannot describe itself.
        ValueError: another extension, or a target that exists.
    """
    if target.suffix not in (".pth", ".safetensors"):
        raise ValueError(f"{target}: the target must end in .pth or .safetensors")
    if target.exists():
        raise ValueError(f"{target} exists: choose another name, or remove it first")
    weights = {}
    if source.is_dir():
        for key, name in (("params", "net_g"), ("params_ema", "net_g_ema")):
            if (source / f"{name}.safetensors").is_file():
                weights[key], metadata = read_state_dict(source / f"{name}.safetensors")
        if not weights:
            raise WeightsError(f"{source} is no state folder: it has no net_g.safetensors")
    else:
        weights["params_ema"], metadata = read_state_dict(source)
    if target.suffix == ".pth":
        save_basicsr(target, weights)
        return f"{target}: {', '.join(weights)}"
    state = weights.get("params_ema") or weights["params"]
    if any(name.startswith("decoder.") for name in state):
        fold_published_aliases(state)
    network = metadata.get("network") or json.dumps(recognise(state))
    if network == "null":
        raise WeightsError(f"{source} holds no architecture known here, so the safetensors file could not describe itself")
    save_weights(target, state, {**metadata, "network": network})
    return f"{target}: {network}"
