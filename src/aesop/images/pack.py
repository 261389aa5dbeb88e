"""Decoded images in one file NAME.pack, which is mapped into memory: a crop is cut out without decoding anything.

    header   64 bytes: magic, version, place and length of the index, SHA-256 of the index (see HEADER)
    pixels   image after image without gaps: uint8, RGB, (height, width, 3)
    index    to the file's end: JSON, [[name, height, width], ...] in the order of the pixels

Where an image begins follows from the sizes of those before it. Names are those of the packed files, with sub-folders;
an image in a pack is addressed like a file in a folder: NAME.pack/sub/name.png.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aesop.system.files import replacing

MAGIC, VERSION = b"AESOPACK", 1
HEADER = struct.Struct("<8sI4xQQ32s")
CHANNELS = 3
MAX_INDEX = 1 << 30  # ten million images
MAX_SIDE = 1 << 31


class PackError(ValueError):
    """A pack that cannot be used; the message names it and says what to do."""


def write(path: str | os.PathLike, images: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write names and images, uint8 (H, W, 3), in this order: aside, then renamed.

    Raises:
        OSError: the disk is full, or the like; nothing is left behind, and a former pack stays as it was.
    """
    index = []
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(HEADER.size))
        for name, image in images:
            assert image.dtype == np.uint8
            assert image.ndim == CHANNELS == image.shape[2]
            file.write(np.ascontiguousarray(image).data)
            index.append([name, *image.shape[:2]])
        place, text = file.tell(), json.dumps(index).encode()
        file.write(text)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, VERSION, place, len(text), hashlib.sha256(text).digest()))


def is_pack(path: Path) -> bool:
    return path.suffix == ".pack" and path.is_file()


def list_names(pack: Path) -> list[str]:
    """The images' names in the order they were packed; the pack is read anew.

    Raises:
        PackError: no pack, another version's, truncated or damaged.
    """
    _open[pack] = _Pack(pack)
    return list(_open[pack].places)


def view(path: Path) -> NDArray[np.uint8] | None:
    """The image at NAME.pack/name.png: (H, W, 3), read-only, in the mapped file; only what is used of it is read.

    None for a path that lies in no pack.

    Raises:
        PackError: as list_names; or no such image in it.
    """
    pack = _pack_of(path)
    if pack is None:
        return None
    if pack not in _open:
        _open[pack] = _Pack(pack)
    name = path.relative_to(pack).as_posix()
    try:
        start, height, width = _open[pack].places[name]
    except KeyError:
        raise PackError(f"{pack} has no image {name}: pack the folder again if it should have") from None
    return _open[pack].pixels[start : start + height * width * CHANNELS].reshape(height, width, CHANNELS)


def _pack_of(path: Path) -> Path | None:
    if ".pack" not in str(path):
        return None
    return next((parent for parent in path.parents if parent in _open or is_pack(parent)), None)


class _Pack:
    """An open pack: its bytes, and where each image begins, with its height and width."""

    def __init__(self, path: Path):
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(HEADER.size)
            if len(header) < HEADER.size or not header.startswith(MAGIC):
                raise PackError(f"{path} is no pack: make one of a folder of images with `aesop prepare pack`")
            _, version, start, length, digest = HEADER.unpack(header)
            if version != VERSION:
                raise PackError(
                    f"{path} is a pack of version {version}, here version {VERSION} is read: pack the folder again"
                )
            if start + length != size or length > MAX_INDEX:
                raise PackError(
                    f"{path} has {size} bytes where its header says {start + length}: copy it, or pack the folder, again"
                )
            file.seek(start)
            text = file.read(length)
            # Mapped from the file just judged: another may be renamed over the name at any time.
            self.pixels = np.asarray(np.memmap(file, np.uint8, "r", shape=(size,)))
        if hashlib.sha256(text).digest() != digest:
            raise _damaged(path, "its checksum is wrong")
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "it is no JSON") from error
        self.places: dict[str, tuple[int, int, int]] = {}
        end = HEADER.size
        for entry in entries if isinstance(entries, list) else [entries]:
            if not _is_entry(entry) or entry[0] in self.places:
                raise _damaged(path, f"its entry {len(self.places)} is not a name of its own, height and width")
            name, height, width = entry
            self.places[name] = end, height, width
            end += height * width * CHANNELS
        if end != start or not self.places:
            raise _damaged(path, f"its {len(self.places)} images take {end - HEADER.size} of {start - HEADER.size} bytes")


def _is_entry(entry: Any) -> bool:
    """Whether it is [name, height, width], the name one that stays below the pack."""
    return (
        isinstance(entry, list)
        and [type(value) for value in entry] == [str, int, int]
        and not {"", ".", ".."}.intersection(entry[0].split("/"))
        and all(0 < side < MAX_SIDE for side in entry[1:])
    )


def _damaged(path: Path, reason: str) -> PackError:
    return PackError(f"the index of {path} is damaged ({reason}): copy the pack again, or pack the folder again")


# Each process has its own; a map read in several costs memory once.
_open: dict[Path, _Pack] = {}
