"""A photograph that comes with the package, on which networks are tried."""

from importlib import resources
from pathlib import Path

from aesop.images.read import ImageFile
from aesop.images.tensors import ImageArray

PHOTOGRAPH = Path(str(resources.files("aesop"))) / "assets" / "photos" / "heldout" / "pagoda.png"
TOP, LEFT = 60, 100  # of a part with both fine detail and flat areas


def photograph(height: int, width: int) -> ImageArray:
    """Return a part of it, (height, width, 3) of uint8."""
    return ImageFile.at(PHOTOGRAPH).read_uint8()[TOP : TOP + height, LEFT : LEFT + width]
