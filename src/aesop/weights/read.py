"""Reading weight files of any format without unpickling objects."""

import mmap
import os
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from aesop.archs import State
from aesop.system.wording import first_few
from aesop.weights.errors import WeightsError

# Keys under which checkpoints keep their weights, best first: averaged weights win.
WRAPPER_KEYS = ("params_ema", "params", "params-ema", "state_dict", "model_state_dict", "model", "net")
# The key of our `.pth` files for what a safetensors file has in its metadata; other programs ignore it.
METADATA_KEY = "metadata"
# Weights do not compress to a tenth, and few tensors share memory: a file that claims more than this is a bomb.
MAX_GROWTH = 10
# How files begin that are often mistaken for weights.
_BEGINNINGS = (
    (rb"\Z", "is empty: download or copy it again"),
    (rb"version https://git-lfs", "is a git-lfs pointer to the file: run `git lfs pull` in its repository"),
    (rb"(?i)\s*<(!doctype|html|head|\?xml)", "is a web page, not weights: open its address in a browser, download the file"),
    (rb"[\t\n\r -~]+\Z", "is text, not weights: give a .safetensors file, or a .pth that PyTorch saved"),
)
# Models of other programs, by extension.
_ONNX = "an ONNX model: give the .pth or .safetensors file that it was exported from"
_NCNN = "a model of ncnn (Upscayl, waifu2x and Real-ESRGAN's ncnn programs): give the .pth file that it was made from"
_FOREIGN = {
    ".onnx": _ONNX,
    ".param": _NCNN,
    ".bin": _NCNN,
    **dict.fromkeys(
        (".engine", ".trt", ".plan"), "a TensorRT engine, which runs on one kind of GPU only: give the .pth file"
    ),
    **dict.fromkeys((".mlmodel", ".mlpackage", ".mlmodelc"), "a Core ML model: give the .pth file that it was made from"),
    **dict.fromkeys((".pb", ".h5", ".keras", ".tflite"), "a TensorFlow model: give weights of PyTorch (.pth, .safetensors)"),
    ".xml": "a model of OpenVINO: give the .pth file that it was made from (--runtime openvino converts it)",
    ".gguf": "a GGUF model: give weights of PyTorch (.pth, .safetensors)",
    ".pkl": "a pickle of Python objects: ask its author for a plain state dict (.pth, .safetensors)",
}
# How tensor names begin in files that contain none of our networks.
_OTHER_FILES = {
    r"optimizers|schedulers|param_groups|\d+\.exp_avg": "a training state (of optimisers): give the net_g file next to it",
    r"(features|classifier)\.\d+\.|layer1\.0\.conv1\.": "an image classifier (torchvision's VGG, AlexNet or ResNet), "
    "which losses and metrics find in a folder that AESOP_WEIGHTS names",
    r"lin\d\.model\.": "LPIPS's linear heads, which LPIPS finds in a folder that AESOP_WEIGHTS names",
    r"lora_|.*\.lora[._]": "a LoRA, an addition to a diffusion model",
    r"(unet\.|model\.diffusion_model\.)?(down_blocks|input_blocks|transformer_blocks)\.": "a diffusion model",
}
# PyTorch's safe unpickler allows these calls, which make many bytes out of a few.
_GROWING_CALLS = re.compile(rb"c(__builtin__|builtins)\nbytearray\n|c_codecs\nencode\n")


