"""Converting images between 8 and 16 bits, and between arrays (H, W, C) and tensors (C, H, W)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ImageArray = NDArray[Any]


def to_uint8(image: ImageArray) -> NDArray[np.uint8]:
    """Divide a uint16 image by 257 and round it; return a uint8 image as it is."""
    # (v + 128) // 257 is v / 257 rounded to nearest. 257 is odd, so there are no ties.
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_tensor(array: ImageArray) -> Tensor:
    """Convert a uint8, uint16 or float32 image (H, W, C) or (H, W) to a float32 tensor (C, H, W) in [0, 1]."""
    assert array.dtype in (np.uint8, np.uint16, np.float32)
    if array.ndim == 2:
        array = array[..., None]
    planes = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)).astype(np.float32))
    return planes if array.dtype == np.float32 else planes.div_(float(np.iinfo(array.dtype).max))


def to_array(tensor: Tensor, dtype: np.dtype | type[np.number] = np.uint8) -> ImageArray:
    """Convert a float tensor (C, H, W) to a uint8, uint16 or float32 image (H, W, C).

    Values are clamped to [0, 1]. Halves are rounded to even, as in BasicSR. The device computes and sends the image's type.
    """
    assert dtype in (np.uint8, np.uint16, np.float32)
    assert tensor.ndim == 3
    if tensor.device.type == "mps":  # which may have no uint16
        tensor = tensor.cpu()
    clamped = tensor.detach().float().clamp(0, 1)
    if dtype == np.float32:
        return clamped.permute(1, 2, 0).contiguous().cpu().numpy()
    kind = torch.uint8 if dtype == np.uint8 else torch.uint16
    scaled = clamped.mul_(float(torch.iinfo(kind).max)).round_()
    return scaled.permute(1, 2, 0).to(kind, memory_format=torch.contiguous_format).cpu().numpy()
