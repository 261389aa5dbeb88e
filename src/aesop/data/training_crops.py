"""Random crops for training: aligned pairs of HR and LR, or HR alone where a random degradation makes LR.

A sample is a pure function of (seed, sample number), whichever process loads it.
"""

import logging
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aesop.data.find_pairs import Pair, find_training_pairs
from aesop.images.errors import ImageError
from aesop.images.resize import lr_crop
from aesop.images.tensors import ImageArray
from aesop.options.config import TrainConfig
from aesop.options.datasets import TrainDataset
from aesop.system.wording import first_few

log = logging.getLogger("aesop")


def image_number(seed: int, sample: int, size: int) -> int:
    """Return which of `size` images a sample is cropped from. Each epoch visits all images in a random order."""
    epoch, position = divmod(sample, size)
    return int(_permutation(seed, epoch, size)[position])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(size)


class Crops(Dataset):
    """The images of datasets.train, all of them or those that `meta_info` lists, from which samples are cropped.

    An unusable image stops the training before it begins. With `bad_images: skip` it is left out.
    """

    def __init__(self, options: TrainDataset, seed: int):
        self.options, self.seed = options, seed
        self.pairs: list[Pair] = []
        self._decoded: dict[int, tuple[ImageArray, ImageArray | None]] = {}
        found, faults = find_training_pairs(options), []
        for pair in found:
            try:
                self._check(pair)
                self.pairs.append(pair)
            except ImageError as error:
                faults.append(error)
        if faults:
            text = f"{len(faults)} of {len(found)} training images cannot be used: {first_few(faults)}"
            if options.bad_images == "stop" or not self.pairs:
                advice = "lower datasets.train.gt_size if they are too small, or set datasets.train.bad_images: skip"
                raise ImageError(f"{text}. Remove them, {advice}")
            log.warning("%s. Training skips them", text)
        self._group()

    def number_of(self, sample: int) -> int:
        """The image, by its number in `pairs`, that a sample is cropped from."""
        weights = self.options.dataroot_weights
        if weights is None:
            return image_number(self.seed, sample, len(self.pairs))
        draw = np.random.default_rng((self.seed, 5, sample))
        folder = draw.choice(len(weights), p=np.array(weights) / sum(weights))
        return int(draw.choice(self._of_folder[folder]))

    def _group(self) -> None:
        """Sort the images by folder, from which samples are drawn in the ratio of `dataroot_weights`."""
        count = len(self.options.dataroot_weights or ())
        self._of_folder = [[k for k, pair in enumerate(self.pairs) if pair.folder == folder] for folder in range(count)]
        if empty := [number + 1 for number, images in enumerate(self._of_folder) if not images]:
            raise ImageError(f"datasets.train.dataroot_weights: no image of folder {empty[0]} of dataroot_gt can be used")

    def _check(self, pair: Pair) -> None:
        """Look at the files' headers, so that a wrong pair does not stop a run after hours."""
        pair.gt.size()

    def _decode(self, pair: Pair) -> tuple[ImageArray, ImageArray | None]:
        return pair.gt.read_uint8(), None

    def _read(self, number: int) -> tuple[ImageArray, ImageArray | None]:
        """Read a pair, or with `bad_images: skip` the next: a file may be damaged behind an intact header, or vanish."""
        for step in range(len(self.pairs)):
            try:
                return self._decode(self.pairs[(number + step) % len(self.pairs)])
            except ImageError as error:
                if self.options.bad_images == "stop":
                    advice = "to train without such images, set datasets.train.bad_images: skip"
                    raise ImageError(f"{error} ({advice})") from error
                log.warning("skipped: %s", error)
        raise ImageError("no training image can be read any more: check that the folders still exist")

    def _draw(self, index: int) -> tuple[ImageArray, ImageArray | None, np.random.Generator]:
        """Return (HR, LR or None) of a sample, and its generator."""
        number = self.number_of(index)
        images = self._decoded.get(number) or self._read(number)
        if self.options.cache:
            self._decoded[number] = images
        return *images, np.random.default_rng((self.seed, 1, index))

    def _draw_orientation(self, draw: np.random.Generator) -> ImageArray:
        """Draw the flags of `augment`."""
        return (draw.random(3) < 0.5) & np.array([self.options.use_flip, self.options.use_rot, self.options.use_rot])


class TrainingCrops(Crops):
    """Sample k: a random aligned crop, flipped and transposed, {lq, gt} as uint8 (3, h, w) and (3, H, W)."""

    def __init__(self, options: TrainDataset, scale: int, seed: int):
        self.scale = scale
        super().__init__(options, seed)

    def _check(self, pair: Pair) -> None:
        width, height = pair.gt.size()
        side = self.options.gt_size
        if min(width, height) - min(width, height) % self.scale < side:
            raise ImageError(f"{pair.gt} ({width}x{height}) is smaller than the crop (gt_size {side})")
        if pair.lq is not None:
            pair.check_sizes((width, height), pair.lq.size(), self.scale)

    def _decode(self, pair: Pair) -> tuple[ImageArray, ImageArray | None]:
        hr, lr = pair.read(self.scale)
        height, width = hr.shape[:2]
        if min(height, width) < self.options.gt_size:
            raise ImageError(f"{pair.gt} ({width}x{height}) has become smaller than the crop since the training began")
        return hr, lr

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        hr, lr, draw = self._draw(index)
        scale, side = self.scale, self.options.gt_size
        top, left = (int(draw.integers(0, (n - side) // scale, endpoint=True)) for n in hr.shape[:2])
        orientation = self._draw_orientation(draw)
        gt = hr[top * scale : top * scale + side, left * scale : left * scale + side]
        if lr is None:
            lq = lr_crop(hr, top * scale, left * scale, side, scale)
        else:
            lq = lr[top : top + side // scale, left : left + side // scale]
        return {"lq": _as_tensor(augment(lq, *orientation)), "gt": _as_tensor(augment(gt, *orientation))}


class HRCrops(Crops):
    """Sample k: {gt}, an HR image flipped and transposed, then cropped or padded to side x side, uint8 (3, side, side).

    As in Real-ESRGAN the flips come first, and small images are padded by reflection at the bottom and right.
    """

    def __init__(self, options: TrainDataset, side: int, seed: int):
        super().__init__(options, seed)
        self.side = side

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, _, draw = self._draw(index)
        image = augment(image, *self._draw_orientation(draw))
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


def augment(image: ImageArray, hflip: bool, vflip: bool, transpose: bool) -> ImageArray:
    """Flip (H, W, C) left-right, then up-down, then transpose it, each if asked to. BasicSR's order."""
    if hflip:
        image = image[:, ::-1]
    if vflip:
        image = image[::-1]
    return image.swapaxes(0, 1) if transpose else image


def _as_tensor(image: ImageArray) -> Tensor:
    """Copy an array (H, W, C) to a contiguous tensor (C, H, W) of the same type."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())
