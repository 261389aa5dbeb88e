"""Writing pictures: read back by Pillow, OpenCV and tifffile; limits, notes, and that failures leave nothing."""

import errno
import io
import os
import re
import resource
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from aesop.pictures import tiff_file
from aesop.pictures import write as write_module
from aesop.pictures.picture import Frame, Metadata
from aesop.pictures.write import LOSSLESS, WRITABLE, SaveOptions, check_writable, write_picture
from aesop.system.files import replacing

RNG = np.random.default_rng(5)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"/><?xpacket end="w"?>'
# Smooth, so that lossy formats stay close; every orientation of it looks different.
SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 252, 4), 90), -1).astype(np.uint8)
GRAY_AVIF = tuple(map(int, PIL.__version__.split(".")[:2])) >= (12, 3)
STILL_ONLY = (".jpg", ".jpeg", ".jfif", ".bmp")


@dataclass
class Like:
    """A picture that was read."""

    shown: list[Frame]
    format: str = "png"
    animated: bool = False
    loop: int | None = None
    lossless: bool = True
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)

    @property
    def count(self):
        return len(self.shown)

    def frames(self):
        return iter(self.shown)


def write(path, frames, metadata=None, options=None, **like):
    like = Like(frames, animated=like.pop("animated", len(frames) > 1), **like)
    return write_picture(path, iter(frames), like, metadata or Metadata(), options or SaveOptions())


def random(dtype, *shape):
    if dtype == np.float32:
        return RNG.random(shape, np.float32) * 1.5 - 0.25
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def exif(order="<", camera="Camera"):
    """Artist, Exif and GPS directories as Pillow makes them."""
    made = Image.Exif()
    made.endian = order
    made[0x010F], made[0x013B] = camera, "An Artist"
    made.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0x829A: 0.0125, 0x927C: b"\x01\x02maker\xff", 0xA002: 640})
    made.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 15.5)})
    return made.tobytes()[6:]


