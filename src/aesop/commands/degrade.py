"""`aesop degrade`: show what a random degradation makes of images, or write a validation set of such pairs.

As in training, HR is sharpened and LR is made from the sharpened image, on the CPU. What is drawn for an image depends on
the seed and the image's number alone.
"""

import json
import os
import shutil
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.progress import track

import aesop
from aesop.data.degradation.degrader import check_crop
from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.random_degradation import batch_generator, degrade, smallest_side
from aesop.images.errors import ImageError
from aesop.images.listing import IMAGE_EXTENSIONS, by_name, collect_images
from aesop.images.read import ImageFile
from aesop.images.resize import mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.images.write import write_image
from aesop.options.degradation import DegradationOptions
from aesop.options.pipeline import read_stages
from aesop.options.read import apply_overrides, build_config
from aesop.system.terminal import Note, shows_progress
from aesop.system.wording import first_few
from aesop.web.page import Figure, Image, Page

MOST_RESULTS = 120  # on one sheet
CELL = 256  # pixels: side of an image on the sheet; less if this is no multiple of the scale or the image is small
RECORD = "degradations.json"  # describes how a set was made, and marks a folder as such a set


def run(
    words: Sequence[str],
    config: Path | None,
    count: int,
    output: Path | None,
    folder: Path | None,
    seed: int,
    overwrite: bool,
    console: Console,
) -> dict[str, Any]:
    """Write the sheet `output`, or the set `folder`, or both; without either, the sheet `degradations.html`.

    Returns what was written, and by which options.

    Nothing is written if images, options or targets cannot be used. `words` are images, folders of images, and
    `key.path=value` overrides of the options. `config` is an option file with a `degradation` section (in a pipeline: the
    last one); None: Real-ESRGAN's values.
    """
    inputs, overrides = split_words(words)
    if count < 1 or seed < 0:
        raise ValueError(f"-n must be 1 or more and --seed 0 or more, found {count} and {seed}")
    options, scale, title = read_recipe(config, overrides)
    images = list(by_name((image.stem, image) for image in collect_images(inputs)).values())
    _check_sizes(images, options, scale)
    if folder is not None:
        _check_folder(folder, images, overwrite)
    if output is not None or folder is None:
        output = output or Path("degradations.html")
        check_crop(options, scale)
        if output.suffix.lower() not in (".html", *IMAGE_EXTENSIONS):
            raise ValueError(f"{output}: the sheet is a page (.html) or an image: {' '.join(IMAGE_EXTENSIONS)}")
        if len(images) * count > MOST_RESULTS:
            found = f"{len(images)} images with {count} results each are more than the {MOST_RESULTS} that a sheet shows"
            raise ValueError(f"{found}; lower -n, or name fewer images")
        if output.exists() and any(image.path.samefile(output) for image in images):
            raise ValueError(f"{output} is one of the images: choose another name for the sheet with -o")
        if output.exists() and not overwrite:
            raise ValueError(f"{output} exists: add --overwrite to replace it, or choose another name with -o")
        results = {
            image.name: examples(image.read_uint8(), options, scale, count, batch_generator(seed, number))
            for number, image in enumerate(images)
        }
        if output.suffix.lower() == ".html":
            write_page(output, results, options, f"x{scale}, seed {seed}, {title}")
        else:
            write_image(output, mosaic(results.values()))
        console.print(Note(f"written: {output}"))
    if folder is not None:
        write_set(folder, images, options, scale, seed, console)
        console.print(Note(f"{len(images)} pairs written; to use them in an option file:"))
        console.print(Note(f"  val: {{dataroot_gt: {folder / 'HR'}, dataroot_lq: {folder / 'LR'}}}"))
    return {
        "sheet": output,
        "set": folder,
        "images": [image.name for image in images],
        "scale": scale,
        "seed": seed,
        "degradation": options.model_dump(mode="json"),
    }


def split_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """(images and folders, overrides) of a command line: `key=value` is an override unless a file has this name."""
    overrides = [word for word in words if "=" in word and not os.path.exists(word)]
    return [Path(word).expanduser() for word in words if word not in overrides], overrides


def read_recipe(file: Path | None, overrides: Sequence[str] = ()) -> tuple[DegradationOptions, int, str]:
    """(The degradation's options, scale, title) of an option file; None: Real-ESRGAN's values."""
    if file is None:
        raw: dict[str, Any] = {"name": "defaults", "network_g": {"type": "RRDBNet"}, "degradation": {}}
        apply_overrides(raw, overrides)
        stages = {"": build_config(raw, "the command line")[0]}
    else:
        stages, _ = read_stages(file, overrides)
    configs = [step for step in stages.values() if not isinstance(step, Path)]
    found = [(config.degradation, config.scale) for config in configs if config.degradation is not None]
    if not found:
        raise ValueError(
            f"{file or 'the command line'}: no degradation section; give a real-world file such as "
            "configs/realworld_psnr.yml, or omit --config for Real-ESRGAN's values"
        )
    return *found[-1], ", ".join([file.name if file else "Real-ESRGAN's values", *overrides])


