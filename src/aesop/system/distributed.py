"""Training in several processes under torchrun: process group, gradient exchange, synchronised BatchNorm, collectives.

N processes compute what one process computes with a batch of all their samples. With one process every function here
returns its input.
"""

import os
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn  # not later: it keeps the group of its import, whose threads may abort the process at exit
from torch import Tensor, nn

from aesop.system.device import pick_device

# Processes wait while rank 0 saves, or while another one measures a much larger image.
TIMEOUT = timedelta(hours=3)
Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """This process and its device, among `size` processes."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def is_main(self) -> bool:
        return self.rank == 0


@contextmanager
def init_distributed(device_name: str) -> Generator[World]:
    """Join the process group if torchrun started this process, and destroy the group at the end.

    Enter it once per command: the processes of one torchrun cannot form a second group.
    """
    device = pick_device(device_name)
    started_by_torchrun, on_cuda = "RANK" in os.environ and "WORLD_SIZE" in os.environ, device.type == "cuda"
    if started_by_torchrun and device.type == "mps":
        raise ValueError("device: torchrun cannot share an Apple GPU; use device=cpu, or start without torchrun")
    if started_by_torchrun and on_cuda:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if device.index >= torch.cuda.device_count():
            raise ValueError(f"torchrun started more processes than the {torch.cuda.device_count()} CUDA device(s) here")
    if on_cuda and device.index is not None:
        torch.cuda.set_device(device)
    if not started_by_torchrun:
        yield World(device=device)
        return
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=TIMEOUT, device_id=device if on_cuda else None)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    except BaseException:
        first_to_fail()  # before the other processes fail because the connection closes
        raise
    finally:
        dist.destroy_process_group()


@cache
def first_to_fail() -> bool:
    """Whether this is the first of torchrun's processes to fail. It reports why; the others fail alike or because of it."""
    if "RANK" not in os.environ:
        return True
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"aesop/failed/{attempt}", 1) == 1
    except (KeyError, RuntimeError):  # no store to ask
        return True


# Bytes of gradients that travel together: enough to outweigh the latency, and ready while backward passes still run.
BUCKET = 25 * 2**20


class GradientExchange:
    """Replaces a network's gradients by their means over the processes while the step's last backward pass still runs.

    Call `start` before that pass and `finish` before the optimizer's step. In between, the gradients that have become final
    travel in flat buckets, the last layers' first, as bfloat16 if `compression` is `bf16`.

    The parameters that require a gradient at `start` take part. All processes thus fill the same buckets, and they send them
    in the same order, whatever the order of the gradients. A parameter without a gradient travels as zeros and keeps
    `grad is None` (zeros would be a step of Adam), so the graph must reach the same parameters in all processes.

    With one process there are no hooks and no buckets. DistributedDataParallel does not fit: a GAN step runs a network
    several times with some parts frozen, which DDP's hooks forbid or slow down. NCCL has not been run.
    """

    def __init__(self, world: World, net: nn.Module, compression: str = "none"):
        self.world, self.net, self.compression = world, net, compression
        self.started = False
        self.missing: dict[nn.Parameter, set[nn.Parameter]] = {}  # parameter -> those of its bucket without final gradient
        self.unsent: deque[list[nn.Parameter]] = deque()
        self.sent: list[tuple[list[nn.Parameter], Tensor, Any]] = []
        if world.size > 1:
            for parameter in net.parameters():
                if parameter.requires_grad:  # PyTorch refuses the others; `finish` sends what no hook reports
                    parameter.register_post_accumulate_grad_hook(self._accumulated)

    def start(self) -> None:
        """Send each gradient once the next backward pass has computed it. It must be the step's last for this network."""
        if self.world.size == 1:
            return
        self.started, self.missing, self.unsent, self.sent = True, {}, deque(), []
        missing, filled = set[nn.Parameter](), BUCKET
        for parameter in reversed([p for p in self.net.parameters() if p.requires_grad]):
            if filled >= BUCKET:
                self.unsent.append([])
                missing, filled = set[nn.Parameter](), 0
            self.unsent[-1].append(parameter)
            missing.add(parameter)
            self.missing[parameter] = missing
            filled += parameter.nbytes

    def finish(self, flag: Tensor) -> Tensor:
        """Send the rest, wait, and fill in the means; returns the sum of the scalar `flag` over the processes.

        A NaN of one process thus reaches all of them. On CUDA the stream waits, not the host.
        """
        if self.world.size == 1:
            return flag
        assert self.started, "start() must precede the last backward pass"
        self.started = False
        while self.unsent:
            self._send()
        total = flag.clone()
        flag_sent = dist.all_reduce(total, async_op=True)
        gradients, means = [], []
        for bucket, flat, work in self.sent:
            work.wait()
            for parameter, mean in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                if parameter.grad is not None:
                    gradients.append(parameter.grad)
                    means.append(mean.view_as(parameter))
        torch._foreach_copy_(gradients, means)
        self.sent = []
        flag_sent.wait()
        return total

    def _accumulated(self, parameter: nn.Parameter) -> None:
        if self.started:
            assert parameter in self.missing[parameter], "only one backward pass may follow start()"
            self.missing[parameter].remove(parameter)
            while self.unsent and not self.missing[self.unsent[0][0]]:
                self._send()

    def _send(self) -> None:
        bucket = self.unsent.popleft()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([g.reshape(-1) for g in gradients]).div_(self.world.size)
        if self.compression == "bf16":
            flat = flat.bfloat16()
        self.sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))


