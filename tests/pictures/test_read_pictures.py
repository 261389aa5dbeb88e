"""Opening pictures with nothing lost: against Pillow, tifffile, and closed forms."""

import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from aesop.images.errors import ImageError
from aesop.pictures.kinds import READABLE_PICTURES, named_kind
from aesop.pictures.metadata import Exif
from aesop.pictures.picture import Frame
from aesop.pictures.read import open_picture

RNG = np.random.default_rng(7)
RGBA = RNG.integers(0, 256, (24, 37, 4), dtype=np.uint8)
RGBA16 = RNG.integers(0, 65536, (24, 37, 4), dtype=np.uint16)
# Smooth, so that lossy formats stay close; every orientation of it looks different.
SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 252, 4), 90), -1).astype(np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COLOURS = ("red", "lime", "blue")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a/></x:xmpmeta>'


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(array: np.ndarray, **options) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """Put a chunk behind the header of a PNG file."""
    return png[:33] + chunk(name, content) + png[33:]


def opened(data: bytes, name: str = "image"):
    return open_picture(Path(name), data)


def only(data: bytes) -> Frame:
    (frame,) = opened(data).frames()
    assert frame.pixels.flags.c_contiguous
    return frame


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Build an ICC profile, version 2."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78), **tags}
    at, table, content = 132 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", at + len(content), len(value))
        content += value
    size = at + len(content)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"lcms", 0x02400000, kind, space, b"XYZ ", bytes(12), b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


GRAY_PROFILE = profile(
    b"GRAY", {b"wtpt": b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061), b"kTRC": curve(1.8)}
)


def matrix_profile(*curves: bytes) -> bytes:
    """Build a profile with the primaries of Adobe RGB, adapted to D50."""
    colours = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
    tags = {b"wtpt": b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)}
    for name, values, own in zip((b"r", b"g", b"b"), colours, curves, strict=True):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + struct.pack(">iii", *(round(v * 65536) for v in values))
        tags[name + b"TRC"] = own
    return profile(b"RGB ", tags)


ADOBE = matrix_profile(*[curve(2.19921875)] * 3)


def cmyk_profile() -> bytes:
    """Build a CMYK profile whose table has two points per ink: Lab of lightness 100 (1 - (C + M + Y + 3 K) / 6)."""
    grid = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    lightness = 1 - grid @ [1, 1, 1, 3] / 6
    lab = np.stack([lightness * 0xFF00, np.full(16, 0x8000), np.full(16, 0x8000)], -1).astype(">u2")
    line = np.array([0, 65535], ">u2").tobytes()
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft2" + bytes(4) + struct.pack(">BBBB", 4, 3, 2, 0) + matrix + struct.pack(">HH", 2, 2)
    table += line * 4 + lab.tobytes() + line * 3
    made = bytearray(
        profile(b"CMYK", {b"A2B0": table, b"wtpt": b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)})
    )
    made[20:24] = b"Lab "
    return bytes(made)


def exif_of(orientation: int = 6, thumbnail: bool = False, of_tiff: bool = False) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x013B] = "A. Painter"
    if not of_tiff:  # Pillow would take them for the picture's size
        exif[0x0100], exif[0x0101] = 64, 48
    exif.get_ifd(0x8769).update({0x9003: "2020:01:02 03:04:05", 0xA002: 64, 0xA003: 48, 0x927C: b"MakerNote!" * 9})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 1.0)})
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    if thumbnail:
        order = "<" if block[:2] == b"II" else ">"
        (root,) = struct.unpack_from(order + "I", block, 4)
        at = root + 2 + 12 * struct.unpack_from(order + "H", block, root)[0]
        picture = encoded(Image.fromarray(SMOOTH).resize((16, 16)), "JPEG")
        start = len(block) + len(block) % 2
        directory = struct.pack(order + "H", 2)
        directory += struct.pack(order + "HHII", 0x201, 4, 1, start + 30) + struct.pack(
            order + "HHII", 0x202, 4, 1, len(picture)
        )
        block = block[:at] + struct.pack(order + "I", start) + block[at + 4 :] + bytes(len(block) % 2)
        block += directory + bytes(4) + picture
    return b"Exif\0\0" + block


def parsed(exif: bytes) -> Image.Exif:
    read = Image.Exif()
    read.load(b"Exif\0\0" + exif)
    return read


# --- every mode of every format


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_lossless_formats_agree_with_pillow(kind, mode):
    if kind in ("BMP", "GIF") and "A" in mode:
        pytest.skip("Pillow does not write this")
    image = Image.fromarray(RGBA if "A" in mode else RGBA[..., :3].copy()).convert(mode)
    data = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    read, frame = opened(data), only(data)
    again = Image.open(BytesIO(data))
    assert read.lossless
    assert read.size == (37, 24)
    assert frame.pixels.dtype == np.uint8
    is_gray = mode in ("1", "L", "LA") and kind != "WEBP"
    expected = np.asarray(again.convert("L" if is_gray else "RGB"))
    np.testing.assert_array_equal(frame.pixels, expected)
    if "A" in mode:
        np.testing.assert_array_equal(frame.alpha, np.asarray(again.convert("RGBA"))[..., 3])
    else:
        assert frame.alpha is None


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_16_bits(channels):
    stored = RGBA16[..., [2, 1, 0, 3][:channels]] if channels > 1 else RGBA16[..., 0]
    frame = only(cv2.imencode(".png", stored)[1].tobytes())
    assert frame.pixels.dtype == np.uint16
    np.testing.assert_array_equal(frame.pixels, RGBA16[..., 0] if channels == 1 else RGBA16[..., :3])
    assert (frame.alpha is None) == (channels < 4)
    if channels == 4:
        np.testing.assert_array_equal(frame.alpha, RGBA16[..., 3])


def deep_png(array: np.ndarray, kind: int, *extra: bytes) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_png_of_16_bits_with_gray_and_alpha_or_a_transparent_colour():
    frame = only(deep_png(RGBA16[..., :2], 4))
    np.testing.assert_array_equal(frame.pixels, RGBA16[..., 0])
    np.testing.assert_array_equal(frame.alpha, RGBA16[..., 1])
    key = tuple(int(value) for value in RGBA16[3, 5, :3])
    frame = only(deep_png(RGBA16[..., :3], 2, chunk(b"tRNS", struct.pack(">HHH", *key))))
    np.testing.assert_array_equal(frame.pixels, RGBA16[..., :3])
    assert [*zip(*np.nonzero(frame.alpha == 0), strict=True)] == [(3, 5)]
    frame = only(deep_png(RGBA16[..., 0], 0, chunk(b"tRNS", struct.pack(">H", key[0]))))
    assert frame.pixels.ndim == 2
    np.testing.assert_array_equal(frame.alpha, np.where(RGBA16[..., 0] == key[0], 0, 65535))


