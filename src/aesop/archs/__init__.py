"""Every network that an option file can name. A new one: its module here, one line in ARCHS, its options in config.py.

What is not in ARCHS is looked for in spandrel (spandrel_nets.py).
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook

from aesop.archs.autoencoder import AutoEncoder, BicubicAutoEncoder, ProbabilisticAutoEncoder
from aesop.archs.discriminators import UNetDiscriminatorSN, VGGStyleDiscriminator
from aesop.archs.msrresnet import MSRResNet
from aesop.archs.rrdbnet import RRDBNet
from aesop.archs.spsr import SPSRNet
from aesop.system.option_types import check_network_numbers

# The networks known here have some ten million parameters in some hundred tensors. Options and weight files that ask for
# more than these are mistaken or hostile.
MAX_PARAMETERS = 500_000_000
MAX_TENSORS = 20_000


def _autoencoder(
    cls: type[AutoEncoder], dec_opt: Mapping[str, Any], enc_opt: Mapping[str, Any] | None = None, scale: int = 4
) -> AutoEncoder:
    """The published option layout. The encoder is as wide as an RRDBNet decoder, 64/32 with another, or as `enc_opt` says.

    The decoders of this package get the auto-encoder's scale; others keep the options they have.
    """
    decoder = dict(dec_opt)
    if scale_option := {"RRDBNet": "scale", "MSRResNet": "upscale", "SPSRNet": "upscale"}.get(decoder.get("type", "")):
        decoder[scale_option] = scale
    followed = decoder if decoder.get("type") == "RRDBNet" else {}
    widths = {name: followed.get(name, default) for name, default in (("num_feat", 64), ("num_grow_ch", 32))}
    widths |= {name: value for name, value in (enc_opt or {}).items() if name in widths and value is not None}
    return cls(build_network(decoder), scale, **widths)


ARCHS: dict[str, Callable[..., nn.Module]] = {
    "RRDBNet": RRDBNet,
    "MSRResNet": MSRResNet,
    "SPSRNet": SPSRNet,
    "AutoEncoder_RRDBNet": partial(_autoencoder, AutoEncoder),
    "AutoEncoder_MSRResNet": partial(_autoencoder, AutoEncoder),
    "BicubicDown_RRDBNet": partial(_autoencoder, BicubicAutoEncoder),
    "ProbabilisticAutoEncoder_RRDBNet": partial(_autoencoder, ProbabilisticAutoEncoder),
    "VGGStyleDiscriminator128": lambda **opt: VGGStyleDiscriminator(128, **opt),
    "VGGStyleDiscriminator192": lambda **opt: VGGStyleDiscriminator(192, **opt),
    "VGGStyleDiscriminator256": lambda **opt: VGGStyleDiscriminator(256, **opt),
    "UNetDiscriminatorSN": UNetDiscriminatorSN,
}


def build_network(options: Mapping[str, Any]) -> nn.Module:
    """`{"type": name, **constructor arguments}` -> the network with fresh weights.

    A type that is not in ARCHS is looked for in spandrel.

    Raises:
        ValueError: for a type that nobody knows, and a network that is far larger than any known.
    """
    arguments = dict(options)
    name = arguments.pop("type", None)
    if not isinstance(name, str):
        raise ValueError(f"a network's options need its type, found {name!r}; known here: {', '.join(ARCHS)}")
    check_network_numbers(arguments)
    with bounded():
        if name in ARCHS:
            return ARCHS[name](**arguments)
        from aesop.archs import spandrel_nets

        return spandrel_nets.build(name, **arguments)


@contextmanager
def bounded() -> Generator[None]:
    """Ends the building of a network that grows beyond all bounds, before the memory of its next tensor is filled."""
    parameters = tensors = 0

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal parameters, tensors
        if value is not None:
            parameters, tensors = parameters + value.numel(), tensors + 1
        if parameters > MAX_PARAMETERS or tensors > MAX_TENSORS:
            raise ValueError(
                f"the network would have more than {MAX_PARAMETERS / 1e6:g} million parameters, or {MAX_TENSORS} tensors: "
                "make its numbers smaller"
            )

    hooks = register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


__all__ = [
    "ARCHS",
    "AutoEncoder",
    "BicubicAutoEncoder",
    "MSRResNet",
    "ProbabilisticAutoEncoder",
    "RRDBNet",
    "SPSRNet",
    "UNetDiscriminatorSN",
    "VGGStyleDiscriminator",
    "build_network",
]
