"""Whole pairs, for validation and tests."""

from collections.abc import Sequence
from typing import Any

import cv2
from torch.utils.data import Dataset

from aesop.data.find_pairs import Pair, Single, find_pairs, find_singles
from aesop.images.resize import imresize
from aesop.images.tensors import ImageArray
from aesop.options.datasets import PairedDataset


class MeasuredPairs(Dataset):
    """Whole pairs in order: {name, lq, gt}, uint8 arrays (h, w, 3) and (H, W, 3). gt is None in a SingleImageDataset.

    `gray`: for a network of one channel, images have three equal channels.
    """

    def __init__(self, options: PairedDataset, section: str, scale: int, gray: bool = False):
        self.name = options.name or section
        self.scale, self.gray = scale, gray
        self.has_reference = options.type != "SingleImageDataset"
        self.pairs: Sequence[Pair | Single] = (find_pairs if self.has_reference else find_singles)(options, section)

    def limit(self, count: int) -> None:
        """Keep `count` of the images, evenly spread; 0: all."""
        if 0 < count < len(self.pairs):
            self.pairs = [self.pairs[place * len(self.pairs) // count] for place in range(count)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pairs[index]
        if isinstance(pair, Single):
            lr, hr = pair.lq.read_uint8(), None
        else:
            hr, lr = pair.read(self.scale)
            lr = imresize(hr, 1 / self.scale) if lr is None else lr
        if self.gray:
            lr, hr = (None if image is None else in_gray(image) for image in (lr, hr))
        return {"name": pair.name, "lq": lr, "gt": hr}


def in_gray(image: ImageArray) -> ImageArray:
    """Luma in three equal channels, uint8 (H, W, 3)."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
