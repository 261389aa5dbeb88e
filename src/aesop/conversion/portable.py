"""Whether other programs load a network, and the same network in tensors that they load.

chaiNNer, ComfyUI and InvokeAI load models with spandrel, which recognises a network by its tensors alone. What is said here
of spandrel holds for the library as released, without the networks that `import aesop.spandrel` adds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs import ARCHS, State, build_network, image_channels
from aesop.archs.rrdbnet import INPUT_UNSHUFFLE
from aesop.images.photograph import photograph_for

PROGRAMS = "chaiNNer, ComfyUI and InvokeAI"
GROWTH = 32
"""Of spandrel's RRDBNet."""
SIDE = 32
"""Of the part of a photograph on which images are compared, in LR pixels: a multiple of the usual windows."""
ROUNDING = 1e-4
"""The largest difference of two images in [0, 1] that come from the same network."""


@dataclass(frozen=True, slots=True)
class Portability:
    loads: Literal["as it is", "converted", "no"]
    """`converted`: not as it is, but `aesop convert --portable` changes that."""
    reason: str = ""
    """Why it does not load as it is."""


def portability(options: Mapping[str, Any]) -> Portability:
    """Whether spandrel loads the weights of the network with these options, and makes the same images with it.

    For our networks this follows from the options. Others are built, handed to spandrel and compared on a photograph, which
    takes seconds.
    """
    name = options["type"]
    if name == "RRDBNet":
        return _of_rrdbnet(options)
    if name not in ARCHS:
        return _asked(options)
    return Portability("no", "an auto-encoder is no upscaler" if ARCHS[name].parts else f"spandrel has no {name}")


def portability_advice(options: Mapping[str, Any]) -> str:
    """A line for those who train a network that other programs will not load as it is; "" for other networks."""
    found = portability(options)
    if found.loads == "as it is":
        return ""
    remedy = "for use there, train another network"
    if found.loads == "converted":
        remedy = "set num_grow_ch: 32, or convert the result with `aesop convert --portable`"
    return f"{PROGRAMS} will not load this {options['type']} ({found.reason}): {remedy}"


def portable_weights(state: State, options: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
    """Return a network's weights, with our names, and its options in a form that spandrel loads. It makes the same images.

    The growth of an RRDBNet becomes 32: the channels that are added are zero. Networks that load as they are stay so.
    """
    if portability(options).loads == "as it is":
        return state, dict(options)
    growth = options.get("num_grow_ch", GROWTH)
    widened = {name: _widened(name, value, growth) for name, value in state.items()}
    return widened, {**options, "num_grow_ch": GROWTH}


def difference_in_spandrel(net: nn.Module, source: State | Path, options: Mapping[str, Any], side: int = SIDE) -> float:
    """The largest difference between a network's image of a photograph and that of what spandrel makes of its tensors.

    `source` are tensors or a weight file, `side` that of the photograph. Infinite if the images differ in size. Raises
    whatever spandrel raises.
    """
    import spandrel

    registry = spandrel.ArchRegistry()
    registry.add(*(known for known in spandrel.MAIN_REGISTRY if type(known.architecture).__module__.startswith("spandrel.")))
    loader = spandrel.ModelLoader("cpu", registry)
    loaded: Any = loader.load_from_file(source) if isinstance(source, Path) else loader.load_from_state_dict(dict(source))
    image = photograph_for(image_channels(options)[0], side, side)
    with torch.inference_mode():
        ours, theirs = net(image).clamp(0, 1), loaded(image)
    return (ours - theirs).abs().max().item() if ours.shape == theirs.shape else float("inf")


def _of_rrdbnet(options: Mapping[str, Any]) -> Portability:
    taken, made = image_channels(options)
    scale, growth = options.get("scale") or 4, options.get("num_grow_ch", GROWTH)
    if scale == 3:
        return Portability("no", "spandrel reads an RRDBNet x3 as x2")
    # spandrel takes 4 or 16 times as many channels as come out for an unshuffled image.
    unshuffles = scale in INPUT_UNSHUFFLE and options.get("unshuffle", True)
    if taken != made and (unshuffles or taken in (4 * made, 16 * made)):
        return Portability("no", f"spandrel misreads an RRDBNet x{scale} that makes {made} channels of {taken}")
    if growth > GROWTH:
        return Portability("no", f"its growth is {growth}, that of spandrel's RRDBNet {GROWTH}")
    if growth < GROWTH:
        return Portability("converted", f"its growth is {growth}, that of spandrel's RRDBNet {GROWTH}")
    return Portability("as it is")


def _asked(options: Mapping[str, Any]) -> Portability:
    net = build_network(options).eval()
    try:
        difference = difference_in_spandrel(net, net.state_dict(), options, side=SIDE // 2)  # a dry run should be quick
    except Exception as error:  # noqa: BLE001 - loaders and networks raise anything
        return Portability("no", f"spandrel cannot read it from its tensors: {type(error).__name__}")
    if not difference <= ROUNDING:
        return Portability("no", f"its tensors do not show all of its options: spandrel's image differs by {difference:.2g}")
    return Portability("as it is")


def _widened(name: str, value: Tensor, growth: int) -> Tensor:
    """One tensor of an RRDBNet, whose dense blocks have the features and the outputs of the layers before as inputs."""
    found = re.fullmatch(r"body\.\d+\.rdb\d\.conv(\d)\.(weight|bias)", name)
    if not found:
        return value
    layer, missing = int(found[1]), GROWTH - growth
    if found[2] == "weight":
        features, *grown = value.split([value.shape[1] - (layer - 1) * growth, *[growth] * (layer - 1)], 1)
        value = torch.cat([features, *(F.pad(part, (0, 0, 0, 0, 0, missing)) for part in grown)], 1)
    if layer == 5:  # the last one returns features
        return value
    return F.pad(value, (*[0] * (2 * value.ndim - 1), missing))
