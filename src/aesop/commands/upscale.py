"""`aesop upscale`: files and folders of images."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aesop.images.errors import ImageError
from aesop.images.listing import IMAGE_EXTENSIONS, list_images
from aesop.images.read import read_image_with_alpha
from aesop.images.write import write_image
from aesop.inference.openvino_runtime import with_runtime
from aesop.inference.shipped_model import shipped_model
from aesop.inference.tiling import OnTile, check_tiling, upscale_image
from aesop.system.device import autocast, pick_device
from aesop.weights.load import load_generator

ALPHA_EXTENSIONS = {".png", ".webp", ".tif", ".tiff"}
DEEP_EXTENSIONS = {".png", ".tif", ".tiff"}  # those that hold 16 bits


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one input: `target` was written unless `error` says why not; `notes` say what it cannot hold."""

    source: Path
    target: Path
    seconds: float
    error: str | None = None
    notes: tuple[str, ...] = ()


def upscale_files(
    inputs: Sequence[Path],
    output: Path,
    weights: Path | None = None,
    *,
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
    """Upscale files, and all images below folders, with the generator in the file `weights`, or the shipped one.

    `output` is a file when there is one image and it ends like an image; otherwise a folder, in which images from
    folders keep their relative place and are named `<stem><suffix><ext>`: `suffix` is `_x4` (the network's scale) and
    `ext` the input's own (PNG for BMP) unless given. All targets are checked before anything is computed. An image that
    cannot be read, upscaled or written is reported in its Result and the others are still done: look at `error`, or
    print `summary`. Progress appears on `console` (default: standard error) when that is a terminal.
    `runtime` `openvino` converts the network first, and says there how long that took, or why PyTorch works instead.

    Raises:
        ValueError: for inputs that are missing or no images, targets that exist (without `overwrite`), coincide or are
            other inputs, unusable weights or options, a runtime that is not installed.
    """
    check_tiling(tile, overlap)
    where = pick_device(device)
    with autocast(where, precision):
        pass  # an unknown precision is refused before the weights are read
    sources = find_sources(inputs, output)
    model, info = load_generator(weights or shipped_model())
    jobs = plan_targets(sources, output, ext, f"_x{info.scale}" if suffix is None else suffix, overwrite)
    console = console or Console(stderr=True)
    if weights is None:
        line = f"with {shipped_model().stem}, the x{info.scale} model that comes with aesop (another one: -m FILE)"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    model, line = with_runtime(model.to(where), runtime, where, precision)
    if line:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    results = []
    with _progress(console, len(jobs)) as (on_file, on_tile):
        for source, target in jobs:
            on_file(source)
            begun, notes, reason = time.perf_counter(), (), None
            try:
                image, alpha = read_image_with_alpha(source)
                upscaled = upscale_image(
                    model,
                    image,
                    info.scale,
                    tile=tile,
                    overlap=overlap,
                    device=where,
                    precision=precision,
                    on_tile=on_tile,
                )
                upscaled = _with_alpha(upscaled, alpha)
                write_image(target, upscaled)
                notes = _losses(upscaled, target.suffix.lower())
            except (ValueError, OSError, MemoryError) as error:
                reason = str(error) or type(error).__name__
            results.append(Result(source, target, time.perf_counter() - begun, reason, notes))
    return results


def summary(results: Sequence[Result]) -> str:
    """How many were done, and where; what was lost in conversion; each failure with its reason: lines for the terminal."""
    done = [r.target for r in results if r.error is None]
    place = f": {done[0]}" if len(done) == 1 else f": {os.path.commonpath([t.parent for t in done])}" if done else ""
    lines = [f"upscaled {len(done)} of {len(results)} images{place}"]
    notes = [note for r in results for note in r.notes]
    lines += [f"note: {note} ({notes.count(note)} images)" for note in dict.fromkeys(notes)]
    for r in results:
        if r.error:  # reading and writing name the file themselves
            lines.append(f"failed: {r.error}" if str(r.source) in r.error else f"failed: {r.source}: {r.error}")
    return "\n".join(lines)


def find_sources(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """(image file, its place relative to the output folder) for each input file and each image below an input folder.

    Images below an output folder that lies inside an input folder are left out: they are the last run's results.

    Raises:
        ValueError: naming all inputs that do not exist or are no images; when there is nothing to do.
    """
    found: dict[tuple[Path, Path], None] = {}  # a file named twice is one job
    faults = []
    for given in map(Path, inputs):
        if given.is_dir():
            try:
                images = list_images(given)
            except ImageError as error:
                faults.append(str(error))
                continue
            if _real(given) in _real(output).parents:
                images = [p for p in images if not _real(p).is_relative_to(_real(output))]
            found |= {(p, p.relative_to(given)): None for p in images}
        elif not given.exists():
            faults.append(f"{given}: no such file or folder")
        elif given.suffix.lower() not in IMAGE_EXTENSIONS:
            faults.append(f"{given}: not an image file (known: {' '.join(IMAGE_EXTENSIONS)})")
        else:
            found[given, Path(given.name)] = None
    if faults or not found:
        raise ValueError("nothing was upscaled:\n  " + "\n  ".join(faults or ["no image was named"]))
    return list(found)


def plan_targets(
    sources: Sequence[tuple[Path, Path]], output: Path, ext: str | None, suffix: str, overwrite: bool
) -> list[tuple[Path, Path]]:
    """(source, target) for each source of `find_sources`; makes the targets' folders.

    Raises:
        ValueError: naming all targets that are in the way of something.
    """
    ext = ext and "." + ext.lower().lstrip(".")
    if ext and ext not in IMAGE_EXTENSIONS:
        raise ValueError(f"--ext {ext[1:]}: not an image format (known: {' '.join(IMAGE_EXTENSIONS)})")
    if Path(f"x{suffix}").name != f"x{suffix}":
        raise ValueError(f"--suffix {suffix!r} is a part of a file name: it must not contain folder separators")
    if output.suffix.lower() in IMAGE_EXTENSIONS and not output.is_dir():
        if len(sources) > 1:
            raise ValueError(f"-o {output} is a file name, but there are {len(sources)} images: name a folder instead")
        if ext and ext != output.suffix.lower():
            raise ValueError(f"-o {output} and --ext {ext[1:]} disagree: leave out --ext")
        jobs = [(sources[0][0], output)]
    else:
        jobs = [
            (source, output / place.with_name(place.stem + suffix + (ext or _own_extension(place))))
            for source, place in sources
        ]
    _check_targets(jobs, overwrite)
    for folder in dict.fromkeys(target.parent for _, target in jobs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make the folder {folder}: {error.strerror}; name another with -o") from error
    return jobs


def _check_targets(jobs: Sequence[tuple[Path, Path]], overwrite: bool) -> None:
    owners: dict[str, Path] = {}
    source_of = {_identity(source): source for source, _ in jobs}
    faults, existing = [], []
    for source, target in jobs:
        key = _identity(target)
        if key in owners:
            faults.append(f"{owners[key]} and {source} would both become {target}: upscale them into different folders")
        elif key in source_of and key != _identity(source):
            faults.append(f"{source} would become {target}, which is another input: choose another -o or --suffix")
        elif target.is_dir():
            faults.append(f"{source} would become {target}, which is a folder: choose another -o or --suffix")
        elif target.exists() and not overwrite:
            existing.append(f"{target} is the input itself" if key == _identity(source) else f"{target} exists")
        owners.setdefault(key, source)
    if existing:
        faults += [*existing, "to replace existing files add --overwrite, otherwise choose another -o or --suffix"]
    if faults:
        raise ValueError("nothing was upscaled:\n  " + "\n  ".join(faults))


def _identity(path: Path) -> str:
    """Equal for two names of one file, also through links and where the system ignores case."""
    return os.path.normcase(_real(path))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike resolve() it does not stumble over a link to itself


def _own_extension(path: Path) -> str:
    return ".png" if path.suffix.lower() == ".bmp" else path.suffix


def _with_alpha(image: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """The upscaled RGB (H, W, 3), and the LR alpha resized to it as a fourth channel where there is one."""
    if alpha is None:
        return image
    return np.dstack((image, cv2.resize(alpha, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)))


def _losses(array: np.ndarray, ext: str) -> tuple[str, ...]:
    """What `write_image` leaves out where files ending in `ext` cannot hold it."""
    notes = []
    if array.shape[2] == 4 and ext not in ALPHA_EXTENSIONS:
        notes.append(f"{ext[1:]} files hold no transparency: it was dropped (keep it with --ext png)")
    if array.dtype == np.uint16 and ext not in DEEP_EXTENSIONS:
        notes.append(f"{ext[1:]} files hold 8 bits per channel: 16 were rounded to 8 (keep them with --ext png)")
    return tuple(notes)


@contextmanager
def _progress(console: Console, files: int) -> Generator[tuple[Callable[[Path], None], OnTile], None, None]:
    """(on_file, on_tile): to be called before each file and after each tile. Shows bars on a terminal only."""
    if not console.is_terminal:
        yield (lambda _: None), (lambda *_: None)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        all_files = bars.add_task("files", total=files)
        tiles = bars.add_task("tiles", total=None)
        begun = 0

        def on_file(path: Path) -> None:
            nonlocal begun
            bars.update(all_files, completed=begun)
            bars.reset(tiles, description=path.name, total=None)
            begun += 1

        def on_tile(done: int, total: int) -> None:
            bars.update(tiles, completed=done, total=total)
            bars.update(all_files, completed=begun - 1 + done / total)  # so that one large file has a time left, too

        yield on_file, on_tile
