"""Opening any picture with nothing lost: every frame, 16 bits, transparency, gray, profile, and metadata.

Pillow decodes what it decodes losslessly; OpenCV 16-bit PNG and deep AVIF; `tiff_read` TIFF; pillow-heif HEIC. Training and
evaluation need only RGB, and need it fast: they read through `ImageFile`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile as PillowFile

from aesop.images.decode import (
    MAX_JPEG_SCANS,
    TRANSPOSED,
    damaged,
    decode_as_stored,
    has_too_many_scans,
    upright,
)
from aesop.images.errors import ImageError
from aesop.images.read import ImageFile
from aesop.images.tensors import ImageArray
from aesop.pictures.kinds import HEIC_ADVICE, heic_is_installed, kind_of, unreadable
from aesop.pictures.parts import (
    DECODING_ERRORS,
    MAX_FRAMES,
    check_frames,
    describe,
    palette_is_gray,
    scaled_to_16,
    split,
)
from aesop.pictures.picture import Frame, Picture
from aesop.pictures.profiles import profile_of_codes, profile_of_numbers
from aesop.pictures.tiff_read import open_tiff

_READERS: dict[str, type[PillowFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
_GRAY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
_EXIF_TEXTS = ("Raw profile type exif", "Raw profile type APP1", "XML:com.adobe.xmp")  # are no texts


def open_picture(path: Path, data: bytes | None = None) -> Picture:
    """Open a picture; its frames are decoded when they are asked for.

    Args:
        path: Names the picture in messages, and is read unless `data` is given.
        data: The content of the file.

    Raises:
        ImageError: The file cannot be read, is damaged, too large, or of a kind that is not read.
    """
    data = ImageFile.at(path).read_bytes() if data is None else data
    if not data:
        raise ImageError(f"image {path} is empty (0 bytes): copy or download it again")
    kind = kind_of(data)
    if kind == "tiff":
        return open_tiff(path, data)
    if kind == "heic":
        return _open_heic(path, data)
    if kind not in _READERS:
        raise ImageError(unreadable(path, data))
    try:
        return _open_with_pillow(kind, path, data)
    except DECODING_ERRORS as error:
        if isinstance(error, ImageError):
            raise
        raise damaged(path, error) from error


def _open_with_pillow(kind: str, path: Path, data: bytes) -> Picture:
    """Open PNG, JPEG, WebP, BMP, GIF or AVIF. Raises what Pillow raises."""
    header = _READERS[kind](BytesIO(data))
    notes: list[str] = []
    info, text = header.info, {}
    gif = _scan_gif(data) if kind == "gif" else None
    check_frames(header.width, header.height, gif.frames if gif else 1, path)
    first, count = 0, getattr(header, "n_frames", 1)
    check_frames(header.width, header.height, count, path)
    icc, exif, dpi = info.get("icc_profile"), info.get("exif"), info.get("dpi")
    is_gray = header.mode in _GRAY_MODES
    lossless, depth, chunks = kind in ("png", "bmp", "gif"), 8, {}
    if kind == "png":
        chunks, is_late = _png_chunks(data)
        if is_late:
            header.load()
        exif = info.get("exif") or _raw_profile(info.get("Raw profile type exif"))
        if chunks.keys() & {b"tEXt", b"zTXt", b"iTXt"}:  # asking for none would decode the pixels
            texts = PngImagePlugin.PngImageFile(BytesIO(data)).text
            text = {key: str(value) for key, value in texts.items() if key not in _EXIF_TEXTS}
        depth = chunks[b"IHDR"][8]
        first = int(count > 1 and bool(info.get("default_image")))
        if first:
            notes.append("the still image for programs without animation was left out")
        if count > 1 and depth == 16:
            notes.append("frames of 16 bits were read with 8 bits")
    elif kind == "jpeg":
        if has_too_many_scans(data):
            raise damaged(path, f"more than {MAX_JPEG_SCANS} scans")
        if "jfif_unit" not in info or info["jfif_unit"] not in (1, 2):
            dpi = None  # Pillow makes one up; that in Exif is read below
        if "mp" in info:
            notes.append("further pictures in the file (previews, depth or gain maps) were left out")
        if "photoshop" in info:
            notes.append("IPTC and Photoshop data were left out")
    elif kind == "webp":
        lossless = _webp_is_lossless(data)
    elif kind == "avif":
        depth, is_gray = _avif_depth_and_gray(data)
        if depth > 8 and count > 1:
            notes.append(f"frames of {depth} bits were read with 8 bits")
    elif kind == "bmp":
        icc = _bmp_profile(data)
    if kind in ("jpeg", "gif") and isinstance(comment := info.get("comment"), bytes):
        text["Comment"] = _decoded(comment)
    if header.mode == "P" and not icc:
        palette = np.frombuffer(bytes(header.getpalette("RGB") or ()), np.uint8).reshape(-1, 3)
        is_gray = gif.is_gray if gif else palette_is_gray(palette)
    icc = icc or _stated_colours(kind, chunks, data, is_gray, notes)
    space = "GRAY" if is_gray else {"CMYK": "CMYK", "LAB": "LAB"}.get(header.mode, "RGB")
    xmp = info.get("xmp")
    metadata, orientation, profile = describe(
        space, notes, icc=icc, exif=exif, xmp=xmp.encode() if isinstance(xmp, str) else xmp, dpi=dpi, text=text
    )
    size = header.size[::-1] if orientation in TRANSPOSED else header.size
    animated = count - first > 1

    def still() -> Frame:
        if kind == "avif" and depth > 8 and (deep := _deep_avif(data, depth)) is not None:
            pixels, alpha = deep
            pixels = pixels[..., 0] if is_gray and pixels.ndim == 3 else pixels
        elif kind == "png" and depth == 16 and count == 1:
            pixels, alpha = _deep_png(header_again(), chunks, data, path)
        else:
            image = header_again()
            if first:
                image.seek(first)
            pixels, alpha = frame_of(image)
        return Frame(upright(pixels, orientation), None if alpha is None else upright(alpha, orientation))

    def header_again() -> PillowFile:
        return _READERS[kind](BytesIO(data))

    def frame_of(image: PillowFile) -> tuple[ImageArray, ImageArray | None]:
        image.load()
        if b"tRNS" in chunks and image.mode in ("1", "L", "RGB"):
            image.info.pop("transparency", None)
            pixels = np.array(image if image.mode == "RGB" else image.convert("L"))
            return pixels, _alpha_from_key(pixels, chunks)
        pixels, alpha = split(image, is_gray, profile)
        if gif and gif.has_transparency and alpha is None:
            alpha = np.full(pixels.shape[:2], 255, np.uint8)
        return pixels, alpha

    def frames() -> Iterator[Frame]:
        if not animated:
            try:
                frame = still()
            except DECODING_ERRORS as error:
                raise error if isinstance(error, ImageError) else damaged(path, error) from error
            yield frame
            return
        image = header_again()
        for index in range(first, count):
            try:
                image.seek(index)
                pixels, alpha = frame_of(image)
                duration = float(image.info.get("duration", 0))
            except DECODING_ERRORS as error:
                raise damaged(path, f"frame {index + 1}: {error}") from error
            alpha = None if alpha is None else upright(alpha, orientation)
            yield Frame(upright(pixels, orientation), alpha, duration)

    if kind == "avif" and depth > 8 and not animated and _deep_avif(data, depth) is None:
        notes.append(f"{depth} bits were read with 8 bits: this OpenCV does not decode AVIF")
    loop = int(info["loop"]) if animated and "loop" in info else None
    return Picture(kind, size, max(count - first, 1), animated, loop, lossless, metadata, tuple(notes), frames)


def _stated_colours(kind: str, chunks: dict[bytes, bytes], data: bytes, is_gray: bool, notes: list[str]) -> bytes | None:
    """Build a profile of the numbers by which PNG and AVIF state their colours where they have no profile."""
    if kind == "avif" and (at := data.find(b"colrnclx")) >= 0 and at + 14 <= len(data):
        return profile_of_codes(*struct.unpack_from(">HH", data, at + 8), is_gray, notes)
    if len(codes := chunks.get(b"cICP", b"")) >= 4:
        return profile_of_codes(codes[0], codes[1], is_gray, notes)
    if b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return None
    numbers = chunks.get(b"cHRM", b"")
    primaries = tuple(number / 1e5 for number in struct.unpack(">8I", numbers)) if len(numbers) == 32 else None
    inverse = int.from_bytes(chunks.get(b"gAMA", b""))
    return profile_of_numbers(primaries, 1e5 / inverse if 1e4 <= inverse <= 1e6 else None, is_gray)


def _decoded(comment: bytes) -> str:
    try:
        return comment.decode().rstrip("\0")
    except UnicodeDecodeError:
        return comment.decode("latin-1").rstrip("\0")


def _png_chunks(data: bytes) -> tuple[dict[bytes, bytes], bool]:
    """Return the first chunk of each kind, and whether texts or Exif follow the pixels, where Pillow does not look."""
    found: dict[bytes, bytes] = {}
    at, is_late = 8, False
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        name = data[at + 4 : at + 8]
        if name not in (b"IDAT", b"fdAT"):
            found.setdefault(name, data[at + 8 : at + 8 + size])
            is_late |= b"IDAT" in found and name in (b"tEXt", b"zTXt", b"iTXt", b"eXIf")
        found.setdefault(name, b"")
        at += size + 12
    return found, is_late


def _raw_profile(text: str | None) -> bytes | None:
    """Read Exif that ImageMagick wrote as hexadecimal text."""
    if not text:
        return None
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b"damaged"


def _alpha_from_key(pixels: ImageArray, chunks: dict[bytes, bytes]) -> ImageArray:
    """Return alpha for the transparent colour of a PNG file without a palette."""
    depth, is_gray = chunks[b"IHDR"][8], pixels.ndim == 2
    key = np.array(struct.unpack_from(">H" if is_gray else ">HHH", chunks[b"tRNS"]))
    key = key * (255 // (2**depth - 1)) if depth < 8 else key
    top = np.iinfo(pixels.dtype).max
    is_transparent = pixels == key[0] if is_gray else (pixels == key).all(-1)
    return np.where(is_transparent, 0, top).astype(pixels.dtype)


def _deep_png(
    header: PillowFile, chunks: dict[bytes, bytes], data: bytes, path: Path
) -> tuple[ImageArray, ImageArray | None]:
    """Decode a PNG file of 16 bits."""
    array = decode_as_stored(header, data, path)
    kind = chunks[b"IHDR"][9]
    pixels = array if array.ndim == 2 else array[..., :3]
    if kind == 4:  # OpenCV expands gray with alpha
        pixels = array[..., 0]
    if kind in (4, 6):
        return pixels, array[..., 3]
    return pixels, _alpha_from_key(pixels, chunks) if b"tRNS" in chunks else None


def _webp_is_lossless(data: bytes) -> bool:
    """Check that every frame has the lossless bitstream, VP8L."""
    kinds = set()

    def walk(at: int, end: int) -> None:
        while at + 8 <= end:
            name, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
            kinds.add(name)
            if name == b"ANMF":
                walk(at + 24, min(at + 8 + size, end))
            at += 8 + size + size % 2

    walk(12, len(data))
    return b"VP8L" in kinds and b"VP8 " not in kinds


def _avif_depth_and_gray(data: bytes) -> tuple[int, bool]:
    """Read the depth, and whether there is only luma, from the codec's configuration; each item has one, also the alpha."""
    depth, is_gray, at = 8, b"av1C\x81" in data, 0
    while (at := data.find(b"av1C\x81", at)) >= 0 and at + 7 <= len(data):
        flags = data[at + 6]
        depth = max(depth, (12 if flags & 0x20 else 10) if flags & 0x40 else 8)
        is_gray &= bool(flags & 0x10)
        at += 4
    return depth, is_gray


