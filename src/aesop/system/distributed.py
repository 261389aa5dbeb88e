"""Several processes under torchrun: who am I, averaging gradients, statistics of all. One process needs none of it.

Several processes are to give what one gives with a batch of all their samples.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn
from torch import Tensor, nn

from aesop.system.device import pick_device

# The main process saves while the others wait for it, and one of them may have a much larger image to measure.
PATIENCE = timedelta(hours=3)
Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """This process among `size` ones."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def is_main(self) -> bool:
        return self.rank == 0


@contextmanager
def init_distributed(device_name: str) -> Generator[World]:
    """Join the processes torchrun started (its environment variables tell), or stand alone; leave at the end.

    Once per command: torchrun's processes cannot form a second group.

    Raises:
        ValueError: for a device that is not there, or more processes than devices.
    """
    device = pick_device(device_name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World(device=device)
        return
    if device.type == "mps":
        raise ValueError("device: torchrun cannot share an Apple GPU; use device=cpu, or start without torchrun")
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", 0))
        if local >= torch.cuda.device_count():
            raise ValueError(f"torchrun started more processes than the {torch.cuda.device_count()} CUDA device(s) here")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    on_cuda = device.type == "cuda"
    # PyTorch's optimisers import torch.distributed.nn, whose functions keep the group of that moment as their default. It
    # would outlive the end below, and its threads, still at work when Python exits, now and then abort the process.
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=PATIENCE, device_id=device if on_cuda else None)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    except BaseException:
        first_to_fail()  # before the others see the connection close, and fail for that
        raise
    finally:
        dist.destroy_process_group()


@cache
def first_to_fail() -> bool:
    """Whether this process of torchrun's is the first that ends early: the one that says why. The answer stays.

    The others meet the same fault, or fail because this one is missing.
    """
    if "RANK" not in os.environ:
        return True
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=5)
        )
        return store.add(f"aesop/failed/{attempt}", 1) == 1
    except (KeyError, RuntimeError):  # nobody is there to ask
        return True


def average_gradients(world: World, net: nn.Module, compression: str = "none") -> None:
    """Replace each gradient by its mean over the processes, in one flat exchange.

    Done by hand after backward instead of through DistributedDataParallel: a GAN step runs a network several times with
    parts frozen, which DDP's hooks forbid or make slow; the sum is the same.

    Args:
        compression: `none`, or `bf16`: the gradients travel, and are summed, as bfloat16.
    """
    if world.size == 1:
        return
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads]) / world.size
    if compression == "bf16":
        flat = flat.bfloat16()
    dist.all_reduce(flat)
    parts = flat.split([g.numel() for g in grads])
    torch._foreach_copy_(grads, [part.view_as(g) for part, g in zip(parts, grads, strict=True)])


class _Total(torch.autograd.Function):
    """The sum over the processes. Each one's loss depends on every one's summand: the gradient is a sum as well."""

    @staticmethod
    def forward(ctx: Any, summand: Tensor) -> Tensor:
        total = summand.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Total.apply(grads[0])


def mean_of_all(world: World, values: Tensor) -> Tensor:
    """Mean of the elements in all processes, where `values` has one shape: a scalar whose gradient reaches all of them."""
    mean = values.mean()
    return mean if world.size == 1 else _Total.apply(mean) / world.size


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm in training by the statistics of all processes' inputs (N, C, H, W) of one shape; else PyTorch's own.

    For every device; PyTorch's SyncBatchNorm is for GPUs only.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        processes, dims = dist.get_world_size(), (0, 2, 3)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = _Total.apply(wide.mean(dims, keepdim=True)) / processes
        centred = wide - mean
        variance = _Total.apply(centred.square().mean(dims, keepdim=True)) / processes
        if self.track_running_stats:
            self._track(mean, variance, processes * input.numel() // input.shape[1])
        y = centred * (variance + self.eps).rsqrt()
        if self.affine:
            y = y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return y.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics; the variance there is the unbiased one of all `count` values."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.flatten(), share)
        self.running_var.lerp_(variance.flatten() * (count / (count - 1)), share)


def synchronised(world: World, net: nn.Module) -> nn.Module:
    """The network itself, its BatchNorms now those of all processes: same tensors and names, another forward."""
    if world.size > 1:
        for module in net.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncedBatchNorm2d
    return net


def share_of(world: World, items: Sequence[Item]) -> Sequence[Item]:
    """This process's share: every `world.size`-th, from its rank on."""
    return items[world.rank :: world.size]


def gathered(world: World, results: list[Item]) -> list[Item]:
    """The results of every process's `share_of` some items, in the items' order. They must be picklable."""
    if world.size == 1:
        return results
    shares: list[Any] = [None] * world.size
    dist.all_gather_object(shares, results)
    return [shares[k % world.size][k // world.size] for k in range(sum(map(len, shares)))]


def broadcast_state(world: World, modules: Iterable[nn.Module]) -> None:
    """Give every process the main one's parameters and buffers."""
    if world.size > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)


def average_scalars(world: World, scalars: dict[str, Tensor]) -> dict[str, float]:
    """Logged scalars, averaged over the processes, as floats: the one place where they reach the CPU."""
    if not scalars:
        return {}
    stacked = torch.stack([value.float() for value in scalars.values()])
    if world.size > 1:
        dist.all_reduce(stacked)
        stacked /= world.size
    return dict(zip(scalars, stacked.tolist(), strict=True))


# All processes have to stop at the same step: every so many steps they ask each other.
AGREE_EVERY = 10


def agreed_signal(world: World, number: int, iteration: int) -> int:
    """The signal to stop for after this step, the same in all processes; 0: go on."""
    if world.size == 1:
        return number
    if iteration % AGREE_EVERY:
        return 0
    shared = torch.tensor(number, device=world.device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared.item())


def agreed(world: World, value: Any) -> Any:
    """The main process's value, in all processes. It must be picklable."""
    if world.size == 1:
        return value
    shared = [value]
    dist.broadcast_object_list(shared, 0, device=world.device)
    return shared[0]


def any_of(world: World, flag: bool) -> bool:
    """Whether some process says so; all of them have to ask."""
    if world.size == 1:
        return flag
    shared = torch.tensor(int(flag), device=world.device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared.item())


def barrier(world: World) -> None:
    if world.size > 1:
        dist.barrier()
