"""Checking the images of a dataset: each is decoded, measured and hashed. `aesop doctor` reports the result."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from rich.progress import track

from aesop.data.find_pairs import Pair, Single, find_singles, listed_pairs, match_images, select_listed
from aesop.data.wrong_pairs import UNLIKE, likeness
from aesop.images.errors import ImageError
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.system.device import usable_cores
from aesop.system.terminal import progress

Array = np.ndarray
# Mean difference from our bicubic, in grey levels of 255, above which an LR image was made in another way. Measured on the
# 17 photographs of the package at x2, x3, x4 and x8, smallest to largest: MATLAB's files 0, the same rounded once 0.07 to
# 0.15, Pillow's bicubic 0.10 to 0.21; Pillow's Lanczos 0.39 to 2.6, OpenCV's area 0.45 to 3.4, linear 0.46 to 18 and cubic
# 0.98 to 21, bicubic and then JPEG 0.80 to 7. Set14's LR files: 0.
OTHERWISE = 0.3
# LR pixels at the border that are not compared, since MATLAB's releases differ in how they extend an image.
BORDER = 2
# Mean spread of the three channels, in grey levels, above which an image has colour. The spread of a gray image is 0.
COLOUR = 1.0


@dataclass
class Item:
    """What was found about an image, or a pair of images."""

    pair: Pair | Single
    unreadable: list[str] = field(default_factory=list)  # a sentence for each image that cannot be decoded
    mismatch: str | None = None  # why HR and LR do not match each other, or the scale
    unlike: str | None = None  # the two files, if they do not show the same picture
    size: tuple[int, int] | None = None  # (width, height) of HR; of a Single, of LR
    ratio: float | None = None  # HR's width in widths of LR, if the heights have the same ratio
    difference: float | None = None  # from LR made by our bicubic, in grey levels; None if it was not compared
    channels: str | None = None  # what is wrong with LR's colours
    digest: bytes = b""  # hash of the decoded pixels


@dataclass
class Audit:
    """What was found about a dataset's images."""

    items: list[Item]
    found: int  # number of images in the dataset; `items` may be a sample of them
    missing: list[str]  # a sentence for each HR image without LR
    unused: list[ImageFile]  # LR images without HR


def audit(data: PairedDataset, section: str, scale: int, compare: bool = True, at_most: int | None = None) -> Audit:
    """Check all images of a dataset, or `at_most` of them, evenly spread; `compare` LR images with the bicubic of HR."""
    missing: list[str] = []
    unused: list[ImageFile] = []
    if data.type == "SingleImageDataset":
        pairs: Sequence[Pair | Single] = find_singles(data, section)
    elif isinstance(data, TrainDataset) and (listed := listed_pairs(data)):
        pairs = listed
    else:
        pairs, missing, unused = match_images(data, section)
        if isinstance(data, TrainDataset):
            pairs = select_listed(pairs, data.meta_info)
    count = min(len(pairs), at_most or len(pairs))
    chosen = [pairs[place * len(pairs) // count] for place in range(count)]
    with ThreadPoolExecutor(usable_cores()) as threads:
        coming = threads.map(lambda pair: look(pair, scale, compare), chosen)
        items = list(track(coming, f"datasets.{section}", count, console=progress, transient=True))
    return Audit(items, len(pairs), missing, unused)


def look(pair: Pair | Single, scale: int, compare: bool = True) -> Item:
    """Decode a pair's images and check whether they match."""
    item, images = Item(pair), dict[str, Array]()
    for kind, file in (("hr", pair.gt), ("lr", pair.lq)):
        try:
            images |= {kind: file.read_uint8()} if file else {}
        except ImageError as error:
            item.unreadable.append(str(error))
    hr, lr = images.get("hr"), images.get("lr")
    image = lr if isinstance(pair, Single) else hr
    if image is not None:
        item.size = (image.shape[1], image.shape[0])
        item.digest = hashlib.blake2b(image.tobytes(), key=b"%d %d" % item.size, digest_size=16).digest()
    if isinstance(pair, Pair) and hr is not None and not item.unreadable:
        _compare(item, pair, hr, lr, scale, compare)
    return item


def _compare(item: Item, pair: Pair, hr: Array, lr: Array | None, scale: int, compare: bool) -> None:
    """Check the sizes, then the colours, then how LR was made. Each check needs those before it to pass."""
    try:
        hr = mod_crop(hr, scale)
        if lr is None:
            return
        (height, width), (lr_height, lr_width) = hr.shape[:2], lr.shape[:2]
        item.ratio = width / lr_width if width * lr_height == height * lr_width else None
        pair.check_sizes((width, height), (lr_width, lr_height), scale)
    except ValueError as error:
        item.mismatch = str(error)
        return
    if likeness(hr, lr) < UNLIKE:
        item.unlike = f"{pair.gt} and {pair.lq}"
    hr_colour, lr_colour = (float(np.ptp(image, axis=2).mean()) for image in (hr, lr))
    if min(hr_colour, lr_colour) == 0 and max(hr_colour, lr_colour) > COLOUR:
        gray, colour = (pair.lq, pair.gt) if lr_colour == 0 else (pair.gt, pair.lq)
        item.channels = f"{gray} is gray, {colour} has colour"
    elif compare and min(lr_height, lr_width) > 2 * BORDER:
        expected = imresize(hr, 1 / scale)
        item.difference = _difference(lr, expected)
        if item.difference > OTHERWISE and _difference(lr[..., ::-1], expected) <= OTHERWISE:
            item.channels, item.difference = f"{pair.lq} has red and blue swapped", None


def _difference(image: Array, other: Array) -> float:
    inside = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    return float(np.abs(image[inside].astype(np.int16) - other[inside]).mean())
