"""Loading a weight file: building the network that it describes, or filling a given one."""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aesop.archs import AutoEncoder, State, UNetDiscriminatorSN, VGGStyleDiscriminator, build_network
from aesop.weights.errors import WeightsError
from aesop.weights.read import first_names, likely_content, read_state_dict
from aesop.weights.recognise import recognise
from aesop.weights.tensor_names import own_names

log = logging.getLogger("aesop")
# Tables that a transformer's constructor computes and saves with the weights. They follow from its options alone, and the
# mask fits one image size only, so a network trained with another img_size differs in nothing else. `fit` takes the
# network's own; those of a file serve to recognise it.
_COMPUTED = re.compile(r"\.(attn_mask|relative_position_index)$")


@dataclass(frozen=True)
class LoadedInfo:
    """The network that a weight file contains."""

    arch: str
    scale: int
    options: dict[str, Any]
    metadata: dict[str, str]


def build_described(state: State, metadata: Mapping[str, str], source: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that a file's metadata describe or its tensors belong to, with fresh weights; also its options.

    Raises:
        WeightsError: The network is unknown, or its options are invalid.
    """
    try:
        options = json.loads(metadata["network"]) if "network" in metadata else recognise(state)
        if options is not None:
            return build_network(options), options
    except Exception as error:  # constructors raise anything on options that make no network
        raise WeightsError(f"{source} describes no network that can be built ({str(error)[:1000]})") from error
    raise WeightsError(
        f"{source} contains the weights of an unknown network (its first tensors: {first_names(state)})."
        f"{likely_content(state)} Expected: a generator (RRDBNet with BasicSR's, ESRGAN's or BSRGAN's names, MSRResNet, "
        "SPSRNet, or one that spandrel knows: SwinIR, DRCT, ...) or AESOP's auto-encoder"
    )


def load_network(path: str | os.PathLike, key: str | None = None) -> tuple[nn.Module, LoadedInfo]:
    """Load the network that a weight file describes or is recognised as, in eval mode, on the CPU, in float32.

    Raises:
        WeightsError: The file is unreadable, or its network is unknown.
    """
    state, metadata = read_state_dict(path, key)
    net, options = build_described(state, metadata, str(path))
    load_into(net, state, str(path))
    return net.eval(), LoadedInfo(options["type"], getattr(net, "scale", 1), options, metadata)


def load_generator(path: str | os.PathLike) -> tuple[nn.Module, LoadedInfo]:
    """Load a generator; see `load_network`.

    Raises:
        WeightsError: Also for an auto-encoder (it maps HR to HR) and a discriminator.
    """
    net, info = load_network(path)
    if isinstance(net, AutoEncoder):
        raise WeightsError(f"{path} is an auto-encoder (the loss's network), not a generator: give a generator's weights")
    if isinstance(net, VGGStyleDiscriminator | UNetDiscriminatorSN):
        raise WeightsError(f"{path} is a discriminator ({info.arch}), not a generator: give the net_g file of its training")
    return net, info


def load_autoencoder(path: str | os.PathLike, key: str | None = None) -> AutoEncoder:
    """Load an auto-encoder (ours or published) and freeze it; see `load_network`.

    Raises:
        WeightsError: Also for any other network.
    """
    net, info = load_network(path, key)
    if not isinstance(net, AutoEncoder):
        raise WeightsError(
            f"{path} contains a {info.arch}, not an auto-encoder: train one first (stage: autoencoder), after the PSNR stage"
        )
    return net.requires_grad_(False)


def fit(net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> State:
    """Return a file's tensors with the names and order of `net`; with `strict` every name and shape must fit.

    Without `strict`, tensors that do not fit are left out, as in BasicSR: an x2 RRDBNet can start from a x4 one, without
    the weight of the first convolution. A warning counts those with other shapes.

    Raises:
        WeightsError: Tensors do not fit; the message names the first ones and what the file looks like instead. Without
            `strict`: no name fits, or most of those that do have other shapes.
    """
    own, given = net.state_dict(), own_names(state)
    shared = own.keys() & given.keys()
    given |= {name: value for name, value in own.items() if _COMPUTED.search(name)}
    wrong = sorted(name for name in own.keys() & given.keys() if own[name].shape != given[name].shape)
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    misfits = [f"{name}: {tuple(given[name].shape)} in the file, {tuple(own[name].shape)} expected" for name in wrong[:3]]
    faults = misfits if strict or 2 * len(wrong) > len(shared) else []
    if strict:
        faults += [f"{len(missing)} missing ({first_names(missing)})"] if missing else []
        faults += [f"{len(extra)} unknown ({first_names(extra)})"] if extra else []
    elif not shared:
        faults += ["none of its tensors has a name that fits"]
    if faults:
        raise WeightsError(
            f"the weights in {source} do not fit a {type(net).__name__}: {'; '.join(faults)}.{_looks_like(state)}"
        )
    if wrong:
        log.warning("%s: left out %d of %d tensors, whose shapes differ (%s)", source, len(wrong), len(own), misfits[0])
    return {name: given[name] for name in own if name in given and name not in wrong}


def _looks_like(state: Mapping[str, Tensor]) -> str:
    try:
        found = recognise(state)
    except ValueError:  # spandrel cannot be imported
        found = None
    return f" The file looks like {json.dumps(found)}." if found else likely_content(state)


def load_into(net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> None:
    """Fill `net` in place with a file's tensors, under any project's names; see `fit`.

    Raises:
        WeightsError: As in `fit`; `net` is unchanged then.
    """
    fitting = fit(net, state, source, strict)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in fitting.items()}, strict=strict)
