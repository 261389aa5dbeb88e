"""Degrading the HR crops of a training batch into pairs (Real-ESRGAN, section 3)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.random_degradation import batch_generator, degrade, paired_random_crop, smallest_side
from aesop.data.degradation.training_pool import TrainingPool
from aesop.options.config import TrainConfig
from aesop.options.degradation import DegradationOptions


class Degrader:
    """Sharpens and degrades the HR crops of a batch, cuts them to gt_size and exchanges the pairs with the pool's.

    A batch is a pure function of (seed, iteration, rank) and of the pool, which is saved with the training state.
    """

    def __init__(self, config: TrainConfig, rank: int):
        assert config.degradation is not None
        self.options, self.scale, self.seed, self.rank = config.degradation, config.scale, config.manual_seed, rank
        self.gt_size = config.datasets.train.gt_size
        check_crop(config.degradation, config.scale)
        batch, queue = config.datasets.train.batch_size_per_gpu, config.degradation.queue_size
        self.pool = TrainingPool(queue, batch) if queue else None

    def __call__(self, gt: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Return LR (N, 3, gt_size / scale, ...) and HR (N, 3, gt_size, gt_size) for HR (N, 3, S, S), all in [0, 1]."""
        generator = batch_generator(self.seed, iteration, self.rank)
        per_sample = self.options.per_sample
        lq, _ = degrade(usm_sharpen(gt), self.options, self.scale, generator, per_sample)
        gt, lq = paired_random_crop(gt, lq, self.gt_size, self.scale, generator, per_sample)
        return (lq, gt) if self.pool is None else self.pool.exchange(lq, gt, generator)

    def state_dict(self) -> dict[str, Tensor]:
        """The pool's pairs, uint8: {lq, gt}; empty without a pool."""
        return self.pool.images if self.pool is not None else {}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | str) -> None:
        """Continue with the pairs of `state_dict`. Raise ValueError if they do not fit the options."""
        if state and (saved := state["gt"].shape[-1]) != self.gt_size:
            found = f"gt_size {saved}, but this file sets {self.gt_size}"
            raise ValueError(f"the saved pairs have {found}: resume with the former options")
        if self.pool is not None:
            self.pool.load(state, device)


def check_crop(options: DegradationOptions, scale: int) -> None:
    """Raise ValueError if crops of crop_pad_size cannot be degraded."""
    if options.crop_pad_size < (smallest := smallest_side(options, scale)):
        limit = f"with these kernels and resize_range it must be at least {smallest}"
        raise ValueError(f"degradation.crop_pad_size: {limit}, found {options.crop_pad_size}")
