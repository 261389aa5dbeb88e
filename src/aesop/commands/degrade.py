"""`aesop degrade`: what a recipe's random degradation makes of images, as a contact sheet or as a validation set on disk.

As in training the HR image is sharpened first and LR is made of that, on the CPU. Every image has draws of its own, from
(seed, image number).
"""

import json
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track

import aesop
from aesop.commands.pipeline import plan
from aesop.data.degradation.degrader import check_crop, smallest_image
from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.random_degradation import batch_generator, degrade
from aesop.images.errors import ImageError
from aesop.images.listing import IMAGE_EXTENSIONS, list_images
from aesop.images.read import image_size, read_image_uint8
from aesop.images.resize import mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.images.write import write_image
from aesop.options.config import Config
from aesop.options.degradation import DegradationOptions
from aesop.options.read import apply_overrides, build_config, load_config
from aesop.options.yaml_file import read_yaml

MOST_RESULTS = 120
"""On one sheet."""
RECORD = "degradations.json"
"""Says how a set was made, and marks a folder as such a set."""


def run(
    words: Sequence[str],
    config: Path | None,
    count: int,
    output: Path | None,
    folder: Path | None,
    seed: int,
    overwrite: bool,
    console: Console,
) -> None:
    """Draw the sheet `output`, or write the set `folder`, or both; without either a sheet `degradations.png`.

    Args:
        words: images and folders of images, and `key.path=value` overrides of the options.
        config: an option file with a `degradation` section (a pipeline's: its last such stage); None: Real-ESRGAN's values.

    Raises:
        ValueError: before anything is written, for images, options or targets that cannot be used.
    """
    inputs, overrides = split_words(words)
    if count < 1 or seed < 0:
        raise ValueError(f"-n must be 1 or more and --seed 0 or more, found {count} and {seed}")
    options, scale, title = read_recipe(config, overrides)
    images = find_images(inputs)
    files = list(images.values())
    _check_sizes(files, options, scale)
    if folder is not None:
        _check_folder(folder, files, overwrite)
    if output is not None or folder is None:
        output = output or Path("degradations.png")
        check_crop(options, scale)
        _check_sheet(output, files, count, overwrite)
        write_image(output, sheet(images, options, scale, count, seed, title))
        console.print(f"drawn: {output}", markup=False, highlight=False)
    if folder is not None:
        write_set(folder, images, options, scale, seed, console)
        console.print(
            f"{len(images)} pairs written; in an option file:\n"
            f"  val: {{dataroot_gt: {folder / 'HR'}, dataroot_lq: {folder / 'LR'}}}",
            markup=False,
            highlight=False,
        )


