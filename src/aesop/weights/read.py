"""Reading weight files of any form without unpickling objects."""

import mmap
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aesop.weights.errors import WeightsError

State = dict[str, Tensor]
# Where a checkpoint keeps its weights, best first: the averaged weights are the ones to use.
WRAPPER_KEYS = ("params_ema", "params", "params-ema", "state_dict", "model_state_dict", "model", "net")
# Where a `.pth` of ours keeps what a safetensors file has in its metadata; other programs pass over it.
METADATA_KEY = "metadata"
# Nobody compresses weights to a tenth, and a few tensors share their memory. What claims more than this times a file's size
# is a bomb.
MAX_GROWTH = 10
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
