"""What the shell completes for options: names that are known without PyTorch, whose import takes seconds.

The tests compare each list with what it stands for.
"""

import os
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda", "mps")
EXPORTS = ("onnx", "openvino", "torchscript", "ncnn")
IMAGE_FORMATS = ("png", "jpg", "webp", "tif", "avif", "gif", "bmp", "mp4", "mkv", "webm", "mov")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PROGRESS = ("bar", "plain", "json")
RUNTIMES = ("pytorch", "openvino", "onnxruntime")
TABLES = ("terminal", "markdown", "latex", "csv", "json")
WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt")


def devices(incomplete: str) -> list[str]:
    return _beginning(DEVICES, incomplete)


def exports(incomplete: str) -> list[str]:
    return _beginning(EXPORTS, incomplete)


def image_formats(incomplete: str) -> list[str]:
    return _beginning(IMAGE_FORMATS, incomplete)


def precisions(incomplete: str) -> list[str]:
    return _beginning(PRECISIONS, incomplete)


def progress_styles(incomplete: str) -> list[str]:
    return _beginning(PROGRESS, incomplete)


def runtimes(incomplete: str) -> list[str]:
    return _beginning(RUNTIMES, incomplete)


def tables(incomplete: str) -> list[str]:
    return _beginning(TABLES, incomplete)


def models(incomplete: str) -> list[str]:
    """Names of models, and weight files and folders: where a program completes names, the shell completes no files."""
    known = dict.fromkeys(file.stem for folder in _model_folders() for file in _content(folder) if _is_weights(file))
    folder, name = os.path.split(incomplete)
    there = [file for file in _content(Path(folder or ".").expanduser()) if not file.name.startswith(".") or name]
    paths = [os.path.join(folder, file.name) + "/" * file.is_dir() for file in there if file.is_dir() or _is_weights(file)]
    return _beginning([*known, *paths], incomplete)


def _model_folders() -> list[Path]:
    """Those of `aesop.inference.models`, which cannot be asked without PyTorch."""
    named = [Path(folder).expanduser() for folder in os.environ.get("AESOP_MODELS", "").split(os.pathsep) if folder]
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return [*named, base / "aesop" / "models", Path(str(resources.files("aesop"))) / "assets" / "models"]


def _content(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_weights(file: Path) -> bool:
    return file.suffix.lower() in WEIGHTS and file.is_file()


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
