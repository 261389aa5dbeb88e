"""Count what a training step asks of a device, without one: kernels, bytes, operations, and the peak of memory.

The step runs on fake tensors of the CPU, which have a shape, a type and a layout, but no numbers. Counted are the kernels
that PyTorch starts on a GPU in eager mode, with CUDA's autocast. Memory is that of the tensors, without the workspace of
convolutions and without what the allocator wastes.
"""

import math
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from aesop.system.tensor_memory import TensorMemory

GRAIN = 512  # CUDA's allocator rounds sizes up to a multiple
WITHOUT_KERNEL = {
    "detach", "empty", "empty_like", "empty_strided", "is_same_size", "lift_fresh", "new_empty", "new_empty_strided",
    "_record_function_enter_new", "_record_function_exit", "_reshape_alias", "_unsafe_view", "resize_", "set_",
}  # fmt: skip
FILLS = {"fill_", "full", "full_like", "new_full", "new_zeros", "ones", "ones_like", "zero_", "zeros", "zeros_like"}
TWO_PASSES = {
    "native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update", "native_batch_norm_backward",
    "batch_norm_backward", "native_layer_norm_backward",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator's kernels, the bytes they read and write, and the floating-point operations of products."""

    name: str
    kernels: int
    bytes: int
    flops: int
    dtype: torch.dtype


class StepCounter(TorchDispatchMode):
    """Counts operators and follows the memory of all tensors while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.tensors = TensorMemory(GRAIN)

    @property
    def kernels(self) -> int:
        return sum(operation.kernels for operation in self.operations)

    @property
    def bytes(self) -> int:
        return sum(operation.bytes for operation in self.operations)

    @property
    def flops(self) -> int:
        return sum(operation.flops for operation in self.operations)

    @property
    def memory(self) -> int:
        return self.tensors.bytes

    @property
    def peak(self) -> int:
        return self.tensors.peak

    def restart(self) -> None:
        """Count from here. What is held stays held."""
        self.operations.clear()
        self.tensors.restart()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].dtype.is_floating_point else 1  # fake tensors have no numbers
        result = func(*args, **kwargs)
        if func.namespace == "prim":
            return result
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        for tensor in made:
            self.tensors.hold(tensor)
        name = func._schema.name.partition("::")[2]
        if not func.is_view and name not in WITHOUT_KERNEL:
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.operations.append(
                Operation(
                    name,
                    _kernels(name, args, kwargs),
                    _bytes(func, name, args, kwargs, given, made),
                    flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
                    if func._overloadpacket in flop_registry
                    else 0,
                    max([*given, *made], key=Tensor.numel).dtype if given or made else torch.float32,
                )
            )
        return result


def _size(tensor: Tensor) -> int:
    """Bytes of memory behind a tensor: a broadcast dimension is read once."""
    sides = [side for side, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return math.prod(sides) * tensor.element_size()


def _mask(args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[bool]:
    """Which of the gradients of input, weight, and bias a convolution's backward pass computes."""
    return kwargs.get("output_mask", args[-1])


def _kernels(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    if name == "convolution":
        return 1 + (args[2] is not None)  # the bias is added in a kernel of its own
    if name == "convolution_backward":
        return sum(_mask(args, kwargs))
    if name.startswith(("_foreach", "_fused_adam")):
        lists = [part for part in args if isinstance(part, list | tuple) and part and isinstance(part[0], Tensor)]
        # A kernel takes so many tensors of each of 1, 2, ... lists, and 320 blocks of 65 536 elements.
        most = (110, 64, 48, 36, 30)[min(len(lists), 5) - 1]
        blocks = sum(math.ceil(tensor.numel() / 65_536) for tensor in lists[0])
        return max(math.ceil(len(lists[0]) / most), math.ceil(blocks / 320))
    return 2 if name in TWO_PASSES else 1


def _bytes(
    func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], given: Sequence[Tensor], made: Sequence[Tensor]
) -> int:
    """Bytes read and written."""
    written = sum(map(_size, made))
    if name == "convolution_backward":
        gradient, x, weight = map(_size, args[:3])
        of_input, of_weight, of_bias = _mask(args, kwargs)
        return written + (gradient + weight) * of_input + (gradient + x) * of_weight + gradient * of_bias
    if name in FILLS:
        return written or _size(args[0])
    if not made:
        changed = [part for part, about in zip(args, func._schema.arguments, strict=False) if about.alias_info is not None]
        written = sum(_size(leaf) for leaf in tree_leaves(changed) if isinstance(leaf, Tensor))
    read = sum(map(_size, given[1:] if name == "copy_" else given))
    if name == "convolution" and args[2] is not None:
        read, written = read + _size(made[0]), 2 * written
    if name in TWO_PASSES:
        read += _size(given[0])
    return read + written


@contextmanager
def fake_tensors() -> Generator[None]:
    """Networks that are built inside have fake tensors, and operations on them compute nothing."""

    def apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """As `nn.Module._apply`, which exchanges fake parameters for new ones and fails where they are referred to."""
        for module in self.children():
            module._apply(fn)
        for parameter in self._parameters.values():
            if parameter is not None:
                with torch.no_grad():
                    parameter.data = fn(parameter)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """As CUDA's autocast runs normalisations of layers and softmax; the CPU's leaves them in bfloat16."""

        def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return function(x.float() if torch.is_autocast_enabled("cpu") else x, *args, **kwargs)

        return run

    deepcopy = patch.object(FakeTensorMode, "__deepcopy__", lambda self, memo: self, create=True)
    norm, softmax = (patch.object(F, name, in_float32(getattr(F, name))) for name in ("layer_norm", "softmax"))
    with patch.object(nn.Module, "_apply", apply), norm, softmax, deepcopy, warnings.catch_warnings(), FakeTensorMode():
        warnings.simplefilter("ignore")  # PyTorch's, about copies of fake tensors
        yield


def count_step(build: Callable[[], Callable[[int], object]]) -> StepCounter:
    """Count the second step of what `build` returns, a function of the iteration; both run on fake tensors.

    The first step makes what later ones keep: gradients, the optimizers' moments.
    """
    with fake_tensors(), StepCounter() as counter:
        step = build()
        step(1)
        counter.restart()
        step(2)
    return counter
