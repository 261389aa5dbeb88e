"""Whether what another runtime computes is PyTorch's image, on parts of a photograph."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from aesop.images.photograph import photograph_for

Compute = Callable[[np.ndarray], np.ndarray]  # (1, C, H, W) -> (1, C, scale*H, scale*W), float32


@torch.inference_mode()
def images(compute: Compute, net: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """What a runtime and PyTorch make of an image, in [0, 1]."""
    return torch.from_numpy(compute(image.numpy())).clamp(0, 1), net(image).clamp(0, 1)


def largest_difference(compute: Compute, net: nn.Module, sizes: Iterable[tuple[int, int]], channels: int) -> float:
    """The largest difference of a value in images of these sizes (height, width), whose range is 1; NaN if one is NaN.

    Raises ValueError if an image has another size than PyTorch's.
    """
    differences = []
    for height, width in sizes:
        theirs, ours = images(compute, net, photograph_for(channels, height, width))
        if theirs.shape != ours.shape:
            found, expected = (f"{image.shape[-1]}x{image.shape[-2]}" for image in (theirs, ours))
            raise ValueError(f"of {width}x{height} pixels it makes {found} instead of {expected}")
        differences.append((theirs - ours).abs().max())
    return torch.stack(differences).max().item()