class _Total(torch.autograd.Function):
    """Differentiable all-reduce (sum). Every process's loss depends on every summand, so the gradient is summed as well."""

    @staticmethod
    def forward(ctx: Any, summand: Tensor) -> Tensor:
        total = summand.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Total.apply(grads[0])


def mean_of_all(world: World, values: Tensor) -> Tensor:
    """Mean over the elements of all processes (equal shapes): a scalar. Gradients reach every process."""
    mean = values.mean()
    return mean if world.size == 1 else _Total.apply(mean) / world.size


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Affine BatchNorm over the inputs (equal shapes) of all processes, where PyTorch's SyncBatchNorm refuses to run."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        processes, dims = dist.get_world_size(), (0, 2, 3)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = _Total.apply(wide.mean(dims, keepdim=True)) / processes
        centred = wide - mean
        variance = _Total.apply(centred.square().mean(dims, keepdim=True)) / processes
        count = processes * input.numel() // input.shape[1]
        assert self.momentum is not None
        with torch.no_grad():  # like PyTorch's, the running variance is the unbiased one
            self.get_buffer("num_batches_tracked").add_(1)
            self.get_buffer("running_mean").lerp_(mean.flatten(), self.momentum)
            self.get_buffer("running_var").lerp_(variance.flatten() * (count / (count - 1)), self.momentum)
        y = centred * (variance + self.eps).rsqrt()
        return (y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(input.dtype)


def synchronised(world: World, net: nn.Module) -> nn.Module:
    """Let the BatchNorms of a network normalise over all processes, in place, if there are several; returns the network.

    On CUDA they become PyTorch's SyncBatchNorm: far fewer kernels, but the host waits in its forward pass. No GPU has run it
    yet; that its running variance is unbiased, like that of SyncedBatchNorm2d, was read in its source. Elsewhere they become
    SyncedBatchNorm2d. Names and tensors remain.
    """
    if world.size > 1:
        for module in net.modules():
            if type(module) is nn.BatchNorm2d:
                if world.device.type == "cuda":
                    module.__class__ = nn.SyncBatchNorm
                    vars(module)["process_group"] = None  # all processes
                else:
                    module.__class__ = SyncedBatchNorm2d
    return net


@contextmanager
def unsynchronised(nets: Iterable[nn.Module]) -> Generator[None]:
    """Let the BatchNorms of networks normalise over the inputs of this process alone, without waiting for others."""
    modules = [m for net in nets for m in net.modules() if isinstance(m, nn.SyncBatchNorm | SyncedBatchNorm2d)]
    kinds = [type(module) for module in modules]
    for module in modules:
        module.__class__ = nn.BatchNorm2d
    try:
        yield
    finally:
        for module, kind in zip(modules, kinds, strict=True):
            module.__class__ = kind


def gathered(world: World, results: list[Item]) -> list[Item]:
    """All processes' results for their `items[world.rank :: world.size]`, in the order of the items."""
    if world.size == 1:
        return results
    shares: list[Any] = [None] * world.size
    dist.all_gather_object(shares, results)
    return [shares[k % world.size][k // world.size] for k in range(sum(map(len, shares)))]


def broadcast_state(world: World, modules: Iterable[nn.Module]) -> None:
    """Copy rank 0's parameters and buffers to every process."""
    if world.size > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)


def average_scalars(world: World, scalars: dict[str, Tensor]) -> dict[str, float]:
    """Logged scalars as floats, averaged over the processes. Scalars move to the CPU only here."""
    stacked = torch.stack([value.float() for value in scalars.values()])
    if world.size > 1:
        dist.all_reduce(stacked)
        stacked /= world.size
    return dict(zip(scalars, stacked.tolist(), strict=True))


# Processes must stop at the same step. They exchange their signals once in this many steps.
AGREE_EVERY = 10


def agreed_signal(world: World, number: int, iteration: int) -> int:
    """The signal to stop for after this step, the same in all processes; 0 means continue."""
    return largest(world, number) if world.size == 1 or iteration % AGREE_EVERY == 0 else 0


def agreed(world: World, value: Any) -> Any:
    """Rank 0's value, in all processes. It must be picklable."""
    shared = [value]
    if world.size > 1:
        dist.broadcast_object_list(shared, 0, device=world.device)
    return shared[0]


def largest(world: World, number: int) -> int:
    """The largest number of all processes. Every process must call this."""
    if world.size == 1:
        return number
    shared = torch.tensor(number, device=world.device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared.item())


def barrier(world: World) -> None:
    if world.size > 1:
        dist.barrier()
