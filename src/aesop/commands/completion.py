"""What the shell completes for options: names that are known without PyTorch, whose import takes seconds.

The tests compare each list with what it stands for.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from aesop.inference.model_folders import content, is_weight_file, model_folders
from aesop.inference.shipped_models import MODELS

DEVICES = ("auto", "cpu", "cuda", "mps")
EXPORTS = ("onnx", "openvino", "torchscript", "ncnn")
IMAGE_FORMATS = ("png", "jpg", "webp", "tif", "avif", "gif", "bmp", "mp4", "mkv", "webm", "mov")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PROGRESS = ("bar", "plain", "json")
RUNTIMES = ("pytorch", "openvino", "onnxruntime")
TABLES = ("terminal", "markdown", "latex", "csv", "json")


def _of(names: Sequence[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


devices, exports, image_formats, precisions, progress_styles, runtimes, tables = map(
    _of, (DEVICES, EXPORTS, IMAGE_FORMATS, PRECISIONS, PROGRESS, RUNTIMES, TABLES)
)


def models(incomplete: str) -> list[str]:
    """Names of models, and weight files and folders: where a program completes names, the shell completes no files."""
    known = dict.fromkeys(file.stem for folder in model_folders() for file in content(folder) if is_weight_file(file))
    folder, name = os.path.split(incomplete)
    there = [file for file in content(Path(folder or ".").expanduser()) if not file.name.startswith(".") or name]
    paths = [
        os.path.join(folder, file.name) + "/" * file.is_dir() for file in there if file.is_dir() or is_weight_file(file)
    ]
    return _of([*MODELS, *known, *paths])(incomplete)
