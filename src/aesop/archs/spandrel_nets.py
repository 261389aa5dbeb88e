"""Every image network that the spandrel library knows (MIT; SwinIR, DRCT, HAT, DAT ...), under its class's name.

Modules and tensor names are spandrel's, which are the official ones. Imported only when such a network is asked for:
spandrel and torchvision take seconds to import.
"""

import difflib
import inspect
import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# What other projects call some of these classes.
OTHER_NAMES = {"SRVGGNetCompact": "Compact"}
# No super-resolution or restoration of the whole image: they take a mask, or faces only.
_LEFT_OUT = ("LaMa", "GFPGAN", "RestoreFormer")
# What the classes call their enlargement.
_SCALE_OPTIONS = ("upscale", "scale", "upscaling_factor", "upscale_factor", "up_scale")
# Published options that have no effect on the network.
WITHOUT_MEANING = {"DRCT": ("compress_ratio", "squeeze_factor", "conv_scale", "overlap_ratio")}
# What these classes raise on options, and spandrel on tensors, that fit nothing.
_REFUSALS = (
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ArithmeticError,
)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for a class that does not exist or options that its constructor does not take."""
    known = sorted(_classes())
    if name not in known:
        near = difflib.get_close_matches(name, [*known, "RRDBNet", "MSRResNet", "SPSRNet"], 1, 0.6)
        raise ValueError(
            f"there is no network {name!r}"
            + (f"; did you mean {near[0]}? " if near else ". ")
            + f"Known: RRDBNet, MSRResNet, SPSRNet and, from spandrel, {', '.join(known)}"
        )
    takes = [*_parameters(name), *WITHOUT_MEANING.get(name, ())]
    for option in options:
        if option not in takes:
            near = difflib.get_close_matches(option, takes, 1, 0.6)
            raise ValueError(
                f"{name} has no option {option!r}; " + (f"did you mean {near[0]}?" if near else f"it has {', '.join(takes)}")
            )


def scale_option(name: str) -> str | None:
    """What a class calls its enlargement; None where it has none (restoration at the same size)."""
    return next((option for option in _SCALE_OPTIONS if option in _parameters(name)), None)


def is_known(name: str) -> bool:
    """Whether spandrel has a class of this name."""
    return name in _classes()


def build(name: str, **options: Any) -> nn.Module:
    """The network with fresh weights, a plain spandrel module but for the padding of odd sizes.

    It maps images (N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W), not clamped, its `enlargement` being the scale. Sizes
    that the architecture cannot take are padded by reflection at the right and bottom, and the result is cut (as the
    official test scripts do).

    Raises:
        ValueError: for an unknown class or unknown options, options that make no network, or without spandrel.
    """
    check_options(name, options)
    _check_windows(options)
    options = {k: v for k, v in options.items() if k not in WITHOUT_MEANING.get(name, ())}
    cls, architecture = _classes()[name]
    try:
        with _quiet():
            net: Any = cls(**options)
    except _REFUSALS as error:
        raise ValueError(f"{name} cannot be built with these options: {type(error).__name__}: {error}") from error
    if name in ("SwinIR", "DRCT"):  # these pad by their windows, as published
        net.enlargement = net.upscale // options.get("start_unshuffle", 1)
        return net
    return _guarded(net, architecture)


def _check_windows(options: Mapping[str, Any]) -> None:
    """Raise ValueError for windows whose tables, of (window * image side)**2 numbers, fill any memory."""
    window, side = (
        max([part for part in (given if isinstance(given, list | tuple) else [given]) if isinstance(part, int)], default=64)
        for given in (options.get("window_size", 0), options.get("img_size"))
    )
    if window > 64 or window * side > 16_384:
        raise ValueError(
            f"window_size {window} with img_size {side} is too large: windows of up to 64 are built, and up to 16384 for "
            "the product of both"
        )


def recognise(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """`{"type": class, **options}` of the network that a state dict belongs to, None when spandrel does not know it.

    What tensors cannot tell (SwinIR's img_range, dropout) is spandrel's default.
    """
    classes = _classes()
    import spandrel

    try:
        with _quiet():
            described = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        return None
    except _REFUSALS:
        return None  # the names fit an architecture, the shapes do not
    cls = type(described.model)
    name = next((name for name, (known, _) in classes.items() if cls in (known, known.__base__)), None)
    if name is None or not isinstance(described, spandrel.ImageModelDescriptor):
        return None
    given = getattr(described.model, "hyperparameters", {})
    return {"type": name, **{k: v for k, v in given.items() if k in _parameters(name) and _is_plain(v)}}


def _is_plain(value: Any) -> bool:
    """Whether an option survives a weight file's metadata; classes of layers do not, and are defaults anyway."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


@cache
def _classes() -> dict[str, tuple[type[nn.Module], Any]]:
    """Class name -> (class, spandrel's architecture of it)."""
    try:
        import spandrel
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"this network needs spandrel, which cannot be imported here ({error}); run: pip install --upgrade spandrel "
            "torchvision (torchvision must fit the installed torch)"
        ) from error
    found = {}
    for support in spandrel.MAIN_REGISTRY.architectures():
        module = inspect.getmodule(type(support.architecture))
        for name, cls in vars(module).items():
            if isinstance(cls, type) and issubclass(cls, nn.Module) and name not in _LEFT_OUT:
                found[name] = (cls, support.architecture)
    found["DRCT"] = (_drct(found["DRCT"][0]), found["DRCT"][1])
    return found | {other: found[name] for other, name in OTHER_NAMES.items()}


