"""Reading TIFF: every page, any depth, and any compression that libtiff knows.

tifffile reads the directories. The strips and tiles are put together here: tifffile needs further packages for most
compressions and does not bound what they expand to. Pillow decodes what is more than packed samples, such as JPEG.
"""

import io
import logging
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageOps, TiffImagePlugin

from aesop.images.decode import MAX_PIXELS, TRANSPOSED, check_size, damaged, upright
from aesop.images.errors import ImageError
from aesop.images.tensors import ImageArray, to_uint8
from aesop.pictures.kinds import RAW, advice_on, kind_of_extension
from aesop.pictures.parts import (
    DECODING_ERRORS,
    MAX_FRAMES,
    check_frames,
    describe,
    palette_is_gray,
    scaled_to_16,
    split,
)
from aesop.pictures.picture import Frame, Metadata, Picture
from aesop.pictures.profiles import to_srgb
from aesop.pictures.tiff_file import exif_from, read_directory

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it comments on files; what matters is raised

_ERRORS = (*DECODING_ERRORS, tifffile.TiffFileError, zlib.error, lzma.LZMAError, AttributeError)
_UNCOMPRESSED, _LZW, _PACKBITS, _LZMA, _ZSTD = 1, 5, 32773, 34925, 50000
_DEFLATE = (8, 32946)
_BY_PILLOW = (2, 3, 4, 6, 7)  # CCITT, old and new JPEG
_COMPRESSIONS = {
    **{34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 34892: "lossy JPEG (DNG)", 34887: "LERC"},
    **{
        50001: "WebP",
        50002: "JPEG XL",
        52546: "JPEG XL",
        32809: "ThunderScan",
        34676: "LogLuv",
        34661: "JBIG",
        34933: "PNG",
    },
}
_LOSSY = (6, 7, *_COMPRESSIONS)
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR, _LAB, _ICC_LAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
_COLOURS = {_MINISWHITE: 1, _MINISBLACK: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3, _ICC_LAB: 3}
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = 0, 1, 2
_UINT, _INT, _FLOAT, _VOID = 1, 2, 3, 4
# What describes a picture, and not how this file stores it.
_DESCRIPTION, _XMP = 270, 700
_EXIF_TAGS = (269, _DESCRIPTION, 271, 272, 285, 297, 305, 306, 315, 316, 18246, 33432, *range(40091, 40096), 0x8769, 0x8825)
_DNG_VERSION, _COLOUR_FILTER_ARRAY = 50706, 32803
_REVERSED_BITS = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8)[:, ::-1], axis=1)[:, 0].tobytes()


@dataclass(frozen=True)
class _Page:
    """What the tags of a page say."""

    index: int
    """In the chain of directories."""
    path: Path
    width: int
    height: int
    samples: int
    bits: int
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    is_planar: bool
    is_subsampled: bool
    reverses_bits: bool
    extra_samples: tuple[int, ...]
    orientation: int
    is_big_endian: bool
    segment_size: tuple[int, int]
    """Width and height of a strip or tile."""
    segments: tuple[tuple[int, int], ...]
    """Offset and size of each."""
    colour_map: ImageArray | None
    """(N, 3), uint8 or uint16."""
    profile: bytes | None

    @property
    def space(self) -> str:
        if self.photometric == _PALETTE and self.colour_map is not None and palette_is_gray(self.colour_map):
            return "RGB" if self.profile else "GRAY"
        gray = (_MINISWHITE, _MINISBLACK)
        if self.photometric in gray:
            return "GRAY"
        return {_CMYK: "CMYK", _LAB: "LAB", _ICC_LAB: "LAB"}.get(self.photometric, "RGB")

    @property
    def size(self) -> tuple[int, int]:
        return (self.height, self.width) if self.orientation in TRANSPOSED else (self.width, self.height)

    @property
    def alpha_at(self) -> int | None:
        """The sample that holds alpha."""
        first = _COLOURS.get(self.photometric, self.samples)
        kinds = (*self.extra_samples, *[_UNSPECIFIED] * self.samples)[: max(self.samples - first, 0)]
        known = [first + k for k, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)]
        return known[0] if known else first if len(kinds) == 1 else None

    @property
    def is_for_pillow(self) -> bool:
        return self.compression in _BY_PILLOW or self.is_subsampled


