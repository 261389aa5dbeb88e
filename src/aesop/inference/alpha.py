"""Transparency: the alpha channel is enlarged apart from the colours, by bicubic interpolation."""

import cv2
import numpy as np

from aesop.images.tensors import ImageArray


def with_enlarged_alpha(image: ImageArray, alpha: ImageArray | None) -> ImageArray:
    """Append an alpha channel (h, w) to an upscaled image (H, W, 3) of the same type; without alpha, return the image."""
    if alpha is None:
        return image
    return np.dstack((image, cv2.resize(alpha, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)))
