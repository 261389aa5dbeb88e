"""Decoded images in one memory-mapped file NAME.pack: a crop is read without decoding the image.

    header   64 bytes: magic, version, offset and length of the index, SHA-256 of the index (see HEADER)
    pixels   image after image without gaps: uint8, RGB, (height, width, 3)
    index    JSON up to the end of the file: [[name, height, width], ...] in the order of the pixels

The offset of an image follows from the sizes of those before it. Names are those of the packed files, with sub-folders.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aesop.images.errors import ImageError
from aesop.images.read import ImageFile, is_name_below
from aesop.images.tensors import ImageArray
from aesop.system.files import replacing

MAGIC, VERSION = b"AESOPACK", 1
HEADER = struct.Struct("<8sI4xQQ32s")
CHANNELS = 3
MAX_INDEX = 1 << 30  # bytes: ten million images
MAX_SIDE = 1 << 31


def write(path: str | os.PathLike, images: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write a pack of names and images, uint8 (H, W, 3), in the given order. On failure an existing pack stays as it was."""
    index = []
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(HEADER.size))
        for name, image in images:
            assert image.dtype == np.uint8
            assert image.ndim == CHANNELS == image.shape[2]
            file.write(np.ascontiguousarray(image).data)
            index.append([name, *image.shape[:2]])
        offset, text = file.tell(), json.dumps(index).encode()
        file.write(text)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, VERSION, offset, len(text), hashlib.sha256(text).digest()))


def is_pack(path: Path) -> bool:
    return path.suffix == ".pack" and path.is_file()


class Pack:
    """A mapped pack. Processes that read it share the memory. Unpickled, it maps its file when first read."""

    def __init__(self, path: Path, index_digest: bytes | None = None):
        self.path, self.index_digest = path, index_digest
        self._content: NDArray[np.uint8] | None = None

    def __reduce__(self) -> tuple[type["Pack"], tuple[Path, bytes | None]]:
        return Pack, (self.path, self.index_digest)

    def content(self) -> NDArray[np.uint8]:
        """Return the bytes of the file, read-only, after checking its header."""
        if self._content is None:
            try:
                content = np.asarray(np.memmap(self.path, np.uint8, "r"))
            except OSError as error:
                raise ImageError(f"{self.path} cannot be read: {error.strerror}; check the path") from error
            except ValueError:  # NumPy does not map empty files
                content = np.empty(0, np.uint8)
            digest = _read_header(content, self.path)[2]
            if self.index_digest not in (None, digest):
                raise ImageError(f"{self.path} was replaced by another pack while in use: start again")
            self._content, self.index_digest = content, digest
        return self._content


@dataclass(frozen=True)
class PackedImage(ImageFile):
    """An image in a pack. Reading it returns a read-only view of the mapped file."""

    pack: Pack = field(compare=False, repr=False)
    offset: int
    height: int
    width: int

    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def pixels(self) -> ImageArray:
        end = self.offset + self.height * self.width * CHANNELS
        return self.pack.content()[self.offset : end].reshape(self.height, self.width, CHANNELS)


def list_pack(path: Path) -> list[PackedImage]:
    """List the images of a pack in the order they were packed."""
    pack = Pack(path)
    start, length, digest = _read_header(pack.content(), path)
    text = pack.content()[start : start + length].tobytes()
    if hashlib.sha256(text).digest() != digest:
        raise _damaged(path, "its checksum is wrong")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it is not JSON") from error
    images: dict[str, PackedImage] = {}
    end = HEADER.size
    for entry in entries if isinstance(entries, list) else [entries]:
        if not _is_entry(entry) or entry[0] in images:
            raise _damaged(path, f"entry {len(images)} is not a unique name with a height and a width")
        name, height, width = entry
        images[name] = PackedImage(path / name, name, pack, end, height, width)
        end += height * width * CHANNELS
    if end != start or not images:
        raise _damaged(path, f"its {len(images)} images take {end - HEADER.size} of {start - HEADER.size} bytes")
    return list(images.values())


def _read_header(content: NDArray[np.uint8], path: Path) -> tuple[int, int, bytes]:
    """Return offset, length and SHA-256 of the index."""
    header = content[: HEADER.size].tobytes()
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise ImageError(f"{path} is not a pack: make one from a folder of images with `aesop prepare pack`")
    _, version, start, length, digest = HEADER.unpack(header)
    if version != VERSION:
        found = f"pack version {version}, but this release reads version {VERSION}"
        raise ImageError(f"{path} has {found}: pack the folder again")
    if start + length != len(content) or length > MAX_INDEX:
        found = f"{len(content)} bytes, but its header says {start + length}"
        raise ImageError(f"{path} has {found}: copy the pack, or pack the folder, again")
    return start, length, digest


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and [type(value) for value in entry] == [str, int, int]
        and is_name_below(entry[0])
        and all(0 < side < MAX_SIDE for side in entry[1:])
    )


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(f"the index of {path} is damaged ({reason}): copy the pack, or pack the folder, again")
