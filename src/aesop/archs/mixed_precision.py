"""What runs in float32 under bfloat16 autocast, because rounding costs more than it saves there."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available


def in_full_precision(x: Tensor) -> AbstractContextManager:
    """The context in which layers compute in the type of their weights, even under autocast on the device of x."""
    return torch.autocast(x.device.type, enabled=False) if _casts(x) else nullcontext()


def product_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The type in which a convolution of x with a weight is computed: autocast's, or the weight's."""
    return torch.get_autocast_dtype(x.device.type) if _casts(x) else weight.dtype


def _casts(x: Tensor) -> bool:
    return is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)