def open_tiff(path: Path, data: bytes) -> Picture:
    """Open a TIFF file; see `open_picture`."""
    notes: list[str] = []
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            found = _pages(file, path, notes)
            pages = [_read_tags(index, page, path, data) for index, page in found]
            described = [_describe(page, tags, data, notes) for page, (_, tags) in zip(pages, found, strict=True)]
    except _ERRORS as error:
        if isinstance(error, ImageError):
            raise
        raise damaged(path, error) from error
    for page in pages:
        check_frames(page.width, page.height, len(pages), path)
        notes += _changes(page)

    def frames() -> Iterator[Frame]:
        for page, (metadata, profile) in zip(pages, described, strict=True):
            try:
                frame = _decode(page, data, profile)
            except _ERRORS as error:
                if isinstance(error, ImageError):
                    raise
                raise damaged(path, f"page {page.index + 1}: {error}" if len(pages) > 1 else error) from error
            yield replace(frame, metadata=metadata) if len(pages) > 1 else frame

    lossless = all(page.compression not in _LOSSY for page in pages)
    sizes, notes = tuple(page.size for page in pages), [*dict.fromkeys(notes)]
    return Picture("tiff", sizes[0], len(pages), False, None, lossless, described[0][0], tuple(notes), frames, sizes)


def _pages(file: tifffile.TiffFile, path: Path, notes: list[str]) -> list[tuple[int, tifffile.TiffPage]]:
    """Find every page that is a picture, and its place in the chain of directories."""
    found, reduced, masks, below, offsets = [], [], 0, 0, set()
    for index, page in enumerate(file.pages):
        if page.offset in offsets:  # they go in circles
            break
        offsets.add(page.offset)
        if index > MAX_FRAMES:
            raise ImageError(f"image {path} has more than {MAX_FRAMES} pages: split it")
        assert isinstance(page, tifffile.TiffPage)
        kind, old_kind = int(page.tags.valueof(254, 0)), int(page.tags.valueof(255, 0))
        if _DNG_VERSION in page.tags or page.tags.valueof(262) == _COLOUR_FILTER_ARRAY:
            raise ImageError(f"{path} is {RAW}, which is not read here: {advice_on(RAW)}")
        if kind & 4 or page.tags.valueof(262) == _MASK:
            masks += 1
        else:
            below += 330 in page.tags
            (reduced if kind & 1 or old_kind == 2 else found).append((index, page))
    if kind_of_extension(path.suffix) == RAW or (reduced and not found and below):
        raise ImageError(f"{path} is {RAW}, which is not read here: {advice_on(RAW)}")
    if not found:
        found, reduced = reduced[:1], reduced[1:]
    if not found:
        raise ImageError(f"image {path} holds no page with a picture: save it again")
    if reduced or below:
        notes.append("thumbnails and smaller copies of pages were left out")
    if masks:
        notes.append("transparency masks were left out")
    if any(tag in page.tags for _, page in found for tag in (33723, 34377)):
        notes.append("IPTC and Photoshop data were left out")
    return found


def _read_tags(index: int, page: tifffile.TiffPage, path: Path, data: bytes) -> _Page:
    tags = page.tags

    def number(tag: int, default: int) -> int:
        value = tags.valueof(tag, default)
        return int(value[0] if isinstance(value, tuple) else value)

    width, height, samples = number(256, 0), number(257, 0), number(277, 1)
    if min(width, height, samples) < 1:
        raise ValueError("it states no size")
    check_size(width, height, path)
    if number(32997, 1) > 1:
        raise ImageError(f"image {path} is a volume: save its slices as pages")
    for tag in (258, 339):  # bits and formats
        if len({*_numbers(tags.valueof(tag, 1))}) > 1:
            raise ImageError(f"image {path} has channels of different kinds: save it with 8 or 16 bits per channel")
    is_tiled = 322 in tags
    size = (number(322, 0), number(323, 0)) if is_tiled else (width, min(number(278, height), height))
    if min(size) < 1:
        raise ValueError("its strips or tiles have no size")
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError("its strips or tiles are larger than the image")
    segments = tuple(zip(page.dataoffsets, page.databytecounts, strict=False))
    if any(at + length > len(data) for at, length in segments):
        raise EOFError("the file is shorter than its strips")
    photometric = number(262, _RGB if samples >= 3 else _MINISBLACK)
    return _Page(
        *(index, path, width, height, samples, number(258, 1), number(339, _UINT), photometric, number(259, _UNCOMPRESSED)),
        predictor=number(317, 1),
        is_planar=number(284, 1) == 2 and samples > 1,
        is_subsampled=photometric == _YCBCR and _numbers(tags.valueof(530, (1, 1))) != (1, 1),
        reverses_bits=number(266, 1) == 2,
        extra_samples=_numbers(tags.valueof(338, ())),
        orientation=number(274, 1) if number(274, 1) in range(1, 9) else 1,
        is_big_endian=page.parent.byteorder == ">",
        segment_size=size,
        segments=segments,
        colour_map=_colour_map(tags.valueof(320)) if photometric == _PALETTE else None,
        profile=bytes(profile) if (profile := tags.valueof(34675)) else None,
    )


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, tuple | list | np.ndarray) else (int(value),)


