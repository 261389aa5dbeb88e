"""Writing PNG and APNG row by row, with 8 or 16 bits, in little memory.

OpenCV writes no gray with alpha and no metadata; Pillow no colour with 16 bits. Both need a copy of the pixels.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from aesop.pictures.picture import Frame, Metadata
from aesop.pictures.pixel_kind import PixelKind

_STRIP = 512 * 1024


def write_png(
    path: Path, frames: Iterable[Frame], kind: PixelKind, metadata: Metadata, count: int = 1, loop: int = 0
) -> None:
    """Write frames of equal size, more than one as APNG, which is shown `loop` times (0: for ever)."""
    number = 0  # of the chunks that belong to the animation
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for index, frame in enumerate(frames):
            height, width = frame.pixels.shape[:2]
            if index == 0:
                colours = (2 if kind.colour else 0) + (4 if kind.alpha else 0)
                _chunk(file, b"IHDR", struct.pack(">IIBB3x", width, height, kind.dtype.itemsize * 8, colours))
                for name, content in _metadata_chunks(metadata):
                    _chunk(file, name, content)
                if count > 1:
                    _chunk(file, b"acTL", struct.pack(">II", count, loop))
            if count > 1:
                delay = _delay(frame.duration or 0)
                _chunk(file, b"fcTL", struct.pack(">3I8xHH2x", number, width, height, *delay))
                number += 1
            for data in _compressed(kind.strips(frame, kind.rows_of(width, _STRIP)), kind.channels * kind.dtype.itemsize):
                if index == 0:
                    _chunk(file, b"IDAT", data)
                else:
                    _chunk(file, b"fdAT", struct.pack(">I", number) + data)
                    number += 1
        _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, name: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + name)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(name))))


def _metadata_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(dots / 0.0254) for dots in metadata.dpi), 1)  # per metre
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp
    for keyword, text in metadata.text.items():
        name, text = (keyword or "Comment").encode("latin-1", "replace")[:79] + b"\0", text.replace("\0", "")
        try:
            yield b"tEXt", name + text.encode("latin-1")
        except UnicodeEncodeError:
            yield b"iTXt", name + b"\0\0\0\0" + text.encode("utf-8", "replace")


def _delay(milliseconds: float) -> tuple[int, int]:
    """Seconds as a fraction of two 16-bit numbers."""
    seconds = min(milliseconds / 1000, 65535)
    fraction = Fraction(seconds).limit_denominator(int(65535 / max(1, seconds)))
    return fraction.numerator, fraction.denominator


def _compressed(strips: Iterable[NDArray], step: int) -> Iterator[bytes]:
    """Filter and compress strips of pixels of `step` bytes. Z_RLE is as small as level 6 on photographs and much faster."""
    compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)
    above = None
    for strip in strips:
        rows = strip.astype(strip.dtype.newbyteorder(">"), copy=False).view(np.uint8).reshape(len(strip), -1)
        above = np.zeros_like(rows[:1]) if above is None else above
        if data := compressor.compress(_filtered(rows, np.concatenate([above, rows[:-1]]), step).data):
            yield data
        above = rows[-1:]
    yield compressor.flush()


def _filtered(rows: NDArray[np.uint8], up: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Give each row the filter (PNG 9.2: Sub, Up, Average, Paeth) with the least sum of absolute differences."""
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, step:], corner[:, step:] = rows[:, :-step], up[:, :-step]
    a, b, c = (plane.astype(np.int16) for plane in (left, up, corner))
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, up, corner))
    candidates = [rows - left, rows - up, rows - ((a + b) >> 1).astype(np.uint8), rows - paeth]
    costs = [np.abs(each.view(np.int8)).view(np.uint8).sum(1, dtype=np.int64) for each in candidates]
    best = np.argmin(costs, axis=0)
    filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = best + 1
    for number, candidate in enumerate(candidates):
        filtered[best == number, 1:] = candidate[best == number]
    return filtered
