"""Writing image files."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from aesop.images.listing import IMAGE_EXTENSIONS
from aesop.images.tensors import ImageArray, _to_uint8
from aesop.system.files import replacing


def write_image(path: str | os.PathLike, array: ImageArray, quality: int = 95) -> None:
    """Write an image in the format the extension names: aside, then renamed. Missing folders are made.

    Args:
        array: uint8 or uint16, (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA. 16 bits are kept by PNG and TIFF and
            rounded to 8 by the others; alpha is kept by PNG, TIFF and WebP and dropped by the others.
        quality: of JPEG and WebP, 1..100.

    Raises:
        ValueError: for another extension, type, shape or quality.
    """
    path, extension = Path(path), Path(path).suffix.lower()
    if extension not in IMAGE_EXTENSIONS:
        raise ValueError(
            f"{path}: cannot write {extension or 'a file without an extension'}; use {' '.join(IMAGE_EXTENSIONS)}"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: write uint8 or uint16 (see to_array), not {array.dtype}")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise ValueError(f"{path}: an image is (H, W), (H, W, 3) or (H, W, 4), found {array.shape}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1..100, found {quality}")
    if extension not in (".png", ".tif", ".tiff"):
        array = _to_uint8(array)
    if extension in (".jpg", ".jpeg", ".bmp") and channels == 4:
        array, channels = array[..., :3], 3
    if channels > 1:
        array = array[..., [2, 1, 0, 3][:channels]]
    parameters: Sequence[int] = {
        ".jpg": (cv2.IMWRITE_JPEG_QUALITY, quality),
        ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, quality),
        ".webp": (cv2.IMWRITE_WEBP_QUALITY, quality),
    }.get(extension, ())
    try:
        done, encoded = cv2.imencode(extension, np.ascontiguousarray(array), parameters)
    except cv2.error:  # OpenCV 4; newer ones return False
        done, encoded = False, None
    if not done:
        raise ValueError(f"{path}: an image of shape {array.shape} cannot be a {extension} file: use .png")
    with replacing(path) as temporary:
        temporary.write_bytes(np.asarray(encoded).data)