def test_interlaced_png_of_16_bits():
    image = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for y, dy, x, dx in passes for row in image[y::dy, x::dx])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 0, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(only(data).pixels, image)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_gray_with_a_transparent_value(bits):
    values = np.arange(16, dtype=np.uint8).reshape(4, 4) % (1 << bits)
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in values
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, bits, 0, 0, 0, 0)) + chunk(b"tRNS", struct.pack(">H", 1))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    frame = only(data)
    np.testing.assert_array_equal(frame.pixels, values.astype(int) * 255 // (2**bits - 1))
    np.testing.assert_array_equal(frame.alpha, np.where(values == 1, 0, 255))


def test_transparent_value_of_gray_and_of_rgb():
    gray = np.zeros((64, 64), np.uint8)
    gray[16:48, 16:48] = 200
    frame = only(encoded(Image.fromarray(gray), "PNG", transparency=0))
    np.testing.assert_array_equal(frame.pixels, gray)
    np.testing.assert_array_equal(frame.alpha, np.where(gray == 200, 255, 0))
    rgb = np.dstack([gray, gray, 255 - gray])
    frame = only(encoded(Image.fromarray(rgb), "PNG", transparency=(0, 0, 255)))
    np.testing.assert_array_equal(frame.pixels, rgb)
    np.testing.assert_array_equal(frame.alpha, np.where(gray == 200, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency(kind):
    palette = Image.new("P", (64, 64))
    palette.putpalette([0, 255, 0, 255, 0, 0] + [0] * 762)
    palette.paste(1, (16, 16, 48, 48))
    frame = only(encoded(palette, kind, transparency=0))
    np.testing.assert_array_equal(frame.pixels[20, 20], (255, 0, 0))
    assert (frame.alpha[16:48, 16:48] == 255).all()
    assert frame.alpha.astype(int).sum() == 255 * 32 * 32
    half = only(encoded(palette, "PNG", transparency=bytes([0, 128])))
    assert half.alpha[20, 20] == 128


def test_gray_palettes_are_gray_unless_they_have_a_profile():
    palette = Image.fromarray(RGBA[..., 0]).convert("P")
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        np.testing.assert_array_equal(only(encoded(palette, kind)).pixels, RGBA[..., 0])
    picture = opened(encoded(palette, "PNG", icc_profile=SRGB))
    assert picture.metadata.icc == SRGB
    assert next(picture.frames()).pixels.shape == (24, 37, 3)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_agrees_with_pillow(mode):
    data = encoded(Image.fromarray(SMOOTH).convert(mode), "JPEG", quality=95)
    assert not opened(data).lossless
    np.testing.assert_array_equal(only(data).pixels, np.asarray(Image.open(BytesIO(data))))


def test_webp_knows_whether_it_is_lossless():
    image = Image.fromarray(RGBA)
    assert opened(encoded(image, "WEBP", lossless=True)).lossless
    assert not opened(encoded(image, "WEBP", quality=90)).lossless
    frames = [Image.new("RGB", (64, 64), colour) for colour in COLOURS]
    assert opened(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)).lossless
    assert not opened(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=False)).lossless


# --- animations and pages


@pytest.mark.parametrize(("kind", "name"), [("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("AVIF", "avif")])
def test_every_frame_with_its_timing(kind, name):
    frames = [Image.new("RGB", (64, 64), colour) for colour in COLOURS]
    durations = [100, 250, 40]
    options = {"loop": 3} if kind != "AVIF" else {"quality": 100}
    options |= {"lossless": True} if kind == "WEBP" else {}
    picture = opened(encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=durations, **options))
    assert (picture.format, picture.count, picture.animated) == (name, 3, True)
    assert picture.loop == (None if kind == "AVIF" else 3)
    for _ in range(2):  # frames can be asked for again
        read = [*picture.frames()]
        assert [frame.duration for frame in read] == durations
        for frame, image in zip(read, frames, strict=True):
            assert np.abs(frame.pixels.astype(int) - np.asarray(image)).max() <= (3 if kind == "AVIF" else 0)
    assert picture.lossless == (kind != "AVIF")


@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_gif_frames_are_composed_as_pillow_does(disposal):
    frames = []
    for step in range(4):
        image = Image.new("RGBA", (48, 32), (0, 0, 0, 0))
        image.paste((255, 60 * step, 0, 255), (8 * step, 4, 8 * step + 12, 20))
        frames.append(image)
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=70, loop=0, disposal=disposal)
    picture, again = opened(data), Image.open(BytesIO(data))
    assert picture.loop == 0
    for index, frame in enumerate(picture.frames()):
        again.seek(index)
        expected = np.asarray(again.convert("RGBA"))
        np.testing.assert_array_equal(np.dstack([frame.pixels, frame.alpha]), expected)


def test_gray_gif_animation_stays_gray():
    frames = [Image.fromarray(RGBA[..., k]) for k in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    for k, frame in enumerate(opened(data).frames()):
        np.testing.assert_array_equal(frame.pixels, RGBA[..., k])


@pytest.mark.parametrize("blend", [0, 1])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_apng_frames_are_composed_as_pillow_does(disposal, blend):
    frames = [Image.new("RGBA", (40, 30), (255, 0, 0, 255))]
    for step in range(1, 4):
        image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
        image.paste((0, 255, 80 * step, 130), (5 * step, 5, 5 * step + 10, 20))
        frames.append(image)
    options = {"disposal": disposal, "blend": blend, "duration": 33.5, "default_image": False}
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], **options)
    again = Image.open(BytesIO(data))
    read = [*opened(data).frames()]
    assert len(read) == again.n_frames == 4
    for index, frame in enumerate(read):
        again.seek(index)
        np.testing.assert_array_equal(np.dstack([frame.pixels, frame.alpha]), np.asarray(again.convert("RGBA")))
        assert frame.duration == again.info["duration"]


def test_default_image_of_an_apng_is_no_frame():
    frames = [Image.new("RGB", (20, 20), colour) for colour in COLOURS]
    picture = opened(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True, duration=90))
    assert picture.count == 2
    assert [tuple(frame.pixels[0, 0]) for frame in picture.frames()] == [(0, 255, 0), (0, 0, 255)]
    assert "still image" in picture.notes[0]
    single = opened(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:2], default_image=True))
    assert (single.count, single.animated) == (1, False)
    assert [tuple(frame.pixels[0, 0]) for frame in single.frames()] == [(0, 255, 0)]


def test_frames_are_decoded_one_by_one(monkeypatch):
    frames = [Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)) for _ in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    read = opened(data[: len(data) - 2000]).frames()
    next(read)  # the damaged last frame is not looked at yet
    with pytest.raises(ImageError, match="frame"):
        next(read), next(read)


