"""Images as arrays (H, W, C) and as tensors (C, H, W)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

ImageArray = NDArray[Any]


def _to_uint8(image: ImageArray) -> NDArray[np.uint8]:
    # (v + 128) // 257 is v / 257 rounded to nearest; 257 is odd, so there are no ties.
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_tensor(array: ImageArray) -> Tensor:
    """uint8 or uint16 image (H, W, C) or (H, W) -> float32 tensor (C, H, W) in [0, 1].

    Raises:
        ValueError: for another type.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"to_tensor takes uint8 or uint16 images, found {array.dtype}")
    if array.ndim == 2:
        array = array[..., None]
    planes = np.ascontiguousarray(array.transpose(2, 0, 1)).astype(np.float32)
    return torch.from_numpy(planes).div_(float(np.iinfo(array.dtype).max))


def to_array(tensor: Tensor, dtype: DTypeLike = np.uint8) -> ImageArray:
    """Float tensor (C, H, W) in about [0, 1] -> image (H, W, C): clamped, halves rounded to even (as BasicSR does).

    Raises:
        ValueError: for a `dtype` other than uint8 and uint16, or another number of dimensions.
    """
    kind: np.dtype[Any] = np.dtype(dtype)
    if kind not in (np.uint8, np.uint16):
        raise ValueError(f"to_array makes uint8 or uint16 images, not {kind}")
    if tensor.ndim != 3:
        raise ValueError(f"to_array takes one image (C, H, W), found {tuple(tensor.shape)}")
    scaled = tensor.detach().float().clamp(0, 1).mul(float(np.iinfo(kind).max)).round()
    return np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy().astype(kind))
