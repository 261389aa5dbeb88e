"""Which of the shipped models suits a picture."""

from numpy.typing import NDArray

from aesop.inference.shipped_models import CLEAN, WEB
from aesop.pictures.block_contrast import block_contrast

VISIBLE_QUALITY = 85
"""JPEG quality at which blocks begin to show when a picture is enlarged."""
VISIBLE_CONTRAST = 0.1
"""`block_contrast` from which on they show, also in a file of another kind, or of a higher quality that was saved again."""


def suitable_model(pixels: NDArray, jpeg_quality: int | None) -> str:
    """The short name of the model, by traces of compression.

    Args:
        pixels: (H, W) or (H, W, 3), uint8, uint16, or floating point in [0, 1].
        jpeg_quality: of a JPEG file, from 1 to 100.
    """
    has_blocks = jpeg_quality is not None and jpeg_quality <= VISIBLE_QUALITY
    return WEB if has_blocks or block_contrast(pixels) >= VISIBLE_CONTRAST else CLEAN