def _parameters(name: str) -> list[str]:
    cls, _ = _classes()[name]
    constructors = [base.__init__ for base in (cls, cls.__base__) if base in (cls, getattr(cls, "wraps", None))]
    names = [name for constructor in constructors for name in inspect.signature(constructor).parameters]
    return [name for name in names if name not in ("self", "options")]


@contextmanager
def _quiet() -> Generator[None]:
    """Without the warnings of PyTorch about the way some of these modules call it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _drct(base: Any) -> type[nn.Module]:
    """spandrel's DRCT with what the published one has besides: padding to whole windows, `use_checkpoint`.

    The published `adjust` layers are linear, spandrel's are 1x1 convolutions: the same numbers (weights.normalise_names).
    """

    class DRCT(base):
        wraps = base

        def __init__(self, use_checkpoint: bool = False, **options: Any):
            super().__init__(**options)
            self.use_checkpoint = use_checkpoint

        def forward(self, x: Tensor) -> Tensor:
            height, width = x.shape[-2:]
            padded = pad(x, -height % self.window_size, -width % self.window_size)
            return super().forward(padded)[..., : height * self.upscale, : width * self.upscale]

        def forward_features(self, x: Tensor) -> Tensor:
            if not (self.use_checkpoint and self.training):
                return super().forward_features(x)
            size = (x.shape[-2], x.shape[-1])
            x = self.patch_embed(x)
            x = self.pos_drop(x + self.absolute_pos_embed if self.ape else x)
            for layer in self.layers:
                x = checkpoint(layer, x, size, use_reentrant=False)
            return self.patch_unembed(self.norm(x), size)

    return DRCT


class _Guarded(nn.Module):
    """Mixed into a spandrel class: sizes it cannot take are padded and cut, its input stays as it is (RCAN's would not)."""

    size_requirements: Any
    enlargement: int

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        right, bottom = self.size_requirements.get_padding(width, height)
        y = super().forward(pad(x, bottom, right) if right or bottom else x.clone())
        return y[..., : height * self.enlargement, : width * self.enlargement]


def _guarded(net: Any, architecture: Any) -> nn.Module:
    """What an architecture can take follows from its weights: spandrel describes the network from them."""
    try:
        with _quiet():
            described = architecture.load(net.state_dict())
    except _REFUSALS as error:
        raise ValueError(
            f"spandrel, and with it other programs, would not recognise a {type(net).__name__} with these options from its "
            f"weights ({error})"
        ) from error
    cls = type(net)
    net.__class__ = type(cls.__name__, (_Guarded, cls), {"__module__": cls.__module__})
    net.size_requirements, net.enlargement = described.size_requirements, described.scale
    return net


def pad(x: Tensor, bottom: int, right: int) -> Tensor:
    """(N, C, H, W) continued by reflection at the bottom and right; beyond the image's own size by its last pixels."""
    reflected = (min(right, x.shape[-1] - 1), min(bottom, x.shape[-2] - 1))
    x = F.pad(x, (0, reflected[0], 0, reflected[1]), "reflect")
    return F.pad(x, (0, right - reflected[0], 0, bottom - reflected[1]), "replicate")
