"""What the page shows of a picture."""

from dataclasses import replace
from pathlib import Path

import cv2

from aesop.images.tensors import ImageArray
from aesop.pictures.read import open_picture
from aesop.pictures.write import SaveOptions, write_picture

LONGEST_SIDE = 4096


def write_preview(source: Path, target: Path) -> None:
    """Write the first frame as PNG, which every browser shows, reduced to at most LONGEST_SIDE; its profile is kept."""
    picture = open_picture(source)
    frame = next(picture.frames())
    height, width = frame.pixels.shape[:2]
    scale = min(1, LONGEST_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def reduced(image: ImageArray) -> ImageArray:
        return image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    alpha = None if frame.alpha is None else reduced(frame.alpha)
    frame = replace(frame, pixels=reduced(frame.pixels), alpha=alpha, duration=None, metadata=None)
    like = replace(picture, count=1, animated=False, page_sizes=())
    write_picture(target, [frame], like, picture.metadata.without_private(), SaveOptions())
