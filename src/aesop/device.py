"""The one place that knows which devices exist and in what precision the networks run."""

from contextlib import AbstractContextManager, nullcontext

import torch


def pick_device(name: str = "auto") -> torch.device:
    """`auto` -> CUDA, else Apple's MPS, else CPU; or the named device (`cpu`, `cuda`, `cuda:1`, `mps`).

    Raises:
        ValueError: when the named device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False):
        there = ", ".join(kind for kind, ok in present.items() if ok)
        raise ValueError(f"device {name!r} is not available to this PyTorch; available: {there} (or use auto)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} does not exist: {torch.cuda.device_count()} CUDA device(s) are visible")
    return device


def autocast(device: torch.device, precision: str = "fp32") -> AbstractContextManager:
    """The context the networks run in: nothing for fp32, bfloat16 autocast for bf16. Losses stay in fp32."""
    if precision == "fp32":
        return nullcontext()
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    raise ValueError(f"precision must be fp32 or bf16, found {precision!r}")