def split_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Images and overrides as they stand on the command line: `key=value` is an override unless there is such a file."""
    overrides = [word for word in words if "=" in word and not os.path.exists(word)]
    return [Path(word).expanduser() for word in words if word not in overrides], overrides


def read_recipe(file: Path | None, overrides: Sequence[str] = ()) -> tuple[DegradationOptions, int, str]:
    """(the degradation's options, scale, a name for titles) of an option file; None: Real-ESRGAN's values.

    Raises:
        ConfigError: faults of the file. ValueError: no stage of it has a degradation.
    """
    if file is None:
        raw: dict[str, Any] = {"name": "defaults", "network_g": {"type": "RRDBNet"}, "degradation": {}}
        apply_overrides(raw, overrides)
        configs, title = [build_config(raw, "the options given")[0]], "Real-ESRGAN's values"
    elif isinstance(read_yaml(file)[0].get("stages"), Mapping):
        configs, title = [step for step in plan(file, overrides).values() if isinstance(step, Config)], file.name
    else:
        configs, title = [load_config(file, overrides)[0]], file.name
    found = [(config.degradation, config.scale) for config in configs if config.degradation is not None]
    if not found:
        raise ValueError(
            f"{file or 'the options given'}: no degradation section, so LR is no random degradation of HR here; take a "
            "real-world file such as configs/realworld_psnr.yml, or leave --config out for Real-ESRGAN's values"
        )
    return *found[-1], ", ".join([title, *overrides])


def find_images(inputs: Sequence[Path]) -> dict[str, Path]:
    """Name, without suffix, -> file, of input files and of all images below input folders.

    Raises:
        ValueError: naming all inputs that do not exist, are no images, or share a name.
    """
    found: dict[str, Path] = {}
    faults = []
    for given in inputs:
        try:
            files = [image.path for image in list_images(given)] if given.is_dir() else [given]
        except ImageError as error:
            faults.append(str(error))
            continue
        for path in files:
            name = (path.relative_to(given) if given.is_dir() else Path(path.name)).with_suffix("").as_posix()
            if not path.is_file():
                faults.append(f"{path}: no such file or folder")
            elif path.suffix.lower() not in IMAGE_EXTENSIONS:
                faults.append(f"{path}: not an image file (known: {' '.join(IMAGE_EXTENSIONS)})")
            elif found.setdefault(name, path) != path:
                faults.append(f"{path} and {found[name]}: both are named {name!r}; rename one, or its folder")
    if faults or not found:
        raise ValueError("nothing was degraded:\n  " + "\n  ".join(faults or ["no image was named"]))
    return found


def _check_sizes(files: Sequence[Path], options: DegradationOptions, scale: int) -> None:
    """From the files' headers: a small image must not stop a set half-way."""
    smallest = smallest_image(options, scale)
    small = []
    for path in files:
        width, height = image_size(path)
        if min(width, height) // scale * scale < smallest:
            small.append(f"{path} ({width}x{height})")
    if small:
        raise ImageError(
            f"{len(small)} of {len(files)} images are too small to be degraded: that takes sides of {smallest} pixels "
            f"after cutting to multiples of {scale}: {', '.join(small[:3])}{', ...' if len(small) > 3 else ''}. Leave "
            "them out, lower degradation.blur_kernel_size and blur_kernel_size2, or raise degradation.resize_range"
        )


def _check_sheet(output: Path, files: Sequence[Path], count: int, overwrite: bool) -> None:
    if output.suffix.lower() not in IMAGE_EXTENSIONS:
        raise ValueError(f"{output}: the sheet is an image: give it one of the endings {' '.join(IMAGE_EXTENSIONS)}")
    if len(files) * count > MOST_RESULTS:
        raise ValueError(
            f"{len(files)} images with {count} results each are more than the {MOST_RESULTS} that a sheet shows: lower -n, "
            "or name fewer images"
        )
    if output.exists():
        if any(path.samefile(output) for path in files):
            raise ValueError(f"{output} is one of the images: choose another name for the sheet")
        if not overwrite:
            raise ValueError(f"{output} exists: add --overwrite to replace it, or choose another name with -o")


def _check_folder(folder: Path, files: Sequence[Path], overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"--set {folder} is a file: give a folder")
    inside = next((path for path in files if path.resolve().is_relative_to(folder.resolve())), None)
    if inside is not None:
        raise ValueError(f"--set {folder} holds {inside}, one of the images: choose another folder")
    if any(folder.iterdir()) and not overwrite:
        raise ValueError(f"--set {folder} already holds something: choose another folder, or add --overwrite")
    if any((folder / name).exists() for name in ("HR", "LR")) and not (folder / RECORD).is_file():
        raise ValueError(f"--set {folder} holds images that are no set made here (no {RECORD}): choose another folder")


def write_set(
    folder: Path, images: Mapping[str, Path], options: DegradationOptions, scale: int, seed: int, console: Console
) -> None:
    """folder/HR/<name>.png cut to multiples of the scale, folder/LR/<name>.png, and what was drawn in degradations.json.

    The same images, options and seed give the same bytes, on one machine.
    """
    record: dict[str, Any] = {
        "written_by": f"aesop {aesop.__version__}",
        "seed": seed,
        "scale": scale,
        "lr_is_made_of": "the sharpened HR, as in training; HR is as it was",
        "degradation": options.model_dump(mode="json"),
        "images": {},
    }
    with _writing_set(folder) as aside:
        numbered = list(enumerate(images.items()))
        for number, (name, path) in track(numbered, "degrading", console=console, disable=not console.is_terminal):
            hr = mod_crop(read_image_uint8(path), scale)
            lq, (steps,) = degrade(usm_sharpen(to_tensor(hr)[None]), options, scale, batch_generator(seed, number))
            write_image(aside / "HR" / f"{name}.png", hr)
            write_image(aside / "LR" / f"{name}.png", to_array(lq[0]))
            record["images"][name] = steps
        (aside / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _writing_set(folder: Path) -> Generator[Path]:
    """Yield a folder beside the set's parts, which take the place of former ones once all are there."""
    is_new = not folder.exists()
    aside = folder / f".{os.getpid()}.tmp"
    aside.mkdir(parents=True)
    try:
        yield aside
        (folder / RECORD).unlink(missing_ok=True)
        for name in ("HR", "LR"):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in ("HR", "LR", RECORD):  # the record last: it marks a complete set
            (aside / name).rename(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


CELL, COLUMNS, GAP, MARGIN = 320, 4, 24, 32  # pixels; 1416 wide in all
INK, FAINT, RULE, PAPER = "#1c1c1c", "#767676", "#c8c8c8", "#ffffff"


def sheet(
    images: Mapping[str, Path], options: DegradationOptions, scale: int, count: int, seed: int, title: str
) -> np.ndarray:
    """For each image a title, HR as it is and sharpened, what the recipe may draw, and `count` results with what was drawn.

    Of each image the middle of `crop_pad_size` pixels is degraded, as much as training takes, and its middle shown.
    """
    about = [_text("What may be drawn", 18, INK, _width(2)), _table(describe_recipe(options), _width(2), 16)]
    parts = []
    for number, path in enumerate(images.values()):
        hr = middle(mod_crop(read_image_uint8(path), scale), options.crop_pad_size, scale)
        gt = usm_sharpen(to_tensor(hr)[None])
        lq, drawn = degrade(gt.expand(count, -1, -1, -1), options, scale, batch_generator(seed, number), per_sample=True)
        side = min(CELL, *hr.shape[:2]) // scale
        factor = CELL // side
        as_it_is, sharpened = (middle(image, side * scale, scale) for image in (hr, to_array(gt[0])))
        notes = {
            "here": f"The middle {hr.shape[1]} x {hr.shape[0]} pixels are degraded; of them the middle {side * scale} x "
            f"{side * scale} are shown.",
            "below": f"LR is {lq.shape[3]} x {lq.shape[2]} pixels; the same {side} x {side} are shown, each pixel as "
            f"{factor} x {factor}.",
        }
        results = [middle(to_array(image), side, 1) for image in lq]
        cells = [
            _cell(image, side * factor, f"LR {k}", steps)
            for k, (image, steps) in enumerate(zip(results, drawn, strict=True), 1)
        ]
        parts += [
            _stack(
                _text(path.name, 30, INK, _width(COLUMNS)),
                _text(f"x{scale}, seed {seed}, {title}", 18, FAINT, _width(COLUMNS)),
            ),
            _beside(
                _cell(as_it_is, side * factor, "HR as it is", notes),
                _cell(sharpened, side * factor, "HR sharpened", {"": "This is degraded, as in training."}),
                *([_stack(*about, gap=10)] if number == 0 else []),
            ),
            *(_beside(*cells[k : k + COLUMNS]) for k in range(0, count, COLUMNS)),
        ]
        if number + 1 < len(images):
            parts.append(Image.new("RGB", (_width(COLUMNS), 2), RULE))
    whole = _stack(*parts, gap=GAP)
    framed = Image.new("RGB", (_width(COLUMNS) + 2 * MARGIN, whole.height + 2 * MARGIN), PAPER)
    framed.paste(whole, (MARGIN, MARGIN))
    return np.asarray(framed)


def middle(image: np.ndarray, side: int, multiple: int) -> np.ndarray:
    """The middle of an image, `side` pixels or fewer each way, from a multiple on."""
    (height, width), side = image.shape[:2], side // multiple * multiple
    top, left = (max(0, n - side) // 2 // multiple * multiple for n in (height, width))
    return image[top : top + side, left : left + side]


def describe_recipe(options: DegradationOptions) -> dict[str, str]:
    """What the options let happen in each step, under the names that a draw's own description has."""
    rows = {}
    for number, suffix in ((1, ""), (2, "2")):

        def option(name: str, suffix: str = suffix) -> Any:
            return getattr(options, name + suffix)

        def span(name: str) -> str:
            return "{:g} to {:g}".format(*option(name))

        up, down, keep = (f"{p:.0%}" for p in option("resize_prob"))
        often = f"in {options.second_blur_prob:.0%} of the draws, " if number == 2 else ""
        rows[f"blur {number}"] = (
            f"{often}sides 7 to {option('blur_kernel_size')} px, sigma {span('blur_sigma')}; "
            + f"sinc {option('sinc_prob'):.0%}, else "
            + ", ".join(f"{n} {p:.0%}" for n, p in zip(option("kernel_list"), option("kernel_prob"), strict=True))
        )
        rows[f"resize {number}"] = f"enlarge {up}, reduce {down}, keep {keep}; by {span('resize_range')}"
        rows[f"noise {number}"] = (
            f"gaussian {option('gaussian_noise_prob'):.0%}, sigma {span('noise_range')} of 255; else poisson, scale "
            f"{span('poisson_scale_range')}; gray {option('gray_noise_prob'):.0%}"
        )
        rows[f"jpeg {number}"] = f"quality {span('jpeg_range')}"
    rows["blur 3"] = f"after resizing to the final size: sinc {options.final_sinc_prob:.0%}; both before or after jpeg 2"
    return rows


def _width(columns: int) -> int:
    return columns * CELL + (columns - 1) * GAP


def _cell(image: np.ndarray, shown: int, heading: str, rows: Mapping[str, str]) -> Image.Image:
    """A square image with sides of `shown` pixels over its heading and rows of text; square pixels where they fit."""
    method = Image.Resampling.LANCZOS if shown % len(image) else Image.Resampling.NEAREST
    picture = Image.fromarray(image).resize((shown, shown), method)
    return _stack(picture, _text(heading, 18, INK, CELL), _table(rows, CELL), width=CELL)


def _table(rows: Mapping[str, str], width: int, size: int = 14) -> Image.Image:
    """Two columns of text: names, and what goes with them."""
    names = max((round(_font(size).getlength(_printable(name))) + 10 for name in rows if name), default=0)
    lines = []
    for name, text in rows.items():
        right = _text(text, size, INK, width - names)
        line = Image.new("RGB", (width, right.height), PAPER)
        if name:
            line.paste(_text(name, size, FAINT, names), (0, 0))
        line.paste(right, (names, 0))
        lines.append(line)
    return _stack(*lines, gap=size // 6, width=width)


def _text(text: str, size: int, colour: str, width: int) -> Image.Image:
    """Text broken into lines of `width` pixels at most."""
    font, height = _font(size), round(size * 1.3)
    lines = wrap(_printable(text), font, width)
    image = Image.new("RGB", (width, height * len(lines)), PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((0, number * height), line, colour, font)
    return image


def wrap(text: str, font: Any, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken between words, and inside one only where it is longer than a line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        while font.getlength(word) > width:
            fits = next(k for k in range(len(word) - 1, 0, -1) if font.getlength(word[:k]) <= width or k == 1)
            lines.append(word[:fits])
            word = word[fits:]
        lines.append(word)
    return [line for line in lines if line] or [""]


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _printable(text: str) -> str:
    """File names may hold anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _beside(*pictures: Image.Image) -> Image.Image:
    return _joined(pictures, [(sum(p.width + GAP for p in pictures[:k]), 0) for k in range(len(pictures))])


def _stack(*pictures: Image.Image, gap: int = 6, width: int = 0) -> Image.Image:
    return _joined(pictures, [(0, sum(p.height + gap for p in pictures[:k])) for k in range(len(pictures))], width)


def _joined(pictures: Sequence[Image.Image], places: Sequence[tuple[int, int]], width: int = 0) -> Image.Image:
    """Pictures on paper, each at its place (x, y)."""
    placed = list(zip(pictures, places, strict=True))
    width = max([width, *(x + picture.width for picture, (x, _) in placed)])
    paper = Image.new("RGB", (width, max(y + picture.height for picture, (_, y) in placed)), PAPER)
    for picture, place in placed:
        paper.paste(picture, place)
    return paper
