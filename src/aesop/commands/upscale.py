"""`aesop upscale`: upscaling image files and folders of images."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from aesop.commands.upscale_plan import (
    PIPE,
    PipedImage,
    check_output,
    find_sources,
    plan_targets,
    result_extension,
)
from aesop.commands.upscale_progress import UpscaleProgress
from aesop.images.jpeg_quality import jpeg_quality
from aesop.images.picture import Frame, Metadata, Picture
from aesop.images.picture_kinds import kind_of
from aesop.images.picture_read import open_picture
from aesop.images.picture_write import SaveOptions, check_writable, write_picture
from aesop.images.read import ImageFile
from aesop.inference.final_size import FinalSize, sides_at
from aesop.inference.upscaler import Upscaler

VISIBLE_BLOCKS = 85  # JPEG quality at which they begin to show when enlarged
_BLOCKS = (
    f"a JPEG of quality {VISIBLE_BLOCKS} or below: the default model is for clean pictures and may draw its blocks as "
    "lines; a model for compressed photographs (-m) suits it better"
)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one image. `target` was written unless `error` is set; `notes` say what is not as in the source."""

    source: Path
    target: Path
    error: str | None
    notes: Sequence[str]
    skipped: bool = False
    """With `skip_existing`: the target was there before."""


def upscale_files(
    inputs: Sequence[Path],
    output: Path | None = None,
    model: str | Path | None = None,
    tile: int = 256,
    overlap: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "pytorch",
    ext: str | None = None,
    suffix: str | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    alpha: str = "auto",
    strip_metadata: bool = False,
    quality: int | None = None,
    lossless: bool | None = None,
    progress: str | None = None,
    size: FinalSize | None = None,
    shard: str | None = None,
    threads: int | None = None,
    console: Console | None = None,
) -> list[Result]:
    """Upscale image files, and all images below folders, by default with the model that comes with aesop.

    Every page and frame is upscaled, and metadata are kept, as far as the format allows. All targets are checked before
    anything is computed, and each image against the limits of its format before it is computed. An image that cannot be
    read, upscaled or written does not stop the others; its Result has the error.

    `output` is a file, if there is one image and the name ends like an image; otherwise a folder (default: `upscaled`), in
    which images keep their place below the input folder and are named `<stem><suffix><ext>`, by default `<stem>_x4` with the
    scale and the input's own extension (PNG for BMP and for formats that are only read). `-` is standard input and
    output; what comes in there goes out there by default, except to a terminal.
    """
    size = size or FinalSize()
    if output is None:
        output = PIPE if list(inputs) == [PIPE] and not sys.stdout.isatty() else Path("upscaled")
    if output == PIPE and sys.stdout.isatty():
        raise ValueError("-o - writes the picture to standard output, which is a terminal here: add > FILE, or name a file")
    console = console or Console(stderr=True)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    shown = UpscaleProgress(console, 1, progress)  # refuses an unknown style first
    check_output(output, ext, suffix, 1)
    sources, notes = find_sources(inputs, output)
    ext = check_output(output, ext, suffix, len(sources))
    for note in notes:
        say(note)
    upscaler = Upscaler(model, device, precision, tile, overlap, runtime, alpha, threads)
    suffix = size.suffix(upscaler.scale) if suffix is None else suffix
    jobs = plan_targets(sources, output, ext, suffix, overwrite, skip_existing, shard)
    if model is None:
        say(f"with {upscaler.name}, the x{upscaler.scale} model that comes with aesop (another one: -m FILE or NAME)")
    for note in upscaler.notes:
        say(note)
    options = SaveOptions(quality, lossless)
    results: list[Result] = []
    shown = UpscaleProgress(console, len(jobs), progress)
    try:
        with shown:
            for source, target in jobs:
                shown.begin(Path(source.name).name)
                made, reason, skipped = [], None, False
                try:
                    picture = _open(source)
                    own_ext = ext or result_extension(source)
                    scale = size.scale_of(*picture.size, upscaler.scale)
                    if skip_existing and os.path.exists(target):
                        there = _what_is_there(target, picture, scale)
                        skipped = there == "the result"
                        if there == "something else" and not overwrite:
                            raise ValueError(
                                f"{target} exists, but is no picture, of another size, or has other frames: to replace it, "
                                "add --overwrite"
                            )
                    if not skipped:
                        made = _upscale(upscaler, scale, picture, target, own_ext, strip_metadata, options, shown)
                        if model is None and (_quality_of(source) or 100) <= VISIBLE_BLOCKS:
                            made.append(_BLOCKS)
                except (ValueError, OSError, MemoryError) as error:
                    reason = str(error) or type(error).__name__
                results.append(Result(source.path, target, reason, made, skipped))
                shown.finish()
    except KeyboardInterrupt:
        done = sum(result.error is None for result in results)
        go_on = "; to go on, repeat the command with --skip-existing" if len(jobs) > 1 else ", and nothing was written"
        of = f"{done} of {_images(len(jobs))} {'is' if done == 1 else 'are'} done"
        raise KeyboardInterrupt(f"interrupted: {of}{go_on}") from None
    return results


