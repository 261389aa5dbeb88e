"""What all readers share: limits, checks of metadata, and arrays from Pillow's images."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from aesop.images.decode import MAX_PIXELS, PILLOW_ERRORS, TRANSPOSED, check_size
from aesop.images.errors import ImageError
from aesop.images.tensors import ImageArray
from aesop.pictures.metadata import Exif, upright_xmp
from aesop.pictures.picture import Metadata
from aesop.pictures.profiles import gray_profile, profile_space, to_srgb

DECODING_ERRORS = (*PILLOW_ERRORS, ArithmeticError, RuntimeError, MemoryError)
"""What decoders raise on damaged files. ImageError is one of them."""
MAX_FRAMES = 20_000
MAX_PIXELS_IN_ALL_FRAMES = 250 * MAX_PIXELS


def check_frames(width: int, height: int, count: int, path: Path) -> None:
    """Raise ImageError if a picture is larger than any honest one."""
    check_size(width, height, path)
    if count > MAX_FRAMES or width * height * count > MAX_PIXELS_IN_ALL_FRAMES:
        limits = f"{MAX_FRAMES} frames and {MAX_PIXELS_IN_ALL_FRAMES / 1e9:g} gigapixels"
        raise ImageError(f"image {path} has {count} frames of {width} x {height} pixels; the limits are {limits}: split it")


def describe(
    space: str,
    notes: list[str],
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    text: dict[str, str] | None = None,
    orientation: int = 1,
) -> tuple[Metadata, int, bytes | None]:
    """Check metadata and fit them to upright pixels. What is damaged is left out, with a note.

    Args:
        space: Of the pixels in the file: RGB, GRAY, CMYK, or LAB.
        orientation: If the file states it elsewhere than in Exif.

    Returns:
        The metadata; the orientation, 1..8, that the pixels need; and the profile through which CMYK is to be converted.
    """
    profile = _checked_profile(icc, space, notes)
    if space == "CMYK":
        how = "through its profile" if profile else "without a profile: colours are approximate"
        notes.append(f"CMYK was converted to sRGB {how}")
    elif space == "LAB":
        notes.append("CIELAB was converted to sRGB with 8 bits")
    stated_dpi = None
    if exif:
        try:
            edited = Exif(exif)
            orientation, stated_dpi = max(orientation, edited.orientation()), edited.dpi()
            edited.turn_upright()
            exif = edited.tobytes()
            if edited.removed:
                notes.append(f"{edited.removed} damaged Exif entries were left out")
        except ValueError as error:
            exif = None
            notes.append(f"damaged Exif was left out: {error}")
    if xmp:
        if b"HasExtendedXMP" in xmp:
            notes.append("the second part of its XMP was left out")
        try:
            xmp.decode()
        except UnicodeDecodeError:
            xmp = None
            notes.append("damaged XMP was left out: it is no UTF-8")
    dpi = _checked_dpi(dpi) or _checked_dpi(stated_dpi)
    if dpi and orientation in TRANSPOSED:
        dpi = dpi[1], dpi[0]
    kept = profile if space in ("RGB", "GRAY") else None
    if xmp and orientation != 1:
        xmp = upright_xmp(xmp)
    metadata = Metadata(kept, exif or None, xmp or None, dpi, text or {})
    return metadata, orientation, profile


def _checked_profile(icc: bytes | None, space: str, notes: list[str]) -> bytes | None:
    if not icc:
        return None
    try:
        described = profile_space(icc)
        if (described, space) == ("RGB", "GRAY"):
            return gray_profile(icc)
    except ValueError:
        notes.append("a damaged colour profile was left out")
        return None
    if described.upper() != space:
        notes.append(f"a colour profile for {described} was left out: the pixels are {space}")
        return None
    return icc


def _checked_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    try:
        x, y = map(float, dpi or ())
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None


def split(image: Image.Image, is_gray: bool, profile: bytes | None = None) -> tuple[ImageArray, ImageArray | None]:
    """Return the pixels, (H, W) or (H, W, 3), and the alpha (H, W) of a decoded Pillow image."""
    if image.mode in ("CMYK", "LAB"):
        return np.array(to_srgb(image, profile)), None
    if image.mode.startswith("I;16"):
        return np.array(image).astype(np.uint16), None
    has_alpha = image.has_transparency_data
    if image.mode in ("1", "L", "LA"):
        array = np.array(image.convert("LA" if has_alpha else "L"))
        return (array[..., 0], array[..., 1]) if has_alpha else (array, None)
    array = np.array(image.convert("RGBA" if has_alpha else "RGB"))
    return array[..., 0] if is_gray else array[..., :3], array[..., 3] if has_alpha else None


def palette_is_gray(colours: ImageArray) -> bool:
    """Check the colours (N, 3) of a palette."""
    return bool((colours == colours[:, :1]).all())


def scaled_to_16(values: ImageArray, depth: int) -> ImageArray:
    """Scale integers of `depth` bits, 8 < depth <= 16, to all of uint16."""
    top = 2**depth - 1
    return ((values.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
