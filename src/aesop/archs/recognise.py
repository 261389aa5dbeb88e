"""Recognising a network, its options and its scale from the names and shapes of its tensors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from aesop.archs import ALL_OPTIONS, without_wrappers


def recognise_network(state: Mapping[str, Tensor], nested: bool = False) -> dict[str, Any] | None:
    """Return the options of the network that a state dict belongs to, None if unknown; ValueError if that needs spandrel.

    With `nested`, networks that contain others are left out: a decoder is none of them.
    """
    state = without_wrappers(state)
    for network in ALL_OPTIONS:
        if nested and network.parts:
            continue
        try:
            options = network.recognise(state)
        except (LookupError, ArithmeticError):  # a tensor is missing or has too few dimensions
            continue
        for part, prefix in network.parts.items():
            inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            if (found := recognise_network(inner, nested=True)) is None:
                return None
            options[part] = found
        return options
    return None
