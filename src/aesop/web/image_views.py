"""The parts of an image that a page shows: where methods differ most."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import cv2
import numpy as np

from aesop.images.resize import imresize, mod_crop
from aesop.web.page import Image

CROP = 48  # side of the crops in HR pixels: a multiple of every scale


@dataclass(frozen=True)
class Part:
    """A rectangle of an image, in HR pixels on the grid of LR pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Image, reduced: int = 1) -> Image:
        """The rectangle's pixels, copied, of an image (H, W, 3) that is so many times smaller than HR."""
        top, left, height, width = (value // reduced for value in (self.top, self.left, self.height, self.width))
        return image[top : top + height, left : left + width].copy()

    def grown(self, side: int, whole: tuple[int, int], grid: int) -> "Part":
        """At most side x side pixels around it, inside an image of `whole` (height, width); all multiples of `grid`."""
        height, width = (min(side, length) for length in whole)
        top = min(max(self.top + (self.height - height) // 2, 0), whole[0] - height) // grid * grid
        left = min(max(self.left + (self.width - width) // 2, 0), whole[1] - width) // grid * grid
        return Part(top, left, height, width)


def most_different_window(a: Image, b: Image, side: int, grid: int) -> Part:
    """The window in which two images (H, W, 3) differ most, half a window off the border where they are large enough.

    Args:
        side: of the window, less where the images are smaller.
        grid: the window begins at multiples of it; `side` and the images' sides are multiples, too.
    """
    difference = (a.astype(np.float32) - b).mean(2) ** 2
    height, width = (length // grid for length in difference.shape)
    cells = difference.reshape(height, grid, width, grid).sum((1, 3))
    rows, columns = min(side // grid, height), min(side // grid, width)
    upto = cv2.integral(cells)  # [y, x]: the sum of all cells above and left of y, x
    sums = upto[rows:, columns:] - upto[:-rows, columns:] - upto[rows:, :-columns] + upto[:-rows, :-columns]
    above, before = (min(n // 2, (places - 1) // 2) for n, places in zip((rows, columns), sums.shape, strict=True))
    inner = sums[above : sums.shape[0] - above, before : sums.shape[1] - before]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return Part((above + int(row)) * grid, (before + int(column)) * grid, rows * grid, columns * grid)


@dataclass
class View:
    """One image on a page, by method: a large part of it for the slider, and its most telling window."""

    name: str
    size: tuple[int, int]
    """(height, width) of the whole image in HR pixels."""
    part: Part
    window: Part
    images: dict[str, Image] = field(default_factory=dict)
    crops: dict[str, Image] = field(default_factory=dict)

    @classmethod
    def of(cls, sample: Mapping[str, Any], answers: Mapping[str, Image], scale: int, side: int, crop: int = CROP) -> Self:
        """LR, the methods' answers and HR, where there is one, around the place where bicubic loses most; without HR where
        it differs most from the last answer. Only copies of the parts are kept.

        Args:
            sample: {name, lq, gt} of MeasuredPairs.
            answers: SR by method in the page's order, the tested network last.
            side, crop: largest sides of the part and the window in HR pixels, multiples of `scale`.
        """
        lq, gt, answer = sample["lq"], sample["gt"], list(answers.values())[-1]
        size = answer.shape[:2]
        if size == (lq.shape[0] * scale, lq.shape[1] * scale):
            label, reduced, start = "LR", scale, imresize(lq, scale)
        else:  # an auto-encoder was given the image itself
            label, reduced, start = "Input", 1, mod_crop(lq, scale)
            lq = start
        window = most_different_window(start, answer if gt is None else gt, crop, scale)
        view = cls(sample["name"], size, window.grown(side, size, scale), window)
        view._add(label, lq, reduced)
        for method, image in answers.items():
            view._add(method, image)
        if gt is not None:
            view._add("HR", gt)
        return view

    def _add(self, label: str, image: Image, reduced: int = 1) -> None:
        self.crops[label] = self.window.of(image, reduced)
        self.images[label] = self.part.of(image, reduced).repeat(reduced, 0).repeat(reduced, 1)

    @property
    def caption(self) -> str:
        if (self.part.height, self.part.width) == self.size:
            return self.name
        return f"{self.name}: {self.part.width}x{self.part.height} of {self.size[1]}x{self.size[0]} pixels, around the crop"
