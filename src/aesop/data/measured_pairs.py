"""Whole pairs, for validation and tests."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from aesop.data.find_pairs import Pair, Single, find_pairs, find_singles
from aesop.images.resize import imresize
from aesop.options.datasets import PairedDataset


class MeasuredPairs(Dataset):
    """Whole pairs in order: {name, lq, gt}, uint8 arrays (h, w, 3) and (H, W, 3). gt is None in a SingleImageDataset."""

    def __init__(self, options: PairedDataset, section: str, scale: int):
        self.name = options.name or section
        self.scale = scale
        self.has_reference = options.type != "SingleImageDataset"
        self.pairs: Sequence[Pair | Single] = (find_pairs if self.has_reference else find_singles)(options, section)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pairs[index]
        if isinstance(pair, Single):
            return {"name": pair.name, "lq": pair.lq.read_uint8(), "gt": None}
        hr, lr = pair.read(self.scale)
        return {"name": pair.name, "lq": imresize(hr, 1 / self.scale) if lr is None else lr, "gt": hr}
