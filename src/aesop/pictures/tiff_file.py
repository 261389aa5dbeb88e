"""Writing TIFF strip by strip in little memory, and Exif data, which are a TIFF structure.

tifffile writes neither strips of arrays one by one nor Exif directories.
"""

import struct
import zlib
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from aesop.pictures.picture import Frame, Metadata
from aesop.pictures.pixel_kind import PixelKind

Directory = dict[int, "tuple[int, bytes | Directory]"]
"""Tag -> type, and little-endian values or the directory that it points to."""

CLASSIC_LIMIT = 2**32 - 2**16
"""Bytes that a TIFF with 32-bit offsets can hold, with some room."""
_STRIP = 256 * 1024
_MOST_ENTRIES = 4096
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 1, 3, 4, 5, 7, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 18: 8}
_CODES = {_SHORT: "H", _LONG: "I", _RATIONAL: "I", _LONG8: "Q"}
_POINTERS = (34665, 34853, 40965)
"""Tags that point to directories: Exif, GPS, and Interoperability."""
_LAYOUT = (254, 255, 266, 273, 279, 292, 293, 301, 317, 318, 319, 320, 322, 323, 324, 325, 330, 338, 339, 347, 529, 530, 531)
_LAYOUT += (532, *range(512, 522))
"""Tags that describe how some other file holds its pixels."""


def write_tiff(path: Path, frames: Iterable[Frame], metadata: Metadata) -> None:
    """Write frames as pages, compressed without loss; with 64-bit offsets, which not all programs read, if they need them.

    A page that has no metadata of its own shares the resolution and profile of `metadata`; the first, all of them.
    """
    pages: list[tuple[Directory, list[int], list[int]]] = []  # with the offsets and sizes of the strips
    with path.open("wb") as file:
        file.write(bytes(16))
        for frame in frames:
            kind = PixelKind.of(frame)
            rows = kind.rows_of(frame.pixels.shape[1], _STRIP)
            offsets, sizes = [], []
            for strip in kind.strips(frame, rows):
                if kind.dtype != np.float32:
                    strip[:, 1:] -= strip[:, :-1].copy()
                offsets.append(file.tell())
                sizes.append(file.write(zlib.compress(strip.data, 4)))
            described = frame.metadata or metadata
            page = _page(frame, kind, described, rows)
            pages.append(((_description(described) if frame.metadata or not pages else {}) | page, offsets, sizes))
        room = sum(len(to_bytes(page, 0)) + 12 * len(offsets) + 64 for page, offsets, _ in pages)
        big = file.tell() + room > CLASSIC_LIMIT
        link = 8 if big else 4  # where the place of the next page's directory goes
        for page, offsets, sizes in pages:
            page |= {273: _values(_LONG8 if big else _LONG, *offsets), 279: _values(_LONG, *sizes)}
            page |= {254: _values(_LONG, 2)} if len(pages) > 1 else {}
            place = file.seek(0, 2)
            place += file.write(bytes(place % 2))
            file.write(to_bytes(page, place, big))
            file.seek(link)
            file.write(struct.pack("<Q" if big else "<I", place))
            link = place + (8 + 20 * len(page) if big else 2 + 12 * len(page))
        file.seek(0)
        file.write(b"II+\0\x08\0\0\0" if big else b"II*\0")


def _page(frame: Frame, kind: PixelKind, metadata: Metadata, rows: int) -> Directory:
    height, width = frame.pixels.shape[:2]
    page: Directory = {
        256: _values(_LONG, width),
        257: _values(_LONG, height),
        258: _values(_SHORT, *[kind.dtype.itemsize * 8] * kind.channels),
        259: _values(_SHORT, 8),  # deflate
        262: _values(_SHORT, 2 if kind.colour else 1),
        277: _values(_SHORT, kind.channels),
        278: _values(_LONG, rows),
        284: _values(_SHORT, 1),  # channels are interleaved
        317: _values(_SHORT, 1 if kind.dtype == np.float32 else 2),  # 2: differences of neighbours
        339: _values(_SHORT, *[3 if kind.dtype == np.float32 else 1] * kind.channels),
    }
    if kind.alpha:
        page[338] = _values(_SHORT, 2)  # colours are not multiplied by alpha
    if metadata.dpi:
        page |= resolution(metadata.dpi)
    if metadata.icc:
        page[34675] = _UNDEFINED, metadata.icc
    return page


