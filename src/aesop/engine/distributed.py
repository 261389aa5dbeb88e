"""Several processes under torchrun: who am I, and averaging gradients. One process needs none of it."""

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aesop.device import pick_device

# The main process validates and saves while the others wait for it.
PATIENCE = timedelta(hours=3)


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
def joined(device_name: str) -> Generator[World]:
    """Join the processes torchrun started (its environment variables tell), or stand alone; leave at the end.

    Once per command: torchrun's processes cannot form a second group.

    Raises:
        ValueError: for a device that is not there, or more processes than devices.
    """
    device = pick_device(device_name)
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
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def average_gradients(world: World, net: nn.Module) -> None:
    """Replace each gradient by its mean over the processes, in one flat exchange.

    Done by hand after backward instead of through DistributedDataParallel: a GAN step runs a network several times with
    parts frozen, which DDP's hooks forbid or make slow; the sum is the same.
    """
    if world.size == 1:
        return
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    parts = (flat / world.size).split([g.numel() for g in grads])
    torch._foreach_copy_(grads, [part.view_as(g) for part, g in zip(parts, grads, strict=True)])


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


def barrier(world: World) -> None:
    if world.size > 1:
        dist.barrier()
