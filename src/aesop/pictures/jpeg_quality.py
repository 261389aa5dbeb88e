"""How strongly a JPEG file was compressed."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

# The luma table of the JPEG standard (annex K), which encoders scale by the quality; its sum does not depend on the order.
_STANDARD_SUM = 3688


def jpeg_quality(file: Path | bytes) -> int | None:
    """Estimate the quality, 1 to 100 as libjpeg counts, from the luma quantisation table; None for other files."""
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
            tables = getattr(image, "quantization", None)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if not tables:
        return None
    percent = 100 * float(np.sum(tables[min(tables)])) / _STANDARD_SUM
    quality = 5000 / percent if percent > 100 else (200 - percent) / 2
    return int(np.clip(round(quality), 1, 100))
