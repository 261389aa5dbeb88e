"""Real-world training pairs: HR crops from files, LR made of them on the device (Real-ESRGAN, section 3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.random_degradation import batch_generator, degrade, paired_random_crop, smallest_side
from aesop.data.degradation.training_pool import TrainingPool
from aesop.data.find_pairs import find_training_pairs
from aesop.data.sampler import image_number
from aesop.data.training_crops import as_tensor, augment, read_usable, usable
from aesop.images.read import image_size, read_image_uint8
from aesop.options.config import SMALLEST_SHARPENED, Config
from aesop.options.datasets import TrainDataset
from aesop.options.degradation import DegradationOptions


class HRCrops(Dataset):
    """Sample k: {gt}, an HR image flipped and turned, then cut or continued to side x side, uint8 (3, side, side).

    As published: flips first, padding by reflection at the bottom and right. A pure function of (seed, k), as in
    TrainingCrops.
    """

    def __init__(self, options: TrainDataset, side: int, seed: int):
        self.options, self.side, self.seed = options, side, seed
        self.pairs = usable(find_training_pairs(options), options, lambda pair: image_size(pair.gt))

    def __getitem__(self, index: int) -> dict[str, Any]:
        chosen = image_number(self.seed, index, len(self.pairs))
        image = read_usable(self.pairs, chosen, self.options, lambda pair: read_image_uint8(pair.gt))
        draw = np.random.default_rng((self.seed, 1, index))
        flips = draw.random(3) < 0.5
        image = augment(image, *(flips & np.array([self.options.use_flip, self.options.use_rot, self.options.use_rot])))
        height, width = image.shape[:2]
        missing = [(0, max(0, self.side - height)), (0, max(0, self.side - width)), (0, 0)]
        top, left = (int(draw.integers(0, max(0, side - self.side), endpoint=True)) for side in (height, width))
        image = np.pad(image[top : top + self.side, left : left + self.side], missing, mode="reflect")
        return {"gt": as_tensor(image)}


class Degrader:
    """HR crops of a batch -> (LR, HR) for training: degraded, cut to gt_size, exchanged with the pool's pairs.

    A batch is a pure function of (seed, iteration, rank) and of the pool, whose content is saved with the state.

    Raises:
        ValueError: for a crop_pad_size too small for the blur kernels and resizing.
    """

    def __init__(self, config: Config, rank: int):
        assert config.degradation is not None
        assert config.datasets.train is not None
        self.options, self.scale, self.seed, self.rank = config.degradation, config.scale, config.manual_seed, rank
        self.gt_size = config.datasets.train.gt_size
        check_crop(config.degradation, config.scale)
        batch, queue = config.datasets.train.batch_size_per_gpu, config.degradation.queue_size
        self.pool = TrainingPool(queue, batch) if queue else None

    def __call__(self, gt: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) in [0, 1] -> LR (N, 3, gt_size / scale, ...) and HR (N, 3, gt_size, gt_size)."""
        generator = batch_generator(self.seed, iteration, self.rank)
        per_sample = self.options.per_sample
        lq, _ = degrade(usm_sharpen(gt), self.options, self.scale, generator, per_sample)
        (gt,), lq = paired_random_crop([gt], lq, self.gt_size, self.scale, generator, per_sample)
        return (lq, gt) if self.pool is None else self.pool.exchange(lq, gt, generator)

    def state_dict(self) -> dict[str, Tensor]:
        """The pool's pairs, uint8: {lq, gt}; empty without a pool."""
        return self.pool.state_dict() if self.pool is not None else {}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | str) -> None:
        """Continue with the pairs of `state_dict`; with `{}` the pool starts empty.

        Raises:
            ValueError: the pairs do not fit gt_size, queue_size or batch_size_per_gpu.
        """
        if state and (saved := state["gt"].shape[-1]) != self.gt_size:
            raise ValueError(
                f"the saved pairs have gt_size {saved}, but this file sets {self.gt_size}: resume with the former options"
            )
        if self.pool is not None:
            self.pool.load_state_dict(state, device)


def smallest_image(options: DegradationOptions, scale: int) -> int:
    """The smallest side of an image in pixels that can be sharpened and degraded."""
    return max(SMALLEST_SHARPENED, smallest_side(options, scale))


def check_crop(options: DegradationOptions, scale: int) -> None:
    """Raise ValueError for a crop_pad_size that cannot be degraded."""
    if options.crop_pad_size < (smallest := smallest_image(options, scale)):
        raise ValueError(
            f"degradation.crop_pad_size: with these kernels and resize_range it must be at least {smallest}, found "
            f"{options.crop_pad_size}"
        )
