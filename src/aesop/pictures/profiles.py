"""Colour profiles: checking, conversion to sRGB, and profiles for colours that a file states by numbers."""

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_D65 = (0.3127, 0.3290)
_SRGB_PRIMARIES = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# Of ITU-T H.273, the white point first. Others are rare.
_PRIMARIES = {
    1: _SRGB_PRIMARIES,
    2: _SRGB_PRIMARIES,  # unspecified
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # DCI-P3
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = (16, 18)  # PQ, HLG
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def profile_space(icc: bytes) -> str:
    """Return the colour space that a profile describes, such as `RGB`, `GRAY` or `CMYK`. ValueError if it is damaged."""
    try:
        space = ImageCms.ImageCmsProfile(BytesIO(icc)).profile.xcolor_space.strip()
        if space == "CMYK":
            to_srgb(Image.new("CMYK", (1, 1)), icc)
    except (OSError, ImageCms.PyCMSError, TypeError) as error:
        raise ValueError("the colour profile is damaged") from error
    return space


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Convert CMYK, through its profile if it has one, or CIELAB to RGB."""
    if image.mode == "LAB":
        profile = ImageCms.createProfile("LAB")
    elif icc is not None:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
    else:
        return image.convert("RGB")
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return converted


def gray_profile(icc: bytes) -> bytes:
    """Build a profile for gray that shows its values as a profile for RGB shows three equal channels, without their tint.

    ValueError if the profile is damaged.
    """
    linear = _profile(b"GRAY", _COMMON | {b"kTRC": _curve(1.0)})
    ramp = Image.merge("RGB", [Image.frombytes("L", (256, 1), bytes(range(256)))] * 3)
    try:
        source, target = (ImageCms.ImageCmsProfile(BytesIO(each)) for each in (icc, linear))
        shown = ImageCms.profileToProfile(ramp, source, target, outputMode="I;16")
    except (OSError, ImageCms.PyCMSError) as error:
        raise ValueError("the colour profile is damaged") from error
    return _profile(b"GRAY", _COMMON | {b"kTRC": _curve_of(np.asarray(shown)[0] / 65535)})


def profile_of_codes(primaries: int, transfer: int, is_gray: bool, notes: list[str]) -> bytes | None:
    """Build a profile for colours that are stated as codes of H.273, as in AVIF, HEIC, and PNG's cICP. None: it is sRGB."""
    if transfer in _HDR:
        notes.append("its brightness is coded for HDR (PQ or HLG), which the result does not state")
    if primaries not in _PRIMARIES:
        notes.append(f"its primaries (H.273 code {primaries}) are not stated in the result")
        return None
    return profile_of_numbers(_PRIMARIES[primaries], _GAMMAS.get(transfer), is_gray)


def profile_of_numbers(primaries: tuple[float, ...] | None, gamma: float | None, is_gray: bool) -> bytes | None:
    """Build a profile. None: it is sRGB, or the numbers describe no colours.

    Args:
        primaries: x and y of white, red, green, and blue. None: those of sRGB.
        gamma: The exponent to which samples are raised. None: sRGB's curve.
    """
    primaries = primaries or _SRGB_PRIMARIES
    is_curve = gamma is None or abs(gamma - 2.2) < 0.05
    if is_curve and (is_gray or np.allclose(primaries, _SRGB_PRIMARIES, atol=0.003)):
        return None
    curve = _curve(None if is_curve else gamma)
    if is_gray:
        return _profile(b"GRAY", _COMMON | {b"kTRC": curve})
    x, y = np.array(primaries).reshape(4, 2).T
    if (y <= 0).any():
        return None
    white, *colours = np.stack([x / y, np.ones(4), (1 - x - y) / y], 1)
    try:
        matrix = np.array(colours).T
        matrix = matrix * np.linalg.solve(matrix, white)
        adapted = np.linalg.solve(_BRADFORD, np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD) @ matrix
    except np.linalg.LinAlgError:
        return None
    if not (np.abs(adapted) < 8).all():
        return None
    columns = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T, strict=True)}
    return _profile(b"RGB ", _COMMON | columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + np.rint(values * 65536).astype(">i4").tobytes()


_COMMON = {
    b"desc": b"desc" + bytes(4) + struct.pack(">I", 6) + b"image\0" + bytes(78),
    b"cprt": b"text" + bytes(4) + b"none\0",
    b"wtpt": _xyz(_D50),
}


def _curve(gamma: float | None) -> bytes:
    samples = np.linspace(0, 1, 1024)
    if gamma is None:
        values = np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)
    else:
        values = samples**gamma
    return _curve_of(values)


def _curve_of(values: NDArray[np.float64]) -> bytes:
    """The curve that goes through equally spaced values in [0, 1]."""
    return b"curv" + bytes(4) + struct.pack(">I", len(values)) + np.rint(values * 65535).astype(">u2").tobytes()


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Lay out a display profile of version 2."""
    places: dict[bytes, int] = {}  # equal contents are stored once
    content, first = b"", 128 + 4 + 12 * len(tags)
    for value in tags.values():
        if value not in places:
            places[value] = first + len(content)
            content += value + bytes(-len(value) % 4)
    table = b"".join(name + struct.pack(">II", places[value], len(value)) for name, value in tags.items())
    date = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    head = struct.pack(">I4xI4s4s4s12s4s", first + len(content), 0x02400000, b"mntr", space, b"XYZ ", date, b"acsp")
    white = np.rint(_D50 * 65536).astype(">i4").tobytes()
    return head.ljust(68, b"\0") + white + bytes(48) + struct.pack(">I", len(tags)) + table + content
