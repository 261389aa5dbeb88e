"""Pairs for the real-photo recipe (web.yml): the photographs' LR images, degraded beforehand as the web degrades pictures.

    python reproduction/photographs.py -o datasets/lanes --more FOLDER
    python reproduction/web_pairs.py datasets/lanes

Degrading crops during a training costs a CPU as much as the training's step. Here every photograph of photographs.pack is
degraded in VARIANTS ways: lr_NN.pack is one of them, hr_NN.pack another name (a hard link) of photographs.pack, so that HR
is stored once. Of heldout.pack, heldout_lr.pack has each photograph in two of the CONDITIONS that the model is judged by,
beside heldout_hr.pack.

A way is: mild blur (BLURRED of the images), reduction by a kernel drawn from KERNELS, in two steps for some (TWO_STEPS),
mild noise (NOISY), a little sharpening (SHARPENED), and JPEG by a real encoder: in a quarter of the variants none, in a
half once, in a quarter twice. All draws follow from SEED, the variant and the image; JPEG depends on OpenCV's encoder.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from aesop.images import pack
from aesop.images.listing import list_images

Array = np.ndarray
SCALE = 4
VARIANTS = 24
SEED = 0
PIL_KERNELS = {
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
# Reduction without antialiasing, as some programs do it.
CV2_KERNELS = {"aliased_bilinear": cv2.INTER_LINEAR, "aliased_bicubic": cv2.INTER_CUBIC}
# Kernel -> probability.
KERNELS = {"area": 0.3, "bicubic": 0.3, "bilinear": 0.1, "lanczos": 0.2, "aliased_bilinear": 0.05, "aliased_bicubic": 0.05}
BLURRED, BLUR_SIGMA = 0.3, (0.4, 2.4)  # in HR pixels
TWO_STEPS, INTERMEDIATE = 0.25, (0.7, 2.0)  # the intermediate size in units of LR's
NOISY, NOISE_SIGMA, GRAY_NOISE = 0.25, (1.0, 8.0), 0.5  # in grey levels of 255
SHARPENED, SHARPENING = 0.1, (0.2, 0.7)
QUALITY = (40, 95)
SUBSAMPLING = {
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420: 0.65,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422: 0.1,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444: 0.25,
}
JPEGS = (0, 1, 1, 2)
"""How often variant v is encoded: JPEGS[v % 4]."""
CONDITIONS = (((None, "bicubic"), (60, "area")), ((40, "bicubic"), (80, "area")), ((None, "area"), (60, "bicubic")),
              ((40, "area"), (80, "bicubic")))  # fmt: skip
"""JPEG quality (None: not encoded) and reduction of the first photograph, the second ... and again from the first on."""


def reduced(image: Array, height: int, width: int, kernel: str) -> Array:
    """An image, uint8 (H, W, 3), at another size."""
    if kernel in CV2_KERNELS:
        return cv2.resize(image, (width, height), interpolation=CV2_KERNELS[kernel])
    return np.asarray(Image.fromarray(image).resize((width, height), PIL_KERNELS[kernel]))


def jpeg(image: Array, quality: int, subsampling: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420) -> Array:
    """An image, uint8 (H, W, 3), saved as JPEG and read again; `quality` from 0 to 100."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, subsampling]
    done, data = cv2.imencode(".jpg", image[..., ::-1], options)
    assert done
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def noisy(image: Array, sigma: float, gray: bool, draw: Generator) -> Array:
    noise = draw.standard_normal((*image.shape[:2], 1 if gray else 3)) * sigma
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def sharpened(image: Array, amount: float) -> Array:
    """Unsharp masking as programs do it after reducing: overshoots included."""
    wide = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
    return np.clip(image + amount * (image - wide), 0, 255).round().astype(np.uint8)


def degraded(hr: Array, jpegs: int, draw: Generator) -> Array:
    """LR, uint8 (H / 4, W / 4, 3), of HR, encoded `jpegs` times."""

    def kernel() -> str:
        return str(draw.choice(list(KERNELS), p=list(KERNELS.values())))

    def encoded(image: Array) -> Array:
        subsampling = draw.choice(list(SUBSAMPLING), p=list(SUBSAMPLING.values()))
        return jpeg(image, int(draw.integers(*QUALITY, endpoint=True)), int(subsampling))

    height, width = hr.shape[0] // SCALE, hr.shape[1] // SCALE
    image = hr
    if draw.random() < BLURRED:
        across, down = draw.uniform(*BLUR_SIGMA, size=2)
        image = cv2.GaussianBlur(image, (0, 0), across, sigmaY=across if draw.random() < 0.6 else down)
    if draw.random() < TWO_STEPS:
        factor = draw.uniform(*INTERMEDIATE)
        image = reduced(image, round(height * factor), round(width * factor), kernel())
        if jpegs == 2 and draw.random() < 0.5:  # the first grid of blocks does not fall on the second
            image, jpegs = encoded(image), 1
    image = reduced(image, height, width, kernel())
    if draw.random() < NOISY:
        image = noisy(image, draw.uniform(*NOISE_SIGMA), draw.random() < GRAY_NOISE, draw)
    if draw.random() < SHARPENED:
        image = sharpened(image, draw.uniform(*SHARPENING))
    for _ in range(jpegs):
        image = encoded(image)
    return np.ascontiguousarray(image)


def variant(photographs: Path, number: int) -> Iterator[tuple[str, Array]]:
    """Names and LR images of a pack's photographs in variant `number`."""
    for index, image in enumerate(list_images(photographs)):
        draw = np.random.default_rng((SEED, number, index))
        yield image.name, degraded(image.read_uint8(), JPEGS[number % len(JPEGS)], draw)


def in_conditions(photographs: Path) -> Iterator[tuple[str, Array, Array]]:
    """Name, HR and LR of each of a pack's photographs in the CONDITIONS."""
    for index, image in enumerate(list_images(photographs)):
        hr = image.read_uint8()
        for quality, kernel in CONDITIONS[index % len(CONDITIONS)]:
            lr = reduced(hr, hr.shape[0] // SCALE, hr.shape[1] // SCALE, kernel)
            saved = "png" if quality is None else f"jpeg{quality}"
            yield f"{image.stem}_{kernel}_{saved}.png", hr, lr if quality is None else jpeg(lr, quality)


def build(folder: Path) -> None:
    """Write the packs beside photographs.pack and heldout.pack in `folder`.

    Raises:
        ValueError, OSError: a pack is missing or damaged, or the disk is full.
    """
    photographs = folder / "photographs.pack"
    for number in range(VARIANTS):
        pack.write(folder / f"lr_{number:02d}.pack", variant(photographs, number))
        link = folder / f"hr_{number:02d}.pack"
        link.unlink(missing_ok=True)
        os.link(photographs, link)
        print(f"{number + 1}/{VARIANTS} {folder / f'lr_{number:02d}.pack'}", flush=True)
    pack.write(folder / "heldout_hr.pack", ((name, hr) for name, hr, _ in in_conditions(folder / "heldout.pack")))
    pack.write(folder / "heldout_lr.pack", ((name, lr) for name, _, lr in in_conditions(folder / "heldout.pack")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where photographs.pack and heldout.pack are")
    try:
        build(parser.parse_args().folder)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
