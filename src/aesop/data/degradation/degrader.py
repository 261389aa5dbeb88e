"""Degrading the HR crops of a training batch into pairs (Real-ESRGAN, section 3)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.random_degradation import (
    Draw,
    apply_batch,
    batch_generator,
    draw_batch,
    draw_corners,
    paired_crop,
    smallest_side,
)
from aesop.data.degradation.training_pool import TrainingPool
from aesop.data.degradation.transfer import Transfer
from aesop.options.config import TrainConfig
from aesop.options.degradation import DegradationOptions

Key = tuple[int, int, torch.Size, torch.device]  # seed and iteration; shape and device of HR
Drawn = tuple[list[Draw], list[tuple[int, int]], Transfer]  # draws; corners of the crops; tensors of the draws and the pool


class Degrader:
    """Sharpens and degrades the HR crops of a batch, cuts them to gt_size and exchanges the pairs with the pool's.

    A batch is a pure function of (seed, iteration, rank) and of the pool, which is saved with the training state. Its random
    parameters are drawn and sent while the device computes the former batch, and drawn again if another batch is due.
    """

    def __init__(self, config: TrainConfig, rank: int):
        assert config.degradation is not None
        self.options, self.scale, self.seed, self.rank = config.degradation, config.scale, config.manual_seed, rank
        self.gt_size = config.datasets.train.gt_size
        check_crop(config.degradation, config.scale)
        batch, queue = config.datasets.train.batch_size_per_gpu, config.degradation.queue_size
        self.pool = TrainingPool(queue, batch) if queue else None
        self.ahead: dict[Key, Drawn] = {}  # of the batch that is due next

    @torch.no_grad()
    def __call__(self, gt: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Return LR (N, 3, gt_size / scale, ...) and HR (N, 3, gt_size, gt_size) for HR (N, 3, S, S), all in [0, 1]."""
        due, following = ((self.seed, k, gt.shape, gt.device) for k in (iteration, iteration + 1))
        draws, corners, tensors = self.ahead.get(due) or self.draw(*due)
        *rendered, pooled = tensors.receive()
        lq = apply_batch(usm_sharpen(gt), draws, rendered, self.scale)
        hr, lq = paired_crop(gt, lq, corners, self.gt_size, self.scale)
        if self.pool is not None:
            lq, hr = self.pool.exchange(lq, hr, pooled["places"])
        self.ahead = {following: self.draw(*following)}
        return lq, hr

    def draw(self, seed: int, iteration: int, shape: torch.Size, device: torch.device) -> Drawn:
        """Draw the random parameters of a batch on the CPU, and send those that the device needs."""
        generator = batch_generator(seed, iteration, self.rank)
        draws, rendered = draw_batch(self.options, shape[0], generator, self.options.per_sample)
        height, width, side = (pixels // self.scale for pixels in (*shape[2:], self.gt_size))
        corners = draw_corners(len(draws), height, width, side, generator)
        pooled = {"places": self.pool.draw_places(generator)} if self.pool is not None else {}
        return draws, corners, Transfer([*rendered, pooled], device)

    def state_dict(self) -> dict[str, Tensor]:
        """The pool's pairs, uint8: {lq, gt}; empty without a pool."""
        return self.pool.images if self.pool is not None else {}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | str) -> None:
        """Continue with the pairs of `state_dict`. Raise ValueError if they do not fit the options."""
        if state and (saved := state["gt"].shape[-1]) != self.gt_size:
            raise ValueError(f"the saved pairs have gt_size {saved}, but this file sets {self.gt_size}")
        if self.pool is not None:
            self.pool.load(state, device)


def check_crop(options: DegradationOptions, scale: int) -> None:
    """Raise ValueError if crops of crop_pad_size cannot be degraded."""
    if options.crop_pad_size < (smallest := smallest_side(options, scale)):
        limit = f"with these kernels and resize_range it must be at least {smallest}"
        raise ValueError(f"degradation.crop_pad_size: {limit}, found {options.crop_pad_size}")