def test_all_pages_of_a_tiff_but_no_thumbnails():
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(RGBA[..., :3], photometric="rgb")
        writer.write(RGBA[::4, ::4, :3].copy(), photometric="rgb", subfiletype=1)
        writer.write(RGBA16[:9, :, 0].copy(), photometric="minisblack")
        writer.write(RGBA[..., 3] > 127, photometric="minisblack", subfiletype=4)
    picture = opened(stream.getvalue())
    first, second = picture.frames()
    assert (picture.count, picture.animated) == (2, False)
    np.testing.assert_array_equal(first.pixels, RGBA[..., :3])
    np.testing.assert_array_equal(second.pixels, RGBA16[:9, :, 0])
    assert picture.notes == ("thumbnails and smaller copies of pages were left out", "transparency masks were left out")


# --- TIFF


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_every_page_of_a_tiff_has_its_own_metadata(byteorder, big):
    stream = BytesIO()
    with tifffile.TiffWriter(stream, byteorder=byteorder, bigtiff=big) as writer:
        for number, icc in enumerate((SRGB, ADOBE, None)):
            texts = {269: "book", 285: f"page {number}", 315: "A. Painter", 33432: f"(c) {number}"}
            tags = [(tag, "s", 0, text, False) for tag, text in texts.items()]
            tags += [(297, "H", 2, (number, 3), False), (700, "B", len(XMP), XMP, False)]
            options = {
                "resolution": (100 + number, 200),
                "resolutionunit": "inch",
                "description": f"Nr. {number}",
                "software": "scanner",
            }
            page = RGBA[: 24 - number, ..., :3]
            writer.write(page, photometric="rgb", iccprofile=icc, extratags=tags, metadata=None, **options)
    picture = opened(stream.getvalue())
    assert picture.notes == ()
    assert picture.sizes == ((37, 24), (37, 23), (37, 22))
    pages = [frame.metadata for frame in picture.frames()]
    assert pages[0] == picture.metadata
    for number, (page, icc) in enumerate(zip(pages, (SRGB, ADOBE, None), strict=True)):
        exif = parsed(page.exif)
        assert (exif[270], exif[285], exif[33432]) == (f"Nr. {number}", f"page {number}", f"(c) {number}")
        assert (exif[269], exif[297], exif[305], exif[315]) == ("book", (number, 3), "scanner", "A. Painter")
        assert (page.icc, page.xmp, page.dpi) == (icc, XMP, (100 + number, 200))


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_exif_directories_of_a_bigtiff(byteorder):
    data, order = bytearray(tiff(RGBA[..., :3], photometric="rgb", bigtiff=True, byteorder=byteorder)), byteorder
    (at,) = struct.unpack_from(order + "Q", data, 8)
    (count,) = struct.unpack_from(order + "Q", data, at)
    entries = bytes(data[at + 8 : at + 8 + 20 * count])
    added = len(data)
    data += struct.pack(order + "QHHQQ", 1, 37510, 7, 12, added + 36) + bytes(8) + b"ASCII\0\0\0word"  # a user comment
    struct.pack_into(order + "Q", data, 8, len(data))
    entries += struct.pack(order + "HHQQ", 34665, 18, 1, added)
    data += struct.pack(order + "Q", count + 1) + entries + bytes(8)
    exif = parsed(opened(bytes(data)).metadata.exif)
    assert exif.get_ifd(0x8769)[37510] == b"ASCII\0\0\0word"


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "planar tiles"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4"])
def test_tiff_layouts(layout, dtype, byteorder):
    array = RGBA16[..., :3].astype(dtype) if dtype[0] == "u" else (RGBA16[..., :3] / 50000).astype(dtype)
    options = {"strips": {"rowsperstrip": 5}, "tiles": {"tile": (16, 16)}, "planes": {}, "planar tiles": {"tile": (16, 16)}}
    is_planar = layout.startswith("plan")
    stored = np.ascontiguousarray(array.transpose(2, 0, 1)) if is_planar else array
    planar = "separate" if is_planar else "contig"
    kind = {"photometric": "rgb", "planarconfig": planar, "byteorder": byteorder, **options[layout]}
    packed = [(None, None), ("zlib", None), ("lzma", None), *([("zlib", 2)] if dtype[0] == "u" else [])]
    for compression, predictor in packed:
        frame = only(tiff(stored, compression=compression, predictor=predictor, **kind))
        assert frame.pixels.dtype == {"f2": np.float32}.get(dtype, np.dtype(dtype))
        np.testing.assert_array_equal(frame.pixels, array.astype(frame.pixels.dtype))


@pytest.mark.parametrize("compression", [5, 8, 32946, 32773])
@pytest.mark.parametrize(("dtype", "predictor"), [("u1", 1), ("u1", 2), ("u2", 1), ("u2", 2), ("f4", 1), ("f4", 3)])
def test_tiff_compressions_by_libtiff(compression, dtype, predictor):
    array = (
        SMOOTH.astype(dtype) * 257 if dtype == "u2" else SMOOTH.astype(dtype) if dtype == "u1" else SMOOTH / np.float32(255)
    )
    array = np.ascontiguousarray(array[..., ::-1])
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    done, data = cv2.imencode(".tif", array, options)
    assert done
    np.testing.assert_array_equal(only(data.tobytes()).pixels, array[..., ::-1])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P", "I;16", "F"])
def test_tiff_compressions_by_pillow(compression, mode):
    array = {"I;16": RGBA16[..., 0], "F": RGBA16[..., 0].astype(np.float32) / 65535}.get(mode)
    image = Image.fromarray(array) if array is not None else Image.fromarray(RGBA).convert(mode)
    frame = only(encoded(image, "TIFF", compression=compression))
    is_coloured = mode in ("RGB", "RGBA", "P")
    expected = np.asarray(image) if array is not None else np.asarray(image.convert("RGB" if is_coloured else "L"))
    np.testing.assert_array_equal(frame.pixels, expected)
    assert (frame.alpha is not None) == ("A" in mode)


@pytest.mark.skipif(PIL.__version__.startswith("11."), reason="wheels of Pillow 11 lack Zstandard; writing crashes")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_tiff_of_zstandard(mode):
    image = Image.fromarray(RGBA).convert(mode)
    data = encoded(image, "TIFF", compression="zstd")
    frame = only(data)
    whole = frame.pixels if frame.alpha is None else np.dstack([frame.pixels, frame.alpha])
    np.testing.assert_array_equal(whole, np.asarray(image))
    with pytest.raises(ImageError, match="Zstandard"):
        only(data.replace(b"\x28\xb5\x2f\xfd", bytes(4)))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "jpeg"])
