"""Draw images/invented.webp: a photograph enlarged by bicubic interpolation and by the bundled model, and its map.

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

PHOTOGRAPH = Path(aesop.__file__).parent / "assets" / "photos" / "heldout" / "astronaut.png"  # NASA, public domain
TARGET = Path(__file__).parent / "images" / "invented.webp"
GAP = 8


def main() -> None:
    hr = mod_crop(ImageFile.at(PHOTOGRAPH).read_uint8(), 8)
    upscaler, low = Upscaler(None, "cpu", "fp32"), Frame(imresize(hr, 0.25))
    made = upscaler.upscale_frame(low)
    levels = upscaler.hallucination_map(low, made).image()
    bicubic = np.asarray(Image.fromarray(low.pixels).resize(hr.shape[1::-1], Image.Resampling.BICUBIC))
    gap = np.full((hr.shape[0], GAP, 3), 255, np.uint8)
    row = np.hstack([bicubic, gap, made.pixels, gap, overlaid(made.pixels, levels)])
    Image.fromarray(row).save(TARGET, quality=92, method=6)


if __name__ == "__main__":
    main()