def _deep_avif(data: bytes, depth: int) -> tuple[ImageArray, ImageArray | None] | None:
    """Decode an AVIF image of 10 or 12 bits to 16. None: this build of OpenCV cannot."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if image is None or image.dtype != np.uint16:
        return None
    image = scaled_to_16(image, depth)
    if image.ndim == 2:
        return image, None
    return image[..., 2::-1], image[..., 3] if image.shape[2] == 4 else None


def _bmp_profile(data: bytes) -> bytes | None:
    """Return the profile that a BMP file of version 5 embeds."""
    if len(data) < 138 or struct.unpack_from("<I", data, 14) != (124,) or data[70:74] != b"DEBM":
        return None
    at, size = struct.unpack_from("<II", data, 126)
    return data[14 + at : 14 + at + size]


@dataclass
class _Gif:
    frames: int = 0
    is_gray: bool = True
    has_transparency: bool = False


def _scan_gif(data: bytes) -> _Gif:
    """Count the frames of a GIF file, and look at its palettes."""
    found, at = _Gif(), 13

    def palette(flags: int, at: int) -> int:
        if not flags & 0x80:
            return at
        end = at + 3 * (2 << (flags & 7))
        colours = np.frombuffer(data[at:end], np.uint8)
        found.is_gray &= palette_is_gray(colours[: len(colours) // 3 * 3].reshape(-1, 3))
        return end

    at = palette(data[10], at)
    while at + 10 <= len(data) and found.frames <= MAX_FRAMES and data[at] != 0x3B:
        if data[at] == 0x2C:  # an image: 9 bytes, a palette, and a byte before the blocks
            found.frames += 1
            at = palette(data[at + 9], at + 10) + 1
        elif data[at] == 0x21:
            found.has_transparency |= data[at + 1] == 0xF9 and bool(data[at + 3] & 1)
            at += 2
        else:
            at += 1
            continue
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return found


def _open_heic(path: Path, data: bytes) -> Picture:
    if not heic_is_installed():
        raise ImageError(f"{path} is HEIC, which is not read here: {HEIC_ADVICE}")
    pillow_heif = import_module("pillow_heif")

    try:
        file = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False)
        image = file[file.primary_index]
    except DECODING_ERRORS as error:
        raise damaged(path, error) from error
    check_frames(*image.size, 1, path)
    info: dict[str, Any] = image.info
    notes: list[str] = []
    if len(file) > 1:
        notes.append(f"{len(file) - 1} further pictures in the file were left out")
    if info.get("depth_images") or info.get("aux"):
        notes.append("depth or gain maps were left out")
    depth = int(info.get("bit_depth", 8))
    is_gray = image.mode.startswith(("L", "I"))
    stated = info.get("nclx_profile") or {}
    codes = (stated.get("color_primaries", 2), stated.get("transfer_characteristics", 2))
    # The decoder has turned the pixels upright; Exif may still state the former orientation.
    metadata, _, _ = describe(
        "GRAY" if is_gray else "RGB",
        notes,
        icc=info.get("icc_profile") or profile_of_codes(*codes, is_gray, notes),
        exif=_from_tiff_head(info.get("exif")),
        xmp=info.get("xmp"),
    )

    def frames() -> Iterator[Frame]:
        try:
            again = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False)
            array = np.array(again[again.primary_index])
            if array.shape[1::-1] != image.size:
                raise ValueError("it has another size than it states")
        except DECODING_ERRORS as error:
            raise damaged(path, error) from error
        if array.dtype == np.uint16 and depth < 16:
            array = scaled_to_16(array >> (16 - depth), depth)  # the decoder shifts
        channels = array.shape[2] if array.ndim == 3 else 1
        alpha = np.ascontiguousarray(array[..., -1]) if channels in (2, 4) else None
        pixels = array if channels in (1, 3) else array[..., :-1]
        yield Frame(np.ascontiguousarray(pixels.squeeze(-1) if pixels.shape[2:] == (1,) else pixels), alpha)

    return Picture("heic", image.size, 1, False, None, False, metadata, tuple(notes), frames)


def _from_tiff_head(exif: bytes | None) -> bytes | None:
    """Skip what stands before the TIFF structure of Exif in HEIC."""
    starts = [at for at in ((exif or b"")[:16].find(head) for head in (b"II*\0", b"MM\0*")) if at >= 0]
    return exif[starts[0] :] if exif and starts else exif