def _description(metadata: Metadata) -> Directory:
    found = read_exif(metadata.exif) if metadata.exif else {}
    found = {tag: value for tag, value in found.items() if tag not in _LAYOUT}
    return found | ({700: (_BYTE, metadata.xmp)} if metadata.xmp else {})


def resolution(dpi: tuple[float, float]) -> Directory:
    """The tags of a resolution in pixels per inch."""
    across, down = (round(dots * 10_000) for dots in dpi)
    return {282: _values(_RATIONAL, across, 10_000), 283: _values(_RATIONAL, down, 10_000), 296: _values(_SHORT, 2)}


def _values(kind: int, *values: int) -> tuple[int, bytes]:
    return kind, struct.pack(f"<{len(values)}{_CODES[kind]}", *values)


def read_exif(exif: bytes) -> Directory:
    """The tags of an Exif structure of either byte order, with its directories. Raises ValueError if it is none."""
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        return read_directory(exif, order, *struct.unpack_from(order + "I", exif, 4))
    except (KeyError, struct.error) as error:
        raise ValueError("the Exif data are damaged") from error


def read_directory(
    data: bytes, order: str, offset: int, big: bool = False, only: Container[int] | None = None, depth: int = 0
) -> Directory:
    """Read the directory at `offset` of a TIFF file, and those it points to; `only` names the tags that are wanted.

    Values that lead outside are left out. Raises struct.error if the directory itself does.
    """
    found: Directory = {}
    room, head, entry, pointer = (8, "Q", "HHQ", "Q") if big else (4, "H", "HHI", "I")
    (entries,) = struct.unpack_from(order + head, data, offset)
    if entries > _MOST_ENTRIES:
        raise struct.error("too many entries")
    start = offset + struct.calcsize(order + head)
    left = len(data)  # values that overlap may add up to any size
    for number in range(entries):
        place = start + number * (struct.calcsize(order + entry) + room)
        tag, kind, count = struct.unpack_from(order + entry, data, place)
        size, at = _SIZES.get(kind, 0) * count, place + struct.calcsize(order + entry)
        if size > room:
            (at,) = struct.unpack_from(order + pointer, data, at)
        if (only is not None and tag not in only) or not 0 < size <= left or at + size > len(data):
            continue
        value = data[at : at + size]
        left -= size
        if tag in _POINTERS:
            with suppress(struct.error, OverflowError):  # a damaged directory is left out
                if depth < 2:
                    place = int.from_bytes(value, "little" if order == "<" else "big")
                    found[tag] = _LONG, read_directory(data, order, place, big, depth=depth + 1)
            continue
        if order == ">":
            width = _SIZES[kind] // (2 if kind in (5, 10) else 1)  # a rational is two numbers
            value = np.frombuffer(value, f">u{width}").astype(f"<u{width}").tobytes()
        found[tag] = kind, value
    return found


def exif_from(directory: Directory) -> bytes:
    return b"II*\0\x08\0\0\0" + to_bytes(directory, 8)


def to_bytes(directory: Directory, offset: int, big: bool = False) -> bytes:
    """A directory as it stands at `offset` of a file, followed by its values."""
    room, entry, head = (8, "<HHQ", "<Q") if big else (4, "<HHI", "<H")
    entries, values = struct.pack(head, len(directory)), b""
    start = offset + len(entries) + len(directory) * (struct.calcsize(entry) + room) + room
    for tag, (kind, data) in sorted(directory.items()):
        if isinstance(data, dict):
            kind, pointed = (_LONG8 if big else _LONG), data
            data = (start + len(values)).to_bytes(room, "little")
            values += to_bytes(pointed, start + len(values), big)
        entries += struct.pack(entry, tag, kind, len(data) // _SIZES[kind])
        if len(data) > room:
            entries += (start + len(values)).to_bytes(room, "little")
            values += data + bytes(len(data) % 2)
        else:
            entries += data.ljust(room, b"\0")
    return entries + bytes(room) + values
