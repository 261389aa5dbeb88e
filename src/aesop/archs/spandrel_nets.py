"""Every image network of the spandrel library (MIT; SwinIR, DRCT, HAT, DAT ...), under the name of its class there.

Modules and tensor names are spandrel's, which are the official ones. spandrel itself is imported only when such a network is
asked for, because it and torchvision take seconds to import.
"""

import inspect
import re
import warnings
from collections.abc import Collection, Mapping
from functools import cache, lru_cache, wraps
from types import FunctionType, SimpleNamespace
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aesop.archs.network_options import NetworkOptions, State, check_options
from aesop.archs.rrdbnet import INPUT_UNSHUFFLE
from aesop.archs.size_limits import bounded

# Published options that have no effect on the network.
WITHOUT_MEANING = {"DRCT": ("compress_ratio", "squeeze_factor", "conv_scale", "overlap_ratio")}
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # PyTorch 2.6 has only the latter
MASKS_KEPT = 8  # SwinIR makes two for each image size, 16 MiB each for 256x256 pixels


class SpandrelNetOptions(NetworkOptions):
    """Any image network that the spandrel library knows, with the options of its class there."""

    model_config = ConfigDict(extra="allow")
    type: str
    """The class's name: SwinIR, DRCT, HAT, DAT, RGT, ATD, SPAN, RealPLKSR, Compact ..."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_options(self.type, self.model_extra or {}, self.option_names(self.type))
        return self

    @classmethod
    def build(cls, type_name: str, arguments: Mapping[str, Any]) -> nn.Module:
        """Build a spandrel module: image (N, C, H, W) in [0, 1] -> (N, C, scale*H, scale*W), not clamped.

        Sizes that it does not take are padded at the right and bottom and the result is cropped, as in the official tests.
        """
        _check_windows(arguments)
        arguments = {name: value for name, value in arguments.items() if name not in WITHOUT_MEANING.get(type_name, ())}
        network, architecture = spandrel_classes()[type_name]
        pads_itself = type_name in ("SwinIR", "DRCT")  # to whole windows, as in the published code
        try:
            with warnings.catch_warnings(action="ignore"):
                net: Any = network(**arguments)
                _speed_up(net)
                # spandrel derives the scale and the sizes that a network takes from its weights.
                described = None if pads_itself else architecture.load(net.state_dict())
        except Exception as error:  # constructors raise anything
            raise ValueError(
                f"{type_name} cannot be built with these options, or not recognised again: {type(error).__name__}: {error}"
            ) from error
        if described is None:
            net.scale = net.upscale // arguments.get("start_unshuffle", 1)
        else:
            net.__class__ = type(network.__name__, (_Padded, network), {"__module__": network.__module__})
            net.size_requirements, net.scale = described.size_requirements, described.scale
        # Many unshuffle and pad their input at scales 1 and 2; tiles cut at multiples of this keep the same pixels together.
        net.size_multiple = INPUT_UNSHUFFLE.get(net.scale, 1)
        net.channels_last_on_cpu = False
        return net

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        # spandrel builds a network with as many blocks as the numbers in the names say, and as wide as the shapes, which in
        # known networks are all smaller.
        if any(re.search(r"\d{5}", name) or max(value.shape, default=0) > 16_384 for name, value in state.items()):
            raise LookupError
        classes = spandrel_classes()
        import spandrel

        try:
            with warnings.catch_warnings(action="ignore"), bounded():
                described = spandrel.ModelLoader("cpu").load_from_state_dict(cls.own_names(state))
        except Exception as error:  # the names may fit an architecture and the shapes not
            raise LookupError from error
        found = type(described.model)
        name = next((name for name, (known, _) in classes.items() if found in (known, known.__base__)), None)
        if name is None or not isinstance(described, spandrel.ImageModelDescriptor):
            raise LookupError
        given = getattr(described.model, "hyperparameters", {})
        known = cls.option_names(name)
        # A file's metadata cannot hold classes of layers, but those are always the defaults.
        plain = (str, int, float, list, tuple, type(None))
        return {"type": name, **{k: v for k, v in given.items() if k in known and isinstance(v, plain)}}

    @classmethod
    def own_names(cls, state: State) -> State:
        if "layers.0.adjust1.weight" not in state:
            return state
        # The published DRCT has linear layers where the official one has 1x1 convolutions.
        linear = [name for name, value in state.items() if re.search(r"\.adjust\d\.weight$", name) and value.ndim == 2]
        return state | {name: state[name][:, :, None, None] for name in linear}

    @classmethod
    def option_names(cls, type_name: str) -> Collection[str]:
        network, _ = spandrel_classes().get(type_name, (None, None))
        constructors = [base.__init__ for base in (network, getattr(network, "wraps", None)) if base]
        names = [name for constructor in constructors for name in inspect.signature(constructor).parameters]
        return [*(name for name in names if name not in ("self", "options")), *WITHOUT_MEANING.get(type_name, ())]


def _check_windows(options: Mapping[str, Any]) -> None:
    """Raise ValueError for windows whose tables, of (window * image side)**2 numbers, exhaust the memory."""
    window, side = (
        max([part for part in (given if isinstance(given, list | tuple) else [given]) if isinstance(part, int)], default=64)
        for given in (options.get("window_size", 0), options.get("img_size"))
    )
    if window > 64 or window * side > 16_384:
        raise ValueError(
            f"window_size {window} with img_size {side} is too large: use at most 64, and at most 16384 for their product"
        )


@cache
def spandrel_classes() -> dict[str, tuple[type[nn.Module], Any]]:
    """Class name -> (class, spandrel's architecture)."""
    try:
        import spandrel
    except (ImportError, RuntimeError, OSError) as error:
        remedy = "run: pip install --upgrade spandrel torchvision (of a version that fits torch)"
        raise ValueError(f"this network needs spandrel ({error}); {remedy}") from error
    found = {}
    without = ("LaMa", "GFPGAN", "RestoreFormer")  # they take a mask, or faces only
    for support in spandrel.MAIN_REGISTRY.architectures():
        module = inspect.getmodule(type(support.architecture))
        for name, cls in vars(module).items():
            if isinstance(cls, type) and issubclass(cls, nn.Module) and name not in without:
                found[name] = (cls, support.architecture)
    for name, adapt in (("DRCT", _drct), ("ESRGAN", _esrgan), ("SwinIR", _swinir)):
        found[name] = (adapt(found[name][0]), found[name][1])
    return found | {"SRVGGNetCompact": found["Compact"]}  # Real-ESRGAN's name


def _speed_up(net: Any) -> None:
    """Let blocks keep their attention masks, and recompute with our `recomputed`.

    If the image is not of `img_size`, spandrel makes a mask on the CPU in every block and every forward pass.
    """
    for module in net.modules():
        if hasattr(module, "calculate_mask"):
            _keep_masks(next(cls for cls in type(module).__mro__ if "calculate_mask" in vars(cls)))
            module.keeps_masks = True  # from now on: constructors register masks as buffers, which blocks must not share
        file: Any = inspect.getmodule(type(module))
        if getattr(getattr(file, "checkpoint", None), "checkpoint", None) is checkpoint:
            file.checkpoint = SimpleNamespace(checkpoint=recomputed)


@cache
def _keep_masks(cls: Any) -> None:
    calculate = cls.calculate_mask

    @wraps(calculate)
    def calculate_mask(self: nn.Module, *sizes: Any, **options: Any) -> Any:
        if not hasattr(self, "keeps_masks"):
            return calculate(self, *sizes, **options)
        weight = next(self.parameters())
        if _is_exporting() or torch.jit.is_tracing():  # the exported network makes its own masks
            own = vars(self)
            if len(sizes) == 1 and isinstance(own.get("shift_size"), int):
                made = window_mask(sizes[0], own["window_size"], own["shift_size"])
            else:
                made = calculate(self, *sizes, **options)
            return _placed(made, weight.device, weight.dtype)
        if type(torch.empty(0)) is not Tensor:  # FakeTensorMode makes tensors without numbers
            return calculate(self, *sizes, **options)
        window = tuple((k, _hashable(vars(self)[k])) for k in ("window_size", "split_size", "shift_size") if k in vars(self))
        where = (weight.device, weight.dtype)
        return _mask(calculate, window, tuple(map(_hashable, sizes)), tuple(options.items()), *where)

    cls.calculate_mask = calculate_mask


def window_mask(size: tuple[int, int], window: int, shift: int) -> Tensor:
    """The mask of attention in windows of a shifted image (Liu et al., ICCV 2021, section 3.2), as spandrel computes it.

    -100 between pixels that were not neighbours before the shift, else 0: (windows, window**2, window**2). Nothing is
    assigned in place, for which OpenVINO has no operation.
    """
    height, width = size

    def part(length: int) -> Tensor:
        place = torch.arange(length)
        return (place >= length - window).long() + (place >= length - shift).long()

    parts = 3 * part(height)[:, None] + part(width)
    windows = parts.view(height // window, window, width // window, window).transpose(1, 2).reshape(-1, window * window)
    return -100.0 * (windows[:, None] != windows[:, :, None]).float()


def _hashable(size: Any) -> Any:
    return tuple(size) if isinstance(size, list) else size


@torch.compiler.assume_constant_result  # a compiled network contains the mask
def _mask(*arguments: Any) -> Any:
    return _kept_mask(*arguments)


@lru_cache(MASKS_KEPT)
def _kept_mask(
    calculate: FunctionType, window: Any, sizes: Any, options: Any, device: torch.device, dtype: torch.dtype
) -> Any:
    with torch.inference_mode(False):  # the next to use it may be training
        return _placed(calculate(SimpleNamespace(**dict(window)), *sizes, **dict(options)), device, dtype)


def _placed(masks: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """One mask or several, added to a network's products: in the type of its weights."""
    return masks.to(device, dtype) if isinstance(masks, Tensor) else tuple(mask.to(device, dtype) for mask in masks)


def merge_branches(net: nn.Module) -> nn.Module:
    """Let SPAN's convolutions keep their merged weights, in place, instead of computing them in each pass.

    They assign these to a layer's data, which ends the process when an exporter's tensors without numbers are assigned.
    """
    layers: list[Any] = [layer for layer in net.modules() if hasattr(layer, "update_params") and hasattr(layer, "eval_conv")]
    for layer in layers:
        layer.update_params()
        layer.update_params = _already_merged
    return net


def _already_merged() -> None:
    """In the place of SPAN's `update_params`."""


def recomputed(block: nn.Module, *args: Any) -> Any:
    """Run a block without keeping its activations: the backward pass runs it again.

    Only where blocks are random, the generators' states are read. A GPU waits for that, and its graphs forbid it.
    """
    if not torch.is_grad_enabled():
        return block(*args)
    return checkpoint(block, *args, use_reentrant=False, preserve_rng_state=_is_random(block))


def _is_random(block: nn.Module) -> bool:
    return any(m.p if isinstance(m, nn.Dropout) else getattr(m, "drop_prob", None) for m in block.modules())


def random_when_recomputed(net: nn.Module) -> list[str]:
    """The options (`drop_path_rate` ...) that make a network random whose blocks are recomputed; otherwise none."""
    modules = [module for module in net.modules() if hasattr(inspect.getmodule(type(module)), "checkpoint")]
    recomputes = any(getattr(m, "use_checkpoint", False) or getattr(m, "use_chk", False) for m in modules)
    options = getattr(net, "hyperparameters", {}) if recomputes else {}
    return [name for name in ("drop_rate", "attn_drop_rate", "drop_path_rate") if options.get(name)]


def _drct(base: Any) -> type[nn.Module]:
    """Add two features of the published DRCT: padding to whole windows and `use_checkpoint`."""

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
                x = recomputed(layer, x, size)
            return self.patch_unembed(self.norm(x), size)

    return DRCT


def _swinir(base: Any) -> type[nn.Module]:
    """Let it take images smaller than half a window, and of any size where it unshuffles them first."""

    class SwinIR(base):
        def forward(self, x: Tensor) -> Tensor:
            height, width = x.shape[-2:]
            multiple, scale = self.window_size * self.start_unshuffle, self.upscale // self.start_unshuffle
            return super().forward(pad(x, -height % multiple, -width % multiple))[..., : height * scale, : width * scale]

    return SwinIR


def _esrgan(base: Any) -> type[nn.Module]:
    """Replace a forward that takes `scale` for the trunk's, not the network's."""

    class ESRGAN(base):
        def forward(self, x: Tensor) -> Tensor:
            return self.model(F.pixel_unshuffle(x, self.shuffle_factor) if self.shuffle_factor else x)

    return ESRGAN


class _Padded(nn.Module):
    """Mixed into a spandrel class: pads sizes that it does not take, and keeps its input unchanged (RCAN does not)."""

    size_requirements: Any
    scale: int

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        right, bottom = self.size_requirements.get_padding(width, height)
        y = super().forward(pad(x, bottom, right) if right or bottom else x.clone())
        return y[..., : height * self.scale, : width * self.scale]


def pad(x: Tensor, bottom: int, right: int) -> Tensor:
    """Extend (N, C, H, W) at the bottom and right by reflection, and beyond the image's size by its last pixels."""
    reflected = (min(right, x.shape[-1] - 1), min(bottom, x.shape[-2] - 1))
    x = F.pad(x, (0, reflected[0], 0, reflected[1]), "reflect")
    return F.pad(x, (0, right - reflected[0], 0, bottom - reflected[1]), "replicate")
