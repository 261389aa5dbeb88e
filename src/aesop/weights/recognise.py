"""Recognising a network and its scale from the names and shapes of its tensors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from aesop.archs import recognise_network
from aesop.weights.tensor_names import without_wrappers


def recognise(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the options of the network that a state dict belongs to, None if it is unknown.

    The networks of `aesop.archs` come first, then spandrel's. Options that leave no trace in the tensors are left out.

    Raises:
        ValueError: None of ours fits, and spandrel cannot be imported.
    """
    return recognise_network(without_wrappers(state))
