"""The parts of an image that a page shows: around the place where methods differ most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from aesop.data.measured_pairs import Sample
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

    `side`, the images' sides and the window's place are multiples of `grid`. In smaller images the window is smaller.
    """
    return largest_window((a.astype(np.float32) - b).mean(2) ** 2, side, side, grid)


def most_disputed_window(images: Sequence[Image], height: int, width: int) -> Window:
    """The window in which several images (H, W, 3) differ most from their mean; see `most_different_window`."""
    gray = np.stack([image.mean(2, dtype=np.float32) for image in images])
    return largest_window(gray.var(0), height, width)


def largest_window(values: np.ndarray, height: int, width: int, grid: int = 1) -> Window:
    """The window of at most `height` x `width` with the largest sum of values (H, W), half a window off the border."""
    cells_high, cells_wide = (length // grid for length in values.shape)
    cells = values.reshape(cells_high, grid, cells_wide, grid).sum((1, 3))
    rows, columns = min(height // grid, cells_high), min(width // grid, cells_wide)
    integral = cv2.integral(cells)
    sums = integral[rows:, columns:] - integral[:-rows, columns:] - integral[rows:, :-columns] + integral[:-rows, :-columns]
    above, before = (min(n // 2, (places - 1) // 2) for n, places in zip((rows, columns), sums.shape, strict=True))
    inner = sums[above : sums.shape[0] - above, before : sums.shape[1] - before]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return Window((above + int(row)) * grid, (before + int(column)) * grid, rows * grid, columns * grid)


@dataclass(frozen=True)
class View:
    """What a page shows of one image: a large part for the slider, and a small crop inside it.

    `images` and `crops` are these two by label: LR (of `images`, enlarged) or the auto-encoder's input, methods, HR if any.
    """

    name: str
    caption: str
    part: Window
    crop: Window
    images: Mapping[str, Image]
    crops: Mapping[str, Image]

    @classmethod
    def of(cls, sample: Sample, images: Mapping[str, Image], scale: int, side: int, crop: int = CROP) -> Self:
        """Around the place where bicubic loses most; without HR, where it differs most from the last method in `images`.

        `side` and `crop` are the largest sides of the part and the crop in HR pixels, multiples of `scale`.
        """
        name, lq, gt, last = sample.name, sample.lq, sample.gt, list(images.values())[-1]
        height, width = last.shape[:2]
        if (height, width) == (lq.shape[0] * scale, lq.shape[1] * scale):
            label, reduced, reference = "LR", scale, imresize(lq, scale)
        else:  # an auto-encoder keeps the size of its input
            lq = reference = mod_crop(lq, scale)
            label, reduced = "Input", 1
        window = most_different_window(reference, last if gt is None else gt, crop, scale)
        part = window.grown(side, (height, width), scale)
        caption = name
        if (part.height, part.width) != (height, width):
            caption += f": {part.width}x{part.height} of {width}x{height} pixels, around the crop"
        others = images if gt is None else {**images, "HR": gt}
        parts = {label: part.of(lq, reduced).repeat(reduced, 0).repeat(reduced, 1)}
        parts |= {other: part.of(image) for other, image in others.items()}
        crops = {label: window.of(lq, reduced)} | {other: window.of(image) for other, image in others.items()}
        return cls(name, caption, part, window, parts, crops)
