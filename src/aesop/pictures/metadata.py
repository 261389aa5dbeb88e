"""Exif and XMP: what must change when a picture is turned upright and enlarged.

Exif is edited in place: to write it again would move the makers' notes, which refer to their own positions.
"""

import re
import struct
from collections.abc import Iterator

from aesop.images.decode import TRANSPOSED

_EXIF_HEAD = b"Exif\0\0"
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_WIDTH, _HEIGHT, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x100, 0x101, 0x112, 0x11A, 0x11B, 0x128
_THUMBNAIL_AT, _THUMBNAIL_SIZE = 0x201, 0x202
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
_PIXELS_X, _PIXELS_Y = 0xA002, 0xA003
_CENTIMETRES_PER_INCH = 2.54


class Exif:
    """The entries of a TIFF structure. ValueError if it is damaged; entries that lead outside are removed."""

    def __init__(self, data: bytes) -> None:
        data = data.removeprefix(_EXIF_HEAD)
        self._order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4], "")
        if not self._order:
            raise ValueError("it is no TIFF structure")
        self._data = bytearray(data)
        self.removed = 0
        """Damaged entries."""
        try:
            (self._root,) = self._unpack("I", 4)
            self._drop_thumbnail()
            self._tables: dict[int, int] = {}  # tag of the directory (0: the first): its place
            self._end = 8
            self._check(self._root, 0)
        except struct.error as error:
            raise ValueError("it is cut off") from error

    def tobytes(self) -> bytes:
        """Return the TIFF structure, without what nothing refers to at its end."""
        return bytes(self._data[: self._end])

    def orientation(self) -> int:
        """Return the orientation, 1..8; 1 if it is not stated."""
        value = self._number(0, _ORIENTATION)
        return value if value and value <= 8 else 1

    def dpi(self) -> tuple[float, float] | None:
        """Return the resolution in pixels per inch, if it is stated."""
        factor = {2: 1.0, 3: _CENTIMETRES_PER_INCH}.get(self._number(0, _RESOLUTION_UNIT) or 2)
        x, y = self._rational(_X_RESOLUTION), self._rational(_Y_RESOLUTION)
        return (x * factor, y * factor) if factor and x and y else None

    def turn_upright(self) -> None:
        """State orientation 1; where the picture lies on its side, the resolutions change places."""
        x, y = self._find(0, _X_RESOLUTION), self._find(0, _Y_RESOLUTION)
        if self.orientation() in TRANSPOSED and x and y and x[1:] == y[1:]:
            (to_x,), (to_y,) = self._unpack("I", x[0] + 8), self._unpack("I", y[0] + 8)
            struct.pack_into(self._order + "I", self._data, x[0] + 8, to_y)
            struct.pack_into(self._order + "I", self._data, y[0] + 8, to_x)
        self._set(0, _ORIENTATION, 1)

    def resize(self, width: int, height: int) -> None:
        for table, tag, value in (
            *((0, _WIDTH, width), (0, _HEIGHT, height)),
            *((_EXIF_IFD, _PIXELS_X, width), (_EXIF_IFD, _PIXELS_Y, height)),
        ):
            self._set(table, tag, value)

    def _unpack(self, kinds: str, at: int) -> tuple:
        return struct.unpack_from(self._order + kinds, self._data, at)

    def _entries(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the place, tag, type, and count of the entries of the directory at `at`."""
        for place in range(at + 2, at + 2 + 12 * self._unpack("H", at)[0], 12):
            yield place, *self._unpack("HHI", place)

    def _drop_thumbnail(self) -> None:
        next_at = self._root + 2 + 12 * self._unpack("H", self._root)[0]
        if next_at + 4 > len(self._data):  # some writers end here
            return
        (at,) = self._unpack("I", next_at)
        self._data[next_at : next_at + 4] = bytes(4)
        if not at or at + 2 > len(self._data):
            return
        try:
            found = {tag: self._unpack("I", place + 8)[0] for place, tag, _, _ in self._entries(at)}
        except struct.error:
            return
        start, size = found.get(_THUMBNAIL_AT, 0), found.get(_THUMBNAIL_SIZE, 0)
        if 8 <= start <= start + size <= len(self._data):
            self._data[start : start + size] = bytes(size)

    def _check(self, at: int, name: int) -> None:
        """Remove the entries that lead outside or to damaged directories."""
        if at < 8 or at in self._tables.values():
            raise ValueError("its directories overlap")
        entries = [*self._entries(at)]
        self._tables[name] = at
        self._end = max(self._end, min(at + 2 + 12 * len(entries) + 4, len(self._data)))
        kept = [entry for entry in entries if self._is_whole(*entry, name)]
        if len(kept) < len(entries):
            self.removed += len(entries) - len(kept)
            content = b"".join(self._data[place : place + 12] for place, *_ in kept)
            count = struct.pack(self._order + "H", len(kept))
            whole = (count + content).ljust(2 + 12 * len(entries), b"\0")
            self._data[at : at + len(whole)] = whole

    def _is_whole(self, place: int, tag: int, kind: int, count: int, table: int) -> bool:
        size = _TYPE_SIZES.get(kind, 0) * count
        (at,) = self._unpack("I", place + 8)
        if kind not in _TYPE_SIZES or (size > 4 and at + size > len(self._data)):
            return False
        if (table, tag) == (0, _ORIENTATION) and (kind not in (_SHORT, _LONG) or count != 1):
            return False
        if tag in {0: (_EXIF_IFD, _GPS_IFD), _EXIF_IFD: (_INTEROP_IFD,)}.get(table, ()):
            try:
                self._check(at, tag)
            except (ValueError, struct.error):
                return False
        if size > 4:
            self._end = max(self._end, at + size)
        return True

    def _find(self, table: int, tag: int) -> tuple[int, int, int] | None:
        """Return the place, type, and count of an entry."""
        at = self._tables.get(table)
        entries = () if at is None else self._entries(at)
        return next(((place, kind, count) for place, found, kind, count in entries if found == tag), None)

    def _number(self, table: int, tag: int) -> int | None:
        match self._find(table, tag):
            case (place, kind, 1) if kind in (_SHORT, _LONG):
                return self._unpack("H" if kind == _SHORT else "I", place + 8)[0]
        return None

    def _rational(self, tag: int) -> float | None:
        match self._find(0, tag):
            case (place, kind, 1) if kind == _RATIONAL:
                above, below = self._unpack("II", self._unpack("I", place + 8)[0])
                return above / below if above and below else None
        return None

    def _set(self, table: int, tag: int, value: int) -> None:
        """Set an entry, if it is there."""
        at = self._tables.get(table)
        for place, found, kind, count in () if at is None else [*self._entries(at)]:
            if (found, count) == (tag, 1) and kind in (_SHORT, _LONG):
                struct.pack_into(self._order + "HII", self._data, place + 2, _LONG, 1, value)
                if value < 1 << 16 and kind == _SHORT:
                    struct.pack_into(self._order + "HIHH", self._data, place + 2, _SHORT, 1, value, 0)


def resized_exif(exif: bytes, width: int, height: int) -> bytes:
    """Return Exif that states another size, where it states one."""
    edited = Exif(exif)
    edited.resize(width, height)
    return edited.tobytes()


def upright_xmp(xmp: bytes) -> bytes:
    """Return XMP whose orientation, where it states one, is 1."""
    return _with_number(xmp, b"tiff:Orientation", 1)


def resized_xmp(xmp: bytes, width: int, height: int) -> bytes:
    """Return XMP that states another size, where it states one."""
    for name in (b"tiff:ImageWidth", b"exif:PixelXDimension"):
        xmp = _with_number(xmp, name, width)
    for name in (b"tiff:ImageLength", b"exif:PixelYDimension"):
        xmp = _with_number(xmp, name, height)
    return xmp


def _with_number(xmp: bytes, name: bytes, value: int) -> bytes:
    """Set a number that is an attribute (`name="6"`) or an element (`<name>6</name>`)."""
    return re.sub(rb"(\b%s(?:\s*=\s*[\"']|>)\s*)\d+" % name, rb"\g<1>%d" % value, xmp)
