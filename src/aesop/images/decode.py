"""Decoding PNG, JPEG, WebP, TIFF and BMP files, within limits that no file can exceed.

Pillow parses the header: it gives the size before anything is decoded, and the EXIF orientation. OpenCV decodes the pixels:
it is 2 to 10 times faster on PNG, and reads 16-bit RGB, which Pillow does not. The exception is 8-bit TIFF, which Pillow
decodes: OpenCV returns some kinds wrong (alpha premultiplied, damaged strips as garbage). The content decides what a file
is, not its extension.
"""

import os
import re
import struct
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import BmpImagePlugin, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.Image import DecompressionBombError, Exif
from PIL.ImageFile import ImageFile

from aesop.images.errors import ImageError
from aesop.images.tensors import ImageArray

MAX_PIXELS = 200_000_000  # of RGB take 600 MB (1.2 GB at 16 bits), and decoding takes up to 20 bytes per pixel on top
MAX_JPEG_SCANS = 100  # each takes a few bytes of the file and a pass over all pixels; cameras and editors write about ten

# The readers themselves rather than PIL.Image.open, whose size limit is a process-wide setting.
READERS: dict[bytes | tuple[bytes, ...], type[ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"): TiffImagePlugin.TiffImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
# What these readers raise on damaged files.
PILLOW_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, OverflowError),
    *(struct.error, DecompressionBombError),
)
_END_OF_IMAGE = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82"}
_START_OF_SCAN = b"\xff\xda"
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # markers followed by a length, and the end
_EXIF_ORIENTATION = 0x0112
TRANSPOSED = (5, 6, 7, 8)
_EXIF_TAIL = 65536  # bytes at the end of a PNG in which its EXIF chunk is looked for
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_PLANAR, _TIFF_SEPARATE = 256, 257, 258, 284, 2
_TIFF_OFFSETS_AND_SIZES = ((273, 279), (324, 325))  # strips, tiles


def decode(data: bytes, path: Path) -> ImageArray:
    """Decode a file to an upright image: (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.

    Other samples are refused: the value range of floating-point TIFF is not defined. `path` is for messages.
    """
    if not data:
        raise ImageError(f"image {path} is empty (0 bytes): copy or download it again")
    header = _parse_header(BytesIO(data), path)
    check_size(header.width, header.height, path)
    is_tiff = isinstance(header, TiffImagePlugin.TiffImageFile)
    image = _decode_tiff(header, data, path) if is_tiff else _decode_other(header, data, path)
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"image {path} has {image.dtype} samples: save it with 8 or 16 bits per channel")
    return image


def check_size(width: int, height: int, path: Path) -> None:
    """Raise ImageError if an image has too many pixels."""
    if width * height > MAX_PIXELS:
        size, limit = f"{width} x {height}", f"{MAX_PIXELS / 1e6:g} megapixels"
        raise ImageError(f"image {path} has {size} pixels, more than the limit of {limit}: cut it into parts")


