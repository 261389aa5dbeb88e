"""A step that runs out of memory, and the options that need less."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from aesop.options.config import TrainConfig
from aesop.system.device import is_out_of_memory, memory_of
from aesop.system.wording import readable


@contextmanager
def memory_explained(config: TrainConfig, device: torch.device) -> Generator[None]:
    """Replace PyTorch's error by a MemoryError that names the options that need less memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        crops, total = config.datasets.train, memory_of(device)
        raise MemoryError(
            f"out of memory on {device}{f' ({readable(total)})' if total else ''} in a step of "
            f"{crops.batch_size_per_gpu // config.train.accumulate} images of {crops.gt_size} px. These options need less "
            f"memory: {less_memory(config)}. `aesop doctor CONFIG` measures it"
        ) from error


def less_memory(config: TrainConfig) -> str:
    """The settings that reduce memory, those that change nothing else first."""
    batch, parts = config.datasets.train.batch_size_per_gpu, config.train.accumulate
    finer = next((n for n in range(parts + 1, batch + 1) if batch % n == 0), None)
    ways = ["cuda_graphs=false"] if config.cuda_graphs else []
    ways += [f"train.accumulate={finer}"] if finer else []
    if getattr(config.network_g, "use_checkpoint", None) is False:
        ways.append("network_g.use_checkpoint=true")
    if config.precision == "fp32" and config.device != "cpu" and torch.cuda.is_available():
        ways.append("precision=bf16")
    ways += [f"datasets.train.batch_size_per_gpu={batch // 2}"] if batch > 1 else []
    return ", ".join([*ways, "or a smaller datasets.train.gt_size"])
