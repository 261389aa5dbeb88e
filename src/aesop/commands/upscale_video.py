"""`aesop upscale` for videos: their frames pass the network, and all else is copied."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
from rich.console import Console

from aesop.commands.upscale_models import Upscalers
from aesop.commands.upscale_plan import PIPE, Found, Shard, check_output, plan_targets
from aesop.commands.upscale_progress import Style, UpscaleProgress
from aesop.commands.upscale_results import Result
from aesop.images.read import ImageFile
from aesop.inference.consistent import shortfall
from aesop.inference.final_size import FinalSize, sides_at
from aesop.system.files import sha256_of
from aesop.video.clip import Clip, ClipFrame
from aesop.video.colour import Plane
from aesop.video.encoding import ENCODERS, choose_encoding
from aesop.video.errors import VideoError
from aesop.video.mux import join, streams_to_copy
from aesop.video.parts import PART_FRAMES, Parts
from aesop.video.pyav import library

FORMATS = tuple(ENCODERS)


@dataclass(frozen=True)
class VideoOptions:
    """What of the options of `aesop upscale` decides how a video becomes."""

    size: FinalSize
    quality: int | None
    keep_tags: bool
    overwrite: bool
    skip_existing: bool


def upscale_videos(
    videos: Sequence[Path],
    upscalers: Upscalers,
    output: Path,
    ext: str | None,
    suffix: str | None,
    shard: str | None,
    options: VideoOptions,
    progress: Style | None,
    console: Console,
) -> list[Result]:
    """Upscale video files. Arguments are those of `upscale_files`.

    Results have the extension of the clip if such files are written here, otherwise .mkv. Finished parts of a clip are kept
    next to the result until it is complete: after an interruption, the same command goes on.
    """
    if output == PIPE:
        raise ValueError("a video is not written to standard output: name a file or a folder with -o")
    library()  # says how to install it
    if missing := [f"{video}: no such file" for video in videos if not video.exists()]:
        raise VideoError("\n  ".join(missing))
    sources = [ImageFile.at(video) for video in dict.fromkeys(videos)]
    ext = check_output(output, ext, suffix, len(sources), writable=FORMATS)
    suffix = options.size.suffix(upscalers.scale) if suffix is None else suffix
    own = Shard.parse(shard)
    found = [Found(source.path.parent, source.path.name) for source in sources if own.takes(source.path.name)]
    plan = plan_targets(found, [], output, ext, suffix, options.overwrite, options.skip_existing, FORMATS, _extension)
    results: list[Result] = []
    with UpscaleProgress(console, len(plan), progress) as shown:
        for number, video in enumerate(plan.found):
            source, target = video.image.path, plan.target(number)
            shown.begin(number, source.name)
            size, notes, used, reason = None, [], None, None
            try:
                size, notes, used = _upscale(upscalers, source, target, options, shown, number)
            except (ValueError, OSError, MemoryError) as error:
                reason = str(error) or type(error).__name__
            except KeyboardInterrupt as stop:
                again = "it with --skip-existing" if len(plan) > 1 else "the command"
                raise KeyboardInterrupt(f"interrupted{stop}; to go on, repeat {again}") from None
            results.append(Result(source, target, reason, notes or [], notes is None, "video", size, model=used))
            shown.finish(number, reason is None, notes is not None)
    return results


def _upscale(
    upscalers: Upscalers,
    source: Path,
    target: Path,
    options: VideoOptions,
    shown: UpscaleProgress,
    number: int,
) -> tuple[tuple[int, int], list[str] | None, str | None]:
    """Upscale a clip.

    Returns:
        The result's size; notes on what is not as in the clip, None if it was there before; the model, None if it was named.
    """
    clip = Clip(source)
    scale = options.size.scale_of(*clip.size, upscalers.scale)
    upscaler, size = upscalers.for_clean(scale), sides_at(scale, *clip.size)
    extension = target.suffix.lower()
    encoding, notes = choose_encoding(clip, size, extension, options.quality)
    if options.skip_existing and target.exists():
        if _is_enlarged(target, clip, (encoding.width, encoding.height)):
            return (encoding.width, encoding.height), None, None
        if not options.overwrite:
            raise VideoError(
                f"{target} exists, but is no video, of another size, or of another length: to replace it, add --overwrite"
            )
    copied, left_out = streams_to_copy(source, encoding, extension)
    job = {
        "source": sha256_of(source),
        "model": upscaler.weights,
        "tile": upscaler.tile,
        "overlap": upscaler.overlap,
        "precision": upscaler.precision,
        "runtime": upscaler.runtime,
        "tta": upscaler.tta,
        "consistent": upscaler.consistent,
        "encoding": encoding.describe(),
        "headers": encoding.headers(),
        "frames": PART_FRAMES,
    }
    parts = Parts(target, job)
    done = parts.begin(options.overwrite)
    reached = math.inf  # by `consistent`

    def enlarge(images: list[Plane]) -> list[Plane]:
        nonlocal reached
        large = upscaler.upscale_video_frames(images, encoding.enlarged)
        reached = min(reached, upscaler.lr_psnr)
        return [image[: encoding.height, : encoding.width] for image in large]

    try:
        if done:
            shown.say(f"{source.name}: going on after {done * PART_FRAMES} frames, which are in {parts.folder}")
            shown.resume(number, min(done * PART_FRAMES / clip.count, 1) if clip.count else 0)
        frames = clip.frames(done * PART_FRAMES)
        for part_number in count(done):
            first = next(frames, None)
            if first is None:
                break
            begun = part_number * PART_FRAMES
            part = enlarged(chain([first], islice(frames, PART_FRAMES - 1)), enlarge, upscaler.at_once)
            parts.save(part_number, encoding.encode(_watched(part, begun, clip.count, partial(shown.update, number))))
            done = part_number + 1
        notes += left_out + clip.notes + shortfall(reached)
        notes += join(clip, encoding, copied, parts.times(done), parts.packets(done), target, options.keep_tags)
    except KeyboardInterrupt:
        of = f"{done * PART_FRAMES} of about {clip.count} frames of {source.name}"
        raise KeyboardInterrupt(f": {of} are done, in {parts.folder}" if done else "") from None
    finally:
        parts.remove_if_empty()
    parts.remove()
    return (encoding.width, encoding.height), notes, upscaler.name if upscalers.chooses else None


def enlarged(
    frames: Iterable[ClipFrame], enlarge: Callable[[list[Plane]], list[Plane]], at_once: int
) -> Iterator[ClipFrame]:
    """Enlarge frames, `at_once` together. Of equal frames that follow each other, as in animation, one is enlarged."""
    runs: list[list[ClipFrame]] = []

    def made() -> Iterator[ClipFrame]:
        for run, pixels in zip(runs, enlarge([run[0].pixels for run in runs]) if runs else [], strict=True):
            yield from (replace(frame, pixels=pixels) for frame in run)

    for frame in frames:
        if runs and np.array_equal(runs[-1][0].pixels, frame.pixels):
            runs[-1].append(replace(frame, pixels=runs[-1][0].pixels))
            continue
        if len(runs) == at_once:
            yield from made()
            runs = []
        runs.append([frame])
    yield from made()


def _watched(
    frames: Iterable[ClipFrame], begun: int, total: int, on_progress: Callable[[float], None]
) -> Iterator[ClipFrame]:
    for done, frame in enumerate(frames, begun + 1):
        on_progress(min(done / total, 1) if total else 0)
        yield frame


def _is_enlarged(target: Path, clip: Clip, size: tuple[int, int]) -> bool:
    """Whether a file is a clip of this size and about as long. What is there is whole: it was renamed when it was."""
    try:
        there = Clip(target)
    except ValueError:
        return False
    return there.size == size and abs(there.count / there.rate - clip.count / clip.rate) < 1


def _extension(name: str) -> str:
    own = Path(name).suffix
    return own if own.lower() in FORMATS else ".mkv"
