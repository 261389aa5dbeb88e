"""OpenVINO's format: the graph in an .xml file, the weights in a .bin file of the same name."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aesop.conversion.compare import Compute
from aesop.conversion.onnx_format import to_onnx


def compiled(openvino: Any, network: bytes, precision: str, weights: bytes = b"") -> Compute:
    """What computes the content of an ONNX file, or of an .xml and a .bin file, with PyTorch's number of threads.

    `precision` is fp32 or bf16.
    """
    # Without the hint, processors with bfloat16 instructions use bfloat16.
    hint = {"fp32": "f32"}.get(precision, precision)
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = openvino.Core()
    runs = core.compile_model(core.read_model(network, weights), "CPU", options)
    return lambda x: runs(x)[0]


def write(net: nn.Module, channels: int, file: Path, metadata: Mapping[str, str], half: bool) -> None:
    """Write a network and what is known of it (rt_info/aesop in the .xml file); `half`: with weights in float16."""
    openvino = import_module("openvino")
    model = openvino.Core().read_model(to_onnx(net, channels), b"")
    for name, value in metadata.items():
        model.set_rt_info(value, ["aesop", name])
    openvino.save_model(model, file, compress_to_fp16=half)


def load(file: Path) -> Compute:
    """What computes the network in a file and its .bin file, in OpenVINO on the CPU, in float32."""
    return compiled(import_module("openvino"), file.read_bytes(), "fp32", file.with_suffix(".bin").read_bytes())