def examples(image: Image, options: DegradationOptions, scale: int, count: int, generator: torch.Generator) -> list[Figure]:
    """HR, sharpened HR, and `count` results of an image with what was drawn.

    The middle `crop_pad_size` pixels are degraded, as many as in training; of these the middle is shown.
    """
    hr = _middle(mod_crop(image, scale), options.crop_pad_size, scale)
    sharpened = usm_sharpen(to_tensor(hr)[None])
    lq, drawn = degrade(sharpened.expand(count, -1, -1, -1), options, scale, generator, per_sample=True)
    side = min(CELL, *hr.shape[:2]) // scale * scale
    zoom = CELL // side
    notes = {"degraded": f"{hr.shape[1]}x{hr.shape[0]} pixels", "shown": f"the middle {side}x{side}"}
    sharp, sharp_notes = to_array(sharpened[0]), {"LR": "is made from this image, as in training"}
    figures = [
        Figure(_middle(hr, side, scale), "HR", notes, zoom),
        Figure(_middle(sharp, side, scale), "HR sharpened", sharp_notes, zoom),
    ]
    for number, (result, draw) in enumerate(zip(lq, drawn, strict=True), 1):
        lr = _middle(to_array(result), side // scale, 1)
        figures.append(Figure(lr, f"LR {number}", draw.describe(), zoom * scale))
    return figures


def _middle(image: np.ndarray, side: int, multiple: int) -> np.ndarray:
    """The middle of an image, at most `side` pixels wide and high, starting and ending at a multiple."""
    side = side // multiple * multiple
    top, left = (max(0, n - side) // 2 // multiple * multiple for n in image.shape[:2])
    return image[top : top + side, left : left + side]


def write_page(output: Path, results: Mapping[str, Sequence[Figure]], options: DegradationOptions, subtitle: str) -> None:
    page = Page("Random degradations", subtitle)
    for name, figures in results.items():
        page.section(name)
        page.gallery(figures)
    page.section("Options")
    page.folded({"degradation": yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False, default_flow_style=None)})
    page.write(output)


def mosaic(results: Iterable[Sequence[Figure]], columns: int = 4, gap: int = 16) -> Image:
    """The images of all results without text. Each result starts a new row."""
    pitch = CELL + gap
    rows = []
    for figures in results:
        row = np.full((-(-len(figures) // columns) * pitch, columns * pitch, 3), 255, np.uint8)
        for k, figure in enumerate(figures):
            image = figure.image.repeat(figure.zoom, 0).repeat(figure.zoom, 1)
            top, left = k // columns * pitch, k % columns * pitch
            row[top : top + len(image), left : left + image.shape[1]] = image
        rows.append(row)
    return np.concatenate(rows)[:-gap, :-gap]


def write_set(
    folder: Path, images: Sequence[ImageFile], options: DegradationOptions, scale: int, seed: int, console: Console
) -> None:
    """Write folder/HR/<name>.png, cropped to multiples of the scale, folder/LR/<name>.png, and what was drawn.

    The same images, options and seed give the same bytes on one machine.
    """
    drawn = {}
    with _replacing_set(folder) as temporary:
        numbered = list(enumerate(images))
        for number, image in track(numbered, "degrading", console=console, disable=not shows_progress(console)):
            hr = mod_crop(image.read_uint8(), scale)
            lq, (draw,) = degrade(usm_sharpen(to_tensor(hr)[None]), options, scale, batch_generator(seed, number))
            drawn[image.stem] = draw.describe()
            write_image(temporary / "HR" / f"{image.stem}.png", hr)
            write_image(temporary / "LR" / f"{image.stem}.png", to_array(lq[0]))
        record = {
            "written_by": f"aesop {aesop.__version__}",
            "seed": seed,
            "scale": scale,
            "lr_is_made_of": "the sharpened HR, as in training; HR is as it was",
            "degradation": options.model_dump(mode="json"),
            "images": drawn,
        }
        (temporary / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _replacing_set(folder: Path) -> Generator[Path]:
    """Yield a temporary folder whose HR, LR and record replace those of `folder` once all are complete."""
    is_new = not folder.exists()
    temporary = folder / f".{os.getpid()}.tmp"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        (folder / RECORD).unlink(missing_ok=True)
        for name in ("HR", "LR", RECORD):  # the record last: it marks a complete set
            shutil.rmtree(folder / name, ignore_errors=True)
            (temporary / name).rename(folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _check_sizes(images: Sequence[ImageFile], options: DegradationOptions, scale: int) -> None:
    """From the files' headers, so that a small image does not stop a set halfway."""
    smallest = smallest_side(options, scale)
    sizes = [(image, *image.size()) for image in images]
    if small := [f"{image} ({w}x{h})" for image, w, h in sizes if min(w, h) // scale * scale < smallest]:
        raise ImageError(
            f"{len(small)} of {len(images)} images are too small to be degraded; sides of at least {smallest} pixels are "
            f"needed after cropping to multiples of {scale}: {first_few(small)}. Leave them out, lower "
            "degradation.blur_kernel_size and blur_kernel_size2, or raise degradation.resize_range"
        )


def _check_folder(folder: Path, images: Sequence[ImageFile], overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--set {folder} is a file: give a folder")
    if inside := [image for image in images if image.path.resolve().is_relative_to(folder.resolve())]:
        raise ValueError(f"--set {folder} contains {inside[0]}, one of the images: choose another folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"--set {folder} is not empty: choose another folder, or add --overwrite")
    if any((folder / name).exists() for name in ("HR", "LR")) and not (folder / RECORD).is_file():
        raise ValueError(f"--set {folder} contains images that aesop did not write (no {RECORD}): choose another folder")
