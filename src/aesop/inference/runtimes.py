"""`aesop upscale --runtime`: networks converted for OpenVINO or ONNX Runtime, which are faster than PyTorch on many CPUs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import aesop
from aesop.conversion import onnx_format, openvino_format
from aesop.conversion.compare import Compute, images
from aesop.conversion.onnx_format import to_onnx
from aesop.images.photograph import photograph_for
from aesop.inference import runtime_cache
from aesop.system.device import processor

SMALLEST_SIDE = 32  # the exported network may be wrong for smaller images, which are fast anyway
TOLERANCE = 1 / 255  # of the largest difference, in float32
LEAST_PSNR = 50.0  # dB between an image in lower precision and float32's


class OtherImages(Exception):
    """A converted network's images are not the original's."""


class Converted(nn.Module):
    """A converted network: (1, C, H, W) float32 on the CPU -> (1, C, scale*H, scale*W); PyTorch's network is `original`."""

    def __init__(self, original: nn.Module, compute: Compute):
        super().__init__()
        self.original, self.compute = original, compute
        self.size_multiple = getattr(original, "size_multiple", 1)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < SMALLEST_SIDE:
            return self.original(x)
        return torch.from_numpy(self.compute(x.contiguous().numpy()))


@dataclass(frozen=True, slots=True)
class Runtime:
    precisions: tuple[str, ...]
    compile: Callable[[Any, bytes, str], Compute]
    """(the imported package, an ONNX file's content, a precision) -> what computes, with PyTorch's number of threads."""


# The keys are the packages' names. On CPUs, ONNX Runtime has no convolutions in bfloat16.
RUNTIMES = {
    "openvino": Runtime(("fp32", "bf16"), openvino_format.compiled),
    "onnxruntime": Runtime(("fp32",), onnx_format.compiled),
}


def with_runtime(
    model: nn.Module, name: str, device: torch.device, precision: str, channels: int = 3, weights: str | None = None
) -> tuple[nn.Module, str | None]:
    """Convert a network for a runtime. Falls back to PyTorch if that fails; the line to print says why.

    A network whose weights have a name, such as a hash, is converted once and kept in the user's cache folder. A converted
    network is used only if its image of a photograph is PyTorch's: within 1/255 in float32, with a PSNR of at least 50 dB in
    bfloat16.
    """
    if name == "pytorch":
        return model, None
    if name not in RUNTIMES:
        raise ValueError(f"unknown runtime {name!r}: use pytorch, {' or '.join(RUNTIMES)}")
    runtime = RUNTIMES[name]
    if device.type != "cpu" or precision not in runtime.precisions:
        precisions = " or ".join(runtime.precisions)
        return model, f"note: {name} runs on the CPU in {precisions}; using PyTorch on {device} in {precision}"
    try:
        import_module("onnxscript")  # the ONNX exporter needs it
        package = import_module(name)
    except ImportError as error:
        raise ValueError(f'--runtime {name} needs a package: pip install "aesop-sr[cpu]" ({error})') from error
    line = None
    try:
        key = _key(weights, name, package, precision) if weights else None
        network = runtime_cache.read(key) if key else None
        if network is None:
            network, line = _converted(model, name, channels, key)
        made = Converted(model, runtime.compile(package, network, precision))
        _check(made, precision, channels)
    except OtherImages as error:
        return model, f"note: {name} computes different images with this network ({error}); using PyTorch"
    except Exception as error:  # noqa: BLE001 - exporters and runtimes raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        return model, f"note: {name} cannot convert this network ({type(error).__name__}: {reason}); using PyTorch"
    return made, line


def _key(weights: str, name: str, package: Any, precision: str) -> str:
    return runtime_cache.key_of(
        weights=weights,
        precision=precision,
        runtime=f"{name} {package.__version__}",
        exporter=f"aesop {aesop.__version__}, torch {torch.__version__}",
        processor=f"{processor()}, {torch.backends.cpu.get_cpu_capability()}",
    )


def _converted(model: nn.Module, name: str, channels: int, key: str | None) -> tuple[bytes, str]:
    """Return an ONNX file's content, which is kept under `key`, and a line that says how long it took."""
    begun = time.perf_counter()
    network = to_onnx(model, channels)
    line = f"converted for {name} in {time.perf_counter() - begun:.0f} s"
    if key:
        try:
            runtime_cache.write(key, network)
        except (OSError, RuntimeError) as error:
            line += f"; the next run converts it again, because it cannot be kept: {error}"
    return network, line


def _check(converted: Converted, precision: str, channels: int) -> None:
    """Raise OtherImages if the image of a photograph, of another size than the export's example, is not PyTorch's."""
    theirs, ours = images(converted.compute, converted.original, photograph_for(channels, 40, 48))
    difference = (theirs - ours).abs().max().item()
    psnr = -10 * (theirs - ours).double().square().mean().log10().item()
    if precision == "fp32" and not difference <= TOLERANCE:
        raise OtherImages(f"by up to {difference:.2g}")
    if precision != "fp32" and not psnr >= LEAST_PSNR:
        raise OtherImages(f"{psnr:.0f} dB from float32's in {precision}, less than {LEAST_PSNR:.0f}")
