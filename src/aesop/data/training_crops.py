"""Random aligned crops, for training."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aesop.data.find_pairs import Pair, check_sizes, find_training_pairs
from aesop.data.measured_pairs import Sample, read_pair
from aesop.data.sampler import image_number
from aesop.images.errors import ImageError
from aesop.images.read import image_size
from aesop.images.resize import lr_crop
from aesop.options.datasets import TrainDataset

log = logging.getLogger("aesop")
Array = np.ndarray
T = TypeVar("T")


def usable(pairs: list[Pair], options: TrainDataset, check: Callable[[Pair], object]) -> list[Pair]:
    """The pairs that pass `check`, before anything is trained. One that does not is fatal, unless `bad_images: skip`.

    Raises:
        ImageError: naming the first unusable ones and their number; or when none is usable.
    """
    kept, faults = [], []
    for pair in pairs:
        try:
            check(pair)
            kept.append(pair)
        except ImageError as error:
            faults.append(str(error))
    if not faults:
        return kept
    found = f"{len(faults)} of {len(pairs)} training images cannot be used: " + "; ".join(faults[:3])
    if options.bad_images == "stop" or not kept:
        raise ImageError(
            f"{found}{'; ...' if len(faults) > 3 else ''}. Remove them, lower datasets.train.gt_size if they are too small, "
            "or set datasets.train.bad_images: skip"
        )
    log.warning("%s%s; they are left out", found, "; ..." if len(faults) > 3 else "")
    return kept


def read_usable(pairs: Sequence[Pair], index: int, options: TrainDataset, read: Callable[[Pair], T]) -> T:
    """`read(pairs[index])`; with `bad_images: skip` the next pair that can be read takes an unreadable one's place.

    A header may be in order and the rest of the file not, or a file may vanish while it is trained on.
    """
    for step in range(len(pairs)):
        try:
            return read(pairs[(index + step) % len(pairs)])
        except ImageError as error:
            if options.bad_images == "stop":
                raise ImageError(f"{error} (to go on without such images: datasets.train.bad_images: skip)") from error
            log.warning("left out: %s", error)
    raise ImageError("no training image can be read any more: are the folders still there?")


class TrainingCrops(Dataset):
    """Sample k: a random aligned crop, flipped and turned, {lq, gt} as uint8 (3, h, w) and (3, H, W).

    Every epoch of len(pairs) samples visits each image once, in an order drawn from (seed, epoch).
    """

    def __init__(self, options: TrainDataset, scale: int, seed: int):
        self.options, self.scale, self.seed = options, scale, seed
        self.pairs = usable(find_training_pairs(options), options, self._check_size)
        self._decoded: dict[int, tuple[Array, Array | None]] = {}

    def _check_size(self, pair: Pair) -> None:
        """From the files' headers: wrong sizes would otherwise only show up hours into a run."""
        width, height = image_size(pair.gt)
        side = self.options.gt_size
        if min(width, height) - min(width, height) % self.scale < side:
            raise ImageError(f"{pair.gt} ({width}x{height}) is smaller than the crop (gt_size {side})")
        if pair.lq is not None:
            check_sizes(pair, (width, height), image_size(pair.lq), self.scale)

    def _read(self, index: int) -> tuple[Array, Array | None]:
        def read(pair: Pair) -> tuple[Array, Array | None]:
            hr, lr = read_pair(pair, self.scale)
            height, width = hr.shape[:2]
            if min(height, width) < self.options.gt_size:
                raise ImageError(f"{pair.gt} ({width}x{height}) has become smaller than the crop since the training began")
            return hr, lr

        if not self.options.cache:
            return read_usable(self.pairs, index, self.options, read)
        if index not in self._decoded:
            self._decoded[index] = read_usable(self.pairs, index, self.options, read)
        return self._decoded[index]

    def __getitem__(self, index: int) -> Sample:
        k = index
        hr, lr = self._read(image_number(self.seed, k, len(self.pairs)))
        scale, side = self.scale, self.options.gt_size
        draw = np.random.default_rng((self.seed, 1, k))
        top, left = (int(draw.integers(0, (n - side) // scale, endpoint=True)) for n in hr.shape[:2])
        flips = draw.random(3) < 0.5
        gt = hr[top * scale : top * scale + side, left * scale : left * scale + side]
        if lr is None:
            lq = lr_crop(hr, top * scale, left * scale, side, scale)
        else:
            lq = lr[top : top + side // scale, left : left + side // scale]
        hflip, vflip, turn = flips & np.array([self.options.use_flip, self.options.use_rot, self.options.use_rot])
        return {"lq": as_tensor(augment(lq, hflip, vflip, turn)), "gt": as_tensor(augment(gt, hflip, vflip, turn))}


def augment(image: Array, hflip: bool, vflip: bool, turn: bool) -> Array:
    """(H, W, C) flipped left-right, then up-down, then transposed, as asked (BasicSR's order)."""
    if hflip:
        image = image[:, ::-1]
    if vflip:
        image = image[::-1]
    return image.swapaxes(0, 1) if turn else image


def as_tensor(image: Array) -> Tensor:
    """(H, W, C) array -> (C, H, W) tensor of the same type, contiguous, a copy."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())
