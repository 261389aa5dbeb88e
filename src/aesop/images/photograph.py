"""A photograph that comes with the package, on which networks are tried."""

from importlib import resources
from pathlib import Path

from torch import Tensor

from aesop.images.read import ImageFile
from aesop.images.tensors import ImageArray, to_tensor

PHOTOGRAPH = Path(str(resources.files("aesop"))) / "assets" / "photos" / "heldout" / "pagoda.png"
TOP, LEFT = 60, 100  # of a part with both fine detail and flat areas


def photograph(height: int, width: int) -> ImageArray:
    """Return a part of it, (height, width, 3) of uint8; at most 204x284."""
    return ImageFile.at(PHOTOGRAPH).read_uint8()[TOP : TOP + height, LEFT : LEFT + width]


def photograph_for(channels: int, height: int, width: int) -> Tensor:
    """Return a part of it as the input (1, channels, height, width) of a network; more than three channels repeat."""
    return to_tensor(photograph(height, width)).repeat(-(-channels // 3), 1, 1)[None, :channels].contiguous()
