"""ONNX, which OpenVINO, ONNX Runtime, chaiNNer, VapourSynth and others read."""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aesop.conversion.compare import Compute
from aesop.conversion.exported import example, exportable, quiet

OPSET, IR_VERSION = 18, 8  # ONNX Runtime 1.14 (2023) and what is newer can read them


def to_onnx(net: nn.Module, channels: int, half: bool = False) -> bytes:
    """Convert a network on the CPU for images (1, channels, H, W) of any size; return an ONNX file's content.

    `half`: all in float16 but images, which come and go in float32.

    Needs the package onnxscript. Raises whatever PyTorch's exporter raises for a network that it cannot follow, or that is
    too large for an ONNX file (2 GB).
    """
    sides = dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC)
    with quiet():
        program = torch.onnx.export(
            exportable(net, half),
            (example(channels),),
            input_names=["input"],
            output_names=["output"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(sides,),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_sides(model.graph)
    return model.SerializeToString()


def _name_sides(graph: Any) -> None:
    """Call the sides of an image height and width; the exporter has symbols such as s53, of which others are made."""
    sides = graph.input[0].type.tensor_type.shape.dim[2:]
    names = dict(zip((side.dim_param for side in sides), ("height", "width"), strict=True))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), side.dim_param)


def compiled(onnxruntime: Any, network: bytes, precision: str) -> Compute:
    """What computes an ONNX file's content on the CPU, with PyTorch's number of threads. The precision is the file's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def write(net: nn.Module, channels: int, file: Path, metadata: Mapping[str, str], half: bool) -> None:
    """Write a network and what is known of it; `half`: all in float16 but images, which come and go in float32."""
    onnx = import_module("onnx")
    network = onnx.load_from_string(to_onnx(net, channels, half))
    onnx.helper.set_model_props(network, metadata)
    network.ir_version = IR_VERSION
    onnx.save(network, file)


def load(file: Path) -> Compute:
    """What computes the network in a file, in ONNX Runtime."""
    return compiled(import_module("onnxruntime"), file.read_bytes(), "")
