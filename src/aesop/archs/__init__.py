"""Every network that an option file can name. A new one: its module here, one line in ARCHS, its options in config.py."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.discriminators import UNetDiscriminatorSN, VGGStyleDiscriminator
from aesop.archs.rrdbnet import RRDBNet


def _autoencoder(dec_opt: Mapping[str, Any], enc_opt: Mapping[str, Any] | None = None, scale: int = 4) -> AutoEncoder:
    """The published option layout: the encoder's width follows the decoder's unless `enc_opt` says otherwise."""
    widths = {k: v for k, v in (enc_opt or {}).items() if k in ("num_feat", "num_grow_ch") and v is not None}
    for name, default in (("num_feat", 64), ("num_grow_ch", 32)):
        widths.setdefault(name, dec_opt.get(name, default))
    decoder = dict(dec_opt)
    if decoder.get("type") == "RRDBNet":
        decoder["scale"] = scale
    return AutoEncoder(build_network(decoder), scale, **widths)


ARCHS: dict[str, Callable[..., nn.Module]] = {
    "RRDBNet": RRDBNet,
    "AutoEncoder_RRDBNet": _autoencoder,
    "VGGStyleDiscriminator128": lambda **opt: VGGStyleDiscriminator(128, **opt),
    "VGGStyleDiscriminator192": lambda **opt: VGGStyleDiscriminator(192, **opt),
    "VGGStyleDiscriminator256": lambda **opt: VGGStyleDiscriminator(256, **opt),
    "UNetDiscriminatorSN": UNetDiscriminatorSN,
}


def build_network(options: Mapping[str, Any]) -> nn.Module:
    """`{"type": name, **constructor arguments}` -> the network with fresh weights.

    Raises:
        ValueError: for a type that is not in ARCHS.
    """
    arguments = dict(options)
    name = arguments.pop("type", None)
    if name not in ARCHS:
        raise ValueError(f"there is no network {name!r}; known: {', '.join(ARCHS)}")
    return ARCHS[name](**arguments)


__all__ = ["ARCHS", "AutoEncoder", "RRDBNet", "UNetDiscriminatorSN", "VGGStyleDiscriminator", "build_network"]