def test_tiff_of_fax_and_jpeg(compression):
    image = Image.fromarray(SMOOTH).convert("RGB" if compression == "jpeg" else "1")
    data = encoded(image, "TIFF", compression=compression)
    frame, picture = only(data), opened(data)
    assert picture.lossless == (compression != "jpeg")
    expected = np.asarray(image if compression == "jpeg" else image.convert("L")).astype(int)
    assert np.abs(frame.pixels - expected).max() <= (12 if compression == "jpeg" else 0)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_white_is_zero(dtype):
    array = RGBA16[..., 0].astype(dtype) if dtype != "f4" else RGBA16[..., 0] / np.float32(65535)
    top = 1 if dtype == "f4" else np.iinfo(dtype).max
    frame = only(tiff(top - array, photometric="miniswhite"))
    np.testing.assert_allclose(frame.pixels, array, atol=1e-7 if dtype == "f4" else 0)
    (pixel,) = {*only(tiff(np.full((64, 96), 65535 - 20000, "u2"), photometric="miniswhite")).pixels.ravel().tolist()}
    assert pixel == 20000


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_associated_alpha_is_divided_out(dtype):
    top = 1.0 if dtype == "f4" else float(np.iinfo(dtype).max)
    alpha = np.array([[0, 0.25, 0.5, 1.0]] * 4)
    colour = np.broadcast_to([0.9, 0.5, 0.1], (4, 4, 3))
    stored = np.dstack([colour * alpha[..., None], alpha]) * top
    stored = (stored if dtype == "f4" else np.rint(stored)).astype(dtype)
    frame = only(tiff(stored, photometric="rgb", extrasamples=["assocalpha"]))
    np.testing.assert_array_equal(frame.alpha, stored[..., 3])
    limit = 1e-6 if dtype == "f4" else 2.5
    assert np.abs(frame.pixels[:, 1:] - (colour * top)[:, 1:]).max() <= limit
    assert not frame.pixels[:, 0].any()
    frame = only(tiff(stored, photometric="rgb", extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(frame.pixels, stored[..., :3])
    np.testing.assert_array_equal(frame.alpha, stored[..., 3])


def test_extra_samples_without_a_meaning():
    frame = only(tiff(RGBA16, photometric="rgb", extrasamples=["unspecified"]))
    np.testing.assert_array_equal(frame.alpha, RGBA16[..., 3])
    padded = RGBA.copy()
    padded[..., 3] = 0
    assert only(tiff(padded, photometric="rgb", extrasamples=["unspecified"])).alpha is None
    six = np.concatenate([RGBA, RGBA[..., :2]], -1)
    picture = opened(tiff(six, photometric="rgb", extrasamples=["unspecified", "unassalpha", "unspecified"]))
    np.testing.assert_array_equal(next(picture.frames()).alpha, RGBA[..., 0])
    assert picture.notes == ("2 extra channels were left out",)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
def test_other_depths_of_tiff(bits):
    values = RGBA16[..., 0] >> (16 - bits)
    rows = [
        np.packbits(np.unpackbits(row.astype(">u2").view("u1")).reshape(-1, 16)[:, 16 - bits :].ravel()) for row in values
    ]
    packed = np.stack(rows).tobytes()
    entries = [(256, 37), (257, 24), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 24), (279, len(packed))]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    padding = bytes(len(packed) % 2)
    head = b"II*\0" + struct.pack("<I", 8 + len(packed) + len(padding))
    frame = only(head + packed + padding + table + bytes(4))
    top = 255 if bits < 8 else 65535
    np.testing.assert_array_equal(frame.pixels, np.rint(values * (top / (2**bits - 1))).astype(int))


def test_tiff_that_is_refused():
    for data, words in (
        (tiff(RGBA16[..., 0].astype(np.int16)), "signed samples of 16 bits"),
        (tiff(RGBA[..., 0].astype(np.complex64)), "complex samples of 64 bits"),
        (tiff(np.zeros((3, 24, 37), np.uint8), photometric="minisblack", volumetric=True, tile=(16, 16, 16)), "volume"),
        (with_tag(259, 34712), "JPEG 2000 compression"),
        (with_tag(259, 34933), "PNG compression"),
        (with_tag(262, 32844), "colours of kind 32844"),
        (tiff(RGBA16[..., :3].astype("f4"), photometric="cielab"), "floating-point LAB"),
        (with_tag(259, 12345), "compression 12345"),
        (with_tag(262, 32844), "colours of kind 32844"),
    ):
        with pytest.raises(ImageError, match=words):
            [*opened(data).frames()]


def with_tag(tag: int, value: int) -> bytes:
    data = bytearray(tiff(RGBA[..., 0], photometric="minisblack"))
    with tifffile.TiffFile(BytesIO(data)) as file:
        struct.pack_into("<H", data, file.pages[0].tags[tag].valueoffset, value)
    return bytes(data)


def test_lab_and_ycbcr_become_rgb():
    to_lab = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(Image.fromarray(SMOOTH), *to_lab, outputMode="LAB")
    picture = opened(encoded(lab, "TIFF"))
    back = ImageCms.profileToProfile(lab, *to_lab[::-1], outputMode="RGB")
    np.testing.assert_array_equal(next(picture.frames()).pixels, np.asarray(back))
    assert picture.notes == ("CIELAB was converted to sRGB with 8 bits",)
    yuv = Image.fromarray(SMOOTH).convert("YCbCr")
    np.testing.assert_array_equal(only(encoded(yuv, "TIFF")).pixels, np.asarray(yuv.convert("RGB")))
    signed = np.asarray(lab)  # as Pillow and CIELAB have a and b; ICC's kind has them plus 128
    wide = np.dstack([signed[..., 0].astype("u2") * 257, signed[..., 1:].astype("u2") << 8])
    stored = signed ^ np.array([0, 128, 128], "u1")
    alpha = np.full(signed.shape[:2], 7, "u1")
    for array, kind in (
        (signed, "cielab"),
        (wide, "cielab"),
        (stored, "icclab"),
        (stored.astype("u2") << 8, "icclab"),
        (np.dstack([signed, alpha]), "cielab"),
    ):
        extra = {"extrasamples": ["unassalpha"]} if array.shape[2] > 3 else {}
        frame = only(tiff(array, photometric=kind, planarconfig="contig", compression="zlib", **extra))
        np.testing.assert_array_equal(frame.pixels, np.asarray(back))
        assert (frame.alpha is None) == (not extra)
    whole = only(tiff(np.asarray(yuv), photometric="ycbcr", compression="zlib"))  # colours are not subsampled
    np.testing.assert_array_equal(whole.pixels, np.asarray(yuv.convert("RGB")))


def test_descriptions_that_state_the_former_size_are_left_out():
    array = RGBA[..., 0]
    assert b"shape" not in (opened(tiff(array)).metadata.exif or b"")
    kept = opened(tiff(array, description="a plain text", metadata=None)).metadata.exif
    assert parsed(kept)[270] == "a plain text"


def test_integers_of_32_bits_and_doubles():
    wide = (RGBA16.astype(np.uint32) << 16)[..., :3]
    picture = opened(tiff(wide, photometric="rgb"))
    frame = next(picture.frames())
    np.testing.assert_allclose(frame.pixels, wide / (2**32 - 1), rtol=1e-6)
    assert frame.pixels.dtype == np.float32
    assert "32 bits" in picture.notes[0]
    doubles = RGBA16[..., 0] / 30000 - 0.5  # beyond [0, 1]
    picture = opened(tiff(doubles))
    np.testing.assert_array_equal(next(picture.frames()).pixels, doubles.astype(np.float32))
    assert "64 bits" in picture.notes[0]


@pytest.mark.parametrize("deep", [False, True])
def test_palette_of_a_tiff(deep):
    colours = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    colours = colours if deep else colours >> 8 << 8
    frame = only(tiff(RGBA[..., 0], photometric="palette", colormap=colours))
    expected = (colours if deep else colours >> 8).T[RGBA[..., 0]]
    np.testing.assert_array_equal(frame.pixels, expected)
    assert frame.pixels.dtype == (np.uint16 if deep else np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "deep PNG", "deep TIFF", "fax"])
