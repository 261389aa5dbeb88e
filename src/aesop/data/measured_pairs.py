"""Whole pairs, for validation and tests."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from aesop.data.find_pairs import Pair, Single, find_pairs, find_singles
from aesop.images.read import as_rgb8, conversions
from aesop.images.resize import imresize
from aesop.images.tensors import ImageArray
from aesop.options.datasets import PairedDataset


def digest(image: ImageArray) -> str:
    """SHA-256 of an image's pixels and shape, in hexadecimal."""
    found = hashlib.sha256(repr(image.shape).encode())
    found.update(np.ascontiguousarray(image).data)
    return found.hexdigest()


def in_gray(image: NDArray) -> NDArray:
    """Luma in three equal channels, uint8 (H, W, 3)."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


class Sample:
    """An image to measure: HR, cut to multiples of the scale, and LR, which is read or made when it is first asked for.

    Images are uint8 (H, W, 3), (h, w, 3), of three equal channels if `gray`. Raises ImageError if HR cannot be read, and
    `lq` if LR cannot be.
    """

    def __init__(self, pair: Pair | Single, scale: int, of: str = "", gray: bool = False):
        self.pair, self.scale, self.name, self.gray = pair, scale, pair.name, gray
        self.key = (of, pair.name)
        """The test set's name and its own."""
        self.gt: ImageArray | None = None
        """None for an image without HR."""
        self.notes: list[tuple[str, str]] = []
        """What was done to images when they were read: (HR or a method's name, in words)."""
        if isinstance(pair, Pair):
            pixels = pair.gt.pixels()
            self.gt = pair.cut(as_rgb8(pixels), scale)
            self.notes += [("HR", text) for text in conversions(pixels)]
            if gray:
                self.gt = in_gray(self.gt)
            if self.gt.shape[:2] != pixels.shape[:2]:
                self.notes.append(("HR", f"cut to multiples of {scale}"))

    @cached_property
    def lq(self) -> NDArray:
        lq = self._lq()
        return in_gray(lq) if self.gray else lq

    def _lq(self) -> NDArray:
        if isinstance(self.pair, Single):
            return self.pair.lq.read_uint8()
        assert self.gt is not None
        return imresize(self.gt, 1 / self.scale) if self.pair.lq is None else self.pair.read_lr(self.gt, self.scale)

    def digests(self) -> dict[str, str]:
        """Of `hr`, if there is one, and of `lr` if it was read from a file: what an answer depends on."""
        images = {"hr": self.gt, "lr": vars(self).get("lq") if self.pair.lq else None}
        return {name: digest(image) for name, image in images.items() if image is not None}


class MeasuredPairs(Dataset):
    """The samples of a test set, in order; `gray`: for a network of one channel."""

    def __init__(self, name: str, scale: int, pairs: Sequence[Pair | Single], gray: bool = False):
        self.name, self.scale, self.pairs, self.gray = name, scale, pairs, gray
        self.has_reference = isinstance(pairs[0], Pair)

    @classmethod
    def find(cls, options: PairedDataset, section: str, scale: int, gray: bool = False) -> Self:
        """The images of a data set. A SingleImageDataset has no HR."""
        find = find_singles if options.type == "SingleImageDataset" else find_pairs
        return cls(options.name or section, scale, find(options, section), gray)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """`Sample.key` of each sample."""
        return [(self.name, pair.name) for pair in self.pairs]

    def limit(self, count: int) -> None:
        """Keep `count` of the images, evenly spread; 0: all."""
        if 0 < count < len(self.pairs):
            self.pairs = [self.pairs[place * len(self.pairs) // count] for place in range(count)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.pairs[index], self.scale, self.name, self.gray)
