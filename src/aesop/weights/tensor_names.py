"""The names that different projects give to the same tensors."""

import re
from collections.abc import Mapping

from torch import Tensor

from aesop.archs import autoencoder, spsr
from aesop.weights.read import State

# What wrappers put before every name: DDP, torch.compile, KAIR, MMagic.
_PREFIXES = ("module.", "_orig_mod.", "netG.", "generator.")
# The projects whose names of RRDBNet's tensors are known: BasicSR and Real-ESRGAN; BSRGAN and ESRGAN's later code; ESRGAN's
# first release.
RRDBNET_NAMES = ("basicsr", "bsrgan", "old-esrgan")


def _rrdbnet_layers(blocks: int, ups: int) -> dict[str, list[str]]:
    """The convolutions of an RRDBNet with so many blocks and enlargements, in order, under each project's names."""
    dense = [(n, k, j) for n in range(blocks) for k in (1, 2, 3) for j in (1, 2, 3, 4, 5)]
    up = range(1, ups + 1)
    return {
        "basicsr": [
            "conv_first",
            *(f"body.{n}.rdb{k}.conv{j}" for n, k, j in dense),
            "conv_body",
            *(f"conv_up{u}" for u in up),
            "conv_hr",
            "conv_last",
        ],
        "bsrgan": [
            "conv_first",
            *(f"RRDB_trunk.{n}.RDB{k}.conv{j}" for n, k, j in dense),
            "trunk_conv",
            *(f"upconv{u}" for u in up),
            "HRconv",
            "conv_last",
        ],
        "old-esrgan": [
            "model.0",
            *(f"model.1.sub.{n}.RDB{k}.conv{j}.0" for n, k, j in dense),
            f"model.1.sub.{blocks}",
            *(f"model.{3 * u}" for u in up),
            f"model.{3 * ups + 2}",
            f"model.{3 * ups + 4}",
        ],
    }


def _rename_rrdbnet(state: Mapping[str, Tensor], source: str, target: str) -> State:
    """An RRDBNet's tensors under another project's names; as they are where they are not all those of one.

    ESRGAN+ is none, nor is ESRGAN's x1 network, which has no enlargement: spandrel knows both by the names they have.
    """
    blocks = sum(bool(re.search(r"\.rdb1\.conv1(\.0)?\.weight$", name, re.IGNORECASE)) for name in state)
    ups = sum(name.endswith(".weight") for name in state) - 15 * blocks - 4
    layers = _rrdbnet_layers(blocks, ups)
    names = dict(zip(layers[source], layers[target], strict=True))
    parts = [(*name.rpartition("."), value) for name, value in state.items()]
    if ups < 1 or names.keys() != {layer for layer, *_ in parts}:
        return dict(state)
    return {f"{names[layer]}{dot}{kind}": value for layer, dot, kind, value in parts}


def normalise_names(state: Mapping[str, Tensor]) -> State:
    """The tensors as the networks here name and shape them, each once.

    Wrappers' prefixes and second names of a tensor are dropped, RRDBNet's former names become BasicSR's, and DRCT's linear
    `adjust` layers become the 1x1 convolutions that they amount to.
    """
    state = dict(state)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    if "RRDB_trunk.0.RDB1.conv1.weight" in state:
        state = _rename_rrdbnet(state, "bsrgan", "basicsr")
    elif "f_HR_conv0.0.weight" in state:
        spsr.fold_published_alias(state)
    elif "model.1.sub.0.RDB1.conv1.0.weight" in state:  # SPSR has this name too
        state = _rename_rrdbnet(state, "old-esrgan", "basicsr")
    elif "encoder.2.0.rdb1.conv1.weight" in state:
        autoencoder.fold_published_aliases(state)
    elif "layers.0.adjust1.weight" in state:
        linear = [name for name, value in state.items() if re.search(r"\.adjust\d\.weight$", name) and value.ndim == 2]
        state |= {name: state[name][:, :, None, None] for name in linear}
    return state


def published_names(state: Mapping[str, Tensor], names: str = "basicsr") -> State:
    """What `normalise_names` undoes: a network's tensors as the code that published it expects them.

    Args:
        names: for an RRDBNet, one of RRDBNET_NAMES.
    """
    state = dict(state)
    if any(name.startswith("decoder.") for name in state):
        return autoencoder.published_state_dict(state)
    if "f_HR_conv0.0.weight" in state:
        return spsr.published_state_dict(state)
    return state if names == "basicsr" else _rename_rrdbnet(state, "basicsr", names)
