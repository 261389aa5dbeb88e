"""ONNX, which OpenVINO and ONNX Runtime read."""

import torch
from torch import nn


def to_onnx(net: nn.Module, channels: int) -> bytes:
    """Convert a network on the CPU, in float32, for images (1, channels, H, W) of any size; return an ONNX file's content.

    Needs the package onnxscript. Raises whatever PyTorch's exporter raises for a network that it cannot follow, or that is
    too large for an ONNX file (2 GB).
    """
    example, sides = (torch.zeros(1, channels, 64, 96),), dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC)
    program = torch.onnx.export(net, example, dynamo=True, dynamic_shapes=(sides,), verbose=False)
    assert program is not None
    return program.model_proto.SerializeToString()
