"""Whole pairs, for validation and tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from aesop.data.find_pairs import Pair, Single, check_sizes, find_pairs, find_singles
from aesop.images.errors import ImageError
from aesop.images.read import read_image_uint8
from aesop.images.resize import imresize, mod_crop
from aesop.options.datasets import PairedDataset

Sample = dict[str, Any]
Array = np.ndarray


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
