"""Reading image files: against Pillow (which decodes independently of OpenCV), and files that must be refused."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from aesop.images.errors import ImageError
from aesop.images.read import ImageFile

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (24, 37, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (24, 37, 3), dtype=np.uint16)
# Smooth, so that lossy formats stay close; every orientation of it looks different.
SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 252, 4), 90), -1).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("extension", ["png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
def test_lossless_files_agree_with_pillow(tmp_path, extension, mode):
    if (extension, mode) in {("bmp", "LA"), ("bmp", "CMYK"), ("png", "CMYK"), ("webp", "CMYK")}:
        pytest.skip("Pillow does not write this")
    image = Image.fromarray(np.dstack([RGB, RGB[..., 0]])).convert(mode)
    kind = {"tif": "TIFF"}.get(extension, extension.upper())
    data = encoded(image, kind, **({"lossless": True, "exact": True} if extension == "webp" else {}))
    read = ImageFile.at(put(tmp_path / f"image.{extension}", data)).read()
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_agrees_with_pillow(tmp_path, mode):
    data = encoded(Image.fromarray(SMOOTH).convert(mode), "JPEG", quality=95)
    read = ImageFile.at(put(tmp_path / "image.jpg", data)).read().astype(int)
    assert np.abs(read - np.asarray(Image.open(BytesIO(data)).convert("RGB"))).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(Image.fromarray(SMOOTH), kind, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
    read = ImageFile.at(put(tmp_path / "image", data)).read()
    assert read.shape == expected.shape
    assert ImageFile.at(tmp_path / "image").size() == expected.shape[1::-1]
    assert np.abs(read.astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)


def test_exif_behind_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(RGB), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    np.testing.assert_array_equal(ImageFile.at(put(tmp_path / "late.png", moved)).read(), np.rot90(RGB, -1))
    assert ImageFile.at(tmp_path / "late.png").size() == (24, 37)


def test_sixteen_bits_are_kept_and_rounded_on_request(tmp_path):
    for extension in ("png", "tif"):
        path = tmp_path / f"deep.{extension}"
        cv2.imwrite(str(path), RGB16[..., ::-1])
        np.testing.assert_array_equal(ImageFile.at(path).read(), RGB16)
        np.testing.assert_array_equal(ImageFile.at(path).read_uint8(), np.round(RGB16 / 257))
    cv2.imwrite(str(tmp_path / "gray.png"), RGB16[..., 0])
    np.testing.assert_array_equal(ImageFile.at(tmp_path / "gray.png").read(), RGB16[..., [0, 0, 0]])


def test_alpha(tmp_path):
    alpha = RGB[..., 1]
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        data = encoded(Image.fromarray(np.dstack([RGB, alpha])), kind, **options)
        path = put(tmp_path / "image", data)
        colour, read_alpha = ImageFile.at(path).read_with_alpha()
        np.testing.assert_array_equal(colour, RGB)
        np.testing.assert_array_equal(read_alpha, alpha)
        np.testing.assert_array_equal(ImageFile.at(path).read(), RGB)
    _, none = ImageFile.at(put(tmp_path / "image", encoded(Image.fromarray(RGB), "PNG"))).read_with_alpha()
    assert none is None
    _, gray_alpha = ImageFile.at(
        put(tmp_path / "image", encoded(Image.fromarray(RGB).convert("LA"), "PNG"))
    ).read_with_alpha()
    assert gray_alpha is not None
    assert (gray_alpha == 255).all()


def test_any_path_and_wrong_extension(tmp_path):
    folder = tmp_path / "Bilder ж 图 ü"
    folder.mkdir()
    path = put(folder / "naïve 🦊.jpg", encoded(Image.fromarray(RGB), "PNG"))
    np.testing.assert_array_equal(ImageFile.at(path).read(), RGB)
    np.testing.assert_array_equal(ImageFile.at(str(path)).read(), RGB)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.97])
def test_truncated_files_are_refused(tmp_path, kind, part):
    data = encoded(Image.fromarray(np.tile(RGB, (3, 3, 1))), kind)
    path = put(tmp_path / "cut.png", data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=r"cut\.png"):
        ImageFile.at(path).read()


def test_truncated_jpeg_is_found_without_opencv(tmp_path, monkeypatch):
    # OpenCV 4 decodes the first half of a JPEG and fills the rest with gray.
    data = encoded(Image.fromarray(np.tile(RGB, (3, 3, 1))), "JPEG")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV was asked to decode half a file"))
    with pytest.raises(ImageError, match=r"half\.jpg.*truncated"):
        ImageFile.at(put(tmp_path / "half.jpg", data[: len(data) // 2])).read()


def test_truncated_sixteen_bit_tiff_is_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, RGB16, photometric="rgb")
    np.testing.assert_array_equal(ImageFile.at(path).read(), RGB16)
    put(path, path.read_bytes()[:-100])
    with pytest.raises(ImageError, match=r"deep\.tif"):
        ImageFile.at(path).read()


def test_tiff_that_opencv_misreads(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "odd.tif"
    for bits, planes in (("8", RGB), ("16", RGB16)):
        tifffile.imwrite(path, planes.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate")
        if bits == "8":
            np.testing.assert_array_equal(ImageFile.at(path).read(), RGB)
        else:
            with pytest.raises(ImageError, match="separate planes"):
                ImageFile.at(path).read()
    tifffile.imwrite(path, RGB[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(ImageFile.at(path).read(), 255 - RGB[..., [0, 0, 0]])
    for kind in (np.float16, np.float32, np.float64, np.int16, np.uint32):
        for samples in (RGB, RGB[..., 0]):
            tifffile.imwrite(path, samples.astype(kind), photometric="rgb" if samples.ndim == 3 else "minisblack")
            with pytest.raises(ImageError, match=r"odd\.tif.*8 or 16 bits"):
                ImageFile.at(path).read()


def test_appended_bytes_do_no_harm(tmp_path):
    for kind in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(RGB), kind)
        clean = ImageFile.at(put(tmp_path / "a", data)).read()
        np.testing.assert_array_equal(ImageFile.at(put(tmp_path / "b", data + b"\0trailer" * 50)).read(), clean)


def test_damaged_png_is_refused(tmp_path):
    data = bytearray(encoded(Image.fromarray(RGB), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match=r"flipped\.png"):
        ImageFile.at(put(tmp_path / "flipped.png", bytes(data))).read()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF", b"hello " * 9])
def test_no_images(tmp_path, content):
    path = put(tmp_path / "not an image.png", content)
    for reading in (ImageFile.read, ImageFile.size):
        with pytest.raises(ImageError, match=r"not an image\.png"):
            reading(ImageFile.at(path))


def test_other_kinds_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match="no PNG, JPEG, WebP, TIFF or BMP"):
        ImageFile.at(put(tmp_path / "image.png", encoded(Image.fromarray(RGB), "GIF"))).read()
    with pytest.raises(ImageError, match=r"missing\.png.*check the path"):
        ImageFile.at(tmp_path / "missing.png").read()
    with pytest.raises(ImageError, match=r"missing\.png.*check the path"):
        ImageFile.at(tmp_path / "missing.png").size()
    with pytest.raises(ImageError, match="is a folder, a pipe or a device"):
        ImageFile.at(tmp_path).read()


def test_decompression_bomb_is_refused_before_decoding(tmp_path, monkeypatch):
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    bomb = put(tmp_path / "bomb.png", b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    small = put(tmp_path / "small.png", encoded(Image.fromarray(RGB), "PNG"))
    monkeypatch.setattr("aesop.images.decode.MAX_PIXELS", 24 * 37)
    assert ImageFile.at(small).read().shape == RGB.shape
    monkeypatch.undo()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"bomb\.png has 100000 x 100000 pixels.*limit of 200 megapixels"):
        ImageFile.at(bomb).read()
    monkeypatch.setattr("aesop.images.decode.MAX_PIXELS", 24 * 37 - 1)
    with pytest.raises(ImageError, match=r"small\.png has 37 x 24"):
        ImageFile.at(small).read()
