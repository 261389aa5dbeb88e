"""The networks: one file each, with its options, how to build it and how to recognise it from the tensors of a file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from aesop.archs.autoencoder import AutoEncoderOptions
from aesop.archs.discriminators import UNetDiscriminatorOptions, VGGStyleDiscriminatorOptions
from aesop.archs.generators import GENERATORS, check_type, options_union
from aesop.archs.network_options import NetworkOptions, State, check_options
from aesop.archs.size_limits import bounded
from aesop.archs.spandrel_nets import SpandrelNetOptions
from aesop.system.option_types import check_network_numbers

OPTIONS = (*GENERATORS, AutoEncoderOptions, VGGStyleDiscriminatorOptions, UNetDiscriminatorOptions)
# Type name -> options class of every network; other names are looked up in spandrel.
ARCHS: dict[str, type[NetworkOptions]] = {name: options for options in OPTIONS for name in options.type_names()}
ALL_OPTIONS = (*OPTIONS, SpandrelNetOptions)
if TYPE_CHECKING:
    NetworkG = NetworkOptions
else:
    NetworkG = options_union(*GENERATORS, AutoEncoderOptions)
NetworkD = Annotated[VGGStyleDiscriminatorOptions | UNetDiscriminatorOptions, Field(discriminator="type")]
# Prefixes that wrappers add to every tensor's name: DDP, torch.compile, KAIR, MMagic.
_WRAPPERS = ("module.", "_orig_mod.", "netG.", "generator.")


def build_network(options: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh weights from `{"type": name, **arguments}`, as in an option file or a weight file."""
    arguments = {name: value for name, value in options.items() if name != "type"}
    name: Any = options.get("type")
    check_network_numbers(arguments)
    check_type(name, ARCHS)
    network = ARCHS.get(name, SpandrelNetOptions)
    check_options(name, arguments, network.option_names(name))
    with bounded():
        for part in network.parts.keys() & arguments.keys():
            arguments[part] = build_network(with_scale(arguments[part], arguments.get("scale", 4), replace=True))
        net = network.build(name, arguments)
        if image_channels(options) == (1, 1):
            vars(net)["is_gray"] = True
        return net


def without_wrappers(state: Mapping[str, Tensor]) -> State:
    """Remove the prefixes that all names share because of wrappers around the network."""
    state = dict(state)
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def scale_option(type_name: str) -> str | None:
    """Return what a network calls its scale; None if it has no such option or does not exist."""
    names = ARCHS.get(type_name, SpandrelNetOptions).option_names(type_name)
    known = ("upscale", "scale", "upscaling_factor", "upscale_factor", "up_scale")
    return next((name for name in known if name in names), None)


def image_channels(options: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many channels a network takes and returns, by the options that recognition or a file's metadata give."""
    known_in = ("num_in_ch", "in_nc", "in_chans", "in_ch", "in_channels", "inp_channels", "img_channel", "n_colors")
    known_out = ("num_out_ch", "out_nc", "out_chans", "out_ch", "out_channels")
    taken = next((options[name] for name in known_in if isinstance(options.get(name), int)), 3)
    return taken, next((options[name] for name in known_out if isinstance(options.get(name), int)), taken)


def trained_channels(options: NetworkOptions) -> tuple[int, int]:
    """`image_channels` of a network, or of an auto-encoder's decoder."""
    raw = options.model_dump()
    return image_channels(raw.get("dec_opt") or raw)


def with_scale(options: Any, scale: int, replace: bool = False) -> Any:
    """Return a network's raw options with `scale` filled in where they leave it out, also in those of its decoder."""
    if not isinstance(options, Mapping) or not isinstance(name := options.get("type"), str):
        return options  # the validation refuses them
    parts = ARCHS.get(name, SpandrelNetOptions).parts
    filled = {key: with_scale(value, scale, replace) if key in parts else value for key, value in options.items()}
    option = scale_option(name)
    return filled | {option: scale} if option and (replace or filled.get(option) is None) else filled