def _colour_map(values: Any) -> ImageArray:
    """Return (N, 3), with 8 bits if these are all that the map's 16 hold."""
    colours = np.asarray(values, np.uint16).reshape(3, -1).T
    if (colours % 257 == 0).all():
        return (colours // 257).astype(np.uint8)
    if (colours % 256 == 0).all():
        return (colours // 256).astype(np.uint8)
    return colours if colours.max() > 255 else colours.astype(np.uint8)


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    factor = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(296, 2)))
    found = [page.tags.valueof(tag) for tag in (282, 283)]
    if factor is None or not all(isinstance(value, tuple) and len(value) == 2 and all(value) for value in found):
        return None
    (x, x_below), (y, y_below) = found
    return x / x_below * factor, y / y_below * factor


def _describe(page: _Page, tags: tifffile.TiffPage, data: bytes, notes: list[str]) -> tuple[Metadata, bytes | None]:
    """Gather what describes a page; and the profile through which CMYK is to be converted."""
    found, order = {}, tags.parent.byteorder
    try:
        found = read_directory(data, order, tags.offset, tags.parent.is_bigtiff, (*_EXIF_TAGS, _XMP))
    except _ERRORS as error:
        notes.append(f"damaged Exif was left out: {error}")
    if tags.is_shaped or tags.is_imagej or tags.is_ome:  # the description states the former size
        found.pop(_DESCRIPTION, None)
        notes += ["the description by ImageJ or OME was left out"] if not tags.is_shaped else []
    _, xmp = found.pop(_XMP, (0, b""))
    exif = exif_from(found) if found else None
    metadata, _, profile = describe(
        page.space, notes, icc=page.profile, exif=exif, xmp=bytes(xmp), dpi=_dpi(tags), orientation=page.orientation
    )
    return metadata, profile


def _changes(page: _Page) -> Iterator[str]:
    """Say what decoding a page changes."""
    used = _COLOURS.get(page.photometric, page.samples) + (page.alpha_at is not None)
    if page.samples > used:
        yield f"{page.samples - used} extra channels were left out"
    if page.sample_format in (_UINT, _VOID) and page.bits > 16:
        yield f"integers of {page.bits} bits were scaled to floating point"
    if page.sample_format == _FLOAT and page.bits > 32:
        yield f"floating point of {page.bits} bits was read with 32 bits"
    if page.photometric == _CMYK and page.bits > 8:
        yield f"CMYK of {page.bits} bits was converted with 8 bits"


def _decode(page: _Page, data: bytes, profile: bytes | None) -> Frame:
    if page.is_for_pillow:
        return _decode_with_pillow(page, data, profile)
    if page.compression in _COMPRESSIONS or page.photometric not in _COLOURS:
        name = _COMPRESSIONS.get(page.compression)
        what = f"{name} compression" if name else f"colours of kind {page.photometric}, neither gray nor RGB"
        raise ImageError(f"image {page.path} is a TIFF with {what}, which is not read here: save it with LZW")
    array = _samples(page, data)
    colours = _COLOURS[page.photometric]
    alpha = None if page.alpha_at is None else array[..., page.alpha_at]
    kind = (*page.extra_samples, _UNSPECIFIED)[max(0, (page.alpha_at or 0) - colours)]
    if alpha is not None and kind == _UNSPECIFIED and not alpha.any():
        alpha = None  # padding
    pixels = array[..., 0] if colours == 1 else array[..., :colours]
    if page.photometric == _PALETTE:
        assert page.colour_map is not None
        pixels = page.colour_map[np.minimum(pixels, len(page.colour_map) - 1)]
        pixels = pixels[..., 0] if page.space == "GRAY" else pixels
    else:
        pixels = _full_range(pixels, page)
    alpha = None if alpha is None else _full_range(alpha, page)
    if page.photometric == _MINISWHITE:
        pixels = (1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max) - pixels
    if alpha is not None and kind == _ASSOCIATED:
        pixels = _divided_by_alpha(pixels, alpha)
    if page.photometric == _YCBCR:
        if pixels.dtype != np.uint8:
            raise ImageError(f"image {page.path} is YCbCr of {page.bits} bits: save it as RGB")
        image = Image.frombytes("YCbCr", (page.width, page.height), np.ascontiguousarray(pixels).tobytes())
        pixels = np.array(image.convert("RGB"))
    if page.space in ("CMYK", "LAB"):
        if pixels.dtype == np.float32:
            raise ImageError(f"image {page.path} is floating-point {page.space}: save it as RGB")
        eight = to_uint8(pixels) if page.space == "CMYK" else _lab_of_8_bits(pixels, page.photometric)
        image = Image.frombytes(page.space, (page.width, page.height), np.ascontiguousarray(eight).tobytes())
        pixels = np.array(to_srgb(image, profile))
        alpha = None if alpha is None else to_uint8(alpha)
    turned = None if alpha is None else upright(alpha, page.orientation)
    return Frame(upright(pixels, page.orientation), turned)


