"""Moving many small tensors to the device in one copy."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor


class Transfer:
    """Groups of CPU tensors on their way to a device, as float32, which keeps flags and integers up to 2^24.

    On CUDA the copy starts in pinned memory and has its own stream, so that neither the CPU nor the copy waits for the work
    before it. Streams and pinned memory have not been run on a GPU yet; tests count the copies on the meta device.
    """

    def __init__(self, groups: Sequence[Mapping[str, Tensor]], device: torch.device):
        self.groups = groups
        flat = torch.cat([tensor.flatten().float() for group in groups for tensor in group.values()])
        self.stream = _copy_stream(device) if device.type == "cuda" else None
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            pinned = flat.pin_memory() if self.stream else flat
            self.flat = pinned.to(device, non_blocking=device.type != "mps")
            self.copied = self.stream.record_event() if self.stream else None

    def receive(self) -> list[dict[str, Tensor]]:
        """Return the groups on the device. The current stream, not the CPU, waits for the copy."""
        if self.copied is not None:
            current = torch.cuda.current_stream(self.flat.device)
            current.wait_event(self.copied)
            self.flat.record_stream(current)
        parts = iter(self.flat.split([tensor.numel() for group in self.groups for tensor in group.values()]))
        return [{name: next(parts).view(tensor.shape) for name, tensor in group.items()} for group in self.groups]


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
