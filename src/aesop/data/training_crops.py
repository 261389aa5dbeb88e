"""Random crops for training: aligned pairs of HR and LR, or HR alone where a random degradation makes LR.

A sample is a pure function of (seed, sample number), whichever process loads it.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aesop.data.find_pairs import Pair, find_training_pairs
from aesop.data.sampler import image_number
from aesop.images.errors import ImageError
from aesop.images.resize import lr_crop
from aesop.options.config import TrainConfig
from aesop.options.datasets import TrainDataset
from aesop.system.wording import first_few

log = logging.getLogger("aesop")
Array = np.ndarray
T = TypeVar("T")


class TrainingCrops(Dataset):
    """Sample k: a random aligned crop, flipped and transposed, {lq, gt} as uint8 (3, h, w) and (3, H, W).

    Every epoch of len(pairs) samples visits each image once, in an order drawn from (seed, epoch).
    """

    def __init__(self, options: TrainDataset, scale: int, seed: int):
        self.options, self.scale, self.seed = options, scale, seed
        self.pairs = _usable(find_training_pairs(options), options, self._check_size)
        self._decoded: dict[int, tuple[Array, Array | None]] = {}

    def _check_size(self, pair: Pair) -> None:
        """Compare the sizes in the headers, so that a wrong pair does not stop a run after hours."""
        width, height = pair.gt.size()
        side = self.options.gt_size
        if min(width, height) - min(width, height) % self.scale < side:
            raise ImageError(f"{pair.gt} ({width}x{height}) is smaller than the crop (gt_size {side})")
        if pair.lq is not None:
            pair.check_sizes((width, height), pair.lq.size(), self.scale)

    def _read(self, pair: Pair) -> tuple[Array, Array | None]:
        hr, lr = pair.read(self.scale)
        height, width = hr.shape[:2]
        if min(height, width) < self.options.gt_size:
            raise ImageError(f"{pair.gt} ({width}x{height}) has become smaller than the crop since the training began")
        return hr, lr

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = image_number(self.seed, index, len(self.pairs))
        pair = self._decoded.get(number) or _read_usable(self.pairs, number, self.options, self._read)
        if self.options.cache:
            self._decoded[number] = pair
        hr, lr = pair
        scale, side = self.scale, self.options.gt_size
        draw = np.random.default_rng((self.seed, 1, index))
        top, left = (int(draw.integers(0, (n - side) // scale, endpoint=True)) for n in hr.shape[:2])
        orientation = _draw_orientation(draw, self.options)
        gt = hr[top * scale : top * scale + side, left * scale : left * scale + side]
        if lr is None:
            lq = lr_crop(hr, top * scale, left * scale, side, scale)
        else:
            lq = lr[top : top + side // scale, left : left + side // scale]
        return {"lq": _as_tensor(augment(lq, *orientation)), "gt": _as_tensor(augment(gt, *orientation))}


class HRCrops(Dataset):
    """Sample k: {gt}, an HR image flipped and transposed, then cropped or padded to side x side, uint8 (3, side, side).

    As in Real-ESRGAN the flips come first, and small images are padded by reflection at the bottom and right.
    """

    def __init__(self, options: TrainDataset, side: int, seed: int):
        self.options, self.side, self.seed = options, side, seed
        self.pairs = _usable(find_training_pairs(options), options, lambda pair: pair.gt.size())

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = image_number(self.seed, index, len(self.pairs))
        image = _read_usable(self.pairs, number, self.options, lambda pair: pair.gt.read_uint8())
        draw = np.random.default_rng((self.seed, 1, index))
        image = augment(image, *_draw_orientation(draw, self.options))
        height, width = image.shape[:2]
        missing = [(0, max(0, self.side - height)), (0, max(0, self.side - width)), (0, 0)]
        top, left = (int(draw.integers(0, max(0, side - self.side), endpoint=True)) for side in (height, width))
        image = np.pad(image[top : top + self.side, left : left + self.side], missing, mode="reflect")
        return {"gt": _as_tensor(image)}


def training_crops(config: TrainConfig) -> TrainingCrops | HRCrops:
    """The samples of a training."""
    if config.degradation is not None:
        return HRCrops(config.datasets.train, config.degradation.crop_pad_size, config.manual_seed)
    return TrainingCrops(config.datasets.train, config.scale, config.manual_seed)


def augment(image: Array, hflip: bool, vflip: bool, transpose: bool) -> Array:
    """Flip (H, W, C) left-right, then up-down, then transpose it, each if asked to. BasicSR's order."""
    if hflip:
        image = image[:, ::-1]
    if vflip:
        image = image[::-1]
    return image.swapaxes(0, 1) if transpose else image


def _draw_orientation(draw: np.random.Generator, options: TrainDataset) -> Array:
    """Draw the flags of `augment`."""
    return (draw.random(3) < 0.5) & np.array([options.use_flip, options.use_rot, options.use_rot])


def _as_tensor(image: Array) -> Tensor:
    """Copy an array (H, W, C) to a contiguous tensor (C, H, W) of the same type."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def _usable(pairs: list[Pair], options: TrainDataset, check: Callable[[Pair], object]) -> list[Pair]:
    """Return the pairs that pass `check`. A pair that fails stops the training before it begins, unless `bad_images: skip`.

    Raises:
        ImageError: counting the unusable images and naming the first, or if no image is usable.
    """
    kept, faults = [], []
    for pair in pairs:
        try:
            check(pair)
            kept.append(pair)
        except ImageError as error:
            faults.append(error)
    if faults:
        found = f"{len(faults)} of {len(pairs)} training images cannot be used: {first_few(faults)}"
        if options.bad_images == "stop" or not kept:
            raise ImageError(
                f"{found}. Remove them, lower datasets.train.gt_size if they are too small, or set "
                "datasets.train.bad_images: skip"
            )
        log.warning("%s. Training skips them", found)
    return kept


def _read_usable(pairs: Sequence[Pair], index: int, options: TrainDataset, read: Callable[[Pair], T]) -> T:
    """Return `read(pairs[index])`. With `bad_images: skip` the next readable pair replaces an unreadable one.

    A file may be damaged behind an intact header, or vanish during the training.
    """
    for step in range(len(pairs)):
        try:
            return read(pairs[(index + step) % len(pairs)])
        except ImageError as error:
            if options.bad_images == "stop":
                raise ImageError(f"{error} (to train without such images, set datasets.train.bad_images: skip)") from error
            log.warning("skipped: %s", error)
    raise ImageError("no training image can be read any more: check that the folders still exist")