def upright(image: ImageArray, orientation: int) -> ImageArray:
    """Turn and mirror an image (H, W) or (H, W, C) as an EXIF orientation, 1..8, says."""
    if orientation in TRANSPOSED:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def size_in_header(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Return (width, height) of the upright image, reading only the header and the file's last bytes."""
    header = _parse_header(file, path)
    file.seek(max(0, file.seek(0, os.SEEK_END) - _EXIF_TAIL))
    width, height = header.size
    if isinstance(header, TiffImagePlugin.TiffImageFile):  # newer releases of Pillow give the upright size here
        width, height = header.tag_v2[_TIFF_WIDTH], header.tag_v2[_TIFF_HEIGHT]
    return (height, width) if _orientation(header, file.read()) in TRANSPOSED else (width, height)


def _parse_header(file: BinaryIO, path: Path) -> ImageFile:
    start = file.read(8)
    file.seek(0)
    for signature, reader in READERS.items():
        if start.startswith(signature):
            try:
                return reader(file)
            except PILLOW_ERRORS as error:
                raise damaged(path, error) from error
    raise ImageError(f"{path} is not a supported image: it is no PNG, JPEG, WebP, TIFF or BMP file")


def damaged(path: Path, reason: object) -> ImageError:
    """Return the error for a file that cannot be decoded."""
    advice = "replace it, or save it again with 8 or 16 bits per channel"
    return ImageError(f"image {path} is truncated, damaged or of an unsupported kind ({reason}): {advice}")


def _decode_other(header: ImageFile, data: bytes, path: Path) -> ImageArray:
    """Decode PNG, JPEG, WebP and BMP."""
    orientation = _orientation(header, data)
    return upright(decode_as_stored(header, data, path), orientation)


def decode_as_stored(header: ImageFile, data: bytes, path: Path) -> ImageArray:
    """Decode PNG, JPEG, WebP and BMP without turning them upright."""
    if header.format == "JPEG" and has_too_many_scans(data):
        raise damaged(path, f"more than {MAX_JPEG_SCANS} scans")
    if not data.endswith(_END_OF_IMAGE.get(header.format or "", b"")):
        # Truncated, or with trailing bytes. Pillow tells them apart; OpenCV 4 silently fills a truncated JPEG with gray.
        try:
            header.load()
        except PILLOW_ERRORS as error:
            raise damaged(path, error) from error
    image = imdecode(data, path)
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return image


def _decode_tiff(header: TiffImagePlugin.TiffImageFile, data: bytes, path: Path) -> ImageArray:
    """Decode 8 bits with Pillow and 16 bits with OpenCV, since Pillow reduces 16-bit RGB to 8 bits."""
    tags = header.tag_v2
    try:  # tags may have any type
        if max(tags.get(_TIFF_BITS, (1,))) <= 8:
            header.load()
            image = ImageOps.exif_transpose(header)  # newer releases of Pillow have transposed it already
            if image.mode != "L":
                image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            return np.array(image)
        for offsets, sizes in _TIFF_OFFSETS_AND_SIZES:
            for offset, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
                if offset + size > len(data):
                    raise EOFError("the file is shorter than its strips")
    except PILLOW_ERRORS as error:
        raise damaged(path, error) from error
    if tags.get(_TIFF_PLANAR) == _TIFF_SEPARATE:  # OpenCV reads separate planes as if they were interleaved
        raise ImageError(f"image {path} is a 16-bit TIFF with separate planes: save it with interleaved channels")
    image = imdecode(data, path)  # upright already
    return image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]


def imdecode(data: bytes, path: Path) -> ImageArray:
    """Decode a file with OpenCV, as it is stored: gray, BGR or BGRA."""
    try:
        # IMREAD_UNCHANGED keeps 16 bits and alpha, and ignores the orientation except in TIFF.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged(path, error.err) from error
    if image is None or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise damaged(path, "OpenCV cannot decode it")
    return image


def has_too_many_scans(data: bytes) -> bool:
    """Check whether a small JPEG file would take unreasonably long to decode."""
    if data.count(_START_OF_SCAN) <= MAX_JPEG_SCANS:  # fast, but also counts in what may follow the end: a video
        return False
    scans, at = 0, 2
    while (found := _JPEG_MARKER.search(data, at)) and found[0] != _END_OF_IMAGE["JPEG"]:
        scans += found[0] == _START_OF_SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans > MAX_JPEG_SCANS


def _orientation(header: ImageFile, data: bytes) -> int:
    """Read the EXIF orientation, 1..8. `data` is the file, or at least its last `_EXIF_TAIL` bytes."""
    try:
        if header.format == "PNG" and "exif" not in header.info:  # Pillow would decode all pixels to look behind them
            exif = Exif()
            _, found, content = data[-_EXIF_TAIL:].rpartition(b"eXIf")
            exif.load(content if found else b"")
        else:
            exif = header.getexif()
        return int(exif.get(_EXIF_ORIENTATION, 1))
    except PILLOW_ERRORS:  # a damaged EXIF block does not make the pixels unusable
        return 1
