"""The formats that networks can be exported to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from torch import nn

from aesop.conversion import ncnn_format, onnx_format, openvino_format, torchscript_format
from aesop.conversion.compare import Compute


@dataclass(frozen=True, slots=True)
class Target:
    extensions: tuple[str, ...]
    """Of the files that belong together; the first is the one that programs are given."""
    packages: tuple[str, ...]
    """What must be installed to write and run it."""
    write: Callable[[nn.Module, int, Path, Mapping[str, str], bool], None]
    """(network, channels, file, metadata, whether in half precision); raises anything."""
    load: Callable[[Path], Compute]
    """Read a file that `write` made into the target's own runtime."""
    mark: str = ""
    """Added to the default name, where files of two formats would have the same name."""

    def check_packages(self, name: str) -> None:
        """Raise ValueError if a package is missing."""
        for package in self.packages:
            try:
                import_module(package)
            except ImportError as error:
                raise ValueError(f'--to {name} needs packages: pip install "aesop-sr[export]" ({error})') from error

    def files(self, file: Path) -> list[Path]:
        """All files of which `file` is the first."""
        return [file.with_suffix(extension) for extension in self.extensions]


TARGETS = {
    "onnx": Target((".onnx",), ("onnx", "onnxscript", "onnxruntime"), onnx_format.write, onnx_format.load),
    "openvino": Target(
        (".xml", ".bin"), ("onnx", "onnxscript", "openvino"), openvino_format.write, openvino_format.load, "_openvino"
    ),
    "torchscript": Target((".pt",), (), torchscript_format.write, torchscript_format.load),
    "ncnn": Target((".param", ".bin"), ("pnnx", "ncnn"), ncnn_format.write, ncnn_format.load),
}