def test_orientation_is_applied_and_reset(kind, orientation):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    exif = exif_of(orientation, of_tiff=kind == "TIFF")
    image = Image.fromarray(SMOOTH)
    if kind == "deep PNG":
        data = with_chunk(deep_png(SMOOTH.astype(np.uint16) * 257, 2), b"eXIf", exif[6:])
    elif kind == "deep TIFF":
        data = tiff(SMOOTH.astype(np.uint16) * 257, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    elif kind == "fax":
        data = encoded(image.convert("1"), "TIFF", compression="group4", tiffinfo={274: orientation})
    else:
        data = encoded(image, kind, exif=exif, **options.get(kind, {}))
    source = image.convert("1") if kind == "fax" else image
    oriented = Image.Exif()
    oriented[0x0112] = orientation
    source.info["exif"] = oriented.tobytes()
    source.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(source).convert("L" if kind == "fax" else "RGB"))
    picture, frame = opened(data), only(data)
    assert picture.size == expected.shape[1::-1]
    factor = 257 if "deep" in kind else 1
    limit = {"JPEG": 3, "AVIF": 4}.get(kind, 0)
    assert np.abs(frame.pixels // factor - expected.astype(int)).max() <= limit
    if picture.metadata.exif:
        assert parsed(picture.metadata.exif).get(0x0112, 1) == 1


# --- metadata


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_profile_exif_xmp_and_resolution_are_kept(kind):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6" exif:PixelXDimension="64"/></x:xmpmeta>'
    options = {"icc_profile": SRGB, "exif": exif_of(6, kind != "TIFF", kind == "TIFF")}
    options |= {"dpi": (300, 200)} if kind in ("JPEG", "PNG", "TIFF") else {}
    if kind == "TIFF":
        options["exif"] = parsed(options["exif"][6:])
        options["exif"][700] = xmp
    elif kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    else:
        options["xmp"] = xmp
    picture = opened(encoded(Image.fromarray(SMOOTH), kind, **options))
    metadata = picture.metadata
    assert metadata.icc == SRGB
    exif = parsed(metadata.exif)
    assert exif[0x013B] == "A. Painter"
    assert exif.get(0x0112, 1) == 1
    assert exif.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
    assert exif.get_ifd(0x8769)[0x927C] == b"MakerNote!" * 9
    assert exif.get_ifd(0x8825)[1] == "N"
    assert b"\xff\xd8" not in metadata.exif
    assert not exif.get_ifd(1)
    assert b'tiff:Orientation="1"' in metadata.xmp
    if kind in ("JPEG", "PNG", "TIFF"):
        assert metadata.dpi == pytest.approx((200, 300), abs=0.02)  # turned
    assert picture.notes == ()


@pytest.mark.parametrize("entry", [(0x112, 8, 1, 6), (0x112, 12, 1, 6), (0x112, 3, 2, 6)])
def test_an_orientation_of_another_type_is_left_out(entry):
    exif = (
        struct.pack("<4sIH", b"II*\0", 8, 2)
        + struct.pack("<HHII", 0x100, 4, 1, 64)
        + struct.pack("<HHII", *entry)
        + bytes(4)
    )
    picture = opened(encoded(Image.fromarray(SMOOTH), "PNG", exif=exif))
    assert 0x112 not in parsed(picture.metadata.exif)
    assert picture.notes == ("1 damaged Exif entries were left out",)
    assert picture.size == SMOOTH.shape[1::-1]


def test_an_orientation_that_is_stated_twice_is_reset_twice():
    entries = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) * 2
    data = encoded(Image.fromarray(SMOOTH), "PNG", exif=struct.pack("<4sIH", b"II*\0", 8, 2) + entries + bytes(4))
    assert opened(data).metadata.exif[10:34] == struct.pack("<HHIHH", 0x112, 3, 1, 1, 0) * 2


