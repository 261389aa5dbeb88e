"""Loading a weight file: building the network that it describes, or filling a given one."""

import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aesop.archs import State, build_network, image_channels
from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.recognise import recognise_network
from aesop.weights.errors import WeightsError
from aesop.weights.read import likely_content, listed, read_state_dict
from aesop.weights.tensor_names import own_names

log = logging.getLogger("aesop")
# Tables that a transformer's constructor computes and saves with the weights. The mask fits one img_size only, so `fit`
# takes the network's own; those of a file serve to recognise it.
_COMPUTED = re.compile(r"\.(attn_mask|relative_position_index)$")


@dataclass(frozen=True)
class LoadedInfo:
    arch: str
    scale: int
    options: dict[str, Any]
    metadata: dict[str, str]


def build_described(state: State, metadata: Mapping[str, str], source: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that a file's metadata describe or its tensors belong to, with fresh weights; also its options."""
    try:
        options = json.loads(metadata["network"]) if "network" in metadata else recognise_network(state)
        if options is not None:
            return build_network(options), options
    except Exception as error:  # constructors raise anything on options that make no network
        raise WeightsError(f"{source} describes no network that can be built ({str(error)[:1000]})") from error
    raise WeightsError(
        f"{source} contains the weights of an unknown network (its first tensors: {listed(state)}).{likely_content(state)} "
        "Expected: a generator, ours or one that spandrel knows, or AESOP's auto-encoder"
    )


def load_network(path: str | os.PathLike, key: str | None = None) -> tuple[nn.Module, LoadedInfo]:
    """Load the network that a weight file describes or is recognised as, in eval mode, on the CPU, in float32."""
    state, metadata = read_state_dict(path, key)
    net, options = build_described(state, metadata, str(path))
    load_into(net, state, str(path))
    log.debug("%s: %s", path, json.dumps(options))
    return net.eval(), LoadedInfo(options["type"], getattr(net, "scale", 1), options, metadata)


def load_generator(path: str | os.PathLike) -> tuple[nn.Module, LoadedInfo]:
    """Load a generator; see `load_network`."""
    net, info = load_network(path)
    if isinstance(net, AutoEncoder) or not hasattr(net, "scale"):  # discriminators have none
        raise WeightsError(f"{path} contains {info.arch}, not a generator: give the net_g file of a PSNR or GAN training")
    return net, info


def load_picture_generator(path: str | os.PathLike) -> tuple[nn.Module, LoadedInfo, int]:
    """Load a generator for RGB or gray pictures; also returns its number of channels, 3 or 1. See `load_network`."""
    net, info = load_generator(path)
    channels = image_channels(info.options)
    if channels not in ((1, 1), (3, 3)):
        raise WeightsError(
            f"{path} contains {info.arch}, which makes {channels[1]} channels of {channels[0]}: a picture needs a "
            "network of 3 channels (RGB) or 1 (gray)"
        )
    return net, info, channels[0]


def load_autoencoder(path: str | os.PathLike, key: str | None = None) -> AutoEncoder:
    """Load an auto-encoder (ours or published) and freeze it; see `load_network`."""
    net, info = load_network(path, key)
    if not isinstance(net, AutoEncoder):
        raise WeightsError(f"{path} contains {info.arch}, not an auto-encoder: train one first (stage: autoencoder)")
    return net.requires_grad_(False)


def fit(net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> State:
    """Return a file's tensors with the names and order of `net`; with `strict` every name and shape must fit.

    Without `strict`, tensors that do not fit are left out with a warning, as in BasicSR: an x2 RRDBNet can start from a x4
    one, without the weight of the first convolution. Most of the shared names must still have the right shapes.
    """
    own, given = net.state_dict(), own_names(state)
    shared = own.keys() & given.keys()
    given |= {name: value for name, value in own.items() if _COMPUTED.search(name)}
    wrong = sorted(name for name in own.keys() & given.keys() if own[name].shape != given[name].shape)
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    misfits = [f"{name}: {tuple(given[name].shape)} in the file, {tuple(own[name].shape)} expected" for name in wrong[:3]]
    faults = misfits if strict or 2 * len(wrong) > len(shared) else []
    if strict:
        faults += [f"{len(missing)} missing ({listed(missing)})"] if missing else []
        faults += [f"{len(extra)} unknown ({listed(extra)})"] if extra else []
    elif not shared:
        faults += ["none of its tensors has a name that fits"]
    if faults:
        found = None
        with suppress(Exception):  # hostile tensors; spandrel cannot be imported
            found = recognise_network(state)
        content = f" The file looks like {json.dumps(found)}." if found else likely_content(state)
        raise WeightsError(f"the weights in {source} do not fit {type(net).__name__}: {'; '.join(faults)}.{content}")
    if wrong:
        log.warning("%s: left out %d of %d tensors, whose shapes differ (%s)", source, len(wrong), len(own), misfits[0])
    return {name: given[name] for name in own if name in given and name not in wrong}


def mostly_fits(net: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether `fit` accepts a file's tensors without `strict`."""
    own, given = net.state_dict(), own_names(state)
    shared = own.keys() & given.keys()
    wrong = [name for name in shared if own[name].shape != given[name].shape]
    return 0 < len(shared) >= 2 * len(wrong)


def load_into(net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> None:
    """Fill `net` in place with a file's tensors, under any project's names; see `fit`. An error leaves `net` unchanged."""
    fitting = fit(net, state, source, strict)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in fitting.items()}, strict=strict)