def _lab_of_8_bits(values: ImageArray, photometric: int) -> ImageArray:
    """Return lightness, and a and b with a sign, as CIELAB and Pillow have them; ICC's kind has an offset instead."""
    highest = values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8)
    if photometric == _ICC_LAB:
        return highest ^ np.array([0, 128, 128], np.uint8)
    return np.concatenate([to_uint8(values[..., :1]), highest[..., 1:]], -1)


def _decode_with_pillow(page: _Page, data: bytes, profile: bytes | None) -> Frame:
    if page.bits > 8:
        raise ImageError(f"image {page.path} is a TIFF of {page.bits} bits in a compressed colour space: save it as RGB")
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    image.seek(page.index)
    image.load()
    pixels, alpha = split(ImageOps.exif_transpose(image), page.space == "GRAY", profile)
    return Frame(np.ascontiguousarray(pixels), None if alpha is None else np.ascontiguousarray(alpha))


def _full_range(values: ImageArray, page: _Page) -> ImageArray:
    """Scale samples to all of uint8 or uint16, or to float32."""
    if page.sample_format == _FLOAT:
        return values.astype(np.float32)
    if page.bits > 16:
        return (values / float(2**page.bits - 1)).astype(np.float32)
    if page.bits < 8:
        return values * np.uint8(255 // (2**page.bits - 1)) if 8 % page.bits == 0 else _scaled_to_8(values, page.bits)
    return values if page.bits in (8, 16) else scaled_to_16(values, page.bits)


def _scaled_to_8(values: ImageArray, bits: int) -> ImageArray:
    return np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)


