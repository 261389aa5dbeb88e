"""Loader processes that deliver the batches of a training in order."""

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

from aesop.options.datasets import TrainDataset

log = logging.getLogger("aesop")
Batch = dict[str, Tensor]
MOST_DEATHS = 5


class LoaderDied(ChildProcessError):
    """The system ended loader processes more than `MOST_DEATHS` times."""


def sample_numbers(first: int, last: int, batch: int, rank: int = 0, world_size: int = 1) -> Generator[list[int]]:
    """Yield the numbers of this process's samples for iterations first..last, counted from 1.

    Iteration i consumes samples (i - 1) * B ... i * B - 1, where B is the batch of all processes together.
    """
    for iteration in range(first, last + 1):
        start = ((iteration - 1) * world_size + rank) * batch
        yield list(range(start, start + batch))


def batches(
    images: Dataset,
    options: TrainDataset,
    first: int,
    last: int,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> AbstractContextManager[Iterator[Batch]]:
    """Load the batches of iterations first..last. Leaving the context ends the loader processes.

    If the system ends a loader process, as it does when memory runs out, the loaders restart at the next batch with the same
    samples, at most `MOST_DEATHS` times.
    """

    def generate() -> Generator[Batch]:
        due = first
        for deaths in range(MOST_DEATHS + 1):
            loader = DataLoader(
                images,
                batch_sampler=sample_numbers(due, last, options.batch_size_per_gpu, rank, world_size),
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
                advice = f"lower datasets.train.num_worker_per_gpu (now {options.num_worker_per_gpu}) or use smaller images"
                text = f"a loader process was ended by the system before iteration {due} (is the memory full?): {advice}"
                if deaths == MOST_DEATHS:
                    raise LoaderDied(f"{text}. It happened {deaths + 1} times") from error
                log.warning("%s. The loaders restart", text)

    return closing(generate())


def _start_worker(_: int) -> None:
    # Loader processes share the cores, so threads of their own would only slow them down.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # A signal reaches the whole process group. The main process handles it and ends the loaders itself.
    for name in {"SIGINT", "SIGTERM", "SIGUSR1"}.intersection(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_IGN)


class _Killed(Exception):
    """A loader process was ended by a signal, or could not be started."""


@contextmanager
def _started(loader: DataLoader) -> Generator[Iterator[Batch]]:
    """Yield the loader's iterator, and end its processes afterwards. Errors that a killed process causes become _Killed."""
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
                # PyTorch's handler raises anywhere in the main program, even in the middle of a step. Without it a dead
                # loader process is noticed when its batch is due.
                signal.signal(child_ends, former)
        yield iterator
    except Exception as error:
        # PyTorch reports a killed loader process in several ways. The exit codes are reliable.
        ended = wait([worker.sentinel for worker in workers], timeout=1) if workers else []
        for worker in workers:
            if worker.sentinel in ended:
                worker.join()  # the sentinel closes shortly before the exit code is known
        if any((worker.exitcode or 0) < 0 for worker in workers):
            raise _Killed from error
        raise
    finally:
        # PyTorch ends the processes when the iterator is collected. A traceback may keep the iterator until Python exits,
        # where multiprocessing sends SIGTERM, which they ignore, and waits for ever.
        if workers and iterator is not None:
            iterator._shutdown_workers()  # ty: ignore[missing-attribute]
        for worker in workers:
            worker.kill()
            worker.join()


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Move uint8 images to the device, from pinned memory if it is a GPU, and convert them there to floats in [0, 1]."""
    return batch.to(device, non_blocking=device.type == "cuda").float().div_(255)
