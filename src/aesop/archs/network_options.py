"""The base class of every network's options: how a network describes itself to the rest of the package."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, get_args

from torch import Tensor, nn

from aesop.system.option_types import Options

State = dict[str, Tensor]


class NetworkOptions(Options):
    """Options of one network, how to build it, and how to recognise it from the tensors of a weight file.

    Each network defines a subclass in its own file; `aesop.archs.ARCHS` lists them. A generator module itself has `scale`
    (int), `size_multiple` (int: the sides of its input must be multiples of it) and `channels_last_on_cpu` (bool: whether
    that memory format is the faster one on a CPU).
    """

    type: Any
    network: ClassVar[type[nn.Module]]
    parts: ClassVar[Mapping[str, str]] = {}  # networks inside this one: option -> prefix of their tensors

    @classmethod
    def type_names(cls) -> tuple[str, ...]:
        return get_args(cls.model_fields["type"].annotation)

    @classmethod
    def option_names(cls, type_name: str) -> Collection[str]:
        return cls.model_fields

    @classmethod
    def build(cls, type_name: str, arguments: Mapping[str, Any]) -> nn.Module:
        """Build the network with fresh weights from its options without `type`; `parts` are already networks."""
        return cls.network(**arguments)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        """Return the options of the network that these tensors belong to, without `parts` and what leaves no trace in them.

        For other networks' tensors raise LookupError or ArithmeticError.
        """
        raise NotImplementedError

    @classmethod
    def own_names(cls, state: State) -> State:
        """Rename this network's tensors from other projects' names to ours; return other networks' tensors unchanged."""
        return state

    @classmethod
    def published_names(cls, state: State, convention: str) -> State:
        """Undo `own_names`: rename this network's tensors to what the code that published it expects."""
        return state


def check_options(type_name: str, options: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError for an option that a network does not have."""
    for option in options:
        if option not in known:
            raise ValueError(f"{type_name} has no option {option!r}{nearest(option, known)}")


def nearest(name: Any, known: Collection[str]) -> str:
    """Return the end of a message on an unknown name: the nearest known one, and all."""
    near = difflib.get_close_matches(str(name), known, 1, 0.6)
    return f"; {f'did you mean {near[0]}? ' if near else ''}Known: {', '.join(known)}"


def count_modules(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return one more than the largest N in tensor names that begin with `prefix.N.`; `prefix` is a regular expression."""
    return 1 + max(int(found[1]) for name in state if (found := re.match(rf"{prefix}\.(\d+)\.", name)))
