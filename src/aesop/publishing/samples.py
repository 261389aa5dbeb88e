"""Sample pictures of a card: a part of each photograph, enlarged by bicubic interpolation and by the model."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aesop.images.read import ImageFile
from aesop.images.resize import imresize
from aesop.inference.upscaler import Upscaler

PHOTOS = Path(str(resources.files("aesop"))) / "assets" / "photos"
SIDES = (160, 120)
"""The largest width and height of the part, in pixels of the photograph."""


@dataclass(frozen=True, eq=False)
class SamplePair:
    name: str
    file: str
    """The beginning of the names of its files."""
    bicubic: NDArray[np.uint8]
    model: NDArray[np.uint8]
    """(H, W, 3), of the same size."""
    credit: str = ""


def make_samples(model: Path, photos: Sequence[Path], device: str) -> Iterator[SamplePair]:
    """One pair for each photograph; without any, of those that come with aesop, with their credits."""
    upscaler = Upscaler(model, device=device)
    bundled = sorted((PHOTOS / "heldout").glob("*.png"))
    for number, photo in enumerate(photos or bundled, 1):
        part = richest_part(ImageFile.at(photo).read_uint8())
        file = f"{number}_{re.sub(r'[^a-zA-Z0-9]+', '_', photo.stem)}"
        credit = "" if photos else _credit(photo)
        yield SamplePair(photo.stem, file, imresize(part, upscaler.scale), upscaler(part), credit)


def richest_part(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The window of SIDES with the most detail: the largest mean of the absolute Laplacian."""
    height, width = min(image.shape[0], SIDES[1]), min(image.shape[1], SIDES[0])
    detail = np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    means = cv2.boxFilter(detail, -1, (width, height), anchor=(0, 0))
    inside = means[: image.shape[0] - height + 1, : image.shape[1] - width + 1]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _credit(photo: Path) -> str:
    """Title, author, and licence of a photograph, as CREDITS.md has them."""
    start = f"| `{photo.parent.name}/{photo.name}` |"
    row = next(line for line in (PHOTOS / "CREDITS.md").read_text(encoding="utf-8").splitlines() if line.startswith(start))
    title, author, _, licence, changes = (cell.strip() for cell in row.split("|")[2:7])
    return f"{title}; {author}; {licence}; {changes}; a part of it, enlarged"
