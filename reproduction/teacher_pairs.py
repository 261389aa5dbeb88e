"""Images of a large network to learn from: for LR images of web_pairs.py, what the network makes of them.

    python reproduction/teacher_pairs.py datasets/lanes RealESRGAN_x4plus.pth [VARIANT ...]

Of each variant, by default 1 and 3, the images of FOLDER/lr_NN.pack are upscaled, and become FOLDER/sr_NN.pack; its names
are those of the LR images. A finished pack stays. On a processor with AMX, RealESRGAN_x4plus takes a quarter of an hour for
a variant of 198 images; `aesop.Upscaler` takes bfloat16 there.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aesop import Upscaler
from aesop.images import pack
from aesop.images.listing import list_images

VARIANTS = (1, 3)


def build(folder: Path, model: Path, variants: list[int]) -> None:
    """Write the packs.

    Raises:
        ValueError, OSError: the model or a pack is missing or damaged, or the disk is full.
    """
    upscaler = Upscaler(model)
    for variant in variants:
        target = folder / f"sr_{variant:02d}.pack"
        if not target.exists():
            pack.write(target, upscaled(folder / f"lr_{variant:02d}.pack", upscaler))
        print(target, flush=True)


def upscaled(source: Path, upscaler: Upscaler) -> Iterator[tuple[str, np.ndarray]]:
    images = list(list_images(source))
    for number, image in enumerate(images, 1):
        yield image.name, upscaler(image.read_uint8())
        print(f"{number}/{len(images)} {image.name}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the lr_NN.pack are")
    parser.add_argument("model", type=Path, help="weight file of an x4 network")
    parser.add_argument("variants", nargs="*", type=int, default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    try:
        build(arguments.folder, arguments.model, arguments.variants)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
