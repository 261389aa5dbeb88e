"""HR/LR pairs: finding them in folders, whole pairs for measuring, random aligned crops for training.

Training sample k is a pure function of (seed, k): no state, so it is the same on any number of workers and processes
and after any resume.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aesop.config import PairedDataset, TrainDataset
from aesop.data.images import ImageError, image_size, list_images, read_image_uint8
from aesop.data.resize import imresize, lr_crop, mod_crop

Sample = dict[str, Any]
Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """One HR file, its LR file (None: LR is made from HR) and its name below the dataset's folder, without suffix."""

    gt: Path
    lq: Path | None
    name: str


def find_pairs(options: PairedDataset, section: str) -> list[Pair]:
    """Every HR image of a dataset with its LR partner.

    Raises:
        ValueError: no folder given, a folder that does not exist or holds no image, or HR images without partner (all
            missing partners are counted, the first few named).
    """
    if not options.dataroot_gt:
        raise ValueError(f"datasets.{section}.dataroot_gt: give the folder of HR images")
    roots_gt = _as_list(options.dataroot_gt)
    roots_lq: Sequence[str | None] = _as_list(options.dataroot_lq) if options.dataroot_lq else [None] * len(roots_gt)
    if len(roots_lq) != len(roots_gt):
        raise ValueError(f"datasets.{section}: dataroot_gt and dataroot_lq must name equally many folders")
    pairs, missing = [], []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        partners = {}
        if root_lq is not None:
            lq_files = _list(root_lq, f"datasets.{section}.dataroot_lq")
            partners = {path.relative_to(root_lq).with_suffix("").as_posix(): path for path in lq_files}
        for path in _list(root_gt, f"datasets.{section}.dataroot_gt"):
            relative = path.relative_to(root_gt).with_suffix("")
            partner = partners.get((relative.parent / options.filename_tmpl.format(relative.name)).as_posix())
            if root_lq is not None and partner is None:
                missing.append(f"{path} has no partner in {root_lq}")
            # Several folders may hold files of one name; results are saved under these names.
            name = relative if len(roots_gt) == 1 else Path(Path(root_gt).name) / relative
            pairs.append(Pair(path, partner, name.as_posix()))
    if missing:
        raise ValueError(
            f"datasets.{section}: {len(missing)} of {len(pairs)} HR images have no LR image named "
            f"{options.filename_tmpl!r}; set filename_tmpl, or leave dataroot_lq out to have LR made from HR. "
            f"The first: " + "; ".join(missing[:3])
        )
    names = [pair.name for pair in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"datasets.{section}: two HR images are both named {twice!r}; rename one, or its folder")
    return pairs


def _as_list(value: str | list[str]) -> list[str]:
    return [os.path.expanduser(item) for item in ([value] if isinstance(value, str) else value)]


def _list(folder: str, option: str) -> list[Path]:
    try:
        return list_images(folder)
    except ImageError as error:
        raise ImageError(f"{option}: {error}") from error


def read_pair(pair: Pair, scale: int) -> tuple[Array, Array | None]:
    """(HR cut to a multiple of scale, LR or None), uint8 (H, W, 3).

    Raises:
        ImageError: unreadable, or sizes that do not fit each other.
    """
    hr = mod_crop(read_image_uint8(pair.gt), scale)
    if pair.lq is None:
        return hr, None
    lr = read_image_uint8(pair.lq)
    check_sizes(pair, (hr.shape[1], hr.shape[0]), (lr.shape[1], lr.shape[0]), scale)
    return hr, lr


def check_sizes(pair: Pair, gt: tuple[int, int], lq: tuple[int, int], scale: int) -> None:
    """Raise ImageError unless HR (width, height), cut to multiples of scale, is `scale` times LR."""
    width, height = (side - side % scale for side in gt)
    if (width, height) != (lq[0] * scale, lq[1] * scale):
        raise ImageError(
            f"{pair.gt} ({width}x{height} after cutting to multiples of {scale}) is not {scale} times {pair.lq} "
            f"({lq[0]}x{lq[1]}): wrong partner or wrong scale"
        )


class MeasuredPairs(Dataset):
    """Whole pairs in order: {name, lq, gt}, uint8 arrays (h, w, 3) and (H, W, 3)."""

    def __init__(self, options: PairedDataset, section: str, scale: int):
        self.name = options.name or section
        self.scale = scale
        self.pairs = find_pairs(options, section)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        hr, lr = read_pair(self.pairs[index], self.scale)
        return {"name": self.pairs[index].name, "lq": imresize(hr, 1 / self.scale) if lr is None else lr, "gt": hr}


class TrainingCrops(Dataset):
    """Sample k: a random aligned crop, flipped and turned, {lq, gt} as uint8 (3, h, w) and (3, H, W).

    Every epoch of len(pairs) samples visits each image once, in an order drawn from (seed, epoch).
    """

    def __init__(self, options: TrainDataset, scale: int, seed: int):
        self.options, self.scale, self.seed = options, scale, seed
        self.pairs = find_pairs(options, "train")
        self._check_sizes()
        self._decoded: dict[int, tuple[Array, Array | None]] = {}

    def _check_sizes(self) -> None:
        """From the files' headers: wrong sizes would otherwise only show up hours into a run."""
        side = self.options.gt_size
        small = []
        for pair in self.pairs:
            width, height = image_size(pair.gt)
            if min(width, height) - min(width, height) % self.scale < side:
                small.append(f"{pair.gt} ({width}x{height})")
            elif pair.lq is not None:
                check_sizes(pair, (width, height), image_size(pair.lq), self.scale)
        if small:
            raise ImageError(
                f"{len(small)} of {len(self.pairs)} training images are smaller than the crop (gt_size {side}): "
                f"{', '.join(small[:3])}{', ...' if len(small) > 3 else ''}. Remove them or lower datasets.train.gt_size"
            )

    def _read(self, index: int) -> tuple[Array, Array | None]:
        if not self.options.cache:
            return read_pair(self.pairs[index], self.scale)
        if index not in self._decoded:
            self._decoded[index] = read_pair(self.pairs[index], self.scale)
        return self._decoded[index]

    def __getitem__(self, index: int) -> Sample:
        k = index
        epoch, position = divmod(k, len(self.pairs))
        hr, lr = self._read(int(permutation(self.seed, epoch, len(self.pairs))[position]))
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


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> Array:
    return np.random.default_rng((seed, 0, epoch)).permutation(size)


def augment(image: Array, hflip: bool, vflip: bool, turn: bool) -> Array:
    """(H, W, C) flipped left-right, then up-down, then transposed, as asked (BasicSR's order)."""
    if hflip:
        image = image[:, ::-1]
    if vflip:
        image = image[::-1]
    return image.swapaxes(0, 1) if turn else image


def as_tensor(image: Array) -> Tensor:
    """(H, W, C) array -> (C, H, W) tensor of the same type, contiguous."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
