"""`aesop upscale --runtime openvino`: networks converted by OpenVINO, which is faster than PyTorch on a CPU."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SMALLEST_SIDE = 32  # the exported network may be wrong for smaller images, which are fast anyway
TOLERANCE = 1 / 255


class Converted(nn.Module):
    """A converted network: (1, C, H, W) float32 on the CPU -> (1, C, scale*H, scale*W), within 1/255 of the original's."""

    def __init__(self, original: nn.Module, compiled: Callable[[np.ndarray], Any]):
        super().__init__()
        self.original, self.compiled = original, compiled
        self.size_multiple = getattr(original, "size_multiple", 1)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < SMALLEST_SIDE:
            return self.original(x)
        return torch.from_numpy(self.compiled(x.contiguous().numpy())[0])


def with_runtime(
    model: nn.Module, name: str, device: torch.device, precision: str, channels: int = 3
) -> tuple[nn.Module, str | None]:
    """Convert a network for a runtime. Falls back to PyTorch if that fails; the line to print says why."""
    if name == "pytorch":
        return model, None
    if name != "openvino":
        raise ValueError(f"unknown runtime {name!r}: use pytorch or openvino")
    if device.type != "cpu" or precision != "fp32":
        return model, f"note: {name} runs on the CPU in fp32 only; using PyTorch on {device} in {precision}"
    try:
        import_module("onnxscript")  # the ONNX exporter needs it
        openvino = import_module("openvino")
    except ImportError as error:
        raise ValueError(f'--runtime {name} needs a package: pip install "aesop-sr[cpu]" ({error})') from error
    begun = time.perf_counter()
    try:
        converted = Converted(model, _compile(model, openvino, channels))
        another_size = (1, channels, 48, 56)
        noise = torch.rand(another_size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            difference = (model(noise).clamp(0, 1) - converted(noise).clamp(0, 1)).abs().max().item()
    except Exception as error:  # noqa: BLE001 - exporters and converters raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        return model, f"note: {name} cannot convert this network ({type(error).__name__}: {reason}); using PyTorch"
    if not difference <= TOLERANCE:
        return model, f"note: {name} computes different images with this network (by up to {difference:.2g}); using PyTorch"
    return converted, f"converted for {name} in {time.perf_counter() - begun:.0f} s"


def _compile(model: nn.Module, openvino: Any, channels: int) -> Callable[[np.ndarray], Any]:
    """Convert for images of any size, through ONNX: OpenVINO's own conversion of modules is slower, and uses telemetry."""
    sides, example = dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC), (torch.zeros(1, channels, 64, 96),)
    # Without the hint, processors with bfloat16 instructions use bfloat16.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(model, example, file, dynamo=True, dynamic_shapes=(sides,), verbose=False)
        return openvino.Core().compile_model(file, "CPU", options)
