"""Loading a weight file into a network, or the network with it."""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aesop.archs import AutoEncoder, UNetDiscriminatorSN, VGGStyleDiscriminator, build_network
from aesop.weights.errors import WeightsError
from aesop.weights.read import State, _first, _mistaken, read_state_dict
from aesop.weights.recognise import _IMPOSSIBLE, recognise
from aesop.weights.tensor_names import normalise_names

log = logging.getLogger("aesop")


@dataclass(frozen=True)
class LoadedInfo:
    """What a weight file turned out to hold."""

    arch: str
    scale: int
    options: dict[str, Any]
    metadata: dict[str, str]


def build_described(state: State, metadata: Mapping[str, str], source: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a file's metadata describe or its tensors belong to, with fresh weights, and its options.

    Raises:
        WeightsError: no network known here, or options that make none.
    """
    try:
        options = json.loads(metadata["network"]) if "network" in metadata else recognise(state)
        if options is not None:
            return build_network(options), options
    except _IMPOSSIBLE as error:
        raise WeightsError(f"{source} describes no network that can be built ({str(error)[:1000]})") from error
    raise WeightsError(
        f"{source} holds weights of no network known here (its first tensors: {_first(state)}).{_mistaken(state)} "
        "Expected: a generator (RRDBNet under BasicSR's, ESRGAN's or BSRGAN's names, MSRResNet, SPSRNet, or one that "
        "spandrel knows: SwinIR, DRCT, ...) or AESOP's auto-encoder"
    )


def load_network(path: str | os.PathLike, key: str | None = None) -> tuple[nn.Module, LoadedInfo]:
    """The network a weight file describes or is recognised as, in eval mode on the CPU in float32.

    Raises:
        WeightsError: unreadable, or of no architecture known here.
    """
    state, metadata = read_state_dict(path, key)
    net, options = build_described(state, metadata, str(path))
    load_into(net, state, str(path))
    scale = next((getattr(net, name) for name in ("enlargement", "scale", "upscale") if hasattr(net, name)), 1)
    return net.eval(), LoadedInfo(options["type"], scale, options, metadata)


def load_generator(path: str | os.PathLike) -> tuple[nn.Module, LoadedInfo]:
    """`load_network` for upscaling: an auto-encoder, which maps HR to HR, and a discriminator are refused."""
    net, info = load_network(path)
    if isinstance(net, AutoEncoder):
        raise WeightsError(f"{path} is an auto-encoder (the loss's network), not a generator: give a generator's weights")
    if isinstance(net, VGGStyleDiscriminator | UNetDiscriminatorSN):
        raise WeightsError(f"{path} is a discriminator ({info.arch}), not a generator: give the net_g file of its training")
    return net, info


def load_autoencoder(path: str | os.PathLike, key: str | None = None) -> AutoEncoder:
    """The auto-encoder of a weight file (ours or published), frozen.

    Raises:
        WeightsError: unreadable, or no auto-encoder.
    """
    net, info = load_network(path, key)
    if not isinstance(net, AutoEncoder):
        raise WeightsError(
            f"{path} holds a {info.arch}, not an auto-encoder: train one first (stage: autoencoder), after the PSNR net"
        )
    return net.requires_grad_(False)


# Tables that a transformer's constructor computes and stores with its weights. They follow from its options alone; the mask
# fits one image size only and is computed anew for others, so that a network trained with another img_size differs in
# nothing else. The network's own are always right; those of a file are looked at only to recognise it.
_COMPUTED = re.compile(r"\.(attn_mask|relative_position_index)$")


def fit(net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> State:
    """A file's tensors as `net` has them: its names in its order; with `strict` every name and shape must fit.

    Otherwise those that do not are left out, as in BasicSR (an x2 RRDBNet from a x4 one: all but the first convolution's
    weight), and a warning counts the ones of other shapes.

    Raises:
        WeightsError: naming the first tensors that do not fit, and what the file looks like instead; without `strict` when
            no name is known, or most of those known have other shapes.
    """
    own, given = net.state_dict(), normalise_names(state)
    shared = own.keys() & given.keys()
    given |= {name: value for name, value in own.items() if _COMPUTED.search(name)}
    wrong = sorted(name for name in own.keys() & given.keys() if own[name].shape != given[name].shape)
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    misfits = [f"{name}: {tuple(given[name].shape)} in the file, {tuple(own[name].shape)} wanted" for name in wrong[:3]]
    faults = misfits if strict or 2 * len(wrong) > len(shared) else []
    if strict:
        faults += [f"{len(missing)} missing ({_first(missing)})"] if missing else []
        faults += [f"{len(extra)} unknown ({_first(extra)})"] if extra else []
    elif not shared:
        faults += ["no tensor has a name that it knows"]
    if faults:
        raise WeightsError(
            f"the weights in {source} do not fit a {type(net).__name__}: {'; '.join(faults)}.{_looks_like(state)}"
        )
    if wrong:
        log.warning("%s: %d of %d tensors have other shapes and are left out (%s)", source, len(wrong), len(own), misfits[0])
    return {name: given[name] for name in own if name in given and name not in wrong}


def _looks_like(state: Mapping[str, Tensor]) -> str:
    try:
        found = recognise(state)
    except _IMPOSSIBLE:
        found = None
    return f" The file looks like {json.dumps(found)}." if found else _mistaken(state)


def load_into(net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> None:
    """Fill `net` in place with a file's tensors, under any project's names; with `strict` all must fit.

    Raises:
        WeightsError: as `fit`; nothing is loaded then.
    """
    fitting = fit(net, state, source, strict)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in fitting.items()}, strict=strict)