@pytest.mark.parametrize("orientation", [3, 6])
def test_resolutions_change_places_where_a_picture_lies_on_its_side(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = orientation, 240.0, 120.0, 2
    metadata = opened(encoded(Image.fromarray(SMOOTH), "JPEG", exif=exif)).metadata
    expected = (120, 240) if orientation == 6 else (240, 120)
    assert metadata.dpi == expected
    assert (parsed(metadata.exif)[0x011A], parsed(metadata.exif)[0x011B]) == expected


def test_orientation_in_xmp_is_reset_only_where_the_picture_was_turned():
    xmp, exif = b'<x tiff:Orientation="6"/>', Image.Exif()
    assert opened(encoded(Image.fromarray(SMOOTH), "JPEG", xmp=xmp)).metadata.xmp == xmp
    exif[0x0112] = 6
    turned = opened(encoded(Image.fromarray(SMOOTH), "JPEG", xmp=xmp, exif=exif))
    assert turned.metadata.xmp == b'<x tiff:Orientation="1"/>'


def test_resizing_updates_what_states_the_size():
    picture = opened(encoded(Image.fromarray(SMOOTH), "JPEG", exif=exif_of(1), xmp=b'<r exif:PixelXDimension="64"/>'))
    metadata = picture.metadata.resized(70000, 192)
    exif = parsed(metadata.exif)
    assert (exif[0x0100], exif[0x0101]) == (70000, 192)
    assert (exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003]) == (70000, 192)
    assert exif.get_ifd(0x8769)[0x927C] == b"MakerNote!" * 9
    assert metadata.xmp == b'<r exif:PixelXDimension="70000"/>'
    assert 0xA002 not in parsed(Exif(Image.Exif().tobytes() + bytes(8)).tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_damaged_exif_entries_are_left_out_alone(order):
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    entries = [
        (0x010E, 2, 400, 5000),
        (0x0112, 3, 1, 6 if order == "<" else 6 << 16),
        (0x8769, 4, 1, 9999),
        (0x0101, 99, 1, 0),
    ]
    table = struct.pack(order + "H", 4) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + bytes(4)
    picture = opened(encoded(Image.fromarray(SMOOTH), "JPEG", exif=b"Exif\0\0" + head + table))
    assert picture.notes == ("3 damaged Exif entries were left out",)
    assert dict(parsed(picture.metadata.exif)) == {0x0112: 1}
    assert picture.size == SMOOTH.shape[:2]


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage!", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_and_profile_are_left_out_with_notes(kind, exif):
    data = encoded(Image.fromarray(SMOOTH), kind, exif=exif, icc_profile=b"no profile" * 20)
    picture = opened(data)
    assert picture.metadata.exif is None
    assert picture.metadata.icc is None
    assert "damaged colour profile" in picture.notes[0]
    assert "damaged Exif" in picture.notes[1]
    assert next(picture.frames()).pixels.shape == SMOOTH.shape


def test_hostile_exif_never_crashes():
    exif = exif_of(6, thumbnail=True)[6:]
    for _ in range(3000):
        damaged = bytearray(exif)
        for at in RNG.integers(0, 200, 3):
            damaged[at] = RNG.integers(0, 256)
        try:
            edited = Exif(bytes(damaged))
        except ValueError:
            continue
        edited.turn_upright()
        edited.resize(10, 20)
        edited.dpi()
        Exif(edited.tobytes())


def test_profiles_fit_the_pixels():
    gray = Image.fromarray(SMOOTH).convert("L")
    for kind in ("PNG", "JPEG", "TIFF"):
        assert opened(encoded(gray, kind, icc_profile=GRAY_PROFILE)).metadata.icc == GRAY_PROFILE
        picture = opened(encoded(Image.fromarray(SMOOTH), kind, icc_profile=GRAY_PROFILE))
        assert picture.metadata.icc is None
        assert picture.notes == ("a colour profile for GRAY was left out: the pixels are RGB",)


def lut_profile() -> bytes:
    """Build an RGB profile whose table has two points per channel: Lab of lightness (R + G + B) / 3, without colour."""
    lightness = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3).mean(1)
    lab = np.stack([lightness * 0xFF00, np.full(8, 0x8000), np.full(8, 0x8000)], -1).astype(">u2")
    line = np.array([0, 65535], ">u2").tobytes()
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft2" + bytes(4) + struct.pack(">BBBB", 3, 3, 2, 0) + matrix + struct.pack(">HH", 2, 2)
    table += line * 3 + lab.tobytes() + line * 3
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    made = bytearray(profile(b"RGB ", {b"A2B0": table, b"wtpt": white}))
    made[20:24] = b"Lab "
    return bytes(made)


def parametric(*numbers: float, kind: int) -> bytes:
    return (
        b"para"
        + bytes(4)
        + struct.pack(">HH", kind, 0)
        + struct.pack(f">{len(numbers)}i", *(round(n * 65536) for n in numbers))
    )


RGB_PROFILES = {
    "sRGB": SRGB,
    "Adobe RGB": ADOBE,
    "gamma 1.8": matrix_profile(*[curve(1.8)] * 3),
    "Apple's Display P3": matrix_profile(*[parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, kind=3)] * 3),
    "table": lut_profile(),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("name", RGB_PROFILES)
def test_a_profile_for_rgb_shows_gray_as_it_did(kind, name):
    gray, icc = Image.fromarray(SMOOTH[..., 0]), RGB_PROFILES[name]
    picture = opened(encoded(gray, kind, icc_profile=icc))
    assert picture.notes == ()
    pixels = next(picture.frames()).pixels
    assert pixels.ndim == 2
    assert ImageCms.ImageCmsProfile(BytesIO(picture.metadata.icc)).profile.xcolor_space == "GRAY"

    def to_srgb(image: Image.Image, profile: bytes) -> np.ndarray:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return np.asarray(made).astype(int)

    stored = Image.open(BytesIO(encoded(gray, kind))).convert("RGB")
    expected = to_srgb(stored, icc)
    assert np.abs(expected - stored).max() > 5 or name in ("sRGB", "Apple's Display P3")
    assert np.abs(to_srgb(Image.fromarray(pixels), picture.metadata.icc) - expected).max() <= 1


def test_a_damaged_profile_for_rgb_on_gray_is_left_out():
    broken = profile(b"RGB ", {b"wtpt": b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)})
    picture = opened(encoded(Image.fromarray(SMOOTH[..., 0]), "PNG", icc_profile=broken))
    assert (picture.metadata.icc, picture.notes) == (None, ("a damaged colour profile was left out",))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "TIFF by libtiff", "deep TIFF", "TIFF with JPEG"])
def test_cmyk_goes_through_its_profile(kind):
    icc = cmyk_profile()
    image = Image.fromarray(SMOOTH).convert("CMYK")
    image.putdata([(c, m, y, 40) for c, m, y, _ in np.asarray(image).reshape(-1, 4).tolist()])
    if kind == "deep TIFF":
        deep = np.asarray(image).astype(np.uint16) * 257
        data = tiff(deep, photometric="separated", extratags=[(34675, 7, len(icc), icc, True)])
    else:
        how = {
            "JPEG": {"quality": 100},
            "TIFF by libtiff": {"compression": "tiff_lzw"},
            "TIFF with JPEG": {"compression": "jpeg"},
        }
        data = encoded(image, kind[:4], icc_profile=icc, **how.get(kind, {}))
    picture = opened(data)
    assert picture.metadata.icc is None
    assert "CMYK was converted to sRGB through its profile" in picture.notes
    inks = np.asarray(image) / 255
    lightness = 100 * (1 - inks @ [1, 1, 1, 3] / 6)
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    expected = 255 * np.where(luminance > 0.0031308, 1.055 * luminance ** (1 / 2.4) - 0.055, 12.92 * luminance)
    limit = 12 if kind == "TIFF with JPEG" else 3
    assert np.abs(next(picture.frames()).pixels - expected[..., None]).max() <= limit


def test_cmyk_without_a_profile_is_approximate():
    image = Image.fromarray(SMOOTH).convert("CMYK")
    for kind in ("TIFF", "JPEG"):
        data = encoded(image, kind)
        picture = opened(data)
        assert picture.notes == ("CMYK was converted to sRGB without a profile: colours are approximate",)
        np.testing.assert_array_equal(next(picture.frames()).pixels, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


def test_texts_and_comments():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "Ein Bild")
    texts.add_itxt("Author", "J. Ångström")
    data = encoded(Image.fromarray(SMOOTH), "PNG", pnginfo=texts)
    assert opened(data).metadata.text == {"Title": "Ein Bild", "Author": "J. Ångström"}
    late = data[:-12] + chunk(b"tEXt", b"Late\0behind the pixels") + data[-12:]
    assert opened(late).metadata.text["Late"] == "behind the pixels"
    frames = [Image.new("RGB", (20, 20), colour) for colour in COLOURS]
    animation = opened(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], pnginfo=texts, loop=2))
    assert (animation.metadata.text["Title"], animation.count, animation.loop) == ("Ein Bild", 3, 2)
    assert opened(encoded(Image.fromarray(SMOOTH), "JPEG", comment="hello")).metadata.text == {"Comment": "hello"}
    assert opened(encoded(Image.fromarray(SMOOTH).convert("P"), "GIF", comment=b"hello")).metadata.text == {
        "Comment": "hello"
    }


