"""Faster ways to compute the same step: channels_last memory, compiled networks, CUDA graphs.

`cuda_graphs` is PyTorch's `torch.compile(mode="reduce-overhead")`. It has not been run on a GPU yet.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from aesop.archs.rrdbnet import rrdbs
from aesop.options.config import TrainConfig
from aesop.system.device import is_out_of_memory
from aesop.training.stage import BATCH_NORM, Scalars, Stage

log = logging.getLogger("aesop")


def accelerate(
    stage: Stage, channels_last: bool = False, compile: bool = False, cuda_graphs: bool = False
) -> Callable[..., Scalars]:
    """Change how the stage's networks run; weights may still be loaded into them. Returns what makes a step."""
    if cuda_graphs and stage.world.device.type != "cuda":
        log.warning("cuda_graphs is ignored: it needs CUDA, but this is %s", stage.world.device)
        cuda_graphs = False
    networks = [*stage.networks.values(), *stage.copies]
    for term in stage.terms.values():  # the frozen networks inside losses
        if isinstance(term.loss, nn.Module):
            networks += [part for part in term.loss.children() if any(True for _ in part.parameters())]
    compiler = Compiler("reduce-overhead" if cuda_graphs else "default")
    for net in networks:
        if channels_last:
            net.to(memory_format=torch.channels_last)
        if (compile or cuda_graphs) and not (stage.world.size > 1 and exchanges_statistics(net)):
            for part in parts_to_compile(net):
                part.forward = compiler.compiled(part.forward)
    if not cuda_graphs:
        return stage.step

    def step(*arguments: Any) -> Scalars:
        torch.compiler.cudagraph_mark_step_begin()
        return stage.step(*arguments)

    return step


def parts_to_compile(net: nn.Module) -> list[nn.Module]:
    """A network's RRDBs, which share one compilation (seconds instead of minutes), or else the whole network."""
    return rrdbs(net) or [net]


def exchanges_statistics(net: nn.Module) -> bool:
    """Whether the processes exchange statistics within the network's passes, which no compiled part or graph may contain."""
    return any(isinstance(module, BATCH_NORM) for module in net.modules())


@contextmanager
def for_any_size(config: TrainConfig) -> Generator[None]:
    """Run networks uncompiled and without trying out convolutions, which costs more than it gains if image sizes vary."""
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    compiled = config.compile or config.cuda_graphs
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark


class Compiler:
    """Compiles forward passes at their first call. After a failure all of them run in eager mode."""

    def __init__(self, mode: str) -> None:
        self.mode, self.failed = mode, False

    def compiled(self, eager: Callable[..., Any]) -> Callable[..., Any]:
        fast = torch.compile(eager, mode=self.mode)

        def forward(*args: Any, **options: Any) -> Any:
            if self.failed:
                return eager(*args, **options)
            try:
                return fast(*args, **options)
            except Exception as error:  # compilers raise anything
                # PyTorch ends the recomputation of a checkpointed block by raising the latter.
                if is_out_of_memory(error) or type(error).__name__ == "_StopRecomputationError":
                    raise
                result = eager(*args, **options)  # raises again what is not the compiler's fault
                self.failed = True
                reason = (str(error).strip().splitlines() or [""])[0][:200]
                log.warning("compile: falling back to eager mode, because %s: %s", type(error).__name__, reason)
                return result

        return forward
