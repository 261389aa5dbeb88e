"""Batches of a training run: step i of N processes holds the same samples whoever loads them."""

import logging
import multiprocessing
import signal
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from multiprocessing.connection import wait

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aesop.data.sampler import StepSampler
from aesop.options.datasets import TrainDataset

log = logging.getLogger("aesop")


def _start_worker(_: int) -> None:
    # Many loaders share the cores; each one's own threads would only get in the way.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # A signal goes to the whole group; the main process decides what happens, and the loaders leave when it tells them to.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


Batch = dict[str, Tensor]
MOST_DEATHS = 5


class LoaderDied(ChildProcessError):
    """The system ended loader processes again and again."""


def batches(
    dataset: Dataset,
    options: TrainDataset,
    first: int,
    last: int,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> AbstractContextManager[Iterator[Batch]]:
    """Batches of the dataset's samples for iterations first..last. The loader processes end with the context.

    A loader process that the system ends (as it does when memory runs out) costs nothing: the loaders start again at the
    batch that is due, and the samples are the same.

    Raises:
        LoaderDied: the sixth time.
    """

    def generate() -> Generator[Batch]:
        due = first
        for deaths in range(MOST_DEATHS + 1):
            loader = DataLoader(
                dataset,
                batch_sampler=StepSampler(due, last, options.batch_size_per_gpu, rank, world_size),
                num_workers=options.num_worker_per_gpu,
                pin_memory=pin_memory,
                worker_init_fn=_start_worker,
                prefetch_factor=4 if options.num_worker_per_gpu else None,
            )
            try:
                with _started(loader) as iterator:
                    for batch in iterator:
                        yield batch
                        due += 1
                return
            except _Killed as error:
                text = (
                    f"a loader process was ended by the system before iteration {due}, as happens when memory runs out; "
                    f"fewer datasets.train.num_worker_per_gpu (now {options.num_worker_per_gpu}) or smaller images need less"
                )
                if deaths == MOST_DEATHS:
                    raise LoaderDied(f"{text}. It happened {deaths + 1} times") from error
                log.warning("%s; the loaders start again", text)

    return closing(generate())


class _Killed(Exception):
    """A loader process ended by a signal, or could not be started."""


@contextmanager
def _started(loader: DataLoader) -> Generator[Iterator[Batch]]:
    """The loader's iterator; its processes are gone when the context is left.

    Raises:
        _Killed: in place of whatever came of a loader process that the system ended.
    """
    others, child_ends = set(multiprocessing.active_children()), getattr(signal, "SIGCHLD", None)
    former = signal.getsignal(child_ends) if child_ends is not None else None
    iterator = None
    try:
        try:
            iterator = iter(loader)
        except OSError as error:
            raise _Killed from error
        finally:
            workers = set(multiprocessing.active_children()) - others
            if child_ends is not None and former is not None and signal.getsignal(child_ends) != former:
                # PyTorch's handler raises wherever the main program is, in the middle of a step too; without it a dead
                # loader process is noticed when its batch is asked for.
                signal.signal(child_ends, former)
        yield iterator
    except Exception as error:
        # PyTorch reports one that was killed in several ways; what became of the processes is certain.
        if workers:
            wait([worker.sentinel for worker in workers], timeout=1)
        if any((worker.exitcode or 0) < 0 for worker in workers):
            raise _Killed from error
        raise
    finally:
        # PyTorch ends them when the iterator is collected. An exception's traceback may hold it until Python exits, where
        # multiprocessing sends them the SIGTERM that they ignore, and waits for ever.
        if workers and iterator is not None:
            iterator._shutdown_workers()  # ty: ignore[missing-attribute]
        for worker in workers:
            worker.kill()
            worker.join()


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """uint8 images to the device, where they become floats in [0, 1]: a quarter of the bytes to move."""
    # Only from pinned memory, which is used for CUDA, can a copy go on beside the computation.
    return batch.to(device, non_blocking=device.type == "cuda").float().div_(255)
