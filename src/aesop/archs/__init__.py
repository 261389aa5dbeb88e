"""The networks: one file each, with its options, how to build it and how to recognise it from the tensors of a file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from torch import nn

from aesop.archs.autoencoder import AutoEncoder, AutoEncoderOptions, ProbabilisticAutoEncoder
from aesop.archs.discriminators import (
    UNetDiscriminatorOptions,
    UNetDiscriminatorSN,
    VGGStyleDiscriminator,
    VGGStyleDiscriminatorOptions,
)
from aesop.archs.generators import GENERATORS, Generator, check_type, options_union
from aesop.archs.network_options import NetworkOptions, State
from aesop.archs.rrdbnet import RRDBNet
from aesop.archs.size_limits import bounded
from aesop.archs.spandrel_nets import SpandrelNetOptions
from aesop.system.option_types import check_network_numbers

AUTOENCODERS = {
    "AutoEncoder_RRDBNet": AutoEncoderOptions,
    "AutoEncoder_MSRResNet": AutoEncoderOptions,
    "BicubicDown_RRDBNet": AutoEncoderOptions,
    "ProbabilisticAutoEncoder_RRDBNet": AutoEncoderOptions,
}
# Type name -> options class of every network; other names are looked up in spandrel.
ARCHS: dict[str, type[NetworkOptions]] = {
    **GENERATORS,
    **AUTOENCODERS,
    "VGGStyleDiscriminator128": VGGStyleDiscriminatorOptions,
    "VGGStyleDiscriminator192": VGGStyleDiscriminatorOptions,
    "VGGStyleDiscriminator256": VGGStyleDiscriminatorOptions,
    "UNetDiscriminatorSN": UNetDiscriminatorOptions,
}
SCALE_OPTIONS = ("upscale", "scale", "upscaling_factor", "upscale_factor", "up_scale")
ALL_OPTIONS = (*dict.fromkeys(ARCHS.values()), SpandrelNetOptions)
if TYPE_CHECKING:
    NetworkG = NetworkOptions
else:
    NetworkG = options_union({**GENERATORS, **AUTOENCODERS})
NetworkD = Annotated[VGGStyleDiscriminatorOptions | UNetDiscriminatorOptions, Field(discriminator="type")]


def options_class(type_name: str) -> type[NetworkOptions]:
    return ARCHS.get(type_name, SpandrelNetOptions)


def build_network(options: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh weights from `{"type": name, **arguments}`, as in an option file or a weight file.

    Raises:
        ValueError: The type is unknown, or the network is far larger than any known one.
    """
    arguments = dict(options)
    name = arguments.pop("type", None)
    if not isinstance(name, str):
        raise ValueError(f"the options of a network need its type, found {name!r}; known: {', '.join(ARCHS)} and spandrel's")
    check_network_numbers(arguments)
    check_type(name, ARCHS)
    network = options_class(name)
    with bounded():
        for part in network.parts.keys() & arguments.keys():
            arguments[part] = build_network(with_scale(arguments[part], arguments.get("scale", 4), replace=True))
        return network.build(name, arguments)


def recognise_network(state: State) -> dict[str, Any] | None:
    """Return the options of the network that a state dict belongs to; None if it belongs to none.

    Raises:
        ValueError: None of ours fits, and spandrel cannot be imported.
    """
    for network in ALL_OPTIONS:
        try:
            options = network.recognise(state)
        except (LookupError, ArithmeticError):  # a tensor is missing or has too few dimensions
            continue
        for part, prefix in network.parts.items():
            inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            if (found := recognise_network(inner)) is None:
                return None
            options[part] = found
        return options
    return None


def scale_option(type_name: str) -> str | None:
    """Return what a network calls its scale; None if it has no such option or does not exist."""
    names = options_class(type_name).option_names(type_name)
    return next((name for name in SCALE_OPTIONS if name in names), None)


def with_scale(options: Any, scale: int, replace: bool = False) -> Any:
    """Return a network's raw options with `scale` filled in where they leave it out, also in those of its decoder.

    What is not a mapping with a type comes back unchanged, for the validation to refuse.
    """
    if not isinstance(options, Mapping) or not isinstance(name := options.get("type"), str):
        return options
    parts = options_class(name).parts
    filled = {key: with_scale(value, scale, replace) if key in parts else value for key, value in options.items()}
    option = scale_option(name)
    return filled | {option: scale} if option and (replace or filled.get(option) is None) else filled


__all__ = [
    "ALL_OPTIONS",
    "ARCHS",
    "AUTOENCODERS",
    "AutoEncoder",
    "AutoEncoderOptions",
    "Generator",
    "NetworkD",
    "NetworkG",
    "NetworkOptions",
    "ProbabilisticAutoEncoder",
    "RRDBNet",
    "SpandrelNetOptions",
    "State",
    "UNetDiscriminatorSN",
    "VGGStyleDiscriminator",
    "build_network",
    "recognise_network",
    "scale_option",
    "with_scale",
]
