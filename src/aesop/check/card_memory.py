"""The memory of a training step on a GPU, and which batch fits on the usual cards, without having one."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from aesop.archs import build_network
from aesop.check.step_count import count_step
from aesop.check.time_and_memory import with_stand_ins
from aesop.losses import build_losses
from aesop.options.config import TrainConfig
from aesop.system import device
from aesop.system.distributed import World
from aesop.system.wording import readable
from aesop.training.acceleration import accelerate
from aesop.training.build_stage import STAGES

CARDS = (8, 12, 16, 24, 48, 80)  # GiB
OCCUPIED = 0.6  # GiB of a card that CUDA and its libraries take
WASTED = 0.1  # share of the rest for workspaces of convolutions and gaps between tensors


@dataclass(frozen=True)
class CardMemory:
    """Bytes of the tensors of a step. They grow with the images of one part of the batch (`train.accumulate`)."""

    images: int
    peak: int
    kept: int
    """Held between two steps: weights, gradients, moments, images."""

    def fitting(self, card: float) -> int:
        """The most images of a part that fit on a card of so many GiB."""
        usable = (card - OCCUPIED) * (1 - WASTED) * 2**30
        return max(0, int((usable - self.kept) * self.images / (self.peak - self.kept)))


def card_memory(config: TrainConfig, autoencoder: Mapping[str, Any] | None = None) -> CardMemory:
    """Count a step of a training on fake tensors, in a process of its own; `autoencoder` as in `estimate`.

    Raises what building the networks raises.
    """
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as process:
        runnable, _ = with_stand_ins(config, Path(folder), autoencoder)
        return process.submit(_count, runnable).result()


def memory_by_stage(stages: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """For each stage to train, its name and which batch fits on which card, or why that is not known."""
    autoencoder = stages.get("autoencoder")
    options = autoencoder.network_g.model_dump(mode="json") if isinstance(autoencoder, TrainConfig) else None
    for stage, config in stages.items():
        if isinstance(config, TrainConfig):
            try:
                memory, parts = card_memory(config, options), config.train.accumulate
            except (ValueError, OSError, RuntimeError) as error:
                yield stage, f"not known: {error}"
                continue
            batch = f"a batch of {memory.images * parts}" + (f" in {parts} parts" if parts > 1 else "")
            cards = ", ".join(f"{card} GB: {_count_of(memory.fitting(card) * parts)}" for card in CARDS)
            yield stage, f"{readable(memory.peak)} for {batch}, counted without a GPU; batches that fit: {cards}"


def _count_of(images: int) -> str:
    return "none" if not images else str(images) if images < 1000 else "over 1000"


def _count(config: TrainConfig) -> CardMemory:
    device.reason_against_bf16 = lambda _: None  # fake tensors need no instructions  # ty: ignore[invalid-assignment]
    world = World()
    networks = [build_network(options.model_dump()) for options in (config.network_g, config.network_d) if options]
    losses = build_losses(config.train, config.scale, world)
    crops = config.datasets.train
    images, side = crops.batch_size_per_gpu, crops.gt_size

    def build() -> Callable[[int], object]:
        for module in (*networks, *losses.values()):
            if isinstance(module, nn.Module):
                _make_fake(module)
        used = networks if config.stage == "adversarial" else networks[:1]
        stage = STAGES[config.stage](config.train, *used, world=world, precision=config.precision, losses=losses)
        step = accelerate(stage, config.channels_last)
        lq, gt = torch.rand(images, 3, side // config.scale, side // config.scale), torch.rand(images, 3, side, side)
        # The last iterations represent the others: nothing is frozen any more.
        last = config.train.total_iter - config.train.total_iter % config.train.net_d_iters
        return lambda _: step(lq, gt, last)

    counter = count_step(build)
    return CardMemory(images // config.train.accumulate, counter.peak, counter.memory)


def _make_fake(net: nn.Module) -> None:
    """Replace parameters, buffers and other tensors by fake ones of the same shape and type."""
    for module in net.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(fake, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(module, name, torch.empty(value.shape, dtype=value.dtype))
