"""The parts of an image that a page shows: around the place where methods differ most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np

from aesop.images.resize import imresize, mod_crop

Image = np.ndarray  # uint8 (H, W, 3)
CROP = 48  # side of the crops in HR pixels: a multiple of every scale


@dataclass(frozen=True)
class Window:
    """A rectangle of an image in HR pixels, on the grid of LR pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Image, reduced: int = 1) -> Image:
        """A copy of its pixels in an image (H, W, 3) that is `reduced` times smaller than HR."""
        top, left, height, width = (value // reduced for value in (self.top, self.left, self.height, self.width))
        return image[top : top + height, left : left + width].copy()

    def grown(self, side: int, whole: tuple[int, int], grid: int) -> "Window":
        """At most side x side pixels around it, inside an image of `whole` (height, width); all multiples of `grid`."""
        height, width = (min(side, length) for length in whole)
        top = min(max(self.top + (self.height - height) // 2, 0), whole[0] - height) // grid * grid
        left = min(max(self.left + (self.width - width) // 2, 0), whole[1] - width) // grid * grid
        return Window(top, left, height, width)


def most_different_window(a: Image, b: Image, side: int, grid: int) -> Window:
    """The window in which two images (H, W, 3) differ most; half a window off the border if they are large enough.

    Args:
        side: of the window, less if the images are smaller.
        grid: the window starts at multiples of it; `side` and the images' sides are multiples, too.
    """
    difference = (a.astype(np.float32) - b).mean(2) ** 2
    height, width = (length // grid for length in difference.shape)
    cells = difference.reshape(height, grid, width, grid).sum((1, 3))
    rows, columns = min(side // grid, height), min(side // grid, width)
    integral = cv2.integral(cells)
    sums = integral[rows:, columns:] - integral[:-rows, columns:] - integral[rows:, :-columns] + integral[:-rows, :-columns]
    above, before = (min(n // 2, (places - 1) // 2) for n, places in zip((rows, columns), sums.shape, strict=True))
    inner = sums[above : sums.shape[0] - above, before : sums.shape[1] - before]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return Window((above + int(row)) * grid, (before + int(column)) * grid, rows * grid, columns * grid)


@dataclass(frozen=True)
class View:
    """What a page shows of one image: a large part for the slider, and a small crop inside it."""

    name: str
    size: tuple[int, int]
    """(height, width) of the whole image in HR pixels."""
    part: Window
    crop: Window
    images: Mapping[str, Image]
    """The part, by label: LR (enlarged to square pixels) or the auto-encoder's input, methods, HR if there is one."""
    crops: Mapping[str, Image]
    """The crop, by label; that of LR is not enlarged."""

    @classmethod
    def of(cls, sample: Mapping[str, Any], images: Mapping[str, Image], scale: int, side: int, crop: int = CROP) -> Self:
        """Around the place where bicubic loses most; without HR, where it differs most from the last method.

        Args:
            sample: {name, lq, gt} of MeasuredPairs.
            images: SR by method, the tested network last.
            side, crop: largest sides of the part and the crop in HR pixels, multiples of `scale`.
        """
        lq, gt, last = sample["lq"], sample["gt"], list(images.values())[-1]
        size = last.shape[:2]
        if size == (lq.shape[0] * scale, lq.shape[1] * scale):
            source, reduced, reference = {"LR": lq}, scale, imresize(lq, scale)
        else:  # an auto-encoder keeps the size of its input
            reference = mod_crop(lq, scale)
            source, reduced = {"Input": reference}, 1
        window = most_different_window(reference, last if gt is None else gt, crop, scale)
        part = window.grown(side, size, scale)
        others = {**images, **({} if gt is None else {"HR": gt})}
        parts = {label: part.of(image, reduced).repeat(reduced, 0).repeat(reduced, 1) for label, image in source.items()}
        crops = {label: window.of(image, reduced) for label, image in source.items()}
        parts |= {label: part.of(image) for label, image in others.items()}
        crops |= {label: window.of(image) for label, image in others.items()}
        return cls(sample["name"], size, part, window, parts, crops)

    @property
    def caption(self) -> str:
        if (self.part.height, self.part.width) == self.size:
            return self.name
        return f"{self.name}: {self.part.width}x{self.part.height} of {self.size[1]}x{self.size[0]} pixels, around the crop"
