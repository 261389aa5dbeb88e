"""Networks of one channel in a training of RGB images: they see luma, and what they make becomes three equal channels.

So a training of gray images needs no losses, metrics or files of its own. `build_network` marks such networks (`is_gray`).
"""

from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)
"""BT.601, as in JPEG files: gray of red, green, and blue."""


def is_gray(net: nn.Module) -> bool:
    """Whether a network makes gray images: it has one channel, or is an auto-encoder whose decoder has."""
    return getattr(getattr(net, "decoder", net), "is_gray", False)


def luma(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W)."""
    red, green, blue = (images[:, c : c + 1] * weight for c, weight in enumerate(LUMA))
    return red + green + blue


def in_gray(images: Tensor) -> Tensor:
    """RGB images -> gray ones in three equal channels, (N, 3, H, W)."""
    return luma(images).expand(-1, 3, -1, -1)


def seen_by(net: nn.Module, images: Tensor) -> Tensor:
    """What a network takes of RGB images."""
    return luma(images) if getattr(net, "is_gray", False) else images


def in_rgb(images: Tensor) -> Tensor:
    """Images of one or three channels -> (N, 3, H, W)."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
