"""HR/LR pairs: finding them in folders, whole pairs for measuring, random aligned crops for training.

Training sample k is a pure function of (seed, k): no state, so it is the same on any number of workers and processes
and after any resume.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aesop.config import PairedDataset, TrainDataset
from aesop.data.images import ImageError, image_size, list_images, read_image_uint8
from aesop.data.resize import imresize, lr_crop, mod_crop

log = logging.getLogger("aesop")
T = TypeVar("T")
Sample = dict[str, Any]
Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """One HR file, its LR file (None: LR is made from HR) and its name below the dataset's folder, without suffix."""

    gt: Path
    lq: Path | None
    name: str

    @property
    def source(self) -> Path:
        """The file to name to the user."""
        return self.gt


@dataclass(frozen=True)
class Single:
    """One file, the network's input, without HR; and its name below the dataset's folder, without suffix."""

    lq: Path
    name: str
    gt: None = None

    @property
    def source(self) -> Path:
        """The file to name to the user."""
        return self.lq


def find_singles(options: PairedDataset, section: str) -> list[Single]:
    """Every image of a SingleImageDataset.

    Raises:
        ValueError: no folder given, a folder that does not exist or holds no image, or two images of one name.
    """
    if not options.dataroot_lq:
        raise ValueError(f"datasets.{section}.dataroot_lq: give the folder of images")
    roots = _as_list(options.dataroot_lq)
    files = [(root, path) for root in roots for path in _list(root, f"datasets.{section}.dataroot_lq")]
    singles = [Single(path, _name(path.relative_to(root).with_suffix(""), root, roots)) for root, path in files]
    _check_names([single.name for single in singles], section)
    return singles


def find_pairs(options: PairedDataset, section: str) -> list[Pair]:
    """Every HR image of a dataset with its LR partner.

    Raises:
        ValueError: as match_files; HR images without partner (all are counted, the first few named).
    """
    pairs, missing, _ = match_files(options, section)
    if missing:
        raise ValueError(
            f"datasets.{section}: {len(missing)} of {len(pairs)} HR images have no LR image named "
            f"{options.filename_tmpl!r}; set filename_tmpl, or leave dataroot_lq out to have LR made from HR. "
            f"The first: " + "; ".join(missing[:3])
        )
    return pairs


def match_files(options: PairedDataset, section: str) -> tuple[list[Pair], list[str], list[Path]]:
    """Every HR image with the LR file of its name; a sentence for each that has none; LR files that no HR image names.

    Raises:
        ValueError: no folder given, a folder that does not exist or holds no image, or two images of one name.
    """
    if not options.dataroot_gt:
        raise ValueError(f"datasets.{section}.dataroot_gt: give the folder of HR images")
    roots_gt = _as_list(options.dataroot_gt)
    roots_lq: Sequence[str | None] = _as_list(options.dataroot_lq) if options.dataroot_lq else [None] * len(roots_gt)
    if len(roots_lq) != len(roots_gt):
        raise ValueError(f"datasets.{section}: dataroot_gt and dataroot_lq must name equally many folders")
    pairs, missing, unused = [], [], []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        partners = {}
        if root_lq is not None:
            lq_files = _list(root_lq, f"datasets.{section}.dataroot_lq")
            partners = {path.relative_to(root_lq).with_suffix("").as_posix(): path for path in lq_files}
        taken = set()
        for path in _list(root_gt, f"datasets.{section}.dataroot_gt"):
            relative = path.relative_to(root_gt).with_suffix("")
            partner = partners.get((relative.parent / options.filename_tmpl.format(relative.name)).as_posix())
            if root_lq is not None and partner is None:
                missing.append(f"{path} has no partner in {root_lq}")
            taken.add(partner)
            pairs.append(Pair(path, partner, _name(relative, root_gt, roots_gt)))
        unused += [path for path in partners.values() if path not in taken]
    _check_names([pair.name for pair in pairs], section)
    return pairs, missing, unused


def _name(relative: Path, root: str, roots: Sequence[str]) -> str:
    """Results are saved under it; several folders may hold files of one name."""
    return (relative if len(roots) == 1 else Path(Path(root).name) / relative).as_posix()


def _check_names(names: list[str], section: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"datasets.{section}: two images are both named {twice!r}; rename one, or its folder")


def find_training_pairs(options: TrainDataset) -> list[Pair]:
    """`find_pairs`, or those of them that `meta_info` names: a list of files below dataroot_gt, ` (size)` behind or not.

    Raises:
        ValueError: as find_pairs; no such list, an empty one, or names of no file (counted, the first named).
    """
    pairs = find_pairs(options, "train")
    if options.meta_info is None:
        return pairs
    try:
        lines = Path(options.meta_info).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"datasets.train.meta_info: {options.meta_info} cannot be read ({error})") from error
    roots = _as_list(options.dataroot_gt or [])
    by_name = {
        pair.gt.relative_to(root).as_posix(): pair for pair in pairs for root in roots if pair.gt.is_relative_to(root)
    }
    names = [name for name in (line.split(" (")[0].strip() for line in lines) if name]
    unknown = [name for name in names if name not in by_name]
    if not names:
        raise ImageError(f"datasets.train.meta_info: {options.meta_info} names no image")
    if unknown:
        raise ImageError(
            f"datasets.train.meta_info: of {len(names)} names in {options.meta_info} {len(unknown)} are no image below "
            f"dataroot_gt: {', '.join(unknown[:3])}"
        )
    return [by_name[name] for name in names]


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
    hr = read_image_uint8(pair.gt)
    if min(hr.shape[:2]) < scale:
        raise ImageError(f"{pair.gt} ({hr.shape[1]}x{hr.shape[0]}) is too small for scale {scale}: leave it out")
    hr = mod_crop(hr, scale)
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
    """Whole pairs in order: {name, lq, gt}, uint8 arrays (h, w, 3) and (H, W, 3); of a SingleImageDataset gt is None."""

    def __init__(self, options: PairedDataset, section: str, scale: int):
        self.name = options.name or section
        self.scale = scale
        self.has_reference = options.type != "SingleImageDataset"
        self.pairs: Sequence[Pair | Single] = (find_pairs if self.has_reference else find_singles)(options, section)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        if isinstance(pair, Single):
            return {"name": pair.name, "lq": read_image_uint8(pair.lq), "gt": None}
        hr, lr = read_pair(pair, self.scale)
        return {"name": pair.name, "lq": imresize(hr, 1 / self.scale) if lr is None else lr, "gt": hr}


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


def image_number(seed: int, sample: int, size: int) -> int:
    """Which of `size` images sample k is made of."""
    epoch, position = divmod(sample, size)
    return int(permutation(seed, epoch, size)[position])


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
    """(H, W, C) array -> (C, H, W) tensor of the same type, contiguous, a copy."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())
