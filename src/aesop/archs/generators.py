"""The generators, and the pydantic type of their options."""

from collections.abc import Collection, Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag

from aesop.archs.edsr import EDSROptions
from aesop.archs.msrresnet import MSRResNetOptions
from aesop.archs.network_options import NetworkOptions, nearest
from aesop.archs.rrdbnet import RRDBNetOptions
from aesop.archs.spandrel_nets import SpandrelNetOptions, spandrel_classes
from aesop.archs.spsr import SPSRNetOptions

# A new generator needs its own file and a place here. Names of no class here are looked up in spandrel.
GENERATORS = (RRDBNetOptions, MSRResNetOptions, EDSROptions, SPSRNetOptions)


def check_type(name: Any, archs: Collection[str]) -> None:
    """Raise ValueError if a name is neither in `archs` nor the name of a class in spandrel."""
    if not isinstance(name, str) or (name not in archs and name not in spandrel_classes()):
        raise ValueError(f"there is no network {name!r}{nearest(name, [*archs, *sorted(spandrel_classes())])}")


def options_union(*classes: type[NetworkOptions]) -> Any:
    """Return the pydantic type of the options of one of these networks, or of any in spandrel, chosen by `type`."""
    archs = {name: options for options in classes for name in options.type_names()}

    def tag(options: type[NetworkOptions]) -> str:
        return next(iter(options.type_names()), "spandrel")

    def tag_of(value: Any) -> str | None:
        name = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
        return tag(archs.get(name, SpandrelNetOptions)) if isinstance(name, str) else None

    def checked(value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(name := value.get("type"), str):
            check_type(name, archs)
        return value

    every: Any = (*classes, SpandrelNetOptions)
    members: Any = reduce(or_, (Annotated[options, Tag(tag(options))] for options in every))
    return Annotated[members, Discriminator(tag_of), BeforeValidator(checked)]


if TYPE_CHECKING:
    Generator = NetworkOptions
else:
    Generator = options_union(*GENERATORS)
