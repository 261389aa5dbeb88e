"""Which of the shipped models suits a picture, on photographs compressed here."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from aesop.images.photograph import PHOTOGRAPH
from aesop.inference.shipped_models import CLEAN, WEB
from aesop.inference.suitable_model import suitable_model
from aesop.pictures.block_contrast import block_contrast

PHOTOGRAPHS = sorted(PHOTOGRAPH.parent.glob("*.png"))


def photographs() -> list[Image.Image]:
    """Those in the package, as they are and at half their size."""
    whole = [Image.open(path).convert("RGB") for path in PHOTOGRAPHS]
    return [*whole, *(image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX) for image in whole)]


def compressed(image: Image.Image, quality: int) -> Image.Image:
    data = BytesIO()
    image.save(data, "jpeg", quality=quality)
    return Image.open(data).convert("RGB")


def test_clean_photographs():
    assert len(PHOTOGRAPHS) == 4
    assert {suitable_model(np.asarray(image), None) for image in photographs()} == {CLEAN}
    assert max(block_contrast(np.asarray(image)) for image in photographs()) < 0.1


@pytest.mark.parametrize("quality", [30, 40, 50, 60])
def test_blocks_show_wherever_a_picture_was_cropped_and_saved(quality):
    for k, image in enumerate(photographs()):
        cropped = compressed(image, quality).crop((k, 2 * k + 1, image.width, image.height - k))
        assert suitable_model(np.asarray(cropped), None) == WEB
        assert suitable_model(np.asarray(compressed(compressed(image, quality), 96)), 96) == WEB


def test_contrast_falls_with_quality():
    for image in photographs():
        contrasts = [block_contrast(np.asarray(compressed(image, quality))) for quality in (30, 50, 70, 90)]
        assert contrasts == sorted(contrasts, reverse=True)


def test_the_table_of_a_jpeg_file_is_enough():
    flat = np.full((20, 20, 3), 9, np.uint8)
    assert suitable_model(flat, 85) == WEB
    assert suitable_model(flat, 86) == CLEAN


def test_every_depth_has_the_same_contrast():
    image = np.asarray(compressed(photographs()[0], 50))
    expected = block_contrast(image)
    assert expected > 0.3
    assert block_contrast(image.astype(np.uint16) * 257) == pytest.approx(expected, rel=1e-3)
    assert block_contrast(image.astype(np.float32) / 255) == pytest.approx(expected, rel=1e-3)
    assert block_contrast(image[..., 1]) == pytest.approx(block_contrast(np.repeat(image[..., 1:2], 3, 2)), rel=1e-3)


@pytest.mark.parametrize("kind", ["flat", "noise", "tiles", "pixel art", "bars", "tiny", "one row"])
def test_what_has_no_blocks_of_jpeg(kind):
    draw = np.random.default_rng(0)
    drawn = draw.integers(0, 256, (24, 32, 3), np.uint8)
    image = {
        "flat": np.full((200, 300, 3), 128, np.uint8),
        "noise": draw.integers(0, 256, (200, 300, 3), np.uint8),
        "tiles": np.kron(draw.integers(0, 256, (25, 25), np.uint8), np.ones((16, 16), np.uint8)),
        "pixel art": drawn.repeat(8, 0).repeat(8, 1),
        "bars": np.tile(np.repeat(np.array([0, 255], np.uint8), 8), (200, 20)),
        "tiny": draw.integers(0, 256, (8, 8, 3), np.uint8),
        "one row": draw.integers(0, 256, (1, 3000, 3), np.uint8),
    }[kind]
    assert suitable_model(image, None) == CLEAN