def read_state_dict(path: str | os.PathLike, key: str | None = None) -> tuple[State, dict[str, str]]:
    """Read a weight file's tensors, with the names in the file, and its metadata (empty for other projects' `.pth` files).

    Args:
        key: Which weights of a checkpoint to take (`params`, `params_ema`); default: the averaged ones if there are any. A
            file without such a level is taken as a whole.

    Raises:
        WeightsError: The file is missing, truncated or no weight file, or its pickle contains more than tensors.
    """
    path = Path(path).expanduser()
    if foreign := foreign_format(path):
        raise WeightsError(f"{path} is {foreign}")
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, not a weight file: give a file in it, e.g. one of a run's models folder")
    if not path.is_file():
        raise WeightsError(f"weight file {path} does not exist")
    try:
        with path.open("rb") as file:
            head = file.read(512)
        for beginning, reason in _BEGINNINGS:
            if re.match(beginning, head):
                raise WeightsError(f"{path} {reason}")
        if head[8:9] == b"{":  # a safetensors file starts with eight bytes of length, then JSON
            with safe_open(path, framework="pt") as content:
                state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
                metadata = content.metadata() or {}
        else:
            state, metadata = _unwrap(_read_pickle(path), key, path)
    except WeightsError:
        raise
    except Exception as error:  # damaged files raise anything
        brief = re.split(r"\n|\. ", str(error) or type(error).__name__, maxsplit=1)[0][:200]
        raise WeightsError(
            f"{path} is not a readable weight file, neither safetensors nor a state dict of PyTorch ({brief}): is it "
            "complete? Copy or download it again"
        ) from error
    odd = [name for name, value in state.items() if value.layout != torch.strided or value.is_quantized or value.is_meta]
    if odd:
        raise WeightsError(f"{path} has sparse, quantised or empty (meta) tensors ({listed(odd)}): save dense tensors")
    if sum(value.numel() * value.element_size() for value in state.values()) > MAX_GROWTH * path.stat().st_size:
        raise WeightsError(f"{path} was not loaded: its tensors claim more than {MAX_GROWTH} times the file's size")
    return state, metadata


def foreign_format(path: Path) -> str | None:
    """Say what a model of another program is, and what to give instead; None for what may be weights of PyTorch."""
    foreign = _FOREIGN.get(path.suffix.lower())
    if not foreign or not path.exists():
        return None
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(9)
        if head[:2] == b"PK" or head[:1] == b"\x80" or head[8:] == b"{":  # a zip, a pickle, or safetensors
            return None
    is_openvino = path.suffix.lower() == ".bin" and path.with_suffix(".xml").exists()
    return _FOREIGN[".xml"] if is_openvino else foreign


def _read_pickle(path: Path) -> Any:
    _refuse_bomb(path)
    try:
        with path.open("rb") as file:  # given a path, some versions of PyTorch look at its ending
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message advises to switch its safety off; pass on only the name of the object.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        content = f"contains objects other than tensors ({named[1]})" if named else "contains no weights or is damaged"
        raise WeightsError(
            f"{path} was not loaded: it {content}. Only tensors are read, because anything else could run code; use a "
            "safetensors file, or ask its author for a plain state dict"
        ) from error


def _refuse_bomb(path: Path) -> None:
    """Raise WeightsError for a pickle that needs far more memory than the size of its file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pickles: list[Any] = [content]
        if content[:4] == b"PK\3\4":
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                if sum(entry.file_size for entry in entries) > MAX_GROWTH * len(content):
                    raise WeightsError(f"{path} was not loaded: it unpacks to more than {MAX_GROWTH} times its size")
                pickles = [archive.read(entry) for entry in entries if entry.filename.endswith(".pkl")]
        if any(map(_GROWING_CALLS.search, pickles)):
            raise WeightsError(f"{path} was not loaded: it contains objects other than tensors (bytes); save a state dict")


def _unwrap(content: Any, key: str | None, path: Path) -> tuple[State, dict[str, str]]:
    """Return the tensors of a checkpoint at `key` or the best of WRAPPER_KEYS, and its metadata."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} contains no weights: found a {type(content).__name__}; expected a state dict")
    levels = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    metadata = {str(name): value for name, value in levels.pop(METADATA_KEY, {}).items() if isinstance(value, str)}
    # `params` and `params_ema` stand in for each other, as in BasicSR; any other key that is asked for must exist.
    names = WRAPPER_KEYS if key in (None, "params", "params_ema") else ()
    found = next((name for name in [key, *names] if name in levels), None)
    if found is not None:
        content = levels[found]
    elif key and levels:
        raise WeightsError(f"{path} has no weights {key!r}; it has {', '.join(map(str, levels))}")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        found = f"found {listed(content)}; expected a state dict.{likely_content(content)}"
        raise WeightsError(f"{path} contains no weights: {found}")
    return tensors, metadata


def listed(names: Collection) -> str:
    return first_few([str(name) for name in names], separator=", ") or "nothing"


def likely_content(names: Collection) -> str:
    """Return a sentence on what a file with these tensor names is, "" if unknown."""
    kinds = (kind for start, kind in _OTHER_FILES.items() if any(re.match(start, str(name)) for name in names))
    return next((f" It contains {kind}." for kind in kinds), "")