def _divided_by_alpha(pixels: ImageArray, alpha: ImageArray) -> ImageArray:
    """Return colours that are not multiplied by alpha; those of invisible pixels are zero."""
    below = alpha if pixels.ndim == 2 else alpha[..., None]
    if pixels.dtype == np.float32:
        return np.divide(pixels, below, out=np.zeros_like(pixels), where=below > 0)
    top = int(np.iinfo(pixels.dtype).max)
    wide = below.astype(np.uint32)
    divided = (pixels.astype(np.uint32) * top + wide // 2) // np.maximum(wide, 1)
    return np.where(wide > 0, np.minimum(divided, top), 0).astype(pixels.dtype)


def _samples(page: _Page, data: bytes) -> ImageArray:
    """Decode the strips or tiles of a page to (H, W, samples)."""
    across = -(-page.width // page.segment_size[0])
    down = -(-page.height // page.segment_size[1])
    planes = page.samples if page.is_planar else 1
    if len(page.segments) < across * down * planes:
        raise EOFError("strips or tiles are missing")
    if not any(size for _, size in page.segments):
        raise EOFError("all strips or tiles are empty")
    out = np.zeros((page.height, page.width, page.samples), _sample_type(page))
    is_tiled = page.segment_size[0] != page.width or across > 1
    for index in range(across * down * planes):
        plane, place = divmod(index, across * down)
        y, x = place // across * page.segment_size[1], place % across * page.segment_size[0]
        at, size = page.segments[index]
        if not at and not size:  # a sparse file
            continue
        block = _segment(page, data[at : at + size], min(page.height - y, page.segment_size[1]), is_tiled)
        target = out[y : y + page.segment_size[1], x : x + page.segment_size[0]]
        target[..., plane : plane + block.shape[2]] = block[: target.shape[0], : target.shape[1]]
    return out


def _sample_type(page: _Page) -> np.dtype:
    """Return the type, in this machine's byte order, that holds the samples."""
    kind = {_UINT: "u", _VOID: "u", _FLOAT: "f"}.get(page.sample_format)
    size = next((size for size in (8, 16, 32, 64) if page.bits <= size), None)
    if kind is None or size is None or (kind == "f" and page.bits not in (16, 32, 64)):
        what = {_INT: "signed", _FLOAT: "floating-point"}.get(page.sample_format, "complex")
        advice = "save it with unsigned integers or 32-bit floating point"
        raise ImageError(f"image {page.path} has {what} samples of {page.bits} bits: {advice}")
    return np.dtype(f"{kind}{size // 8}")


def _segment(page: _Page, packed: bytes, rows: int, is_tiled: bool) -> ImageArray:
    """Decode a strip or tile to (rows, width, samples)."""
    width, samples = page.segment_size[0], 1 if page.is_planar else page.samples
    row_bytes = -(-width * samples * page.bits // 8)
    rows = page.segment_size[1] if is_tiled else rows
    if page.reverses_bits:
        packed = packed.translate(_REVERSED_BITS)
    unpacked = _decompress(page, packed, row_bytes, rows)
    if len(unpacked) < row_bytes * rows:
        raise EOFError("a strip or tile is too short")
    raw = np.frombuffer(unpacked, np.uint8, row_bytes * rows).reshape(rows, row_bytes)
    dtype, has_predictor = _sample_type(page), page.compression != _UNCOMPRESSED and page.compression != _PACKBITS
    predictor = page.predictor if has_predictor else 1
    if predictor == 3:
        summed = np.cumsum(raw.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        planes = summed.reshape(rows, dtype.itemsize, width * samples)
        return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">")).reshape(rows, width, samples)
    if page.bits not in (8, 16, 32, 64):
        values = _unpack_bits(raw, page.bits, width * samples, dtype)
    else:
        values = raw.view(dtype.newbyteorder(">" if page.is_big_endian else "<")).astype(dtype, copy=False)
    values = values.reshape(rows, width, samples)
    if predictor == 2:
        as_integers = values.view(f"u{dtype.itemsize}")
        summed = np.cumsum(as_integers, axis=1, dtype=as_integers.dtype)
        mask = 2**page.bits - 1
        return (summed & as_integers.dtype.type(mask)).view(dtype)
    if predictor != 1:
        raise ValueError(f"predictor {page.predictor} is unknown")
    return values


def _unpack_bits(raw: ImageArray, bits: int, count: int, dtype: np.dtype) -> ImageArray:
    """Unpack samples of any number of bits, the highest bit first, to (rows, count)."""
    single = np.unpackbits(raw, axis=1, count=count * bits)
    values = np.zeros((len(raw), count), dtype)
    for bit in range(bits):
        values = (values << dtype.type(1)) | single[:, bit::bits].astype(dtype)
    return values


def _decompress(page: _Page, packed: bytes, row_bytes: int, rows: int) -> bytes:
    """Expand a strip or tile, to no more than its size."""
    size = row_bytes * rows
    if page.compression == _UNCOMPRESSED:
        return packed
    if page.compression in _DEFLATE:
        return zlib.decompressobj().decompress(packed, size)
    if page.compression == _LZMA:
        return lzma.LZMADecompressor().decompress(packed, size)
    if page.compression not in (_LZW, _PACKBITS, _ZSTD):
        advice = "save it with LZW or Deflate"
        raise ImageError(f"image {page.path} is a TIFF of compression {page.compression}, which is not read here: {advice}")
    try:
        return _expand_with_libtiff(packed, page.compression, row_bytes, rows)
    except OSError as error:
        if page.compression == _ZSTD:
            raise ValueError(
                "damaged Zstandard compression, or a Pillow without it: pip install --upgrade pillow"
            ) from error
        raise


def _expand_with_libtiff(packed: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    """Expand bytes as a gray image of 8 bits of one strip: Pillow reads no 16-bit RGB, but its libtiff has the codecs."""
    entries = [
        *((256, 4, row_bytes), (257, 4, rows), (258, 3, 8), (259, 3, compression), (262, 3, 1)),
        *((273, 4, 8), (277, 3, 1), (278, 4, rows), (279, 4, len(packed))),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    padding = b"\0" * (len(packed) % 2)
    at = 8 + len(packed) + len(padding)
    file = struct.pack("<4sI", b"II*\0", at) + packed + padding + directory + bytes(4)
    return TiffImagePlugin.TiffImageFile(io.BytesIO(file)).tobytes()