def gray_profile(gamma=1.0):
    """A profile for gray with a pure power as its curve, from the ICC specification (1.42 9.2)."""
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + bytes(2)
    white = b"XYZ " + bytes(4) + b"".join(round(v * 65536).to_bytes(4, "big") for v in (0.9642, 1.0, 0.8249))
    text = b"desc" + bytes(4) + (5).to_bytes(4, "big") + b"gray\0" + bytes(79)
    start = 128 + 4 + 3 * 12
    table, data = (3).to_bytes(4, "big"), b""
    for name, content in ((b"desc", text), (b"wtpt", white), (b"kTRC", curve)):
        table += name + (start + len(data)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        data += content + bytes(-len(content) % 4)
    head = (start + len(data)).to_bytes(4, "big") + bytes(4) + b"\x02\x20\0\0mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(round(v * 65536).to_bytes(4, "big") for v in (0.9642, 1.0, 0.8249))
    return head.ljust(128, b"\0") + table + data


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("width", [1, 37])
def test_png_as_opencv_and_pillow_read_it(tmp_path, monkeypatch, shape, alpha, dtype, width):
    monkeypatch.setattr("aesop.pictures.png_file._STRIP", 700)  # several strips
    frame = Frame(random(dtype, 29, width, *shape), random(dtype, 29, width) if alpha else None)
    assert write(tmp_path / "a.png", [frame]) == []
    read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == dtype
    if alpha:
        np.testing.assert_array_equal(read[..., 3], frame.alpha)
        read = read[..., :3]
    if read.ndim == 3:
        read = read[..., ::-1]
        assert shape or (read == read[..., :1]).all()
        read = read if shape else read[..., 0]
    np.testing.assert_array_equal(read, frame.pixels)
    with Image.open(tmp_path / "a.png") as opened:
        opened.load()
        if dtype == np.uint8:
            assert opened.mode == ("RGB" if shape else "L") + "A" * alpha
        else:
            colours = 2 * bool(shape) + 4 * alpha
            assert (tmp_path / "a.png").read_bytes()[24:26] == bytes([16, colours])


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_as_tifffile_opencv_and_pillow_read_it(tmp_path, monkeypatch, shape, alpha, dtype, big):
    monkeypatch.setattr(tiff_file, "_STRIP", 700)
    if big:
        monkeypatch.setattr(tiff_file, "CLASSIC_LIMIT", 10)
    path = tmp_path / "a.tif"
    frame = Frame(random(dtype, 29, 37, *shape), random(dtype, 29, 37) if alpha else None)
    assert write(path, [frame], Metadata(SRGB, exif(), XMP, (300, 150.5))) == []
    expected = frame.pixels if frame.alpha is None else np.dstack([frame.pixels, frame.alpha])
    with tifffile.TiffFile(path) as opened:
        assert opened.is_bigtiff == big
        page = opened.pages[0]
        np.testing.assert_array_equal(page.asarray(), expected)
        assert page.photometric.name == ("RGB" if shape else "MINISBLACK")
        assert [extra.name for extra in page.extrasamples] == ["UNASSALPHA"] * alpha
        assert (page.tags[34675].value, page.tags[700].value) == (SRGB, XMP)
        assert page.get_resolution("inch") == (300, 150.5)
        assert page.tags[34665].value["DateTimeOriginal"] == "2024:05:06 07:08:09"
        assert page.tags[34853].value["GPSLatitude"] == (52, 1, 30, 1, 31, 2)
    if not alpha or (shape and dtype != np.uint8):  # OpenCV multiplies 8-bit colours by alpha
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read if not shape else read[..., [2, 1, 0, 3][: 3 + alpha]], expected)
    if dtype == np.uint8 or not (shape or alpha):
        with Image.open(path) as opened:
            assert (opened.info["icc_profile"], opened.info["dpi"]) == (SRGB, (300, 150.5))
            tags = opened.getexif()
            assert tags[0x013B] == "An Artist"
            assert tags.get_ifd(0x8825)[2] == (52, 30, 15.5)
            assert tags[700] == XMP
            np.testing.assert_array_equal(np.asarray(opened), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_either_byte_order_in_a_tiff(tmp_path, order):
    data = exif(order)
    assert data[:2] == {"<": b"II", ">": b"MM"}[order]
    write(tmp_path / "a.tif", [Frame(SMOOTH)], Metadata(exif=data))
    with Image.open(tmp_path / "a.tif") as opened:
        tags = opened.getexif()
        details = tags.get_ifd(0x8769)
        assert (tags[0x010F], tags[0x013B]) == ("Camera", "An Artist")
        assert (details[0x9003], details[0x829A], details[0xA002]) == ("2024:05:06 07:08:09", 0.0125, 640)
        assert details[0x927C] == b"\x01\x02maker\xff"


def test_damaged_metadata_are_dropped_with_a_note(tmp_path):
    for data in (b"II", b"II*\0\xff\xff\0\0", b"XX" + exif()[2:], exif()[:20]):
        for extension in WRITABLE:
            notes = write(tmp_path / f"a{extension}", [Frame(SMOOTH[..., 0])], Metadata(exif=data, dpi=(0, float("inf"))))
            assert notes == [
                "the Exif data are damaged: they were dropped",
                "a resolution of (0, inf) dpi is impossible: it was dropped",
            ]
            with Image.open(tmp_path / f"a{extension}") as opened:
                assert 0x013B not in opened.getexif()
    loop = tiff_file.exif_from({34665: (4, {305: (2, b"a\0")})})
    loop = loop[:18] + (8).to_bytes(4, "little") + loop[22:]  # the Exif directory is the first directory
    assert set(tiff_file.read_exif(loop)) == {34665}
    outside = tiff_file.exif_from({315: (2, b"An Artist\0"), 34665: (4, {305: (2, b"a\0")})})
    outside = outside.replace((48).to_bytes(4, "little"), (4800).to_bytes(4, "little"))
    assert tiff_file.read_exif(outside) == {315: (2, b"An Artist\0")}


@pytest.mark.parametrize("extension", WRITABLE)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["gray", "gray alpha", "colour", "colour alpha"])
def test_every_kind_of_pixel_in_every_format(tmp_path, extension, dtype, kind):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: np.float32(1 / 255)}[dtype]
    pixels = SMOOTH if "colour" in kind else SMOOTH[..., 1]
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:9] = 0 if extension == ".gif" else 40
    frame = Frame(pixels.astype(dtype) * scale, alpha.astype(dtype) * scale if "alpha" in kind else None)
    notes = write(tmp_path / f"a{extension.upper()}", [frame])
    assert os.listdir(tmp_path) == [f"a{extension.upper()}"]

    deep = extension in (".png", ".apng", ".tif", ".tiff")
    keeps_alpha = extension not in STILL_ONLY
    expected_notes = []
    if "alpha" in kind and not keeps_alpha:
        expected_notes.append(
            f"{extension[1:]} files have no transparency: it was dropped (keep it with --ext png or the image's own format)"
        )
    if dtype == np.uint16 and not deep:
        expected_notes.append(
            f"{extension[1:]} files have 8 bits per channel: 16 were rounded to 8 "
            "(keep them with --ext png or the image's own format)"
        )
    if dtype == np.float32 and not extension.startswith(".tif"):
        bits = 16 if deep else 8
        expected_notes.append(
            f"{extension[1:]} files have {bits} bits per channel: floats were clipped to [0, 1] and rounded"
            " (--ext tiff keeps them)"
        )
    assert [note for note in notes if "256 colours" not in note] == expected_notes

    if deep:
        path = tmp_path / f"a{extension.upper()}"
        read = tifffile.imread(path) if extension.startswith(".tif") else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert read.dtype == (np.uint16 if dtype == np.float32 and "png" in extension else dtype)
        return
    with Image.open(tmp_path / f"a{extension.upper()}") as opened:
        gray_formats = (".jpg", ".jpeg", ".jfif", ".bmp") + ((".avif",) if kind == "gray" and GRAY_AVIF else ())
        if "gray" in kind and extension in gray_formats:
            assert opened.mode == "L"
        read = np.asarray(opened.convert("RGBA")).astype(int)
    tolerance = {".bmp": 0, ".gif": 0 if "gray" in kind else 40}.get(extension, 8)
    seen = alpha > 128 if "alpha" in kind and keeps_alpha else np.full(alpha.shape, True)
    seen[8:10] = False  # lossy formats mix across an edge of alpha
    assert np.abs(read[..., :3] - (pixels if pixels.ndim == 3 else pixels[..., None]))[seen].max() <= tolerance
    if "alpha" in kind and keeps_alpha:
        assert np.abs(read[..., 3] - alpha).max() <= 2
    else:
        assert (read[..., 3] == 255).all()