def test_exif_in_a_text_of_imagemagick():
    texts = PngImagePlugin.PngInfo()
    exif = exif_of(6)
    texts.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n")
    picture = opened(encoded(Image.fromarray(SMOOTH), "PNG", pnginfo=texts))
    assert picture.size == SMOOTH.shape[:2]
    assert parsed(picture.metadata.exif)[0x013B] == "A. Painter"
    assert picture.metadata.text == {}


@pytest.mark.parametrize(("unit", "expected"), [(2, (120, 60)), (3, (304.8, 152.4)), (1, None)])
def test_resolution_of_a_tiff_by_its_unit(unit, expected):
    picture = opened(tiff(RGBA, photometric="rgb", resolution=(120, 60), resolutionunit=unit))
    assert picture.metadata.dpi == (None if expected is None else pytest.approx(expected))


def test_resolution_of_a_jpeg_is_not_made_up():
    assert opened(encoded(Image.fromarray(SMOOTH), "JPEG")).metadata.dpi is None
    assert opened(encoded(Image.fromarray(SMOOTH), "JPEG", exif=exif_of(1))).metadata.dpi is None
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 118.0, 118.0, 3
    assert opened(encoded(Image.fromarray(SMOOTH), "WEBP", exif=exif)).metadata.dpi == pytest.approx((299.72, 299.72))


def test_profile_in_a_bmp():
    header = struct.pack("<IiiHHIIiiII", 124, 2, 2, 1, 24, 0, 16, 2835, 2835, 0, 0).ljust(56, b"\0") + b"DEBM"
    header = header.ljust(112, b"\0") + struct.pack("<III", 124 + 16, len(SRGB), 0)
    pixels = bytes(range(16))
    data = b"BM" + struct.pack("<IHHI", 14 + 124 + 16 + len(SRGB), 0, 0, 138) + header + pixels + SRGB
    assert opened(data).metadata.icc == SRGB
    assert opened(data).metadata.dpi == pytest.approx((72, 72), abs=0.02)


def shown(data: bytes) -> np.ndarray:
    """Convert a picture to sRGB through the profile that was read."""
    picture = opened(data)
    source = ImageCms.ImageCmsProfile(BytesIO(picture.metadata.icc))
    image = Image.fromarray(next(picture.frames()).pixels)
    target = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, source, target, renderingIntent=1, outputMode="RGB")).astype(int)


def test_colours_that_a_png_states_by_numbers():
    # sRGB's red in Display P3; white and gray are the same in both.
    data = encoded(Image.fromarray(np.array([[[234, 51, 35], [255, 255, 255], [128, 128, 128]]], "u1")), "PNG")
    p3 = [0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060]
    numbers = struct.pack(">8I", *(round(number * 1e5) for number in p3))
    for stated in (with_chunk(data, b"cHRM", numbers), with_chunk(data, b"cICP", bytes([12, 13, 0, 1]))):
        assert np.abs(shown(stated) - [[[255, 0, 0], [255, 255, 255], [128, 128, 128]]]).max() <= 2
    linear = np.round(255 * (np.arange(80, 256, 5) / 255) ** 2.4).astype("u1")[None]
    for array in (linear, np.dstack([linear] * 3)):
        stated = with_chunk(encoded(Image.fromarray(array), "PNG"), b"gAMA", struct.pack(">I", 100_000))
        light = array / 255
        expected = 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
        assert np.abs(shown(stated) - expected.reshape(1, -1, array.shape[-1] if array.ndim == 3 else 1)).max() <= 2
    for name, content in ((b"gAMA", struct.pack(">I", 45455)), (b"cICP", bytes([1, 13, 0, 1])), (b"cHRM", bytes(32))):
        assert opened(with_chunk(data, name, content)).metadata.icc is None
    assert "HDR" in opened(with_chunk(data, b"cICP", bytes([9, 16, 0, 1]))).notes[0]


# --- AVIF and HEIC


def test_colours_that_an_avif_states_by_codes():
    data = bytearray(encoded(Image.new("RGB", (16, 16), (234, 51, 35)), "AVIF", quality=100, subsampling="4:4:4"))
    at = data.index(b"colrnclx") + 8
    struct.pack_into(">HH", data, at, 12, 13)
    assert np.abs(shown(bytes(data)) - (255, 0, 0)).max() <= 4


def deep_avif(array: np.ndarray, depth: int) -> bytes:
    if not cv2.haveImageWriter("a.avif"):
        pytest.skip("this OpenCV has no AVIF")
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    return cv2.imencode(".avif", np.ascontiguousarray(array), options)[1].tobytes()


@pytest.mark.parametrize("depth", [10, 12])
def test_avif_of_more_than_8_bits(depth):
    values = SMOOTH.astype(np.uint16) << (depth - 8)
    frame = only(deep_avif(values[..., ::-1], depth))
    assert frame.pixels.dtype == np.uint16
    assert np.abs(frame.pixels - values * (65535 / (2**depth - 1))).max() <= 300


def test_gray_avif_stays_gray():
    for data in (deep_avif(SMOOTH[..., 0], 8), deep_avif(SMOOTH[..., 0].astype(np.uint16) * 4, 10)):
        assert only(data).pixels.ndim == 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "RGB;16"])
def test_heic(mode):
    heif = pytest.importorskip("pillow_heif")
    rgba = np.dstack([SMOOTH, 255 - SMOOTH[..., 0]])
    array = {"RGB": SMOOTH, "RGBA": rgba, "L": SMOOTH[..., 0], "RGB;16": SMOOTH.astype(np.uint16) * 257}[mode]
    stream = BytesIO()
    made = heif.from_bytes(mode=mode, size=(63, 48), data=np.ascontiguousarray(array).tobytes())
    made.save(stream, quality=100, exif=exif_of(1), chroma=444, icc_profile=SRGB)
    picture = opened(stream.getvalue())
    frame = next(picture.frames())
    assert (picture.format, picture.size, picture.lossless) == ("heic", (63, 48), False)
    assert parsed(picture.metadata.exif)[0x013B] == "A. Painter"
    assert frame.pixels.dtype == array.dtype
    expected = array[..., :3] if mode != "L" else array
    assert np.abs(frame.pixels.astype(int) - expected).max() <= (4 if array.dtype == np.uint8 else 800)
    assert (frame.alpha is not None) == (mode == "RGBA")
    white = heif.from_bytes(mode="RGB;16", size=(16, 16), data=b"\xff" * 16 * 16 * 6)
    white.save(stream := BytesIO(), quality=100)
    assert only(stream.getvalue()).pixels.max() == 65535


