"""Weight files: read any form without unpickling objects, recognise the network, write self-describing files.

Ours are safetensors with bare names and the network's options in the metadata. BasicSR-style `.pth` files ({'params',
'params_ema'}) and bare ones are read through PyTorch's safe unpickler and written on request.
"""

import json
import os
import pickle
import re
import struct
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aesop.archs import AutoEncoder, build_network
from aesop.archs.autoencoder import fold_published_aliases, published_state_dict
from aesop.files import replacing

State = dict[str, Tensor]
# Where a checkpoint keeps its weights, best first: the averaged weights are the ones to use.
WRAPPER_KEYS = ("params_ema", "params", "params-ema", "state_dict", "model", "net")


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


def read_state_dict(path: str | os.PathLike, key: str | None = None) -> tuple[State, dict[str, str]]:
    """A weight file's tensors under BasicSR's names, and its metadata (empty for `.pth`).

    Args:
        key: which of a checkpoint's weights (`params`, `params_ema`); default: the averaged ones where there are some. A
            file without such a level is taken as it is.

    Raises:
        WeightsError: missing, truncated, not a weight file, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"weight file {path} does not exist" + (" (it is a folder)" if path.is_dir() else ""))
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _unwrap(_read_pickle(path), key, path), {}
    return normalise_names(state), metadata


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no readable safetensors file ({error}): is it complete?") from error


# What PyTorch's unpickler was seen to raise on truncated files, text files and random bytes.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own text advises to load with its safety off: only the object it named is passed on.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        holds = f"objects other than tensors ({named[1]})" if named else "something else than weights, or is damaged"
        raise WeightsError(
            f"{path} was not loaded: it holds {holds}. Only tensors are read, since anything else could run code; use "
            "a safetensors file, or have whoever made it save a plain state dict"
        ) from error
    except _UNREADABLE as error:
        raise WeightsError(f"{path} is no readable PyTorch weight file (truncated?): {str(error)[:200]}") from error


def _unwrap(content: Any, key: str | None, path: Path) -> State:
    if isinstance(content, Mapping):
        levels = [name for name, value in content.items() if isinstance(value, Mapping)]
        # `params` and `params_ema` stand in for each other (BasicSR); another name must be there if it is asked for.
        names = WRAPPER_KEYS if key in (None, "params", "params_ema") else ()
        found = next((name for name in [key, *names] if name in levels), None)
        if found is not None:
            content = content[found]
        elif key and levels:
            raise WeightsError(f"{path} has no weights {key!r}; it has {', '.join(map(str, levels))}")
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise WeightsError(f"{path} holds no weights: expected a state dict, or one below {' / '.join(WRAPPER_KEYS[:3])}")


# Former names of RRDBNet's tensors: ESRGAN's first two releases and BSRGAN's.
_SECOND_GENERATION = [
    (re.compile(r"^RRDB_trunk\.(\d+)\.RDB(\d)\."), r"body.\1.rdb\2."),
    (re.compile(r"^trunk_conv\."), "conv_body."),
    (re.compile(r"^upconv(\d)\."), r"conv_up\1."),
    (re.compile(r"^HRconv\."), "conv_hr."),
]
_FIRST_GENERATION = [
    (re.compile(r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\."), r"body.\1.rdb\2.conv\3."),
    (re.compile(r"^model\.1\.sub\.\d+\.(weight|bias)"), r"conv_body.\1"),
    (re.compile(r"^model\.0\."), "conv_first."),
    (re.compile(r"^model\.3\."), "conv_up1."),
    (re.compile(r"^model\.6\."), "conv_up2."),
    (re.compile(r"^model\.8\."), "conv_hr."),
    (re.compile(r"^model\.10\."), "conv_last."),
]


def normalise_names(state: Mapping[str, Tensor]) -> State:
    """Drop DDP's `module.` and bring ESRGAN's and BSRGAN's former names to BasicSR's."""
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    rules = []
    if any(name.startswith("RRDB_trunk.") for name in state):
        # With `upconv1` alone it is BSRGANx2, a network that does not exist here; renamed it would pass for our x3 one.
        rules = _SECOND_GENERATION if "upconv2.weight" in state else []
    elif any(name.startswith("model.1.sub.") for name in state):
        rules = _FIRST_GENERATION
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name, hit = pattern.subn(replacement, name)
            if hit:
                break
        renamed[name] = value
    return renamed


# --- recognising -------------------------------------------------------------------------------------------------------


def recognise(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The options of the network a state dict belongs to, from its names and shapes; None when it is none of ours."""
    if any(name.startswith("decoder.") for name in state):
        return _recognise_autoencoder(state)
    needed = (
        "conv_first.weight",
        "body.0.rdb1.conv1.weight",
        "conv_body.weight",
        "conv_up1.weight",
        "conv_last.weight",
    )
    if any(name not in state for name in needed):
        return None
    in_ch, out_ch = state["conv_first.weight"].shape[1], state["conv_last.weight"].shape[0]
    ups = sum(name.startswith("conv_up") and name.endswith(".weight") for name in state)
    scale = {1: 3, 3: 8}.get(ups) or {1: 4, 4: 2, 16: 1}.get(in_ch // out_ch)
    if scale is None:
        return None
    return {
        "type": "RRDBNet",
        "num_in_ch": in_ch // {2: 4, 1: 16}.get(scale, 1),
        "num_out_ch": out_ch,
        "scale": scale,
        "num_feat": state["conv_first.weight"].shape[0],
        "num_block": 1 + max(int(name.split(".")[1]) for name in state if name.startswith("body.")),
        "num_grow_ch": state["body.0.rdb1.conv1.weight"].shape[0],
    }


def _recognise_autoencoder(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    decoder = recognise({name[8:]: value for name, value in state.items() if name.startswith("decoder.")})
    prefix = "encoder.2.0" if "encoder.2.0.rdb1.conv1.weight" in state else "body.0"
    block = state.get(f"{prefix}.rdb1.conv1.weight")
    if decoder is None or block is None:
        return None
    # At scale 4 the RRDB width is num_feat itself; at others it is rounded up to whole channels before the unshuffle.
    enc_opt = {"num_feat": block.shape[1], "num_grow_ch": block.shape[0]}
    return {"type": "AutoEncoder_RRDBNet", "scale": decoder["scale"], "enc_opt": enc_opt, "dec_opt": decoder}


def load_network(path: str | os.PathLike, key: str | None = None) -> tuple[nn.Module, LoadedInfo]:
    """The network a weight file describes or is recognised as, in eval mode on the CPU in float32.

    Raises:
        WeightsError: unreadable, or of no architecture known here.
    """
    state, metadata = read_state_dict(path, key)
    try:
        options = json.loads(metadata["network"]) if "network" in metadata else recognise(state)
        net = build_network(options) if options is not None else None
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} describes no network that can be built ({error})") from error
    if options is None or net is None:
        shown = ", ".join(list(state)[:3])
        raise WeightsError(
            f"{path} holds weights of no architecture known here (its first tensors: {shown}); known: RRDBNet (ESRGAN, "
            "Real-ESRGAN, BasicSR names) and AESOP's auto-encoder"
        )
    load_into(net, state, str(path))
    scale = int(options.get("scale", options.get("upscale", 4)))
    return net.eval(), LoadedInfo(options["type"], scale, options, metadata)


def load_generator(path: str | os.PathLike) -> tuple[nn.Module, LoadedInfo]:
    """`load_network` for upscaling: an auto-encoder is refused, since it maps HR to HR."""
    net, info = load_network(path)
    if isinstance(net, AutoEncoder):
        raise WeightsError(f"{path} is an auto-encoder (the loss's network), not a generator: give a generator's weights")
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


def load_into(net: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> None:
    """Fill `net` in place; with `strict` every name and shape must fit.

    Raises:
        WeightsError: naming the first tensors that do not fit, and what the file looks like instead.
    """
    own = net.state_dict()
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    if isinstance(net, AutoEncoder):
        fold_published_aliases(state)
    wrong_shape = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if wrong_shape or (strict and (missing or extra)):
        faults = [f"{n}: {tuple(state[n].shape)} in the file, {tuple(own[n].shape)} wanted" for n in sorted(wrong_shape)[:3]]
        faults += [f"{len(missing)} missing ({', '.join(missing[:3])}, ...)"] if missing else []
        faults += [f"{len(extra)} unknown ({', '.join(extra[:3])}, ...)"] if extra else []
        found = recognise(state)
        looks = f" The file looks like {json.dumps(found)}." if found else ""
        raise WeightsError(f"the weights in {source} do not fit a {type(net).__name__}: {'; '.join(faults)}.{looks}")
    if not own.keys() & state.keys():
        raise WeightsError(f"nothing in {source} fits a {type(net).__name__}: no tensor has a name that it knows")
    net.load_state_dict({name: value for name, value in state.items() if name in own}, strict=strict)


# --- writing -----------------------------------------------------------------------------------------------------------


def save_weights(path: str | os.PathLike, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file aside, then rename it. `metadata["network"]` (JSON) makes it self-describing."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})


def save_basicsr(path: str | os.PathLike, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a BasicSR `.pth`: {'params': ..., 'params_ema': ...}. Auto-encoders get the published double names."""

    def plain(state: Mapping[str, Tensor]) -> State:
        state = {name: value.detach().cpu().clone() for name, value in state.items()}
        return published_state_dict(state) if any(name.startswith("decoder.") for name in state) else state

    with replacing(path) as temporary:
        torch.save({key: plain(state) for key, state in weights.items()}, temporary)


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
        "pip install lpips (or torchmetrics), whose files are then found",
    ),
    "lpips_vgg": (
        [
            (None, "lpips_lin_vgg.safetensors"),
            ("lpips", "weights/v0.1/vgg.pth"),
            ("torchmetrics", "functional/image/lpips_models/vgg.pth"),
        ],
        "pip install lpips (or torchmetrics), whose files are then found",
    ),
    "dists": (
        [
            (None, "dists_alpha_beta.safetensors"),
            ("DISTS_pytorch", "weights.pt"),
            ("torchmetrics", "functional/image/dists_models/weights.pt"),
        ],
        "pip install DISTS_pytorch (or torchmetrics), whose file is then found",
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
    if path is not None:
        return read_state_dict(path)[0]
    places = _places(name)
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return read_state_dict(found)[0]
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
