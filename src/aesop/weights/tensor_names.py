"""Tensor names of other projects: renamed to ours when a file is loaded, and back when it is written."""

from collections.abc import Mapping

from torch import Tensor

from aesop.archs import ARCHS, SpandrelNetOptions, State

# Prefixes that wrappers add to every name: DDP, torch.compile, KAIR, MMagic.
_PREFIXES = ("module.", "_orig_mod.", "netG.", "generator.")
_NETWORKS = (*dict.fromkeys(ARCHS.values()), SpandrelNetOptions)


def without_wrappers(state: Mapping[str, Tensor]) -> State:
    """Remove the prefixes that all names share because of wrappers around the network."""
    state = dict(state)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def own_names(state: Mapping[str, Tensor]) -> State:
    """Return the tensors with the names and shapes that the networks here have, each tensor once."""
    state = without_wrappers(state)
    for network in _NETWORKS:
        state = network.own_names(state)
    return state


def published_names(state: Mapping[str, Tensor], convention: str = "basicsr") -> State:
    """Undo `own_names`: return a network's tensors as the code that published it expects them.

    Args:
        convention: The names of an RRDBNet's tensors, one of RRDBNET_NAMES.
    """
    state = dict(state)
    for network in _NETWORKS:
        state = network.published_names(state, convention)
    return state
