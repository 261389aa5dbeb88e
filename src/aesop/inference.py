"""`aesop upscale`: images of any size through a generator, tile by tile, and files and folders of them."""

import math
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from aesop.archs.msrresnet import MSRResNet
from aesop.archs.rrdbnet import INPUT_UNSHUFFLE, RRDBNet
from aesop.archs.spsr import SPSRNet
from aesop.data.images import (
    IMAGE_EXTENSIONS,
    ImageError,
    list_images,
    read_image_with_alpha,
    to_array,
    to_tensor,
    write_image,
)
from aesop.device import autocast, is_out_of_memory, pick_device
from aesop.runtime import with_runtime
from aesop.weights import load_generator

OnTile = Callable[[int, int], None]  # (tiles done, tiles in all)

SMALLEST_TILE = 32  # below it most of what is computed is overlap
GRAIN = 4  # sides of tiles and overlaps are multiples of it: the largest unshuffling of an input
ALPHA_EXTENSIONS = {".png", ".webp", ".tif", ".tiff"}
DEEP_EXTENSIONS = {".png", ".tif", ".tiff"}  # those that hold 16 bits


def shipped_model() -> Path:
    """The generator that comes with the package; assets/models/README.md says what it is and how good."""
    return Path(str(resources.files("aesop"))) / "assets" / "models" / "aesop_compact_x4.safetensors"


