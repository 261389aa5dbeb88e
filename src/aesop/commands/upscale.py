"""`aesop upscale`: upscaling image files and folders of images."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from aesop.commands.upscale_models import Upscalers
from aesop.commands.upscale_picture import Choices, PictureWork
from aesop.commands.upscale_pipeline import in_turn
from aesop.commands.upscale_plan import PIPE, Plan, Shard, check_output, find_images, named_videos, plan_targets
from aesop.commands.upscale_progress import Style, UpscaleProgress
from aesop.commands.upscale_report import check_report, described, reported
from aesop.commands.upscale_results import Result, counted
from aesop.commands.upscale_video import VideoOptions, upscale_videos
from aesop.images.errors import ImageError
from aesop.images.read import ImageFile
from aesop.inference.final_size import FinalSize
from aesop.inference.upscaler import Upscaler
from aesop.pictures.write import SaveOptions

MOST_HEADERS = 1000  # read before the work, for the progress


def upscale_files(
    inputs: Sequence[Path],
    output: Path | None = None,
    model: str | Path | None = None,
    tile: int | None = None,
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
    progress: Style | None = None,
    size: FinalSize | None = None,
    shard: str | None = None,
    tta: bool = False,
    threads: int | None = None,
    texture: float | None = None,
    faithful_model: str | Path | None = None,
    consistent: bool = False,
    hallucination_map: bool = False,
    report: Path | None = None,
    console: Console | None = None,
) -> Iterator[Result]:
    """Upscale image files, and all images below folders, by default each with the one of aesop's own models that suits it.

    Every page and frame is upscaled, and metadata are kept, as far as the format allows. All targets are checked before
    anything is computed, and each image against the limits of its format before it is computed. An image that cannot be
    read, upscaled or written does not stop the others; its Result has the error. The results come in the order of the
    images, while the work goes on: nothing is computed unless they are asked for.

    `output` is a file, if there is one image and the name ends like an image; otherwise a folder (default: `upscaled`), in
    which images keep their place below the input folder and are named `<stem><suffix><ext>`, by default `<stem>_x4` with the
    scale and the input's own extension (PNG for BMP and for formats that are only read). `-` is standard input and
    output; what comes in there goes out there by default, except to a terminal.

    `device` may name several, with commas: images are handed out to them one by one.

    With `hallucination_map`, a map of the error to expect is written beside each result as `<name>_map.png`. A `report` is a
    page with a slider and the map of each picture, and implies the maps.
    """
    size = size or FinalSize()
    maps = hallucination_map or report is not None
    if report:
        check_report(report, overwrite or skip_existing)
    if output is None:
        output = PIPE if list(inputs) == [PIPE] and not sys.stdout.isatty() else Path("upscaled")
    if output == PIPE and sys.stdout.isatty():
        raise ValueError("-o - writes the picture to standard output, which is a terminal here: add > FILE, or name a file")
    console = console or Console(stderr=True)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    UpscaleProgress(console, 1, progress)  # refuses an unknown style first
    if model is None and faithful_model is not None:
        raise ValueError(f"--faithful-model {faithful_model}: name the model that was trained from it as well (-m)")

    def load(device: str, model: str | Path) -> Upscaler:
        return Upscaler(
            model,
            device,
            precision,
            tile,
            overlap,
            runtime,
            alpha,
            tta,
            threads,
            texture=texture,
            faithful_model=faithful_model,
            consistent=consistent,
        )

    def announce(loaded: Sequence[Iterable[Upscaler]], which: str) -> None:
        if model is None:
            say(f"with the bundled model {which} (to choose: -m clean, -m web, -m x2, or -m FILE)")
        for note in dict.fromkeys(note for upscalers in loaded for upscaler in upscalers for note in upscaler.notes):
            say(note)

    devices = device.split(",")
    if videos := named_videos(inputs):
        if maps:
            raise ValueError("--hallucination-map and --report are for pictures: leave them out for videos")
        if alpha != "auto" or lossless is not None:
            raise ValueError("--alpha and --lossless are for pictures: leave them out for videos")
        if len(devices) > 1:
            raise ValueError(f"--device {device}: a video runs on one device; name one of them")
        video_options = VideoOptions(size, quality, not strip_metadata, overwrite, skip_existing)
        upscalers = Upscalers(partial(load, device), model, size != FinalSize())
        announce([upscalers], "for clean pictures")
        return iter(upscale_videos(videos, upscalers, output, ext, suffix, shard, video_options, progress, console))
    if maps and output == PIPE:
        raise ValueError("--hallucination-map writes a file beside the result: name the result with -o, instead of -")
    check_output(output, ext, suffix, 1, lossless)
    found, notes = find_images(inputs, output, Shard.parse(shard))
    ext = check_output(output, ext, suffix, len(found), lossless)
    for note in notes:
        say(note)
    loaded = [Upscalers(partial(load, each), model, size != FinalSize()) for each in devices]
    scale = loaded[0].scale
    suffix = size.suffix(scale) if suffix is None else suffix
    plan = plan_targets(found, inputs, output, ext, suffix, overwrite, skip_existing)
    announce(loaded, "that suits each picture")
    for note in plan.renamed:
        say(note)
    options = SaveOptions(quality, lossless)
    choices = Choices(size, scale, options, overwrite, skip_existing, strip_metadata)
    map_targets = _map_targets(plan) if maps else [None] * len(plan)
    results = _upscale(plan, map_targets, loaded, choices, UpscaleProgress(console, len(plan), progress, _sizes(plan)))
    return reported(results, report, len(plan), described(loaded[0], size), say) if report else results


def _upscale(
    plan: Plan,
    map_targets: Sequence[Path | None],
    devices: Sequence[Upscalers],
    choices: Choices,
    shown: UpscaleProgress,
) -> Iterator[Result]:
    works = (
        PictureWork(number, found.image, plan.target(number), plan.extension(number), choices, shown, map_targets[number])
        for number, found in enumerate(plan.found)
    )
    try:
        with shown:
            for work in in_turn(works, devices):
                yield Result(
                    work.source.path,
                    work.target,
                    work.error,
                    work.notes,
                    work.skipped,
                    size=work.size,
                    map=work.map,
                    model=work.model,
                )
    except KeyboardInterrupt:
        go_on = "; to go on, repeat the command with --skip-existing" if len(plan) > 1 else ", and nothing was written"
        of = f"{shown.succeeded} of {counted(len(plan), 'image')} {'is' if shown.succeeded == 1 else 'are'} done"
        raise KeyboardInterrupt(f"interrupted: {of}{go_on}") from None


def _map_targets(plan: Plan) -> list[Path]:
    """Where the hallucination maps go: `cat_x4_map.png`, but `cat_x4_jpg_map.png` where results differ only in their kinds.

    ValueError if a map would replace an input or a result.
    """
    targets = [plan.target(number) for number in range(len(plan))]
    stems = Counter(os.path.normcase(target.with_suffix("")) for target in targets)
    made = []
    for target in targets:
        kind = f"_{target.suffix[1:]}" if stems[os.path.normcase(target.with_suffix(""))] > 1 else ""
        made.append(target.with_name(f"{target.stem}{kind}_map.png"))
    others = {os.path.realpath(path) for path in (*targets, *(found.image.path for found in plan.found))}
    if taken := [file for file in made if os.path.realpath(file) in others]:
        raise ValueError(
            f"{taken[0]} is an input or a result, and the place of a hallucination map: choose another -o or --suffix"
        )
    return made


def _sizes(plan: Plan) -> list[int | None]:
    """The images' pixels, for the progress. Many images differ less on average than their headers take time to read."""

    def size(image: ImageFile) -> int | None:
        try:
            width, height = image.size()
        except ImageError:
            return None
        return width * height

    return [size(found.image) for found in plan.found] if 1 < len(plan) <= MOST_HEADERS else []
