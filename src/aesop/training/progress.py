"""What a run remembers besides tensors, and the seeds that follow from it."""

from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np


class FrontEntry(TypedDict):
    """A model of the front, with the values of both metrics."""

    iteration: int
    values: dict[str, float]


@dataclass
class Progress:
    """The content of state.json. Everything random follows from the seed and the iteration."""

    iteration: int = 0
    best: dict[str, float] = field(default_factory=dict)  # best figure so far, by metric name
    skipped: int = 0  # number of steps skipped so far
    in_a_row: int = 0  # number of consecutive skipped steps up to this iteration
    rollbacks: int = 0  # number of rollbacks so far
    validated: int = 0  # the last iteration that was validated
    front: list[FrontEntry] = field(default_factory=list)  # the models in models/front
    # Number of consecutive validations without a better value (`best`), or a new model on the front (`front`).
    without_news: dict[str, int] = field(default_factory=dict)

    def seed(self, manual_seed: int) -> int:
        """The seed of samples and degradations. It changes with each rollback, so that the same steps do not fail again."""
        if not self.rollbacks:
            return manual_seed
        return int(np.random.SeedSequence((manual_seed, 4, self.rollbacks)).generate_state(1)[0])


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """The seed of PyTorch's random numbers (dropout) in one step of one process."""
    return int(np.random.SeedSequence((seed, 3, iteration, rank)).generate_state(1, np.uint64)[0])