# --- one image -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Axis:
    """How one side of an image is cut: tiles of `length` pixels beginning at `starts`."""

    length: int
    starts: tuple[int, ...]

    @classmethod
    def cut(cls, side: int, tile: int, overlap: int, multiple: int) -> "Axis":
        """The fewest tiles of at most `tile` pixels that share at least `overlap`, all as short as that number allows.

        Starts are multiples of `multiple`, as `side` must be: so an unshuffling network groups the same pixels in each.
        """
        if side <= tile:
            return cls(side, (0,))
        count = math.ceil((side - overlap) / (tile - overlap))
        length = _round_up(math.ceil((side + (count - 1) * overlap) / count), GRAIN)
        last = side - length
        return cls(length, tuple(last * i // (count - 1) // multiple * multiple for i in range(count)))

    def weights(self, scale: int, overlap: int) -> list[Tensor]:
        """One (length*scale,) weight per tile; at each output pixel the weights of all tiles sum to one.

        Neighbours are cross-faded around the centre of what they share, over half of `overlap`: the outer quarters,
        where a tile's own border shows most, have weight 0.
        """
        pixels = torch.arange(self.length * scale) + 0.5
        width = max(overlap * scale / 2, 1)  # 1: a hard cut between two pixels
        seams = [(a + self.length + b) / 2 for a, b in pairwise(self.starts)]

        def risen(start: int, seam: float) -> Tensor:
            return ((pixels + (start - seam) * scale) / width + 0.5).clamp(0, 1)

        fade_in = [torch.ones(len(pixels)), *map(risen, self.starts[1:], seams)]
        fade_out = [*map(risen, self.starts[:-1], seams), torch.zeros(len(pixels))]
        return [a - b for a, b in zip(fade_in, fade_out, strict=True)]


def upscale_image(
    model: nn.Module,
    image: np.ndarray,
    scale: int,
    *,
    tile: int = 256,
    overlap: int = 16,
    device: torch.device,
    precision: str = "fp32",
    on_tile: OnTile | None = None,
) -> np.ndarray:
    """RGB image (H, W, 3), uint8 or uint16 -> (H*scale, W*scale, 3) of the same type.

    The model, which must already be on `device` and in eval mode, sees tiles of at most `tile` x `tile` LR pixels that
    overlap by at least `overlap`; float memory is one strip of tiles (tile*scale x W*scale). `tile=0` is the whole
    image at once: what the bare network makes of it, rounded. Where memory does not suffice for tiles they are halved,
    down to 32, and the image begun again. `on_tile(done, total)` is called after each tile.

    Raises:
        ValueError: for an image, tile or overlap of the wrong kind; when the whole image, or tiles of 32, do not fit; when
            the network's output is not `scale` times its input.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise ValueError(f"expected an RGB image (H, W, 3) of uint8 or uint16, found {image.shape} of {image.dtype}")
    check_tiling(tile, overlap)
    multiple = INPUT_UNSHUFFLE.get(scale, 1)
    height, width = (_round_up(side, multiple) for side in image.shape[:2])
    longest = max(height, width)
    whole = tile == 0
    tile = longest if whole or tile >= longest else tile - tile % GRAIN
    overlap = _round_up(overlap, GRAIN)
    while True:
        overlap = min(overlap, tile // 2 // GRAIN * GRAIN)
        rows, columns = (Axis.cut(side, tile, overlap, multiple) for side in (height, width))
        try:
            return _upscale_tiles(model, image, scale, rows, columns, overlap, device, precision, on_tile)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if whole:
                raise ValueError(
                    f"out of memory on {device} for a whole image of {image.shape[1]}x{image.shape[0]}: use tiles "
                    "(upscale: --tile 256, tests and validation: val.tile=256), or another device"
                ) from error
            if tile <= SMALLEST_TILE:
                raise ValueError(
                    f"out of memory on {device} even with --tile {tile}: close other programs or use another --device"
                ) from error
        # Only here, after the except clause, are the error and the tensors of its frames gone.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        tile = max(SMALLEST_TILE, tile // 2 // GRAIN * GRAIN)


def check_tiling(tile: int, overlap: int) -> None:
    """Raises ValueError unless `tile` is 0 or at least 32 and `overlap` at most half of it."""
    if tile and tile < SMALLEST_TILE:
        raise ValueError(f"--tile must be 0 (the whole image at once) or at least {SMALLEST_TILE}, found {tile}")
    if overlap < 0 or (tile and overlap > tile // 2):
        raise ValueError(f"--overlap must lie between 0 and half of --tile {tile}, found {overlap}")


@torch.inference_mode()
def _upscale_tiles(
    model: nn.Module,
    image: np.ndarray,
    scale: int,
    rows: Axis,
    columns: Axis,
    overlap: int,
    device: torch.device,
    precision: str,
    on_tile: OnTile | None,
) -> np.ndarray:
    """The tiles of `rows` x `columns`, blended; where the grid exceeds the image, the excess is cut off again."""
    height, width = (side * scale for side in image.shape[:2])
    tile_h, tile_w = rows.length * scale, columns.length * scale
    out = np.empty((height, width, 3), image.dtype)
    strip = torch.zeros(3, tile_h, columns.starts[-1] * scale + tile_w)
    row_weights, column_weights = rows.weights(scale, overlap), columns.weights(scale, overlap)
    total = len(rows.starts) * len(columns.starts)
    # The CPU's convolutions are faster with a pixel's channels side by side; a network keeps the layout of its input.
    pays = device.type == "cpu" and isinstance(model, RRDBNet | MSRResNet | SPSRNet)
    layout = torch.channels_last if pays else torch.contiguous_format

    for i, y in enumerate(rows.starts):
        for j, x in enumerate(columns.starts):
            patch = _cut(image, y, x, rows.length, columns.length)
            with autocast(device, precision):
                result = model(to_tensor(patch).unsqueeze(0).to(device, memory_format=layout))
            if result.shape != (1, 3, tile_h, tile_w):
                raise ValueError(
                    f"the network made {tuple(result.shape)} out of {rows.length}x{columns.length} pixels: "
                    f"not an RGB generator of scale {scale}"
                )
            weight = row_weights[i][:, None] * column_weights[j]
            strip[:, :, x * scale : x * scale + tile_w] += result[0].float().cpu() * weight
            if on_tile:
                on_tile(i * len(columns.starts) + j + 1, total)
        # No later strip reaches above its own start: those rows are final, and the few below are carried over.
        top, bottom = y * scale, rows.starts[i + 1] * scale if i + 1 < len(rows.starts) else height
        for left in range(0, width, tile_w):  # by tiles, since rounding takes copies
            right = min(left + tile_w, width)
            out[top:bottom, left:right] = to_array(strip[:, : bottom - top, left:right], image.dtype)
        carried = strip[:, bottom - top :].clone()
        strip.zero_()
        strip[:, : carried.shape[1]] = carried
    return out


def _cut(image: np.ndarray, y: int, x: int, height: int, width: int) -> np.ndarray:
    """Rows y..y+height and columns x..x+width of an (H, W, 3) image, reflected beyond its bottom and right border."""
    patch = image[y : y + height, x : x + width]
    missing = (height - patch.shape[0], width - patch.shape[1])
    if any(missing):  # NumPy reflects as often as it takes, and repeats a single pixel
        patch = np.pad(patch, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
    return np.ascontiguousarray(patch)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


# --- files -----------------------------------------------------------------------------------------------------------


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
