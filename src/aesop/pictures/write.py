"""Writing pictures in the format that the extension names, with all that it can keep.

Above the pixels themselves, PNG and TIFF need about 15 MB. The other formats are Pillow's, which needs a copy with 8 bits (4
bytes per pixel of colour), and WebP, AVIF and GIF several times that.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import GifImagePlugin, Image, ImageCms

from aesop.images.tensors import ImageArray
from aesop.pictures import tiff_file
from aesop.pictures.picture import Frame, Metadata, Picture
from aesop.pictures.pixel_kind import PixelKind, convert
from aesop.pictures.png_file import write_png
from aesop.system.files import replacing

QUALITY = 95
"""Of lossy formats, if none is asked for."""
_JPEG_SEGMENT = 65_533
"""Bytes that Exif, XMP or a comment can have in a JPEG."""
_UINT8, _UINT16, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)
_BUFFER = 1 << 20


@dataclass(frozen=True)
class SaveOptions:
    """None: quality 95; a lossless WebP stays one unless a quality is given. Formats do what they can, with a note."""

    quality: int | None = None
    lossless: bool | None = None


@dataclass(frozen=True)
class _Job:
    """What an encoder needs. `kind` is that of all frames, as far as the format can keep it."""

    path: Path
    frames: Iterator[Frame]
    kind: PixelKind
    like: Picture
    metadata: Metadata
    profile: bytes | None
    """A profile that the format cannot keep: colours are converted through it."""
    options: SaveOptions
    notes: list[str]

    @property
    def animated(self) -> bool:
        return _animated(self.like)

    @property
    def plays(self) -> int:
        """How often an animation is shown; 0: for ever. A GIF counts repetitions: if it does not say, it is shown once."""
        loop = self.like.loop
        if self.like.format == "gif":
            return 1 if loop is None else loop and loop + 1
        return loop or 0

    @property
    def quality(self) -> int:
        return QUALITY if self.options.quality is None else self.options.quality


@dataclass(frozen=True)
class _Format:
    write: Callable[[_Job], None]
    limit: int
    """Of width and height."""
    keeps: frozenset[str]
    """What of the pixels, of several frames, and of the metadata; and whether a quality can be chosen."""
    dtype: np.dtype = _UINT8
    """The widest type."""
    largest: float = float("inf")
    """Pixels."""
    takes_rows: bool = False
    """Whether it reads each row of a frame once, from the top."""
    memory: float = 0
    """Bytes per pixel that it takes beyond the frame (benchmarks/upscaling_memory.py)."""


def write_picture(path: Path, frames: Iterable[Frame], like: Picture, metadata: Metadata, options: SaveOptions) -> list[str]:
    """Write all frames of a picture. The file is written aside and renamed; on an error nothing is left.

    Args:
        path: The extension names the format, one of WRITABLE.
        frames: `like.count` frames, taken one at a time. They have the kinds of pixels that those of `like` have.
        like: The picture that was read: its count, timing, and loop.
        metadata: What describes the frames, at their size; pages may have their own.

    Returns:
        Notes on what the format cannot keep.

    Raises:
        ValueError: The format cannot hold the picture, see `check_writable`, or frames are missing.
    """
    frames = _counted(iter(frames), path, like)
    first = next(frames)
    check_writable(path, first.pixels.shape[1], first.pixels.shape[0], like, options)
    extension = path.suffix.lower()
    form = _FORMATS[extension]
    kind = PixelKind.of_all(chain([first], like.frames() if _animated(like) else ()))
    metadata, notes = _sound(metadata)
    notes += _pixel_notes(extension, form, kind, like) + _metadata_notes(extension, form, metadata)
    notes += _option_notes(extension, form, options)
    alpha = kind.alpha and "alpha" in form.keeps
    gray = ("gray with alpha" if alpha else "gray animation" if _animated(like) else "gray") in form.keeps
    kind = PixelKind(kind.colour or not gray, alpha, min(kind.dtype, form.dtype))
    profile = None
    if metadata.icc and ("profile" not in form.keeps or (kind.colour and _is_gray(metadata.icc))):
        profile = metadata.icc if _usable(metadata.icc) else None
        what = "colour profile" if "profile" not in form.keeps else "profile for gray"
        fate = "colours were converted to sRGB" if profile else "it is damaged and was dropped"
        notes.append(f"{extension[1:]} files have no {what}: {fate} (keep it with --ext png)")
        metadata = replace(metadata, icc=None)
    with replacing(path) as temporary:
        form.write(_Job(temporary, chain([first], frames), kind, like, metadata, profile, options, notes))
        next(frames, None)  # one too many is an error, too
    return list(dict.fromkeys(notes))


def takes_rows(path: Path) -> bool:
    """Whether the format writes frames whose pixels are ComputedRows."""
    return _FORMATS[path.suffix.lower()].takes_rows


def memory_to_write(path: Path, width: int, height: int) -> int:
    """How many bytes of memory writing a frame of this size takes at most, beyond the frame itself."""
    return round(_FORMATS[path.suffix.lower()].memory * width * height)


def check_writable(path: Path, width: int, height: int, like: Picture, options: SaveOptions) -> None:
    """Raise a ValueError, which says what to do, if a picture like `like`, of this size, cannot be written as `path`."""
    extension = path.suffix.lower()
    if extension not in _FORMATS:
        if extension in (".heic", ".heif"):
            raise ValueError(f"{path}: HEIC is read, but not written; use --ext avif or --ext png")
        raise ValueError(f"{path}: cannot write {extension or 'a file without an extension'}; use {' '.join(WRITABLE)}")
    form, name = _FORMATS[extension], extension[1:]
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise ValueError(f"--quality {options.quality}: give 1 to 100")
    if _animated(like) and not form.keeps & {"animation", "pages"}:
        raise ValueError(f"{path}: {name} files hold one image, the animation has {like.count}; use --ext png or --ext webp")
    if like.count > 1 and not like.animated and "pages" not in form.keeps:
        raise ValueError(f"{path}: {name} files have no pages, the picture has {like.count}; use --ext tiff")
    if max(width, height) > form.limit:
        raise ValueError(
            f"{path}: {width} x {height} pixels, but {name} files have at most {form.limit} on a side; use --ext png"
        )
    if width * height > form.largest:
        raise ValueError(f"{path}: {width} x {height} pixels, but {name} files have at most {form.largest:.3g}; use png")
    _check_place(path)


def _check_place(path: Path) -> None:
    folder = path.parent
    while not os.path.lexists(folder):  # missing folders are made
        folder = folder.parent
    if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        raise ValueError(f"{path} is a folder; name a file")
    if not os.path.isdir(folder):
        raise ValueError(f"{path}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: no permission to write into {folder}")
    most = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for part in path.relative_to(folder).parts:
        if len(os.fsencode(part)) > most:
            size = len(os.fsencode(part))
            raise ValueError(f"{path}: the name has {size} bytes, and the file system allows {most}; choose a shorter one")


def _animated(like: Picture) -> bool:
    return like.animated and like.count > 1


def _counted(frames: Iterator[Frame], path: Path, like: Picture) -> Iterator[Frame]:
    found, size = 0, None
    for found, frame in enumerate(frames, 1):
        if found > like.count:
            break
        size = size or frame.pixels.shape[:2]
        if _animated(like) and frame.pixels.shape[:2] != size:
            raise ValueError(f"{path}: frame {found} has another size than the first")
        yield frame
    if found != like.count:
        raise ValueError(f"{path}: {found} of {like.count} frames")


_ELSEWHERE = "with --ext png or the image's own format"


def _pixel_notes(extension: str, form: _Format, kind: PixelKind, like: Picture) -> list[str]:
    name, notes = extension[1:], []
    if kind.alpha and "alpha" not in form.keeps:
        notes.append(f"{name} files have no transparency: it was dropped (keep it {_ELSEWHERE})")
    bits = form.dtype.itemsize * 8
    if kind.dtype == _FLOAT32 and form.dtype != _FLOAT32:
        notes.append(
            f"{name} files have {bits} bits per channel: floats were clipped to [0, 1] and rounded (--ext tiff keeps them)"
        )
    elif kind.dtype == _UINT16 and form.dtype == _UINT8:
        notes.append(f"{name} files have 8 bits per channel: 16 were rounded to 8 (keep them {_ELSEWHERE})")
    if _animated(like) and "animation" not in form.keeps:
        notes.append(f"{name} files have no timing: frames became pages (keep it {_ELSEWHERE})")
    return notes


def _metadata_notes(extension: str, form: _Format, metadata: Metadata) -> list[str]:
    texts = {key for key in metadata.text if key != "Comment" or "comment" not in form.keeps}
    present = {"Exif data": metadata.exif, "XMP": metadata.xmp, "resolution": metadata.dpi, "texts": texts}
    return [
        f"{extension[1:]} files have no {what}: {'they were' if what == 'texts' else 'it was'} dropped (keep {_ELSEWHERE})"
        for what, content in present.items()
        if content and what not in form.keeps
    ]


def _option_notes(extension: str, form: _Format, options: SaveOptions) -> list[str]:
    name, notes = extension[1:], []
    if options.lossless and "every pixel" not in form.keeps:
        notes.append(f"{name} files cannot be lossless (keep every pixel with --ext png)")
    if options.quality is not None and ("quality" not in form.keeps or (options.lossless and form is _WEBP)):
        why = f"{name} files have no quality" if "quality" not in form.keeps else "the file is lossless"
        notes.append(f"{why}: --quality was ignored")
    return notes


def _sound(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Without what is damaged: a picture must not fail for it after it was computed."""
    notes = []
    if metadata.exif:
        try:
            tiff_file.read_exif(metadata.exif)
        except ValueError:
            notes.append("the Exif data are damaged: they were dropped")
            metadata = replace(metadata, exif=None)
    if metadata.dpi and not all(0 < dots < 100_000 for dots in metadata.dpi):
        notes.append(f"a resolution of {metadata.dpi} dpi is impossible: it was dropped")
        metadata = replace(metadata, dpi=None)
    return metadata, notes


