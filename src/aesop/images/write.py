"""Writing image files."""

import os
from pathlib import Path

import cv2
import numpy as np

from aesop.images.listing import IMAGE_EXTENSIONS
from aesop.images.tensors import ImageArray, to_uint8
from aesop.system.files import replacing

ALPHA_EXTENSIONS = (".png", ".webp", ".tif", ".tiff")
DEEP_EXTENSIONS = (".png", ".tif", ".tiff")
"""Formats with 16 bits per channel."""
_QUALITY = dict.fromkeys((".jpg", ".jpeg"), (cv2.IMWRITE_JPEG_QUALITY, 95)) | {".webp": (cv2.IMWRITE_WEBP_QUALITY, 95)}


def write_image(path: str | os.PathLike, array: ImageArray) -> None:
    """Write an image in the format that the extension names. The file is written aside and renamed; folders are created.

    Args:
        array: uint8 or uint16, (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA. Formats that cannot keep 16 bits or alpha get
            8 bits, or RGB.
    """
    path, extension = Path(path), Path(path).suffix.lower()
    if extension not in IMAGE_EXTENSIONS:
        what = extension or "a file without an extension"
        raise ValueError(f"{path}: cannot write {what}; use {' '.join(IMAGE_EXTENSIONS)}")
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: write uint8 or uint16 (see to_array), not {array.dtype}")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise ValueError(f"{path}: an image is (H, W), (H, W, 3) or (H, W, 4), found {array.shape}")
    if extension not in DEEP_EXTENSIONS:
        array = to_uint8(array)
    if extension not in ALPHA_EXTENSIONS and channels == 4:
        array, channels = array[..., :3], 3
    if channels > 1:
        array = array[..., [2, 1, 0, 3][:channels]]
    try:
        done, encoded = cv2.imencode(extension, np.ascontiguousarray(array), _QUALITY.get(extension, ()))
    except cv2.error:  # OpenCV 4; newer ones return False
        done, encoded = False, None
    if not done:
        raise ValueError(f"{path}: an image of shape {array.shape} cannot be a {extension} file: use .png")
    with replacing(path) as temporary:
        temporary.write_bytes(np.asarray(encoded).data)
