"""Reading images, through references to plain files or to images that were listed in a folder or store.

Gray is expanded to RGB, alpha dropped (not blended), palettes are resolved, the EXIF orientation is applied, and colour
profiles are ignored. An image is (H, W, 3) RGB, uint8, or uint16 where the file has 16 bits.
"""

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from aesop.images.decode import decode, size_in_header
from aesop.images.errors import ImageError
from aesop.images.tensors import ImageArray, to_uint8

MAX_BYTES = (1 << 31) - 1  # 200 megapixels take less in any format


@dataclass(frozen=True)
class ImageFile:
    """A reference to an image in a file of its own. Subclasses refer to images in stores; `list_images` returns any of them.

    References can be pickled. All methods raise ImageError if the image cannot be read.
    """

    path: Path
    """Where the image is, for messages. Images in stores cannot be opened by it."""
    name: str
    """The image's path below the folder or store that was listed, such as `sub/img.png`."""

    @classmethod
    def at(cls, path: str | os.PathLike) -> "ImageFile":
        return cls(Path(path), Path(path).name)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def stem(self) -> str:
        """`name` without its suffix: `sub/img`."""
        return PurePosixPath(self.name).with_suffix("").as_posix()

    def size(self) -> tuple[int, int]:
        """Return (width, height) without decoding the image."""
        with self._open() as file:
            return size_in_header(file, self.path)

    def read(self) -> ImageArray:
        """Return the image as (H, W, 3) RGB, uint8 or uint16. An image in a pack is a read-only view of the pack."""
        return _to_rgb(self.pixels())

    def read_uint8(self) -> NDArray[np.uint8]:
        """Return the image as (H, W, 3) RGB, 16 bits divided by 257 and rounded."""
        return as_rgb8(self.pixels())

    def read_with_alpha(self) -> tuple[ImageArray, ImageArray | None]:
        """Return the image as `read` does, and the alpha channel (H, W) of a PNG, WebP or TIFF file that has one."""
        image = self.pixels()
        alpha = image[..., 3].copy() if image.ndim == 3 and image.shape[2] == 4 else None
        return _to_rgb(image), alpha

    def pixels(self) -> ImageArray:
        """Return the image as it is stored, gray or with alpha; see `decode`."""
        return decode(self.read_bytes(), self.path)

    def read_bytes(self) -> bytes:
        """Return the content of the image's file."""
        with self._open() as file:
            return file.read()

    @contextmanager
    def _open(self) -> Generator[BinaryIO]:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # reading a pipe may block for ever, and a device has no end
                raise ImageError(f"{self.path} is a folder, a pipe or a device, not an image file")
            if status.st_size > MAX_BYTES:
                raise ImageError(f"{self.path} has {status.st_size / 1e9:.1f} GB, more than any image of the allowed size")
            with self.path.open("rb") as file:
                yield file
        except OSError as error:
            raise ImageError(f"image {self.path} cannot be read: {error.strerror}; check the path") from error


def is_name_below(name: str) -> bool:
    """Check that an image's name in a store stays below the folder that results are written to."""
    return not {"", ".", ".."}.intersection(name.split("/"))


def as_rgb8(pixels: ImageArray) -> NDArray[np.uint8]:
    """Convert an image as it is stored to uint8 (H, W, 3): see `conversions`."""
    return to_uint8(_to_rgb(pixels))


def conversions(pixels: ImageArray) -> list[str]:
    """Say what `as_rgb8` changes in an image."""
    changes = {
        "gray, repeated to three channels": pixels.ndim == 2,
        "transparency left out": pixels.ndim == 3 and pixels.shape[2] == 4,
        "16 bits, rounded to 8": pixels.dtype != np.uint8,
    }
    return [text for text, applies in changes.items() if applies]


def _to_rgb(image: ImageArray) -> ImageArray:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])
