"""Which samples form the batch of an iteration and process, and which image a sample is cropped from."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler


class StepSampler(Sampler[list[int]]):
    """Sample numbers of this process's batches for iterations first..last, counted from 1.

    Iteration i consumes samples (i - 1) * B ... i * B - 1, where B is the batch of all processes together.
    """

    def __init__(self, first: int, last: int, batch: int, rank: int = 0, world_size: int = 1):
        self.first, self.last, self.batch, self.rank, self.world_size = first, last, batch, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.first, self.last + 1):
            start = ((iteration - 1) * self.world_size + self.rank) * self.batch
            yield list(range(start, start + self.batch))


def image_number(seed: int, sample: int, size: int) -> int:
    """Return which of `size` images a sample is cropped from. Each epoch visits all images in a random order."""
    epoch, position = divmod(sample, size)
    return int(_permutation(seed, epoch, size)[position])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(size)