def test_heic_without_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC.*pip install pillow-heif"):
        opened(b"\0\0\0\x18ftypheic" + bytes(64))
    assert "pip install pillow-heif" in named_kind(".HEIC")


# --- kinds that are not read, and files that must be refused


PNG, JPEG = (encoded(Image.fromarray(SMOOTH), kind) for kind in ("PNG", "JPEG"))


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"\xff\x0a" + bytes(50), "a.jxl", "JPEG XL.*djxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "a", "JPEG XL"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", "SVG.*export"),
        (b"8BPS" + bytes(50), "a.psd", "Photoshop"),
        (b"%PDF-1.7", "a.pdf", "pdfimages"),
        (b"\0\0\0\x18ftypisom" + bytes(50), "a.mp4", "video.*ffmpeg"),
        (b"\x1a\x45\xdf\xa3" + bytes(50), "a", "video"),
        (b"RIFF\0\0\0\0AVI " + bytes(50), "a", "video"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(50), "a.cr2", "raw file.*16-bit TIFF"),
        (b"\0\0\0\x18ftypcrx " + bytes(50), "a.cr3", "raw file"),
        (b"FUJIFILMCCD-RAW " + bytes(50), "a.raf", "raw file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "a.jp2", "JPEG 2000"),
        (b"\1" * 64, "a.dcr", "raw file"),
        (b"\n<!DOCTYPE HTML><html>404", "a.jpg", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a.png", "git lfs pull"),
        (PNG.replace(b"\n", b"\r\n"), "a.png", "copied as text"),
        (PNG.replace(b"\r\n", b"\n"), "a.png", "copied as text"),
        (PNG.decode("utf-8", "replace").encode(), "a.png", "copied as text"),
        (JPEG.decode("utf-8", "replace").encode(), "a.jpg", "copied as text"),
        (b"PK\3\4" + bytes(50), "a.png", "archive"),
        (bytes(64), "a.png", "nothing but zeros"),
        (b'{"error": 404}', "a.png", "text"),
        (b"\1\2\3\xff" * 50, "a.png", "not a supported image"),
        (b"", "a.png", "empty"),
    ],
)
def test_other_kinds_are_named(data, name, words):
    with pytest.raises(ImageError, match=words):
        opened(data, name)


def test_raw_files_that_are_tiff():
    for data, name in (
        (tiff(RGBA, photometric="rgb"), "a.nef"),
        (tiff(RGBA[..., 0], photometric="minisblack", extratags=[(50706, 1, 4, b"\1\4\0\0", True)]), "a"),
        (tiff(RGBA[..., 0], photometric=32803), "a.tif"),
    ):
        with pytest.raises(ImageError, match="raw file"):
            opened(data, name)


def test_extensions():
    assert {".png", ".apng", ".jfif", ".jpe", ".gif", ".avif", ".heic", ".tiff", ".bmp", ".webp"} <= {*READABLE_PICTURES}
    assert named_kind(".png") is None
    assert named_kind(".txt") is None
    assert "djxl" in named_kind(".JXL")
    assert "raw" in named_kind(".nef")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF", "lzw"])
def test_truncated_files_are_refused(kind):
    image = Image.fromarray(RGBA[..., :3])
    data = encoded(image, "TIFF", compression="tiff_lzw") if kind == "lzw" else encoded(image, kind)
    for part in (0.1, 0.4, 0.6):
        with pytest.raises(ImageError, match="image"):
            only(data[: int(len(data) * part)])


def test_damaged_bytes_raise_image_errors_only():
    images = [Image.fromarray(RGBA[..., :3]), Image.fromarray(RGBA[..., 0])]
    files = [encoded(images[0], kind, exif=exif_of(of_tiff=True)) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")]
    files += [encoded(images[0], "GIF", save_all=True, append_images=images[1:]), encoded(images[0], "BMP")]
    files += [
        tiff(RGBA16, photometric="rgb", tile=(16, 16), compression="zlib"),
        encoded(images[1], "TIFF", compression="tiff_lzw"),
    ]
    for data in files:
        for _ in range(60):
            damaged = bytearray(data)
            for at in RNG.integers(0, len(data) if RNG.random() < 0.5 else min(len(data), 400), 4):
                damaged[at] = RNG.integers(0, 256)
            try:
                for frame in opened(bytes(damaged)).frames():
                    assert frame.pixels.size
            except ImageError:
                pass


def test_sizes_are_limited(monkeypatch):
    gif = encoded(Image.new("L", (40, 40)), "GIF", save_all=True, append_images=[Image.new("L", (40, 40), 9)] * 3)
    monkeypatch.setattr("aesop.pictures.parts.MAX_PIXELS_IN_ALL_FRAMES", 40 * 40)
    with pytest.raises(ImageError, match="2 frames"):
        opened(gif)
    monkeypatch.setattr("aesop.images.decode.MAX_PIXELS", 24 * 37 - 1)
    for data in (encoded(Image.fromarray(RGBA), "PNG"), tiff(RGBA, photometric="rgb")):
        with pytest.raises(ImageError, match="megapixels"):
            opened(data)


def test_a_deflated_bomb_is_not_expanded():
    bomb = zlib.compress(bytes(1 << 28), 9)
    honest = zlib.compress(RGBA[..., 0].tobytes())
    data = tiff(RGBA[..., 0], compression="zlib", predictor=False, photometric="minisblack")
    assert only(data).pixels.shape == (24, 37)
    assert len(honest) < len(bomb)
    entries = [(256, 37), (257, 24), (258, 8), (259, 8), (262, 1), (273, 8), (277, 1), (278, 24), (279, len(bomb))]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    padding = bytes(len(bomb) % 2)
    file = b"II*\0" + struct.pack("<I", 8 + len(bomb) + len(padding)) + bomb + padding + table + bytes(4)
    tracemalloc.start()
    assert not only(file).pixels.any()
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_pages_that_go_in_circles_end():
    data = bytearray(tiff(RGBA[..., 0], photometric="minisblack"))
    (root,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, root)
    struct.pack_into("<I", data, root + 2 + 12 * count, root)
    assert opened(bytes(data)).count == 1


def test_a_file_is_read_from_its_path(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RGBA), "PNG"))
    np.testing.assert_array_equal(next(open_picture(path).frames()).pixels, RGBA[..., :3])
    with pytest.raises(ImageError, match="cannot be read"):
        open_picture(tmp_path / "b.png")
