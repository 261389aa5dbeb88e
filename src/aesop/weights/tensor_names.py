"""Tensor names of other projects: renamed to ours when a file is loaded, and back when it is written."""

from collections.abc import Mapping

from torch import Tensor

from aesop.archs import ALL_OPTIONS, State, without_wrappers


def own_names(state: Mapping[str, Tensor]) -> State:
    """Return the tensors with the names and shapes that the networks here have, each tensor once."""
    state = without_wrappers(state)
    for network in ALL_OPTIONS:
        state = network.own_names(state)
    return state


def published_names(state: Mapping[str, Tensor], convention: str = "basicsr") -> State:
    """Undo `own_names`: return a network's tensors as published, an RRDBNet's by a convention in RRDBNET_NAMES."""
    state = dict(state)
    for network in ALL_OPTIONS:
        state = network.published_names(state, convention)
    return state