def _upscale(
    upscaler: Upscaler,
    scale: float,
    picture: Picture,
    target: Path,
    ext: str,
    strip_metadata: bool,
    options: SaveOptions,
    progress: UpscaleProgress,
) -> list[str]:
    """Upscale all frames of a picture into a file or to standard output. Return notes on what could not be kept."""
    if target == PIPE:
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"picture{ext}"
            notes = _upscale(upscaler, scale, picture, file, ext, strip_metadata, options, progress)
            sys.stdout.buffer.write(file.read_bytes())
            sys.stdout.buffer.flush()
        return notes
    width, height = sides_at(scale, *picture.size)
    check_writable(target, width, height, picture, options)
    metadata = (picture.metadata.without_private() if strip_metadata else picture.metadata).resized(width, height)

    def frames() -> Iterator[Frame]:
        for index, frame in enumerate(picture.frames()):
            yield upscaler.upscale_frame(
                frame, scale, on_progress=lambda part, index=index: progress.update(min((index + part) / picture.count, 1))
            )

    notes = write_picture(target, frames(), picture, metadata, options)
    return [*picture.notes, *notes]


def _open(source: ImageFile) -> Picture:
    if isinstance(source, PipedImage):
        return open_picture(source.path, source.data)
    if type(source) is ImageFile:
        return open_picture(source.path)
    # A pack or LMDB store has pixels only.
    frames = partial(_stored_frame, source)
    return Picture("png", source.size(), 1, False, None, True, Metadata(), (), frames)


def _stored_frame(image: ImageFile) -> Iterator[Frame]:
    yield Frame(*image.read_with_alpha())


def _quality_of(source: ImageFile) -> int | None:
    if isinstance(source, PipedImage):
        return jpeg_quality(source.data)
    return jpeg_quality(source.path) if type(source) is ImageFile else None


def _what_is_there(target: Path, source: Picture, scale: float) -> str:
    """Say whether a file that exists is `the result` of this source, `a damaged picture`, or `something else`."""
    try:
        picture = open_picture(target)
        for _ in picture.frames():
            pass
    except (ValueError, OSError):
        data = target.read_bytes()
        return "a damaged picture" if not data or kind_of(data) else "something else"
    merged = picture.format == "webp" and picture.count > 1  # its encoder joins equal frames
    fits = picture.size == sides_at(scale, *source.size) and (merged or picture.count == source.count)
    return "the result" if fits else "something else"


def report(results: Sequence[Result], console: Console) -> bool:
    """Print the summary, to standard error if standard output has the picture. Return whether all images were upscaled."""
    if any(result.target == PIPE for result in results):
        console = Console(stderr=True)
    console.print(summary(results), markup=False, highlight=False, soft_wrap=True)
    return not any(result.error for result in results)


def summary(results: Sequence[Result]) -> str:
    """Say how many images were upscaled and where they are, what is not as in the sources, and why others failed."""
    done = [result.target for result in results if result.error is None]
    place = f": {done[0] if len(done) == 1 else os.path.commonpath([t.parent for t in done])}" if done else ""
    if done == [PIPE]:
        place = ""
    skipped = sum(result.skipped for result in results)
    before = f" ({skipped} {'was' if skipped == 1 else 'were'} there already)" if skipped else ""
    lines = [f"upscaled {len(done) - skipped} of {_images(len(results))}{before}{place}"]
    notes = Counter(note for result in results for note in dict.fromkeys(result.notes))
    lines += [f"note: {note} ({_images(count)})" for note, count in notes.items()]
    # Most errors name the file themselves.
    lines += [f"failed: {'' if str(r.source) in r.error else f'{r.source}: '}{r.error}" for r in results if r.error]
    return "\n".join(lines)


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
