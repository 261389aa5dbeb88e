"""Image files: against Pillow (which decodes independently of OpenCV), round trips, and files that must be refused."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from aesop.images.errors import ImageError
from aesop.images.listing import IMAGE_EXTENSIONS, list_images
from aesop.images.read import ImageFile, image_size, read_image, read_image_uint8
from aesop.images.tensors import to_array, to_tensor
from aesop.images.write import write_image

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


# --- reading ---


@pytest.mark.parametrize("extension", ["png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
def test_lossless_files_agree_with_pillow(tmp_path, extension, mode):
    if (extension, mode) in {("bmp", "LA"), ("bmp", "CMYK"), ("png", "CMYK"), ("webp", "CMYK")}:
        pytest.skip("Pillow does not write this")
    image = Image.fromarray(np.dstack([RGB, RGB[..., 0]])).convert(mode)
    kind = {"tif": "TIFF"}.get(extension, extension.upper())
    data = encoded(image, kind, **({"lossless": True, "exact": True} if extension == "webp" else {}))
    read = read_image(put(tmp_path / f"image.{extension}", data))
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_agrees_with_pillow(tmp_path, mode):
    data = encoded(Image.fromarray(SMOOTH).convert(mode), "JPEG", quality=95)
    read = read_image(put(tmp_path / "image.jpg", data)).astype(int)
    assert np.abs(read - np.asarray(Image.open(BytesIO(data)).convert("RGB"))).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(Image.fromarray(SMOOTH), kind, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
    read = read_image(put(tmp_path / "image", data))
    assert read.shape == expected.shape
    assert image_size(tmp_path / "image") == expected.shape[1::-1]
    assert np.abs(read.astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)


def test_exif_behind_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(RGB), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    np.testing.assert_array_equal(read_image(put(tmp_path / "late.png", moved)), np.rot90(RGB, -1))
    assert image_size(tmp_path / "late.png") == (24, 37)


def test_sixteen_bits_are_kept_and_rounded_on_request(tmp_path):
    for extension in ("png", "tif"):
        path = tmp_path / f"deep.{extension}"
        cv2.imwrite(str(path), RGB16[..., ::-1])
        np.testing.assert_array_equal(read_image(path), RGB16)
        np.testing.assert_array_equal(read_image_uint8(path), np.round(RGB16 / 257))
    cv2.imwrite(str(tmp_path / "gray.png"), RGB16[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), RGB16[..., [0, 0, 0]])


def test_alpha(tmp_path):
    alpha = RGB[..., 1]
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        data = encoded(Image.fromarray(np.dstack([RGB, alpha])), kind, **options)
        path = put(tmp_path / "image", data)
        colour, read_alpha = ImageFile.at(path).read_with_alpha()
        np.testing.assert_array_equal(colour, RGB)
        np.testing.assert_array_equal(read_alpha, alpha)
        np.testing.assert_array_equal(read_image(path), RGB)
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
    np.testing.assert_array_equal(read_image(path), RGB)
    np.testing.assert_array_equal(read_image(str(path)), RGB)


# --- refusing ---


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.97])
def test_truncated_files_are_refused(tmp_path, kind, part):
    data = encoded(Image.fromarray(np.tile(RGB, (3, 3, 1))), kind)
    path = put(tmp_path / "cut.png", data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=r"cut\.png"):
        read_image(path)


def test_truncated_jpeg_is_found_without_opencv(tmp_path, monkeypatch):
    # OpenCV 4 decodes the first half of a JPEG and fills the rest with gray.
    data = encoded(Image.fromarray(np.tile(RGB, (3, 3, 1))), "JPEG")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV was asked to decode half a file"))
    with pytest.raises(ImageError, match=r"half\.jpg.*truncated"):
        read_image(put(tmp_path / "half.jpg", data[: len(data) // 2]))


def test_truncated_sixteen_bit_tiff_is_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, RGB16, photometric="rgb")
    np.testing.assert_array_equal(read_image(path), RGB16)
    put(path, path.read_bytes()[:-100])
    with pytest.raises(ImageError, match=r"deep\.tif"):
        read_image(path)


def test_tiff_that_opencv_misreads(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "odd.tif"
    for bits, planes in (("8", RGB), ("16", RGB16)):
        tifffile.imwrite(path, planes.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate")
        if bits == "8":
            np.testing.assert_array_equal(read_image(path), RGB)
        else:
            with pytest.raises(ImageError, match="separate planes"):
                read_image(path)
    tifffile.imwrite(path, RGB[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path), 255 - RGB[..., [0, 0, 0]])
    for kind in (np.float16, np.float32, np.float64, np.int16, np.uint32):
        for samples in (RGB, RGB[..., 0]):
            tifffile.imwrite(path, samples.astype(kind), photometric="rgb" if samples.ndim == 3 else "minisblack")
            with pytest.raises(ImageError, match=r"odd\.tif.*8 or 16 bits"):
                read_image(path)


def test_appended_bytes_do_no_harm(tmp_path):
    for kind in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(RGB), kind)
        clean = read_image(put(tmp_path / "a", data))
        np.testing.assert_array_equal(read_image(put(tmp_path / "b", data + b"\0trailer" * 50)), clean)


def test_damaged_png_is_refused(tmp_path):
    data = bytearray(encoded(Image.fromarray(RGB), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match=r"flipped\.png"):
        read_image(put(tmp_path / "flipped.png", bytes(data)))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF", b"hello " * 9])
def test_no_images(tmp_path, content):
    path = put(tmp_path / "not an image.png", content)
    for reading in (read_image, image_size):
        with pytest.raises(ImageError, match=r"not an image\.png"):
            reading(path)


def test_other_kinds_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match="no PNG, JPEG, WebP, TIFF or BMP"):
        read_image(put(tmp_path / "image.png", encoded(Image.fromarray(RGB), "GIF")))
    with pytest.raises(ImageError, match=r"missing\.png.*check the path"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match=r"missing\.png.*check the path"):
        image_size(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder, a pipe or a device"):
        read_image(tmp_path)


def test_decompression_bomb_is_refused_before_decoding(tmp_path, monkeypatch):
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    bomb = put(tmp_path / "bomb.png", b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    small = put(tmp_path / "small.png", encoded(Image.fromarray(RGB), "PNG"))
    monkeypatch.setattr("aesop.images.decode.MAX_PIXELS", 24 * 37)
    assert read_image(small).shape == RGB.shape
    monkeypatch.undo()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"bomb\.png has 100000 x 100000 pixels.*limit of 200 megapixels"):
        read_image(bomb)
    monkeypatch.setattr("aesop.images.decode.MAX_PIXELS", 24 * 37 - 1)
    with pytest.raises(ImageError, match=r"small\.png has 37 x 24"):
        read_image(small)


# --- listing ---


def test_list_images(tmp_path):
    names = ["b/2.PNG", "b/10.jpeg", "a10.webp", "a2.TIF", "a02.bmp", ".hidden.png", "c/._junk.png", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [image.name for image in list_images(tmp_path)]
    assert [image.path for image in list_images(tmp_path)] == [tmp_path / name for name in found]
    assert found == ["a02.bmp", "a2.TIF", "a10.webp", "b/2.PNG", "b/10.jpeg"]


def test_list_images_errors(tmp_path):
    with pytest.raises(ImageError, match="nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    file = put(tmp_path / "notes.txt", b"x")
    with pytest.raises(ImageError, match=r"notes\.txt is a file"):
        list_images(file)
    with pytest.raises(ImageError, match=r"\.png \.jpg \.jpeg \.webp \.tif \.tiff \.bmp"):
        list_images(tmp_path)


# --- writing ---


@pytest.mark.parametrize("extension", IMAGE_EXTENSIONS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_written_files_as_pillow_and_we_read_them(tmp_path, extension, channels, deep):
    # WebP does not keep the colour of pixels that cannot be seen at all.
    smooth = np.dstack([SMOOTH, np.maximum(SMOOTH[..., 1], 1)])
    image = smooth[..., 0] if channels == 1 else smooth[..., :channels]
    path = tmp_path / "new folder" / f"image{extension.upper()}"
    write_image(path, image.astype(np.uint16) * 257 if deep else image)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    read, alpha = ImageFile.at(path).read_with_alpha()
    assert read.dtype == (np.uint16 if deep and extension in (".png", ".tif", ".tiff") else np.uint8)
    expected = np.atleast_3d(image)[..., :3].astype(int) * np.ones(3, int) * (257 if read.dtype == np.uint16 else 1)
    tolerance = 6 if extension in (".jpg", ".jpeg", ".webp") else 0
    assert np.abs(read - expected).max() <= tolerance
    keeps_alpha = channels == 4 and extension in (".png", ".tif", ".tiff", ".webp")
    assert (alpha is not None) == keeps_alpha
    if keeps_alpha:
        np.testing.assert_array_equal(alpha // (257 if alpha.dtype == np.uint16 else 1), smooth[..., 3])

    with Image.open(path) as opened:
        assert opened.format == {"TIF": "TIFF", "JPG": "JPEG"}.get(extension[1:].upper(), extension[1:].upper())
        if not deep:
            assert np.abs(np.asarray(opened.convert("RGB")).astype(int) - expected).max() <= tolerance


def test_writing_errors_leave_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    write_image(path, RGB)
    former = path.read_bytes()
    with pytest.raises(ValueError, match=r"cannot write \.xyz; use \.png \.jpg"):
        write_image(tmp_path / "image.xyz", RGB)
    with pytest.raises(ValueError, match="without an extension"):
        write_image(tmp_path / "image", RGB)
    with pytest.raises(ValueError, match="not float32"):
        write_image(path, RGB.astype(np.float32))
    with pytest.raises(ValueError, match=r"found \(24, 37, 2\)"):
        write_image(path, RGB[..., :2])
    with pytest.raises(ValueError, match=r"wide\.webp"):
        write_image(tmp_path / "wide.webp", np.zeros((2, 17_000, 3), np.uint8))

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_image(path, 255 - RGB)
    assert path.read_bytes() == former
    assert os.listdir(tmp_path) == ["image.png"]


# --- tensors ---


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_and_tensors(dtype):
    top = np.iinfo(dtype).max
    array = np.arange(top + 1, dtype=dtype).reshape(16, -1)
    image = np.stack([array, array[::-1], array[:, ::-1]], -1)
    tensor = to_tensor(image)
    assert tensor.shape == (3, *array.shape)
    assert tensor.dtype == torch.float32
    assert tensor.min() == 0
    assert tensor.max() == 1
    torch.testing.assert_close(tensor[0], torch.from_numpy((array / top).astype(np.float32)), rtol=1e-7, atol=0)
    np.testing.assert_array_equal(to_array(tensor, dtype), image)
    assert to_tensor(array).shape == (1, *array.shape)


def test_to_array_clamps_and_rounds_halves_to_even():
    levels = torch.tensor([-3.0, 0.5, 1.5, 2.5, 254.5, 300.0], dtype=torch.float64)
    values = (levels / 255).float()
    assert ((values * 255).double() == levels).all(), "the halves must survive float32 for this test to mean anything"
    assert to_array(values.view(1, 1, -1)).ravel().tolist() == [0, 0, 2, 2, 254, 255]
    assert to_array(torch.rand(3, 4, 5, requires_grad=True)).shape == (4, 5, 3)
    assert to_array(torch.ones(1, 2, 2, dtype=torch.bfloat16)).max() == 255
