"""`aesop upscale --runtime openvino`: a network converted for the CPU, with the lines that say what became of it."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

RUNTIMES = ("pytorch", "openvino")
SMALLEST_SIDE = 32  # below it exporting may have taken a shortcut, and little is to be gained
TOLERANCE = 1 / 255


class Converted(nn.Module):
    """A network in OpenVINO's form, beside the one it was made from, which still does images below 32 pixels.

    (1, 3, H, W) float32 on the CPU -> (1, 3, scale*H, scale*W), as the original's within 1/255.
    """

    def __init__(self, original: nn.Module, compiled: Callable[[np.ndarray], Any]):
        super().__init__()
        self.original, self.compiled = original, compiled
        self.size_multiple = getattr(original, "size_multiple", 1)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < SMALLEST_SIDE:
            return self.original(x)
        return torch.from_numpy(self.compiled(x.contiguous().numpy())[0])


def with_runtime(model: nn.Module, name: str, device: torch.device, precision: str) -> tuple[nn.Module, str | None]:
    """The network as `name` runs it, and a line for the user; the network itself where the runtime cannot take it.

    Raises:
        ValueError: for a runtime that is unknown or not installed.
    """
    if name not in RUNTIMES:
        raise ValueError(f"unknown runtime {name!r}: use {' or '.join(RUNTIMES)}")
    if name == "pytorch":
        return model, None
    if device.type != "cpu" or precision != "fp32":
        return model, f"note: {name} is used on the CPU in fp32 only; PyTorch does the work on {device} in {precision}"
    try:
        import_module("onnxscript")  # the exporter's
        openvino = import_module("openvino")
    except ImportError as error:
        raise ValueError(f'--runtime {name} needs a package: pip install "aesop-sr[cpu]" ({error})') from error
    begun = time.perf_counter()
    try:
        converted = Converted(model, _compile(model, openvino))
        difference = _difference(model, converted)
    except Exception as error:  # noqa: BLE001 - exporters and converters raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        return model, f"note: {name} cannot take this network ({type(error).__name__}: {reason}); PyTorch does the work"
    if not difference <= TOLERANCE:
        return model, f"note: {name} makes another image of this network ({difference:.2g} apart); PyTorch does the work"
    return converted, f"converted for {name} in {time.perf_counter() - begun:.0f} s"


def _compile(model: nn.Module, openvino: Any) -> Callable[[np.ndarray], Any]:
    """The network for images of any size; raises whatever the exporter does for one that holds for one size only.

    By way of an ONNX file: OpenVINO's own conversion of PyTorch modules takes longer, and goes through its telemetry.
    """
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = (torch.zeros(1, 3, 64, 96),)
    # Without the hint processors that have bfloat16 compute in it.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(model, example, file, dynamo=True, dynamic_shapes=(sides,), verbose=False)
        return openvino.Core().compile_model(file, "CPU", options)


@torch.inference_mode()
def _difference(model: nn.Module, converted: nn.Module) -> float:
    """The largest between the two networks' images of noise, at a size other than the exported one's."""
    x = torch.rand(1, 3, 48, 56, generator=torch.Generator().manual_seed(0))
    return (model(x).clamp(0, 1) - converted(x).clamp(0, 1)).abs().max().item()
