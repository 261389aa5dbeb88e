"""What pages show of a picture."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aesop.images.tensors import ImageArray
from aesop.pictures.profiles import to_srgb
from aesop.pictures.read import open_picture
from aesop.pictures.write import SaveOptions, write_picture

LONGEST_SIDE = 4096


def write_preview(source: Path, target: Path, longest_side: int = LONGEST_SIDE) -> None:
    """Write the first frame as PNG, which every browser shows, reduced to at most `longest_side`; its profile is kept."""
    picture = open_picture(source)
    frame = next(picture.frames())
    height, width = frame.pixels.shape[:2]
    scale = min(1, longest_side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def reduced(image: ImageArray) -> ImageArray:
        return image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    alpha = None if frame.alpha is None else reduced(frame.alpha)
    frame = replace(frame, pixels=reduced(frame.pixels), alpha=alpha, duration=None, metadata=None)
    like = replace(picture, count=1, animated=False, page_sizes=())
    write_picture(target, [frame], like, picture.metadata.without_private(), SaveOptions())


def shown(source: Path, longest_side: int) -> NDArray[np.uint8]:
    """The first frame as (H, W, 3) uint8 in sRGB, over white where it is transparent, reduced to at most `longest_side`."""
    with TemporaryDirectory() as folder:
        write_preview(source, Path(folder) / "preview.png", longest_side)
        with Image.open(Path(folder) / "preview.png") as opened:
            opened.load()
            profile, image = opened.info.get("icc_profile"), opened
    if image.mode.startswith("I"):  # gray of 16 bits
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    alpha = image.getchannel("A") if "A" in image.mode else None
    image = image.convert("L" if image.mode in ("L", "LA") else "RGB")
    rgb = to_srgb(image, profile).convert("RGB")
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return np.array(rgb)
