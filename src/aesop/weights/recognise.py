"""Recognising a network from the names and shapes of its tensors."""

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from aesop.archs import ARCHS, bounded
from aesop.weights.read import State
from aesop.weights.tensor_names import normalise_names

# No tensor of the networks that spandrel knows has a longer side.
_MAX_SIDE = 16_384


def recognise(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The options of the network a state dict belongs to, from its names and shapes; None when nobody knows it.

    The networks of this package come first, then spandrel's. What leaves no trace in the tensors is at its default.

    Raises:
        ValueError: it is none of ours, and spandrel cannot be imported.
    """
    # A single enlargement: x2 under the former names, our x3 network under BasicSR's. The tensors are alike.
    former = not any(name.endswith("conv_up1.weight") for name in state)
    state = normalise_names(state)
    for ours in (_rrdbnet, _msrresnet, _spsrnet, _autoencoder, _discriminator):
        try:
            options = ours(state)
        except (LookupError, ArithmeticError):  # a tensor is not there, or has too few dimensions
            continue
        if options["type"] == "RRDBNet" and options["scale"] == 3 and former:
            options |= {"scale": 2, "unshuffle": False}
        return options
    # spandrel builds a network of as many blocks as the numbers in the names say, and as wide as the shapes.
    if any(re.search(r"\d{5}", name) or max(value.shape, default=0) > _MAX_SIDE for name, value in state.items()):
        return None
    from aesop.archs import spandrel_nets

    with bounded():
        return spandrel_nets.recognise(state)


def _count(state: State, before: str) -> int:
    """One more than the largest number that follows `before` at the beginning of a name."""
    return 1 + max(int(found[1]) for name in state if (found := re.match(rf"{before}\.(\d+)\.", name)))


def _rrdbnet(state: State) -> dict[str, Any]:
    first, block, last = (state[f"{name}.weight"] for name in ("conv_first", "body.0.rdb1.conv1", "conv_last"))
    in_ch, out_ch = first.shape[1], last.shape[0]
    ups = sum(bool(re.fullmatch(r"conv_up\d\.weight", name)) for name in state)
    if any(f"{name}.weight" not in state for name in ("conv_body", *(f"conv_up{k + 1}" for k in range(ups)))):
        raise LookupError
    shuffled = {4: 2, 16: 4}.get(in_ch / out_ch, 1) if ups == 2 else 1  # of the x4 trunk's input
    return {
        "type": "RRDBNet",
        "num_in_ch": in_ch // shuffled**2,
        "num_out_ch": out_ch,
        "scale": {1: 3, 2: 4, 3: 8}[ups] // shuffled,
        "num_feat": first.shape[0],
        "num_block": _count(state, "body"),
        "num_grow_ch": block.shape[0],
    }


def _msrresnet(state: State) -> dict[str, Any]:
    first, up, last = (state[f"{name}.weight"] for name in ("conv_first", "upconv1", "conv_last"))
    if "body.0.conv1.weight" not in state:
        raise LookupError
    return {
        "type": "MSRResNet",
        "num_in_ch": first.shape[1],
        "num_out_ch": last.shape[0],
        "num_feat": first.shape[0],
        "num_block": _count(state, "body"),
        "upscale": 4 if "upconv2.weight" in state else isqrt(up.shape[0] // up.shape[1]),
    }


def _spsrnet(state: State) -> dict[str, Any]:
    first, last = state["model.0.weight"], state["f_HR_conv1.0.weight"]
    return {
        "type": "SPSRNet",
        "in_nc": first.shape[1],
        "out_nc": last.shape[0],
        "nf": first.shape[0],
        "nb": _count(state, r"model\.1\.sub") - 1,  # the last is a convolution
        "upscale": 2 ** (_count(state, "model") // 3 - 1),
    }


def _autoencoder(state: State) -> dict[str, Any]:
    # Without `encoder.*` the tensors of the unused encoder are left: bicubic is in its place.
    learned = "encoder.0.1.weight" in state
    colours = state["encoder.0.1.weight" if learned else "conv_first.1.weight"]
    block = state[f"{'encoder.2' if learned else 'body'}.0.rdb1.conv1.weight"]
    decoder = recognise({name[8:]: value for name, value in state.items() if name.startswith("decoder.")})
    if decoder is None:
        raise LookupError
    variants = {
        "BicubicDown_RRDBNet": not learned,
        "ProbabilisticAutoEncoder_RRDBNet": "sigma_branch.1.weight" in state,
        "AutoEncoder_MSRResNet": decoder["type"] == "MSRResNet",
        "AutoEncoder_RRDBNet": True,
    }
    return {
        "type": next(name for name, fits in variants.items() if fits),
        # The unshuffling makes scale**2 channels of one. At scales other than 4 the width of the blocks is a multiple of
        # that, rounded up from the num_feat that was asked for.
        "scale": isqrt(block.shape[1] // colours.shape[0]),
        "enc_opt": {"num_feat": block.shape[1], "num_grow_ch": block.shape[0]},
        "dec_opt": decoder,
    }


def _discriminator(state: State) -> dict[str, Any]:
    if "conv0_0.weight" in state:
        stages = 6 if "conv5_1.weight" in state else 5
        last_side = isqrt(state["linear1.weight"].shape[1] // state[f"conv{stages - 1}_1.weight"].shape[0])
        name, first = f"VGGStyleDiscriminator{last_side * 2**stages}", state["conv0_0.weight"]
    else:
        name, first = "UNetDiscriminatorSN", state["conv0.weight"]
    if name not in ARCHS or not {"conv1_1.weight", "conv1.weight_orig"} & state.keys():
        raise LookupError
    return {"type": name, "num_in_ch": first.shape[1], "num_feat": first.shape[0]}


# What recognising and building raise for options that make no network, and where spandrel cannot be imported.
_IMPOSSIBLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    ImportError,
    OSError,
)
