"""`aesop upscale`: upscaling image files and folders of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aesop.images.listing import IMAGE_EXTENSIONS, collect_images
from aesop.images.read import ImageFile
from aesop.images.write import ALPHA_EXTENSIONS, DEEP_EXTENSIONS, write_image
from aesop.inference.alpha import with_enlarged_alpha
from aesop.inference.openvino_runtime import with_runtime
from aesop.inference.shipped_model import shipped_model
from aesop.inference.tiling import check_tiling, upscale_image
from aesop.system.device import autocast, float32_on_cuda, pick_device
from aesop.weights.load import load_generator

Jobs = list[tuple[ImageFile, Path]]  # (source, target)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one image. `target` was written unless `error` is set; `notes` say what its format cannot keep."""

    source: Path
    target: Path
    error: str | None
    notes: Sequence[str]


@float32_on_cuda(tf32=True)
def upscale_files(
    inputs: Sequence[Path],
    output: Path,
    weights: Path | None = None,
    tile: int = 256,
    overlap: int = 16,
    device: str = "auto",
    precision: str = "fp32",
    runtime: str = "pytorch",
    ext: str | None = None,
    suffix: str | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Result]:
    """Upscale image files, and all images below folders, by default with the model that comes with aesop.

    All targets are checked before anything is computed. An image that cannot be read, upscaled or written does not stop the
    others; its Result has the error. `output` is a file, if there is one image and the name ends like an image; otherwise a
    folder, in which images keep their place below the input folder and are named `<stem><suffix><ext>`, by default
    `<stem>_x4` with the network's scale and the input's own extension (PNG for BMP).
    """
    check_tiling(tile, overlap)
    where = pick_device(device)
    autocast(where, precision)  # refuses an unknown precision before the weights are read
    sources = find_sources(inputs, output)
    model, info = load_generator(weights or shipped_model())
    jobs = plan_targets(sources, output, ext, f"_x{info.scale}" if suffix is None else suffix, overwrite)
    console = console or Console(stderr=True)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if weights is None:
        say(f"with {shipped_model().stem}, the x{info.scale} model that comes with aesop (another one: -m FILE)")
    model, line = with_runtime(model.to(where), runtime, where, precision)
    if line:
        say(line)
    results: list[Result] = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(jobs))

        def on_tile(done: int, total: int) -> None:
            progress.update(bar, completed=len(results) + done / total)

        for source, target in jobs:
            progress.update(bar, completed=len(results), description=source.path.name)
            notes, reason = [], None
            try:
                image, alpha = source.read_with_alpha()
                upscaled = upscale_image(
                    model, image, info.scale, tile=tile, overlap=overlap, device=where, precision=precision, on_tile=on_tile
                )
                upscaled = with_enlarged_alpha(upscaled, alpha)
                write_image(target, upscaled)
                notes = _losses(upscaled, target.suffix.lower())
            except (ValueError, OSError, MemoryError) as error:
                reason = str(error) or type(error).__name__
            results.append(Result(source.path, target, reason, notes))
    return results


def _losses(array: np.ndarray, ext: str) -> list[str]:
    """Say what `write_image` drops because files ending in `ext` cannot keep it."""
    notes = []
    if array.shape[2] == 4 and ext not in ALPHA_EXTENSIONS:
        notes.append(f"{ext[1:]} files have no transparency: it was dropped (keep it with --ext png)")
    if array.dtype == np.uint16 and ext not in DEEP_EXTENSIONS:
        notes.append(f"{ext[1:]} files have 8 bits per channel: 16 were rounded to 8 (keep them with --ext png)")
    return notes


def summary(results: Sequence[Result]) -> str:
    """Say how many images were upscaled and where they are, what their formats cannot keep, and why others failed."""
    done = [r.target for r in results if r.error is None]
    place = f": {done[0] if len(done) == 1 else os.path.commonpath([t.parent for t in done])}" if done else ""
    lines = [f"upscaled {len(done)} of {len(results)} images{place}"]
    notes = [note for r in results for note in r.notes]
    lines += [f"note: {note} ({notes.count(note)} images)" for note in dict.fromkeys(notes)]
    # Most errors name the file themselves.
    lines += [f"failed: {'' if str(r.source) in r.error else f'{r.source}: '}{r.error}" for r in results if r.error]
    return "\n".join(lines)


def find_sources(inputs: Sequence[Path], output: Path) -> list[ImageFile]:
    """Find the images to upscale. If `output` lies in an input folder, the images in it, earlier results, are left out."""
    output = _real(output)

    def is_result(image: ImageFile) -> bool:
        listed = image.path.parents[image.name.count("/")]
        return _real(listed) in output.parents and output in _real(image.path).parents

    sources = [image for image in collect_images(inputs) if not is_result(image)]
    if not sources:
        raise ValueError(f"nothing was upscaled: all images are results in {output}")
    return sources


def plan_targets(sources: Sequence[ImageFile], output: Path, ext: str | None, suffix: str, overwrite: bool) -> Jobs:
    """Choose the target of each source and make the targets' folders; ValueError names all targets that conflict."""
    ext = ext and "." + ext.lower().lstrip(".")
    if ext and ext not in IMAGE_EXTENSIONS:
        raise ValueError(f"--ext {ext[1:]}: not an image format (supported: {' '.join(IMAGE_EXTENSIONS)})")
    if Path(f"x{suffix}").name != f"x{suffix}":
        raise ValueError(f"--suffix {suffix!r} is a part of a file name: it must not contain folder separators")
    if output.suffix.lower() in IMAGE_EXTENSIONS and not output.is_dir():
        if len(sources) > 1:
            raise ValueError(f"-o {output} is a file name, but there are {len(sources)} images: name a folder instead")
        if ext and ext != output.suffix.lower():
            raise ValueError(f"-o {output} and --ext {ext[1:]} disagree: leave out --ext")
        jobs = [(sources[0], output)]
    else:
        jobs = []
        for source in sources:
            own = Path(source.name).suffix
            jobs.append((source, output / f"{source.stem}{suffix}{ext or ('.png' if own.lower() == '.bmp' else own)}"))
    _check_targets(jobs, overwrite)
    for folder in dict.fromkeys(target.parent for _, target in jobs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make the folder {folder}: {error.strerror}; name another with -o") from error
    return jobs


def _check_targets(jobs: Jobs, overwrite: bool) -> None:
    owners: dict[str, ImageFile] = {}
    sources = {_identity(source.path) for source, _ in jobs}
    faults, existing = [], []
    for source, target in jobs:
        key, own = _identity(target), _identity(source.path)
        if key in owners:
            faults.append(f"{owners[key]} and {source} would both become {target}: upscale them into different folders")
        elif key in sources and key != own:
            faults.append(f"{source} would become {target}, which is another input: choose another -o or --suffix")
        elif target.is_dir():
            faults.append(f"{source} would become {target}, which is a folder: choose another -o or --suffix")
        elif target.exists() and not overwrite:
            existing.append(f"{target} is the input itself" if key == own else f"{target} exists")
        owners.setdefault(key, source)
    if existing:
        faults += [*existing, "to replace existing files add --overwrite, otherwise choose another -o or --suffix"]
    if faults:
        raise ValueError("nothing was upscaled:\n  " + "\n  ".join(faults))


def _identity(path: Path) -> str:
    """Return the same text for two names of one file, through links and where the system ignores case."""
    return os.path.normcase(_real(path))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve it accepts a link to itself
