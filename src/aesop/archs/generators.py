"""The generators, and the pydantic type of their options."""

import difflib
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BeforeValidator, Discriminator, Tag

from aesop.archs.msrresnet import MSRResNetOptions
from aesop.archs.network_options import NetworkOptions
from aesop.archs.rrdbnet import RRDBNetOptions
from aesop.archs.spandrel_nets import SpandrelNetOptions, class_names
from aesop.archs.spsr import SPSRNetOptions

# Type name -> options class. A new generator needs its own file and a line here. Other names are looked up in spandrel.
GENERATORS: dict[str, type[NetworkOptions]] = {
    "RRDBNet": RRDBNetOptions,
    "MSRResNet": MSRResNetOptions,
    "SPSRNet": SPSRNetOptions,
}


def check_type(name: str, archs: Mapping[str, type[NetworkOptions]]) -> None:
    """Raise ValueError if a name is neither in `archs` nor the name of a class in spandrel."""
    if name not in archs and name not in (foreign := class_names()):
        near = difflib.get_close_matches(name, [*archs, *foreign], 1, 0.6)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"there is no network {name!r}; {hint}Known: {', '.join(archs)} and, from spandrel, {', '.join(foreign)}"
        )


def options_union(archs: Mapping[str, type[NetworkOptions]]) -> Any:
    """Return the pydantic type of the options of one of these networks, or of any in spandrel, chosen by `type`."""

    def tag(options: type[NetworkOptions]) -> str:
        return next(iter(get_args(options.model_fields["type"].annotation)), "spandrel")

    def tag_of(value: Any) -> str | None:
        name = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
        return tag(archs.get(name, SpandrelNetOptions)) if isinstance(name, str) else None

    def checked(value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(name := value.get("type"), str):
            check_type(name, archs)
        return value

    classes: Any = (*dict.fromkeys(archs.values()), SpandrelNetOptions)
    members: Any = reduce(or_, (Annotated[options, Tag(tag(options))] for options in classes))
    return Annotated[members, Discriminator(tag_of), BeforeValidator(checked)]


if TYPE_CHECKING:
    Generator = NetworkOptions
else:
    Generator = options_union(GENERATORS)
