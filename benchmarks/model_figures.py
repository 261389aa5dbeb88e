"""Draw what the bundled models make of held-out photographs: invented.webp, shipped.webp, and web.webp in docs/images.

    python benchmarks/model_figures.py [--compare RealESRGAN_x4plus.safetensors]

invented.webp: bicubic interpolation, the clean model, its hallucination map, and the original.
shipped.webp: LR, bicubic interpolation, the clean model, and the original, where bicubic interpolation errs most.
web.webp, with --compare: reduced by area and saved as JPEG; bicubic interpolation, the clean model, the web model, the x4
model of --compare, and the original.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aesop import Upscaler
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.inference.hallucination import overlaid
from aesop.inference.shipped_models import CLEAN, MODELS, WEB
from aesop.pictures.picture import Frame
from bundled_models import SCALE, SHEET_QUALITY, by_area
from enlarged_photographs import HELD_OUT, compressed

Pixels = NDArray[np.uint8]
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
GAP = 8
MAP_SHOWN = slice(20, 336), slice(24, 228)  # of two_dogs
CROP = 96
WEB_SHOWN = {"two_dogs": (60, 40), "astronaut": (40, 120), "pagoda": (60, 60), "dragonfly": (100, 100)}  # top, left
WEB_SIZE = 160, 224


def photograph(name: str) -> Pixels:
    return mod_crop(ImageFile.at(HELD_OUT / f"{name}.png").read_uint8(), 8)


def beside(images: list[Pixels]) -> Pixels:
    return np.hstack([np.pad(image, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for image in images])[:, :-GAP]


def below(rows: list[Pixels]) -> Pixels:
    return np.vstack([np.pad(row, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for row in rows])[:-GAP]


def repeated(image: Pixels, times: int) -> Pixels:
    return image.repeat(times, 0).repeat(times, 1)


def captions(texts: list[str], width: int) -> Pixels:
    line = Image.new("RGB", (len(texts) * (width + GAP) - GAP, 22), "white")
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(14)
    for number, text in enumerate(texts):
        draw.text((number * (width + GAP) + width / 2, 10), text, "black", font, anchor="mm")
    return np.asarray(line)


def save(image: Pixels, name: str) -> None:
    Image.fromarray(image).save(IMAGES / name, quality=92, method=6)


def draw_invented(clean: Upscaler) -> None:
    hr = photograph("two_dogs")
    low = Frame(imresize(hr, 1 / SCALE))
    made = clean.upscale_frame(low)
    levels = clean.hallucination_map(low, made).image()
    images = [imresize(low.pixels, SCALE), made.pixels, overlaid(made.pixels, levels), hr]
    save(beside([image[MAP_SHOWN] for image in images]), "invented.webp")


def draw_shipped(clean: Upscaler) -> None:
    rows = [captions(["LR", "bicubic", MODELS[CLEAN], "HR"], 2 * CROP)]
    for name in WEB_SHOWN:
        hr = photograph(name)
        lr = imresize(hr, 1 / SCALE)
        images = [repeated(lr, SCALE), imresize(lr, SCALE), clean(lr), hr]
        top, left = where_it_errs_most(images[1], hr)
        rows.append(beside([repeated(image[top : top + CROP, left : left + CROP], 2) for image in images]))
    save(below(rows), "shipped.webp")


def where_it_errs_most(image: Pixels, hr: Pixels) -> tuple[int, int]:
    """Top and left of the square of CROP pixels with the largest mean error, in multiples of SCALE."""
    error = np.abs(image.astype(np.float32) - hr).mean(2)
    means = cv2.boxFilter(error, -1, (CROP, CROP), anchor=(0, 0))[: -CROP + 1 : SCALE, : -CROP + 1 : SCALE]
    top, left = np.unravel_index(means.argmax(), means.shape)
    return int(top) * SCALE, int(left) * SCALE


def draw_web(clean: Upscaler, web: Upscaler, other: Upscaler) -> None:
    rows = []
    for name, (top, left) in WEB_SHOWN.items():
        hr = photograph(name)
        lr = compressed(by_area(hr), SHEET_QUALITY)
        images = [imresize(lr, SCALE), clean(lr), web(lr), other(lr), hr]
        rows.append(beside([image[top : top + WEB_SIZE[0], left : left + WEB_SIZE[1]] for image in images]))
    save(below(rows), "web.webp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", metavar="FILE", help="an x4 weight file for web.webp, which is not drawn without")
    compared = parser.parse_args().compare
    clean = Upscaler(CLEAN, "cpu", "fp32")
    draw_invented(clean)
    draw_shipped(clean)
    if compared:
        draw_web(clean, Upscaler(WEB, "cpu", "fp32"), Upscaler(compared, "cpu", "fp32"))


if __name__ == "__main__":
    main()
