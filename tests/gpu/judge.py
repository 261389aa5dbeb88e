"""Finds what makes a GPU's host wait, on the meta device: its tensors have no numbers, so nothing can be read from them."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

META = torch.device("meta")
SENT = "copy to the device"
BLOCKING, READ, MIXED, MASK, STATE = (
    "blocking copy to the device", "read from the device", "mixed devices", "index by a mask", "state of a generator read",
)  # fmt: skip
OF_UNKNOWN_SIZE = {"nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive"}


class Judge(TorchDispatchMode):
    """Notes what passes between the CPU and a device: (what it means, the operator). The meta device stands for a GPU."""

    def __init__(self, device: torch.device = META) -> None:
        super().__init__()
        self.device = device
        self.seen: list[tuple[str, str]] = []

    def take(self) -> list[str]:
        """What was seen since the last call."""
        seen, self.seen = self.seen, []
        return [meaning for meaning, _ in seen]

    def faults(self) -> list[tuple[str, str]]:
        """All that makes the host wait, or fails on a GPU."""
        return [entry for entry in self.seen if entry[0] != SENT]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if meaning := self._meaning(name, args, kwargs):
            self.seen.append((meaning, name))
        if name == "_local_scalar_dense" and args[0].device == self.device:
            return 1.0 if args[0].is_floating_point() else 1
        return func(*args, **kwargs)

    def _meaning(self, name: str, args: Any, kwargs: dict[str, Any]) -> str | None:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name in ("_to_copy", "copy_"):
            target = torch.device(kwargs.get("device") or args[0].device).type
            source = args[1 if name == "copy_" else 0].device.type
            if (source, target) == ("cpu", self.device.type):
                asynchronous = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
                return SENT if asynchronous else BLOCKING
            return READ if (source, target) == (self.device.type, "cpu") else None
        # A scalar on the CPU travels with the kernel.
        kinds = {tensor.device.type for tensor in tensors if tensor.dim() or tensor.device == self.device}
        if len(kinds) > 1:
            return MIXED
        if self.device.type not in kinds:
            return None
        if name == "_local_scalar_dense" or name in OF_UNKNOWN_SIZE:
            return READ
        indices = tree_leaves(args[1]) if name.startswith("index") and len(args) > 1 else []
        return MASK if any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in indices) else None


class Autocast:
    """Autocast for the meta device, which has none: convolutions and matrix products in bfloat16."""

    def __init__(self) -> None:
        self.enabled = False

    @contextmanager
    def set(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> Generator[None]:
        """Stands for `torch.autocast`."""
        former, self.enabled = self.enabled, enabled if device_type == "meta" else self.enabled
        try:
            yield
        finally:
            self.enabled = former

    def casting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def cast(*args: Any, **kwargs: Any) -> Any:
            if self.enabled:
                args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.bfloat16(), (args, kwargs))
            return function(*args, **kwargs)

        return cast


@contextmanager
def as_device(judge: Judge) -> Generator[None]:
    """Let the meta device stand for a GPU: it has fused optimizers and autocast, and its generator's state is watched."""
    autocast, read_state = Autocast(), torch.get_rng_state

    def state() -> torch.Tensor:
        judge.seen.append((STATE, "get_rng_state"))
        return read_state()

    with ExitStack() as patches:
        for name, stand_in in {
            "torch.autocast": autocast.set,
            "torch.amp.autocast": autocast.set,
            "torch.amp.is_autocast_available": lambda device_type: True,
            "torch.is_autocast_enabled": lambda device_type: device_type == "meta" and autocast.enabled,
            "torch.get_autocast_dtype": lambda device_type: torch.bfloat16,
            "aesop.archs.mixed_precision.is_autocast_available": lambda device_type: True,
            "torch.get_rng_state": state,
            "torch.Tensor.__matmul__": autocast.casting(torch.Tensor.__matmul__),
            "torch.conv2d": autocast.casting(torch.conv2d),
            "torch.nn.functional.conv2d": autocast.casting(F.conv2d),
            "torch.nn.functional.linear": autocast.casting(F.linear),
        }.items():
            patches.enter_context(patch(name, stand_in))
        for optimizers in ("optimizer", "adam"):  # where it is depends on PyTorch's version
            module = import_module(f"torch.optim.{optimizers}")
            if hasattr(module, name := "_get_fused_kernels_supported_devices"):
                patches.enter_context(patch.object(module, name, lambda: ["meta", "cpu"]))
        yield
