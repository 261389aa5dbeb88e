"""Image files <-> arrays (HWC, RGB, uint8 or uint16) <-> tensors (CHW, [0, 1]).

OpenCV decodes (2-10 times faster than Pillow on PNG, and the only one of the two with 16-bit RGB). Pillow reads the
header first, for what OpenCV leaves out: the size before anything is decoded, and the EXIF orientation. It also reads
8-bit TIFF, of which OpenCV gets some kinds wrong (alpha comes back multiplied in, damaged strips as garbage).
"""

import os
import re
import stat
import struct
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.Image import DecompressionBombError, Exif
from PIL.ImageFile import ImageFile

from aesop.images import lmdb_store, pack
from aesop.images.errors import ImageError
from aesop.images.tensors import ImageArray, _to_uint8

# A header of a few bytes can ask for any amount of memory; 200 megapixels of RGB are 600 MB (1.2 GB at 16 bit), and
# decoding takes up to 20 bytes a pixel besides the file.
MAX_PIXELS = 200_000_000
MAX_BYTES = (1 << 31) - 1  # more than 200 megapixels take in any format
# A few bytes make a JPEG be gone through once more. Other decoders stop here, too; cameras and editors write about ten.
MAX_JPEG_SCANS = 100
_SIGNATURES: dict[bytes, type[ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"II+\0": TiffImagePlugin.TiffImageFile,
    b"MM\0+": TiffImagePlugin.TiffImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82"}
_START_OF_SCAN = b"\xff\xda"
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # those that have a length, and the end
# What Pillow's readers raise on damaged files.
_PILLOW_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    OverflowError,
    struct.error,
    DecompressionBombError,
)
_EXIF_ORIENTATION = 0x0112
_TRANSPOSED = (5, 6, 7, 8)
_EXIF_TAIL = 65536
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_PLANAR, _TIFF_SEPARATE = 256, 257, 258, 284, 2
_TIFF_OFFSETS_AND_SIZES = ((273, 279), (324, 325))  # strips, tiles


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) after undoing the EXIF orientation, from the file's header alone.

    Raises:
        ImageError: unreadable, or not an image.
    """
    path = Path(path)
    if (image := _view(path)) is not None:
        return image.shape[1], image.shape[0]
    try:
        with BytesIO(_bytes_of(path)) if lmdb_store.folder_of(path) else _open_file(path) as file:
            header = _open_header(file, path)
            file.seek(max(0, file.seek(0, os.SEEK_END) - _EXIF_TAIL))
            width, height = header.size
            if isinstance(header, TiffImagePlugin.TiffImageFile):  # newer Pillow says the turned size here
                width, height = header.tag_v2[_TIFF_WIDTH], header.tag_v2[_TIFF_HEIGHT]
            turned = _orientation(header, file.read()) in _TRANSPOSED
            return (height, width) if turned else (width, height)
    except OSError as error:
        raise ImageError(f"image {path} cannot be read: {error.strerror}; check the path") from error


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> ImageArray:
    """The image as (H, W, 3) RGB, uint8, or uint16 where the file has 16 bits.

    Gray is expanded, alpha dropped (not blended), palettes resolved, the EXIF orientation applied, colour profiles
    ignored. The content decides what a file is, not its extension. An image in a pack is a read-only view of the pack.

    Raises:
        ImageError: missing, empty, truncated or damaged file, no image or none of the known kinds, more than
            `max_pixels` (read from the header, before decoding), or samples of another kind: floating-point TIFF has no
            agreed value range, so it is refused rather than guessed.
    """
    return _colour(_read(path, max_pixels))


def read_image_uint8(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """`read_image` as 8 bit: 16-bit values are divided by 257 and rounded."""
    return _to_uint8(read_image(path, max_pixels))


def read_image_with_alpha(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[ImageArray, ImageArray | None]:
    """`read_image`, and the alpha channel (H, W) of the same type where a PNG, WebP or TIFF file has one."""
    image = _read(path, max_pixels)
    alpha = image[..., 3].copy() if image.ndim == 3 and image.shape[2] == 4 else None
    return _colour(image), alpha


def _colour(image: ImageArray) -> ImageArray:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])


def _read(path: str | os.PathLike, max_pixels: int) -> ImageArray:
    """The decoded file, upright: (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16."""
    path = Path(path)
    if (image := _view(path)) is not None:
        return image
    data = _bytes_of(path)
    if not data:
        raise ImageError(f"image {path} is empty (0 bytes): copy or download it again")
    header = _open_header(BytesIO(data), path)
    if header.width * header.height > max_pixels:
        raise ImageError(
            f"image {path} has {header.width} x {header.height} pixels, more than the limit of {max_pixels / 1e6:g} "
            "megapixels: cut it into parts"
        )
    image = _decode_tiff(header, data, path) if header.format == "TIFF" else _decode(header, data, path)
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"image {path} has {image.dtype} samples: save it with 8 or 16 bits per channel")
    return image


def _view(path: Path) -> NDArray[np.uint8] | None:
    """Of an image in a pack."""
    try:
        return pack.view(path)
    except OSError as error:
        raise ImageError(f"image {path} cannot be read: {error.strerror}; check the path") from error
    except pack.PackError as error:
        raise ImageError(str(error)) from error


def _bytes_of(path: Path) -> bytes:
    try:
        if lmdb_store.folder_of(path) is not None:
            return lmdb_store.read_bytes(path)
        with _open_file(path) as file:
            return file.read()
    except OSError as error:
        raise ImageError(f"image {path} cannot be read: {error.strerror}; check the path") from error
    except lmdb_store.StoreError as error:
        raise ImageError(str(error)) from error


def _open_file(path: Path) -> BinaryIO:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe may wait for ever, and a device has no end
        raise ImageError(f"{path} is a folder, a pipe or a device, not an image file")
    if status.st_size > MAX_BYTES:
        raise ImageError(f"{path} has {status.st_size / 1e9:.1f} GB, which no image within the limits here takes")
    return path.open("rb")


def _open_header(file: BinaryIO, path: Path) -> ImageFile:
    # The readers themselves rather than PIL.Image.open, whose own size limit is a process-wide setting.
    start = file.read(8)
    file.seek(0)
    reader = next((reader for signature, reader in _SIGNATURES.items() if start.startswith(signature)), None)
    if reader is None:
        raise ImageError(f"{path} is not an image of a kind known here: it is no PNG, JPEG, WebP, TIFF or BMP file")
    try:
        return reader(file)
    except _PILLOW_FAULTS as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> ImageError:
    return ImageError(
        f"image {path} is truncated, damaged or of an unsupported kind ({reason}): replace it, or save it anew "
        "with 8 or 16 bits per channel"
    )


def _decode(header: ImageFile, data: bytes, path: Path) -> ImageArray:
    orientation = _orientation(header, data)
    if header.format == "JPEG" and data.count(_START_OF_SCAN) > MAX_JPEG_SCANS and _scans(data) > MAX_JPEG_SCANS:
        raise _damaged(path, f"more than {MAX_JPEG_SCANS} scans")
    marker = _END_MARKERS.get(header.format or "")
    if marker and not data.endswith(marker):
        # Cut short, or something was appended. OpenCV 4 fills the missing part of a JPEG with gray and says nothing.
        try:
            header.load()
        except _PILLOW_FAULTS as error:
            raise _damaged(path, error) from error
    image = _imdecode(data, path)
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return _upright(image, orientation)


def _scans(data: bytes) -> int:
    """How often a JPEG's pixels are gone through, without what may follow its end: another picture, a video."""
    scans, at = 0, 2
    while (found := _JPEG_MARKER.search(data, at)) and found[0] != _END_MARKERS["JPEG"]:
        scans += found[0] == _START_OF_SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans


def _imdecode(data: bytes, path: Path) -> ImageArray:
    try:
        # UNCHANGED keeps 16 bits and alpha, and leaves the orientation to us in every version and format but TIFF.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _damaged(path, error.err) from error
    if image is None or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise _damaged(path, "OpenCV cannot decode it")
    return image


def _orientation(header: ImageFile, data: bytes) -> int:
    try:
        if header.format == "PNG" and "exif" not in header.info:  # Pillow would decode all pixels to look behind them
            exif = Exif()
            exif.load(data[-_EXIF_TAIL:].rpartition(b"eXIf")[2] if b"eXIf" in data[-_EXIF_TAIL:] else b"")
        else:
            exif = header.getexif()
        return int(exif.get(_EXIF_ORIENTATION, 1))
    except _PILLOW_FAULTS:  # a broken EXIF block beside intact pixels
        return 1


def _upright(image: ImageArray, orientation: int) -> ImageArray:
    """Undo the EXIF orientation: 5-8 are transposed, then 2 and 3 (6 and 7) are mirrored left-right, and so on."""
    if orientation in _TRANSPOSED:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _decode_tiff(header: ImageFile, data: bytes, path: Path) -> ImageArray:
    """8 bits by Pillow, 16 by OpenCV (Pillow cuts 16-bit RGB down to 8)."""
    assert isinstance(header, TiffImagePlugin.TiffImageFile)
    tags = header.tag_v2
    try:  # tags of a wrong type are faults like others
        if max(tags.get(_TIFF_BITS, (1,))) <= 8:
            header.load()
            image = ImageOps.exif_transpose(header)  # newer Pillow has done so by itself, then this does nothing
            if image.mode != "L":
                image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            return np.array(image)
        ends = [
            offset + size
            for offsets, sizes in _TIFF_OFFSETS_AND_SIZES
            for offset, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False)
        ]
        if max(ends, default=0) > len(data):
            raise EOFError("the file is shorter than its strips")
    except _PILLOW_FAULTS as error:
        raise _damaged(path, error) from error
    if tags.get(_TIFF_PLANAR) == _TIFF_SEPARATE:  # OpenCV reads the planes as if they were interleaved
        raise ImageError(f"image {path} is a 16-bit TIFF with separate planes: save it with interleaved channels")
    image = _imdecode(data, path)  # upright already
    return image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