def test_floats_are_clipped_and_rounded(tmp_path):
    values = np.array([[-3, 0, 0.25, 0.5, 1, 7, np.inf]], np.float32)
    write(tmp_path / "a.png", [Frame(values)])
    assert cv2.imread(str(tmp_path / "a.png"), -1).tolist() == [[0, 0, 16384, 32768, 65535, 65535, 65535]]
    write(tmp_path / "a.bmp", [Frame(values)])
    assert np.asarray(Image.open(tmp_path / "a.bmp")).tolist() == [[0, 0, 64, 128, 255, 255, 255]]
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    write(tmp_path / "b.bmp", [Frame(deep)])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.bmp")), np.rint(deep / 257))


@pytest.mark.parametrize("extension", [".png", ".tif", ".jpg", ".webp"])
def test_nan_is_an_error_and_no_file(tmp_path, extension):
    pixels = np.zeros((8, 8, 3), np.float32)
    pixels[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        write(tmp_path / f"a{extension}", [Frame(pixels)])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("extension", WRITABLE)
@pytest.mark.parametrize("profile", ["rgb", "gray"])
def test_metadata_that_is_kept_and_notes_on_the_rest(tmp_path, extension, profile):
    icc = SRGB if profile == "rgb" else gray_profile()
    metadata = Metadata(icc, exif(), XMP, (300, 300), {"Comment": "grüße", "Title": "日本"})
    path = tmp_path / f"a{extension}"
    notes = write(path, [Frame(SMOOTH if profile == "rgb" else SMOOTH[..., 0])], metadata)
    lost = {note.split(" files have no ")[1].split(":")[0] for note in notes if " files have no " in note}
    with Image.open(path) as opened:
        opened.load()
        kept = {"colour profile": opened.info.get("icc_profile") == icc, "XMP": opened.info.get("xmp") == XMP}
        tags = opened.getexif()
        kept["Exif data"] = (
            tags.get(0x013B) == "An Artist"
            and tags.get_ifd(0x8769).get(0x9003) == "2024:05:06 07:08:09"
            and tags.get_ifd(0x8825).get(2) == (52, 30, 15.5)
        )
        dpi = opened.info.get("dpi") or (tags.get(0x011A, 0), tags.get(0x011B, 0))
        kept["resolution"] = bool(np.allclose([float(value) for value in dpi], 300, atol=0.01))
        kept["XMP"] |= tags.get(700) == XMP
        kept["texts"] = opened.info.get("Title") == "日本" and opened.info.get("Comment") == "grüße"
        if extension in (".jpg", ".jpeg", ".jfif", ".gif"):
            assert opened.info["comment"].decode() == "grüße"
    if "profile for gray" in lost:
        assert profile == "gray"
        assert extension == ".webp" or (extension == ".avif" and not GRAY_AVIF)
        assert kept.pop("colour profile") is False
    assert {what for what, yes in kept.items() if not yes} == lost - {"profile for gray"}
    assert all("(keep" in note for note in notes)
    expected = {
        ".png": set(),
        ".apng": set(),
        ".gif": {"colour profile", "Exif data", "XMP", "resolution", "texts"},
        ".bmp": {"colour profile", "Exif data", "XMP", "texts"},
    }
    assert lost - {"profile for gray"} == expected.get(extension, {"texts"})


@pytest.mark.parametrize("kind", ["gray", "gray alpha", "colour", "colour alpha"])
def test_16_bit_png_with_metadata(tmp_path, kind):
    pixels = random(np.uint16, 9, 8, *([3] if "colour" in kind else []))
    frame = Frame(pixels, random(np.uint16, 9, 8) if "alpha" in kind else None)
    icc = SRGB if "colour" in kind else gray_profile()
    assert write(tmp_path / "a.png", [frame], Metadata(icc, exif(), XMP, (72, 96), {"Author": "me"})) == []
    with Image.open(tmp_path / "a.png") as opened:
        opened.load()
        assert opened.info["icc_profile"] == icc
        assert opened.info["xmp"] == XMP
        assert opened.info["Author"] == "me"
        assert np.allclose(opened.info["dpi"], (72, 96), atol=0.013)
        assert opened.getexif()[0x013B] == "An Artist"
    read = cv2.imread(str(tmp_path / "a.png"), -1)
    np.testing.assert_array_equal(read[..., -1] if frame.alpha is not None else 0, 0 if frame.alpha is None else frame.alpha)


@pytest.mark.parametrize("extension", [".bmp", ".gif", ".webp", ".avif"])
def test_colours_go_through_a_profile_that_the_format_cannot_keep(tmp_path, extension):
    """Gray of gamma 1 in a format that has no gray, or no profile: 0.5 of light is 188 in sRGB."""
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[0] = 0
    frame = Frame(np.full((16, 16), 128, np.uint8), None if extension == ".bmp" else alpha)
    notes = write(tmp_path / f"a{extension}", [frame], Metadata(gray_profile()))
    assert [note for note in notes if "converted to sRGB" in note]
    with Image.open(tmp_path / f"a{extension}") as opened:
        assert "icc_profile" not in opened.info
        shown = np.asarray(opened.convert("RGB"))[4:]
    assert np.abs(shown.astype(int) - 188).max() <= 2
    notes = write(tmp_path / f"b{extension}", [frame], Metadata(gray_profile()[:140]))
    assert any("damaged" in note for note in notes)


def moving(count=4, alpha=False, dtype=np.uint8, gray=False):
    scale = 257 if dtype == np.uint16 else 1
    frames = []
    for number in range(count):
        pixels = np.zeros((24, 32, 3), np.uint8)
        pixels[:, 6 * number : 6 * number + 8] = (250, 40 * number, 10)
        cover = np.where(pixels[..., 0] > 0, 255, 0).astype(np.uint8)
        pixels = pixels[..., 0] if gray else pixels
        frames.append(
            Frame(pixels.astype(dtype) * scale, cover.astype(dtype) * scale if alpha else None, 100.0 + 70 * number)
        )
    return frames


@pytest.mark.parametrize("extension", [".png", ".gif", ".webp", ".avif"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("gray", [False, True])
def test_animations_keep_frames_timing_and_loop(tmp_path, extension, alpha, gray):
    frames = moving(alpha=alpha, gray=gray)
    path = tmp_path / f"a{extension}"
    options = {".webp": SaveOptions(lossless=True), ".avif": SaveOptions(quality=100)}.get(extension)
    notes = write(path, frames, Metadata(), options, loop=3)
    assert len(notes) == (extension == ".avif")
    with Image.open(path) as opened:
        assert opened.n_frames == 4
        if extension != ".avif":
            assert opened.info["loop"] == (2 if extension == ".gif" else 3)  # a GIF's number is of repetitions
        for number, frame in enumerate(frames):
            opened.seek(number)
            opened.load()
            assert opened.info["duration"] == frame.duration
            shown = np.asarray(opened.convert("RGBA")).astype(int)
            seen = shown[..., 3] > 128
            np.testing.assert_array_equal(seen, frame.alpha > 128 if alpha else True)
            tolerance = 12 if extension == ".avif" else 0
            expected = frame.pixels if not gray else frame.pixels[..., None]
            assert np.abs(shown[..., :3] - expected)[seen].max() <= tolerance


def test_apng_of_16_bits(tmp_path):
    frames = [replace(frame, pixels=frame.pixels + np.uint16(3)) for frame in moving(dtype=np.uint16)]
    frames[1] = replace(frames[1], duration=1000 / 30)
    assert write(tmp_path / "a.png", frames, loop=0) == []
    with Image.open(tmp_path / "a.png") as opened:
        assert (opened.n_frames, opened.info["loop"]) == (4, 0)
        opened.seek(1)
        assert opened.info["duration"] == pytest.approx(1000 / 30, abs=1e-3)
    # Every frame as a file of its own, made from the chunks, as the specification of APNG says.
    data, place, images = (tmp_path / "a.png").read_bytes(), 8, []
    while place < len(data):
        size, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        content = data[place + 8 : place + 8 + size]
        if name == b"IHDR":
            head = content
        elif name == b"fcTL":
            images.append(b"")
        elif name in (b"IDAT", b"fdAT"):
            images[-1] += content[4 * (name == b"fdAT") :]
        place += size + 12
    for frame, pixels in zip(frames, images, strict=True):
        file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
        file.seek(8)
        for name, content in ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")):
            PngImagePlugin.putchunk(file, name, content)
        read = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read[..., ::-1], frame.pixels)


@pytest.mark.parametrize("extension", [".png", ".gif", ".webp", ".avif"])
def test_frames_of_several_kinds_become_one_kind(tmp_path, extension):
    frames = [moving(gray=True)[0], moving()[1], moving(alpha=True)[2]]
    write(tmp_path / f"a{extension}", frames, loop=0)
    with Image.open(tmp_path / f"a{extension}") as opened:
        assert opened.n_frames == 3
        opened.seek(2)
        assert np.asarray(opened.convert("RGBA"))[0, 0, 3] == 0
        opened.seek(0)
        assert np.asarray(opened.convert("RGBA"))[0, 0, 3] == 255


def test_the_most_that_webp_has_of_time_and_loops(tmp_path):
    frames = [replace(frame, duration=duration) for frame, duration in zip(moving(2), (0, 10**8), strict=True)]
    write(tmp_path / "a.webp", frames, format="png", loop=10**6)
    with Image.open(tmp_path / "a.webp") as opened:
        assert opened.info["loop"] == 65_535
        opened.seek(1)
        opened.load()
        assert opened.info["duration"] == 2**24 - 1


@pytest.mark.parametrize("loop", [None, 0, 1, 5, 65_535])
def test_loops_of_a_gif(tmp_path, loop):
    for extension, expected in ((".gif", loop), (".webp", {None: 1, 0: 0, 1: 2, 5: 6, 65_535: 65_535}[loop])):
        write(tmp_path / f"a{extension}", moving(), format="gif", loop=loop)
        with Image.open(tmp_path / f"a{extension}") as opened:
            assert opened.info.get("loop") == expected


def test_equal_frames_of_a_gif_stay_apart(tmp_path):
    frames = [moving()[0]] * 3
    write(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as opened:
        assert opened.n_frames == 3


def test_gif_rounds_times_without_adding_up(tmp_path):
    frames = [replace(moving()[n % 4], duration=1000 / 30) for n in range(30)]
    notes = write(tmp_path / "a.gif", frames)
    assert notes == ["gif files count time in 1/100 s: durations were rounded (keep them with --ext webp)"]
    with Image.open(tmp_path / "a.gif") as opened:
        total = 0
        for number in range(opened.n_frames):
            opened.seek(number)
            total += opened.info["duration"]
    assert total == 1000


def test_gif_with_many_colours_and_partial_alpha(tmp_path):
    colours = np.dstack(np.broadcast_arrays(*np.ogrid[0:256:4, 0:256:4], 128)).astype(np.uint8)
    alpha = np.full(colours.shape[:2], 200, np.uint8)
    alpha[:32] = 100
    assert write(tmp_path / "a.gif", [Frame(colours, alpha)]) == [
        "gif files have no partial transparency: it was rounded (keep it with --ext webp)",
        "gif files have 256 colours: more were dithered (keep them with --ext webp)",
    ]
    with Image.open(tmp_path / "a.gif") as opened:
        shown = np.asarray(opened.convert("RGBA")).astype(int)
    np.testing.assert_array_equal(shown[..., 3], np.where(alpha > 127, 255, 0))
    local = cv2.blur((shown[..., :3] - colours)[32:].astype(np.float32), (8, 8))
    assert np.abs(local).mean() < 4


def test_pages_that_differ(tmp_path, monkeypatch):
    pages = [Frame(SMOOTH), Frame(random(np.uint16, 9, 7)), Frame(random(np.float32, 5, 6, 3), random(np.float32, 5, 6))]
    for big in (False, True):
        assert write(tmp_path / "a.tif", pages, Metadata(SRGB, exif(), XMP, (300, 300)), animated=False) == []
        with tifffile.TiffFile(tmp_path / "a.tif") as opened:
            assert (len(opened.pages), opened.is_bigtiff) == (3, big)
            np.testing.assert_array_equal(opened.pages[0].asarray(), pages[0].pixels)
            np.testing.assert_array_equal(opened.pages[1].asarray(), pages[1].pixels)
            np.testing.assert_array_equal(opened.pages[2].asarray(), np.dstack([pages[2].pixels, pages[2].alpha]))
            assert all(page.tags[34675].value == SRGB for page in opened.pages)
        monkeypatch.setattr(tiff_file, "CLASSIC_LIMIT", (tmp_path / "a.tif").stat().st_size - 1)


def test_pages_have_their_own_metadata(tmp_path):
    own = [Metadata(SRGB, exif(), XMP, (300, 300)), Metadata(gray_profile(), exif(camera="Other"), None, (72, 150)), None]
    frames = [Frame(SMOOTH, metadata=own[0]), Frame(SMOOTH[..., 0], metadata=own[1]), Frame(SMOOTH)]
    assert write(tmp_path / "a.tif", frames, own[0], animated=False) == []
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        first, second, third = opened.pages
        assert [first.tags[34675].value, second.tags[34675].value] == [SRGB, gray_profile()]
        assert [first.tags[271].value, second.tags[271].value] == ["Camera", "Other"]
        assert [first.tags[700].value, 700 in second.tags] == [XMP, False]
        assert second.tags[283].value == (1_500_000, 10_000)
        assert third.tags[282].value == (3_000_000, 10_000)
        assert 271 not in third.tags
    broken = Metadata(exif=b"II*\0\x08\0\0\0\xff\xff")
    notes = write(tmp_path / "b.tif", [Frame(SMOOTH), Frame(SMOOTH, metadata=broken)], animated=False)
    assert notes == ["the Exif data are damaged: they were dropped"]


def test_an_animation_as_tiff_says_that_it_has_no_timing(tmp_path):
    notes = write(tmp_path / "a.tif", moving())
    assert notes == ["tif files have no timing: frames became pages (keep it with --ext png or the image's own format)"]
    assert len(tifffile.TiffFile(tmp_path / "a.tif").pages) == 4


def test_quality_and_lossless(tmp_path):
    red = np.zeros((32, 32, 3), np.uint8)
    red[:, :15], red[:, 15:] = (255, 0, 0), (0, 0, 255)

    def error(extension, like=None, **options):
        write(tmp_path / f"a{extension}", [Frame(red)], Metadata(), SaveOptions(**options), **(like or {}))
        with Image.open(tmp_path / f"a{extension}") as opened:
            return np.abs(np.asarray(opened.convert("RGB")).astype(int) - red).max()

    def sampling():
        with Image.open(tmp_path / "a.jpg") as opened:
            return opened.layer[0][1:3], opened.quantization

    assert error(".jpg") < 20
    assert sampling()[0] == (1, 1)
    standard = sampling()[1]
    assert error(".jpg", quality=95) < 20
    assert sampling()[1] == standard
    assert error(".jpg", quality=89) > 20
    assert sampling()[0] == (2, 2)
    assert error(".jpg", quality=90) < 20
    assert error(".webp") > 0
    assert error(".webp", lossless=True) == 0
    assert error(".webp", {"format": "webp"}) == 0
    assert error(".webp", {"format": "webp"}, lossless=False) > 0
    assert error(".webp", {"format": "webp", "lossless": False}) > 0
    assert error(".webp", {"format": "webp"}, quality=90) > 0


@pytest.mark.parametrize("extension", WRITABLE)
def test_options_that_a_format_does_not_have_are_named(tmp_path, extension):
    has_quality = extension in (".jpg", ".jpeg", ".jfif", ".webp", ".avif")
    notes = write(tmp_path / f"a{extension}", [Frame(SMOOTH[:8, :8])], options=SaveOptions(quality=80, lossless=True))
    assert any("cannot be lossless" in note for note in notes) == (extension not in LOSSLESS)
    assert any("--quality was ignored" in note for note in notes) == (not has_quality or extension == ".webp")
    notes = write(tmp_path / f"a{extension}", [Frame(SMOOTH[:8, :8])], options=SaveOptions(quality=80))
    assert any("--quality was ignored" in note for note in notes) != has_quality
    with Image.open(tmp_path / f"a{extension}") as image:
        same = np.array_equal(np.asarray(image.convert("RGB")), SMOOTH[:8, :8])
    assert same or extension not in (".png", ".apng", ".tif", ".tiff", ".bmp")
    sizes = []
    for quality in (20, 60, 95):
        write(tmp_path / "b.avif", [Frame(random(np.uint8, 64, 64, 3))], options=SaveOptions(quality=quality))
        sizes.append((tmp_path / "b.avif").stat().st_size)
    assert sizes == sorted(sizes)


def check(name, width=10, height=10, count=1, animated=False, folder=None, **options):
    like = Like([Frame(SMOOTH)] * count, animated=animated)
    check_writable((folder or io.os.curdir) / name if folder else name, width, height, like, SaveOptions(**options))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("a.xyz", {}, r"cannot write \.xyz; use \.png"),
        ("a", {}, "without an extension; use"),
        ("a.heic", {}, "HEIC is read, but not written; use --ext avif"),
        ("a.webp", {"width": 16384}, "16384 x 10 pixels, but webp files have at most 16383"),
        ("a.webp", {"height": 16384}, "webp files have at most 16383"),
        ("a.jpg", {"width": 65501}, "jpg files have at most 65500"),
        ("a.gif", {"width": 65536}, "gif files have at most 65535"),
        ("a.avif", {"width": 32769}, "avif files have at most 32768"),
        ("a.avif", {"width": 20000, "height": 20000}, "avif files have at most 2.68e"),
        ("a.png", {"width": 2**31}, "png files have at most 2147483647"),
        ("a.bmp", {"width": 40000, "height": 40000}, "bmp files have at most 1.07e"),
        ("a.jpg", {"count": 3, "animated": True}, "jpg files hold one image, the animation has 3; use --ext png"),
        ("a.bmp", {"count": 3, "animated": True}, "bmp files hold one image"),
        ("a.jpg", {"count": 3}, "jpg files have no pages, the picture has 3; use --ext tiff"),
        ("a.png", {"count": 3}, "png files have no pages"),
        ("a.gif", {"count": 3}, "gif files have no pages"),
        ("a.jpg", {"quality": 0}, "--quality 0: give 1 to 100"),
        ("a.jpg", {"quality": 101}, "--quality 101"),
        ("n" * 252 + ".png", {}, "the name has 256 bytes, and the file system allows 255"),
        ("日" * 84 + ".png", {}, "the name has 256 bytes"),
        ("new/" + "n" * 256 + "/a.png", {}, "the name has 256 bytes"),
        ("file/a.png", {}, "is not a folder"),
        ("folder.png", {}, "is a folder; name a file"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, name, arguments, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=message):
        check(name, folder=tmp_path, **arguments)


def test_what_can_be_written_is_not_refused(tmp_path):
    for name, arguments in (
        ("a.webp", {"width": 16383, "lossless": True}),
        ("a.jpg", {"width": 65500}),
        ("a.tif", {"width": 100_000, "height": 100_000, "count": 2, "lossless": True}),
        ("a.png", {"count": 2, "animated": True}),
        ("n" * 251 + ".png", {}),
        ("new/folder/a.png", {}),
    ):
        check(name, folder=tmp_path, **arguments)
    assert sorted(os.listdir(tmp_path)) == []


def test_limits_are_those_of_the_libraries(tmp_path):
    for name, width, height in (("a.webp", 16383, 2), ("a.jpg", 65500, 2), ("a.gif", 2, 65535), ("a.avif", 32768, 2)):
        write(tmp_path / name, [Frame(np.zeros((height, width, 3), np.uint8))])
        with Image.open(tmp_path / name) as opened:
            opened.load()
            assert opened.size == (width, height)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(ValueError, match="no permission to write"):
        check("a.png", folder=tmp_path)


def test_a_folder_without_permission_as_the_system_says(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="no permission to write"):
        check("new/a.png", folder=tmp_path)


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "日" * 83 + "nn.png", "n." + "x" * 245])
def test_the_temporary_name_is_short(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        assert len(os.fsencode(temporary.name)) <= 143
        temporary.write_text("x")
    assert os.listdir(tmp_path) == [name]


def test_temporary_names_that_begin_alike_differ(tmp_path):
    with replacing(tmp_path / ("n" * 60 + "1.png")) as a, replacing(tmp_path / ("n" * 60 + "2.png")) as b:
        assert a != b
        a.write_text("a")
        b.write_text("b")


@pytest.mark.parametrize("extension", WRITABLE)
def test_a_full_disk_leaves_the_former_file(tmp_path, extension):
    """The system lets no file grow beyond 2000 bytes, so every library meets it where it writes."""
    path = tmp_path / f"a{extension}"
    path.write_text("former")
    frame = Frame(random(np.uint8, 200, 200, 3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError) as caught:
            write(path, [frame])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno in (errno.EFBIG, None)
    assert path.read_text() == "former"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("extension", [e for e in WRITABLE if e not in STILL_ONLY])
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_frames_that_fail_leave_nothing(tmp_path, extension, after, error):
    def failing():
        yield from moving()[:after]
        raise error("out of luck")

    like = Like(moving(), animated=True)
    with pytest.raises(error, match="out of luck"):
        write_picture(tmp_path / f"a{extension}", failing(), like, Metadata(), SaveOptions())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("extension", [e for e in WRITABLE if e not in STILL_ONLY])
@pytest.mark.parametrize("count", [0, 3, 5])
def test_missing_frames_are_an_error(tmp_path, extension, count):
    like = Like(moving(), animated=True)
    with pytest.raises(ValueError, match=f"{count} of 4 frames"):
        write_picture(tmp_path / f"a{extension}", iter(moving(count)), like, Metadata(), SaveOptions())
    assert os.listdir(tmp_path) == []


def test_frames_are_taken_one_at_a_time(tmp_path):
    """No more than two are alive, whichever the format."""
    for extension in (".png", ".gif", ".webp", ".avif", ".tif"):
        alive, most = [], [0]

        def frames(alive=alive, most=most):
            import gc
            import weakref

            for frame in moving(6):
                alive.append(weakref.ref(frame.pixels))
                yield frame
                del frame
                gc.collect()
                most[0] = max(most[0], sum(each() is not None for each in alive))

        write_picture(tmp_path / f"a{extension}", frames(), Like(moving(6), animated=True), Metadata(), SaveOptions())
        assert len(alive) == 6, extension


def test_long_metadata_in_a_jpeg_is_dropped_with_a_note(tmp_path):
    metadata = Metadata(SRGB + bytes(200_000), exif(camera="c" * 66_000), b"x" * 65_505, text={"Comment": "c" * 65_534})
    notes = write(tmp_path / "a.jpg", [Frame(SMOOTH)], metadata)
    too_long = "this {} is too long for jpg files: it was dropped (keep it with --ext png)"
    assert notes == [too_long.format(what) for what in ("exif", "xmp", "comment")]
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.info["icc_profile"] == metadata.icc
    metadata = Metadata(exif=exif(camera="c" * 65_000), xmp=b"x" * 65_504, text={"Comment": "c" * 65_533})
    assert write(tmp_path / "a.jpg", [Frame(SMOOTH)], metadata) == []
    with Image.open(tmp_path / "a.jpg") as opened:
        assert (opened.info["xmp"], len(opened.info["comment"])) == (metadata.xmp, 65_533)
        assert opened.getexif()[0x010F] == "c" * 65_000


def test_a_resolution_in_webp_joins_its_exif(tmp_path):
    write(tmp_path / "a.webp", [Frame(SMOOTH)], Metadata(exif=exif(">"), dpi=(300, 150.25)))
    with Image.open(tmp_path / "a.webp") as opened:
        tags = opened.getexif()
        assert (tags[282], tags[283], tags[296], tags[0x013B]) == (300, 150.25, 2, "An Artist")
        assert tags.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "upscale.md"


def guide_row(extension):
    """What the guide's table should say of a format, without its footnotes."""
    form = write_module._FORMATS[extension]

    def yes(*names):
        return "yes" if form.keeps.issuperset(names) else ""

    bits = {np.dtype(np.uint8): "8", np.dtype(np.uint16): "16", np.dtype(np.float32): "32 float"}[form.dtype]
    lossless = {True: "always", False: ""}["every pixel" in form.keeps]
    cells = [extension[1:], bits, yes("alpha"), yes("gray"), yes("profile"), yes("Exif data", "XMP"), yes("resolution")]
    cells += [yes("texts") or ("comment" if "comment" in form.keeps else ""), yes("animation"), yes("pages")]
    return [*cells, "`--lossless`" if lossless and "quality" in form.keeps else lossless, str(form.limit)]


def test_the_guide_says_what_every_format_keeps():
    table = re.findall(r"(?m)^\| (\w+) \|(.*)\|$", re.sub(r" ?\[\^\d\]", "", GUIDE.read_text(encoding="utf-8")))
    rows = {f".{name}": [name, *(cell.strip() for cell in cells.split("|"))] for name, cells in table if name != "format"}
    same = {".apng": ".png", ".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
    assert {*rows, *same} == {*WRITABLE}
    assert all(write_module._FORMATS[other] is write_module._FORMATS[name] for other, name in same.items())
    for extension, cells in rows.items():
        expected = guide_row(extension)
        if extension == ".avif":  # depends on Pillow, as the footnote says
            cells[3] = expected[3]
        assert cells == expected


def test_the_guide_s_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upscaled").mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x829D] = 2.8
    for name in ("cat.jpg", "upscaled/cat_x4.jpg"):
        Image.new("RGB", (8, 8)).save(name, dpi=(300, 300), exif=exif, icc_profile=b"profile")
    tifffile.imwrite("upscaled/scan_x4.tif", np.zeros((8, 8, 3), np.uint16), photometric="rgb")
    check, in_python = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    exec(check, {})
    shown = capsys.readouterr().out
    assert "RGB RGB True" in shown
    assert shown.count("33437: 2.8") == 2
    assert "uint16" in shown
    names = {}
    exec(in_python, names)
    assert (names["larger"].shape, names["thumbnail"].shape) == ((96, 128, 3), (36, 48))
