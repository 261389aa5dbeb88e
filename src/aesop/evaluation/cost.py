"""What a generator costs beside its quality: parameters, operations, time and memory, all methods in one run."""

import datetime
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from aesop.evaluation.image_views import Image
from aesop.evaluation.results import Cost, CostRun
from aesop.inference.tiling import upscale_image
from aesop.system.device import device_name, synchronise
from aesop.system.tensor_memory import TensorMemory


def measure_costs(
    nets: Mapping[str, nn.Module],
    images: Sequence[Image],
    scale: int,
    device: torch.device,
    precision: str = "fp32",
    tile: int = 0,
    rounds: int = 3,
) -> dict[str, Cost]:
    """The cost of each generator, by name, for LR images (h, w, 3) of uint8. The nets are on `device` and in eval mode.

    Each round enlarges every image with every net in turn, so that a busy machine slows all of them alike; the time of a net
    is the median over the rounds. Operations and memory are counted on the largest image before that, with its tiles.
    """
    largest = max(images, key=lambda image: image.shape[0] * image.shape[1])
    run = CostRun(
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        lr=f"{largest.shape[1]}x{largest.shape[0]}",
        device=device_name(device),
        threads=torch.get_num_threads(),
    )

    def enlarge(net: nn.Module, image: Image) -> Image:
        return upscale_image(net, image, scale, tile=tile, device=device, precision=precision)

    counted = {name: _count(net, largest, enlarge, device) for name, net in nets.items()}
    times: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(rounds):
        spent = dict.fromkeys(nets, 0.0)
        for image in images:
            for name, net in nets.items():
                synchronise(device)
                begun = time.perf_counter()
                enlarge(net, image)
                synchronise(device)
                spent[name] += time.perf_counter() - begun
        for name, seconds in spent.items():
            times[name].append(seconds)

    def megapixels(*several: Image) -> float:
        return sum(image.shape[0] * image.shape[1] for image in several) * scale**2 / 1e6

    return {
        name: Cost(
            run=run,
            parameters=sum(parameter.numel() for parameter in net.parameters()),
            gflops=counted[name][0] / 1e9 / megapixels(largest),
            seconds=statistics.median(times[name]) / megapixels(*images),
            peak_mib=counted[name][1] / 2**20,
        )
        for name, net in nets.items()
    }


def _count(
    net: nn.Module, image: Image, enlarge: Callable[[nn.Module, Image], Image], device: torch.device
) -> tuple[int, int]:
    """(operations, peak bytes of memory beyond the weights) of one image.

    On CUDA the allocator's peak, with the workspaces of kernels; elsewhere that of the living tensors.
    """
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    with OperationCounter(net) as counter:
        enlarge(net, image)
    return counter.flops, torch.cuda.max_memory_allocated(device) - held if is_cuda else counter.peak


class OperationCounter(TorchDispatchMode):
    """Counts the floating-point operations of products and convolutions, and the memory of tensors beside those of `net`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.flops = 0
        self._tensors = TensorMemory()
        for tensor in chain(net.parameters(), net.buffers()):  # a view of a weight is no memory of its own
            self._tensors.hold(tensor)
        self._weights = self._tensors.bytes

    @property
    def peak(self) -> int:
        """In bytes."""
        return self._tensors.peak - self._weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None and func.namespace == "aten":
            with self:  # in inference mode, operators like linear arrive whole
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if count is not None:
            self.flops += count(*args, **kwargs, out_val=result)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._tensors.hold(leaf)
        return result
