"""Which samples belong to which step and process, and which image a sample is made of."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

Array = np.ndarray


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


def image_number(seed: int, sample: int, size: int) -> int:
    """Which of `size` images sample k is made of."""
    epoch, position = divmod(sample, size)
    return int(permutation(seed, epoch, size)[position])


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> Array:
    return np.random.default_rng((seed, 0, epoch)).permutation(size)
