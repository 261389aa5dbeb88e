"""What pixels consist of, and frames as interleaved rows of another kind."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from aesop.images.tensors import ImageArray, to_uint8
from aesop.pictures.picture import Frame


@dataclass(frozen=True)
class PixelKind:
    """Gray or RGB, with or without alpha, of a type: uint8, uint16, or float32."""

    colour: bool
    alpha: bool
    dtype: np.dtype

    @classmethod
    def of(cls, frame: Frame) -> "PixelKind":
        return cls(frame.pixels.ndim == 3, frame.alpha is not None, frame.pixels.dtype)

    @classmethod
    def of_all(cls, frames: Iterable[Frame]) -> "PixelKind":
        """The kind that keeps every one of the frames."""
        return reduce(lambda a, b: cls(a.colour | b.colour, a.alpha | b.alpha, max(a.dtype, b.dtype)), map(cls.of, frames))

    @property
    def channels(self) -> int:
        return (3 if self.colour else 1) + self.alpha

    def strips(self, frame: Frame, rows: int) -> Iterator[ImageArray]:
        """Yield `rows` rows of the frame at a time, (rows, W, channels) of this kind. The last strip may be shorter.

        Alpha is left out if the kind has none; a frame without it becomes opaque. Raises ValueError for NaN.
        """
        height, width = frame.pixels.shape[:2]
        full = 1 if self.dtype == np.float32 else np.iinfo(self.dtype).max
        for start in range(0, height, rows):
            part = slice(start, start + rows)
            strip = np.empty((min(rows, height - start), width, self.channels), self.dtype)
            colours = convert(frame.pixels[part], self.dtype)
            strip[..., : 3 if self.colour else 1] = np.atleast_3d(colours)
            if self.alpha:
                strip[..., -1] = full if frame.alpha is None else convert(frame.alpha[part], self.dtype)
            yield strip

    def rows_of(self, width: int, size: int) -> int:
        """How many rows of `width` pixels make up about `size` bytes."""
        return max(1, size // (width * self.channels * self.dtype.itemsize))


def convert(array: ImageArray, dtype: np.dtype) -> ImageArray:
    """Convert to a type that is not wider, or from 8 to 16 bits. Floats are clipped to [0, 1] unless they stay floats."""
    if array.dtype == np.float32 and np.isnan(array).any():
        raise ValueError("there are values that are no numbers (NaN)")
    if array.dtype == dtype:
        return array
    if array.dtype == np.float32:
        return np.rint(np.clip(array, 0, 1) * np.float64(np.iinfo(dtype).max)).astype(dtype)
    return to_uint8(array) if dtype == np.uint8 else array.astype(dtype) * dtype.type(257)
