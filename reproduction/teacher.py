"""What a larger network makes of LR images of web_pairs.py, for a small one to learn from before its GAN stage.

    python reproduction/teacher.py datasets/lanes RealESRGAN_x4plus.safetensors [--variants 2]

Of every photograph, some of the 24 LR images are taken: taught_lr.pack holds them, and taught_sr.pack the teacher's images.
The teacher makes one image of an LR image, not one of the many that are plausible: a loss of pixels can teach it.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aesop.images import pack
from aesop.images.listing import list_images
from aesop.system.device import autocast, fastest_precision, pick_device
from aesop.weights.load import load_generator

VARIANTS = 24  # of web_pairs.py


def chosen(folder: Path, each: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names and LR images, uint8 (H, W, 3), of `each` variants of every photograph; photographs differ in their variants."""
    variants = [list_images(folder / f"lr_{number:02d}.pack") for number in range(VARIANTS)]
    for index in range(len(variants[0])):
        for k in range(each):
            number = (5 * index + 7 * k) % VARIANTS
            image = variants[number][index]
            yield f"{image.stem}_{number:02d}.png", image.read_uint8()


@torch.inference_mode()
def taught(teacher: nn.Module, images: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and the teacher's images, uint8 (4 * H, 4 * W, 3), of LR images."""
    device = next(teacher.parameters()).device
    for name, image in images:
        lr = torch.tensor(image).movedim(2, 0)[None].to(device).float() / 255
        with autocast(device, fastest_precision(device)):
            sr = teacher(lr.contiguous(memory_format=torch.channels_last))
        yield name, sr[0].float().clamp(0, 1).mul(255).round().byte().movedim(0, 2).contiguous().cpu().numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where lr_NN.pack are")
    parser.add_argument("teacher", type=Path, help="weight file of a x4 generator")
    parser.add_argument("--variants", type=int, default=2, help="of each photograph")
    arguments = parser.parse_args()
    folder = arguments.folder
    try:
        net, _ = load_generator(arguments.teacher)
        net = net.to(pick_device(), memory_format=torch.channels_last)
        pack.write(folder / "taught_lr.pack", chosen(folder, arguments.variants))
        pack.write(folder / "taught_sr.pack", taught(net, chosen(folder, arguments.variants)))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
