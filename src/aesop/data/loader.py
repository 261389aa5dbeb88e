"""Batches of a training run: step i of N processes holds the same samples whoever loads them."""

import multiprocessing
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from aesop.config import TrainDataset


class StepSampler(Sampler[list[int]]):
    """Sample numbers of this process's batch, for iterations first..last (counted from 1).

    Iteration i consumes samples (i - 1) * B ... i * B - 1, B being the batch of all processes together.
    """

    def __init__(self, first: int, last: int, batch: int, rank: int = 0, world_size: int = 1):
        self.first, self.last, self.batch, self.rank, self.world_size = first, last, batch, rank, world_size

    def __len__(self) -> int:
        return max(0, self.last - self.first + 1)

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.first, self.last + 1):
            start = ((iteration - 1) * self.world_size + self.rank) * self.batch
            yield list(range(start, start + self.batch))


def _start_worker(_: int) -> None:
    # Many loaders share the cores; each one's own threads would only get in the way.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # A signal goes to the whole group; the main process decides what happens, and the loaders leave when it tells them to.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


Batch = dict[str, Tensor]


@contextmanager
def batches(
    dataset: Dataset,
    options: TrainDataset,
    first: int,
    last: int,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> Generator[Iterator[Batch]]:
    """Batches of the dataset's samples for iterations first..last. The loader processes end with the context."""
    loader = DataLoader(
        dataset,
        batch_sampler=StepSampler(first, last, options.batch_size_per_gpu, rank, world_size),
        num_workers=options.num_worker_per_gpu,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if options.num_worker_per_gpu else None,
    )
    others = set(multiprocessing.active_children())
    iterator = iter(loader)
    workers = set(multiprocessing.active_children()) - others
    try:
        yield iterator
    finally:
        # PyTorch ends them when the iterator is collected. An exception's traceback may hold it until Python exits, where
        # multiprocessing sends them the SIGTERM that they ignore, and waits for ever.
        if workers:
            iterator._shutdown_workers()  # ty: ignore[missing-attribute]
        for worker in workers:
            worker.kill()
            worker.join()


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """uint8 images to the device, where they become floats in [0, 1]: a quarter of the bytes to move."""
    # Only from pinned memory, which is used for CUDA, can a copy go on beside the computation.
    return batch.to(device, non_blocking=device.type == "cuda").float().div_(255)
