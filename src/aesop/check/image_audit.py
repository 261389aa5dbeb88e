"""What is in the files of a data set: each one decoded, measured and hashed. `aesop doctor` puts it into words."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aesop.data.find_pairs import Pair, Single, check_sizes, find_singles, find_training_pairs, match_files
from aesop.images.errors import ImageError
from aesop.images.read import read_image_uint8
from aesop.images.resize import imresize, mod_crop
from aesop.options.datasets import PairedDataset, TrainDataset

Array = np.ndarray
# Mean difference from our bicubic, in grey levels of 255, above which an LR image was made in another way. Measured on the
# 17 photographs of the package at x2, x3, x4 and x8, smallest to largest: MATLAB's files 0, the same rounded once 0.07 to
# 0.15, Pillow's bicubic 0.10 to 0.21; Pillow's Lanczos 0.39 to 2.6, OpenCV's area 0.45 to 3.4, linear 0.46 to 18 and cubic
# 0.98 to 21, bicubic and then JPEG 0.80 to 7. Set14's LR files: 0.
OTHERWISE = 0.3
# LR pixels at the border that are not compared: how an image is continued there differs between MATLAB's releases.
BORDER = 2
# Mean spread of the three channels in grey levels from which an image has colour; one that is gray has 0.
COLOUR = 1.0


@dataclass
class Item:
    """What a file, or pair of files, turned out to be."""

    pair: Pair | Single
    unreadable: list[str] = field(default_factory=list)
    """A sentence for each of its files that cannot be decoded."""
    mismatch: str | None = None
    """Why HR and LR do not belong to each other, or the scale."""
    size: tuple[int, int] | None = None
    """Width and height of HR; of a Single, which has none, of LR."""
    ratio: float | None = None
    """HR's width in widths of LR, where it is the same for the heights."""
    difference: float | None = None
    """From LR made by our bicubic, in grey levels; None where that was not compared."""
    channels: str | None = None
    """What is wrong with LR's colours."""
    digest: bytes = b""
    """Of the decoded pixels."""
    seconds: float = 0.0
    """What decoding took of one core."""

    @property
    def megapixels(self) -> float:
        return self.size[0] * self.size[1] / 1e6 if self.size else 0.0


@dataclass
class Audit:
    """A data set's images, and the names that found no partner."""

    items: list[Item]
    found: int
    """Images there are; `items` may be a sample of them."""
    missing: list[str]
    """A sentence for each HR image without LR."""
    unused: list[Path]
    """LR images without HR."""


def audit(
    data: PairedDataset,
    section: str,
    scale: int,
    compare: bool = True,
    at_most: int | None = None,
    track: Callable[[Iterable[Item], int], Iterable[Item]] = lambda items, total: items,
) -> Audit:
    """Look at every file of a data set, or at `at_most` of them, spread evenly.

    Args:
        compare: LR images with bicubic ones of HR; where a degradation made them there is nothing to compare.
        track: shows progress: gets the items as they come, and how many there will be.

    Raises:
        ValueError: a folder that does not exist or holds no image, or two images of one name.
    """
    pairs, missing, unused = _find(data, section)
    chosen = pairs
    if at_most is not None and len(pairs) > at_most:
        chosen = [pairs[place * len(pairs) // at_most] for place in range(at_most)]
    with ThreadPoolExecutor(usable_cores()) as threads:
        coming = threads.map(lambda pair: look(pair, scale, compare), chosen)
        try:
            items = list(track(coming, len(chosen)))
        finally:  # an interrupted audit does not go on to its end
            threads.shutdown(cancel_futures=True)
    return Audit(items, len(pairs), missing, unused)


def _find(data: PairedDataset, section: str) -> tuple[Sequence[Pair | Single], list[str], list[Path]]:
    if data.type == "SingleImageDataset":
        return find_singles(data, section), [], []
    pairs, missing, unused = match_files(data, section)
    if isinstance(data, TrainDataset) and data.meta_info:
        listed = {pair.gt for pair in find_training_pairs(data.model_copy(update={"dataroot_lq": None}))}
        pairs = [pair for pair in pairs if pair.gt in listed]
    return pairs, missing, unused


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def look(pair: Pair | Single, scale: int, compare: bool = True) -> Item:
    """Decode a pair's files and see whether they belong to each other."""
    item = Item(pair)
    begun = time.thread_time()
    hr, lr = (_read(path, item) if path is not None else None for path in (pair.gt, pair.lq))
    item.seconds = time.thread_time() - begun
    image = lr if isinstance(pair, Single) else hr
    if image is not None:
        item.size = (image.shape[1], image.shape[0])
        item.digest = hashlib.blake2b(image.tobytes(), key=b"%d %d" % item.size, digest_size=16).digest()
    if isinstance(pair, Pair) and hr is not None and not item.unreadable:
        _compare(item, pair, hr, lr, scale, compare)
    return item


def _read(path: Path, item: Item) -> Array | None:
    try:
        return read_image_uint8(path)
    except ImageError as error:
        item.unreadable.append(str(error))
        return None


def _compare(item: Item, pair: Pair, hr: Array, lr: Array | None, scale: int, compare: bool) -> None:
    """Sizes, then colours, then how LR was made: each only where what comes before it is in order."""
    try:
        hr = mod_crop(hr, scale)
        if lr is None:
            return
        (height, width), (lr_height, lr_width) = hr.shape[:2], lr.shape[:2]
        item.ratio = width / lr_width if width * lr_height == height * lr_width else None
        check_sizes(pair, (width, height), (lr_width, lr_height), scale)
    except ValueError as error:
        item.mismatch = str(error)
        return
    hr_colour, lr_colour = (float(np.ptp(image, axis=2).mean()) for image in (hr, lr))
    if min(hr_colour, lr_colour) == 0 and max(hr_colour, lr_colour) > COLOUR:
        gray, colour = (pair.lq, pair.gt) if lr_colour == 0 else (pair.gt, pair.lq)
        item.channels = f"{gray} is gray, {colour} has colour"
    elif compare and min(lr_height, lr_width) > 2 * BORDER:
        expected = imresize(hr, 1 / scale)
        item.difference = _difference(lr, expected)
        if item.difference > OTHERWISE and _difference(lr[..., ::-1], expected) <= OTHERWISE:
            item.channels, item.difference = f"{pair.lq} has red and blue exchanged", None


def _difference(image: Array, other: Array) -> float:
    inside = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    return float(np.abs(image[inside].astype(np.int16) - other[inside]).mean())
