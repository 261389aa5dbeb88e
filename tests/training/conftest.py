from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six smooth random colour images of 72x80 pixels, with detail."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(6):
        coarse = cv2.resize(rng.random((9, 10, 3)).astype(np.float32), (80, 72), interpolation=cv2.INTER_CUBIC)
        image = np.clip(coarse + 0.1 * rng.standard_normal((72, 80, 3)), 0, 1)
        cv2.imwrite(str(folder / f"photo_{k}.png"), (image * 255).astype(np.uint8))
    return folder
