"""Draw images/invented.webp: a photograph enlarged bicubic, the bundled model, its map, and the original.

python docs/map_figure.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

import aesop
from aesop import Upscaler
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.inference.hallucination import overlaid
from aesop.pictures.picture import Frame

PHOTOGRAPH = Path(aesop.__file__).parent / "assets" / "photos" / "heldout" / "two_dogs.png"
SHOWN = slice(20, 336), slice(24, 228)
TARGET = Path(__file__).parent / "images" / "invented.webp"
GAP = 8


def main() -> None:
    hr = mod_crop(ImageFile.at(PHOTOGRAPH).read_uint8(), 8)
    upscaler, low = Upscaler(None, "cpu", "fp32"), Frame(imresize(hr, 0.25))
    made = upscaler.upscale_frame(low)
    levels = upscaler.hallucination_map(low, made).image()
    bicubic = np.asarray(Image.fromarray(low.pixels).resize(hr.shape[1::-1], Image.Resampling.BICUBIC))
    gap = np.full((SHOWN[0].stop - SHOWN[0].start, GAP, 3), 255, np.uint8)
    images = [bicubic, made.pixels, overlaid(made.pixels, levels), hr]
    row = np.hstack([part for image in images for part in (image[SHOWN], gap)][:-1])
    Image.fromarray(row).save(TARGET, quality=92, method=6)


if __name__ == "__main__":
    main()