def _is_gray(icc: bytes) -> bool:
    return icc[16:20] == b"GRAY"


def _usable(icc: bytes) -> bool:
    try:
        mode = "L" if _is_gray(icc) else "RGB"
        _to_srgb(Image.new(mode, (1, 1)), icc)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return True


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    image = image.convert("L" if _is_gray(icc) else "RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # it is for inPlace
    return converted


def _image(job: _Job, frame: Frame) -> Image.Image:
    """A frame as an image of Pillow, with 8 bits."""
    image = Image.fromarray(_as_uint8(frame.pixels))
    if job.profile:
        image = _to_srgb(image, job.profile)
    mode = "RGB" if job.kind.colour else "L"
    if image.mode != mode:  # converting to the same mode copies
        image = image.convert(mode)
    if job.kind.alpha:
        image.putalpha(255 if frame.alpha is None else Image.fromarray(_as_uint8(frame.alpha)))
    return image


def _as_uint8(array: ImageArray) -> ImageArray:
    """Convert some rows at a time: rounding needs room."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    converted = np.empty(array.shape, np.uint8)
    rows = max(1, _BUFFER // max(1, array[0].size))
    for start in range(0, len(array), rows):
        converted[start : start + rows] = convert(array[start : start + rows], _UINT8)
    return converted


def _write_png(job: _Job) -> None:
    write_png(job.path, job.frames, job.kind, job.metadata, job.like.count, job.plays)


def _write_tiff(job: _Job) -> None:
    def frames() -> Iterator[Frame]:
        for frame in job.frames:
            if frame.metadata:
                metadata, notes = _sound(frame.metadata)
                job.notes.extend(notes + _metadata_notes(".tif", _TIFF, metadata))
                frame = replace(frame, metadata=metadata)
            yield frame

    tiff_file.write_tiff(job.path, frames(), job.metadata)


def _write_jpeg(job: _Job) -> None:
    metadata, keep = job.metadata, {}
    keep["exif"] = b"Exif\0\0" + metadata.exif if metadata.exif else b""
    keep["xmp"] = metadata.xmp or b""
    keep["comment"] = metadata.text.get("Comment", "").encode()
    for what, content in list(keep.items()):
        if len(content) > _JPEG_SEGMENT - 29 * (what == "xmp"):  # the length of its head
            job.notes.append(f"this {what} is too long for jpg files: it was dropped (keep it with --ext png)")
            keep[what] = b""
    if comment := keep.pop("comment"):  # Pillow itself finds no room for a long one
        keep["extra"] = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    _image(job, next(job.frames)).save(
        job.path,
        "JPEG",
        quality=job.quality,
        subsampling=0 if job.quality >= 90 else 2,
        icc_profile=metadata.icc,
        dpi=metadata.dpi or (0, 0),
        **keep,
    )


def _write_bmp(job: _Job) -> None:
    keep = {"dpi": job.metadata.dpi} if job.metadata.dpi else {}
    _image(job, next(job.frames)).save(job.path, "BMP", **keep)


def _write_webp(job: _Job) -> None:
    lossless = job.options.lossless
    if lossless is None:
        lossless = job.like.lossless and job.like.format == "webp" and job.options.quality is None
    # The quality of a lossless file is the effort.
    quality, loop = QUALITY if lossless else job.quality, min(job.plays, 2**16 - 1)
    _save_by_pillow(job, "WEBP", lossless=lossless, quality=quality, method=4, loop=loop)
    if job.kind.alpha:
        with job.path.open("r+b") as file:  # libwebp leaves the flag out where it cut transparent rims off all frames
            head = file.read(21)
            if head[12:16] == b"VP8X":
                file.seek(20)
                file.write(bytes([head[20] | 0x10]))


def _write_avif(job: _Job) -> None:
    if job.animated and job.plays:
        job.notes.append("avif files are shown for ever: the number of times was dropped (keep it with --ext png)")
    colours = {"subsampling": "4:4:4" if job.quality >= 90 else "4:2:0"} if job.kind.colour else {}
    _save_by_pillow(job, "AVIF", quality=job.quality, **colours)


def _save_by_pillow(job: _Job, name: str, **options: Any) -> None:
    """Save WebP or AVIF. The resolution is kept as Exif data, which is the only place that they have for it."""
    metadata, exif = job.metadata, job.metadata.exif
    if metadata.dpi:
        tags = tiff_file.read_exif(exif) if exif else {}
        if 282 not in tags:
            exif = tiff_file.exif_from(tags | tiff_file.resolution(metadata.dpi))
    options |= {"icc_profile": metadata.icc or b"", "exif": exif or b"", "xmp": metadata.xmp or b""}
    if not job.animated:
        _image(job, next(job.frames)).save(job.path, name, **options)
        return
    durations: list[int] = []

    def images() -> Iterator[Image.Image]:
        for frame in job.frames:
            durations.append(min(round(frame.duration or 0), 2**24 - 1))  # the most that WebP has
            yield _image(job, frame)

    _Animation(images(), job.like.count).save(job.path, name, save_all=True, duration=durations, **options)


class _Animation(Image.Image):
    """Frames that are made when Pillow's encoder comes to them, not all at once."""

    is_animated = True

    def __init__(self, images: Iterator[Image.Image], count: int) -> None:
        super().__init__()
        self._images, self._place, self.n_frames = images, -1, count
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame >= self.n_frames:
            raise EOFError
        if frame > self._place:
            image = next(self._images)
            self.im, self._mode, self._size, self._place = image.im, image.mode, image.size, frame

    def tell(self) -> int:
        return self._place


def _write_gif(job: _Job) -> None:
    """Every frame is stored whole, with its own palette. Pillow's own way merges equal frames and holds all in memory."""
    shown = written = 0.0  # milliseconds
    with job.path.open("wb") as file:
        for number, frame in enumerate(job.frames):
            image = _palette_image(job, frame)
            if number == 0:
                info: dict[str, Any] = {"comment": job.metadata.text.get("Comment", ""), "duration": 1}  # makes it GIF89a
                if job.animated and job.plays != 1:
                    info["loop"] = min(max(job.plays - 1, 0), 65_535)
                file.writelines(GifImagePlugin.getheader(image, info=info)[0])
            shown += frame.duration or 0
            hundredths = min(round((shown - written) / 10), 65_535)  # rounding does not add up
            written += hundredths * 10
            blocks: dict[str, Any] = {"duration": hundredths * 10, "disposal": 2 if job.kind.alpha else 0}
            if job.kind.alpha:
                blocks["transparency"] = 255
            file.writelines(GifImagePlugin.getdata(image, include_color_table=number > 0, **blocks))
            if (frame.duration or 0) % 10:
                job.notes.append("gif files count time in 1/100 s: durations were rounded (keep them with --ext webp)")
        file.write(b";")


def _palette_image(job: _Job, frame: Frame) -> Image.Image:
    """At most 256 colours; with alpha 255, and the transparent index 255."""
    image, mask, most = _image(job, frame), None, 256
    if job.kind.alpha:
        alpha = image.getchannel("A")
        if sum(alpha.histogram()[1:255]):
            job.notes.append("gif files have no partial transparency: it was rounded (keep it with --ext webp)")
        mask, most = alpha.point([255] * 128 + [0] * 128), 255
        image = image.convert("RGB")
        image.paste(0, mask=mask)  # what is not seen takes no colours
    reduced = image.quantize(most, Image.Quantize.MEDIANCUT)
    if image.getcolors(most) is None:
        reduced = image.quantize(palette=reduced, dither=Image.Dither.FLOYDSTEINBERG)
        job.notes.append("gif files have 256 colours: more were dithered (keep them with --ext webp)")
    palette = reduced.getpalette() or []
    reduced.putpalette(palette + [0] * (768 - len(palette)))
    if mask:
        reduced.paste(255, mask=mask)
    return reduced


_DESCRIBED = frozenset({"profile", "Exif data", "XMP", "resolution"})
_GRAY = frozenset({"gray", "gray with alpha", "gray animation"})
# Pillow before 12.3 makes RGB of it.
_GRAY_AVIF = frozenset({"gray"} if tuple(map(int, PIL.__version__.split(".")[:2])) >= (12, 3) else ())
_PNG = _Format(
    _write_png, 2**31 - 1, _DESCRIBED | _GRAY | {"texts", "alpha", "animation", "every pixel"}, _UINT16, takes_rows=True
)
_JPEG = _Format(_write_jpeg, 65_500, _DESCRIBED | {"gray", "comment", "quality"})
_WEBP = _Format(_write_webp, 16_383, _DESCRIBED | {"alpha", "animation", "every pixel", "quality"})
# libavif, as browsers and Pillow set it, refuses to read larger ones.
_AVIF = _Format(_write_avif, 32_768, _DESCRIBED | {"alpha", "animation", "quality"} | _GRAY_AVIF, largest=2**28)
_TIFF = _Format(_write_tiff, 2**32 - 1, _DESCRIBED | _GRAY | {"alpha", "pages", "every pixel"}, _FLOAT32, takes_rows=True)
_GIF = _Format(_write_gif, 65_535, frozenset({"alpha", "animation", "comment"}))
_BMP = _Format(_write_bmp, 2**31 - 1, frozenset({"resolution", "gray", "every pixel"}), largest=2**30)
_FORMATS = {
    ".png": _PNG,
    ".apng": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jfif": _JPEG,
    ".webp": _WEBP,
    ".avif": _AVIF,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".gif": _GIF,
    ".bmp": _BMP,
}
WRITABLE: tuple[str, ...] = tuple(_FORMATS)
"""Extensions that can be written."""
LOSSLESS = tuple(extension for extension, form in _FORMATS.items() if "every pixel" in form.keeps)
"""Those that can keep every pixel."""
