"""Writing image files: round trips, and what is refused."""

import os

import numpy as np
import pytest
from PIL import Image

from aesop.images.listing import IMAGE_EXTENSIONS
from aesop.images.read import ImageFile
from aesop.images.write import write_image

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (24, 37, 3), dtype=np.uint8)
# Smooth, so that lossy formats stay close; every orientation of it looks different.
SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 252, 4), 90), -1).astype(np.uint8)


@pytest.mark.parametrize("extension", IMAGE_EXTENSIONS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_written_files_as_pillow_and_we_read_them(tmp_path, extension, channels, deep):
    # WebP does not keep the colour of pixels that cannot be seen at all.
    smooth = np.dstack([SMOOTH, np.maximum(SMOOTH[..., 1], 1)])
    image = smooth[..., 0] if channels == 1 else smooth[..., :channels]
    path = tmp_path / "new folder" / f"image{extension.upper()}"
    write_image(path, image.astype(np.uint16) * 257 if deep else image)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    read, alpha = ImageFile.at(path).read_with_alpha()
    assert read.dtype == (np.uint16 if deep and extension in (".png", ".tif", ".tiff") else np.uint8)
    expected = np.atleast_3d(image)[..., :3].astype(int) * np.ones(3, int) * (257 if read.dtype == np.uint16 else 1)
    tolerance = 6 if extension in (".jpg", ".jpeg", ".webp") else 0
    assert np.abs(read - expected).max() <= tolerance
    keeps_alpha = channels == 4 and extension in (".png", ".tif", ".tiff", ".webp")
    assert (alpha is not None) == keeps_alpha
    if keeps_alpha:
        np.testing.assert_array_equal(alpha // (257 if alpha.dtype == np.uint16 else 1), smooth[..., 3])

    with Image.open(path) as opened:
        assert opened.format == {"TIF": "TIFF", "JPG": "JPEG"}.get(extension[1:].upper(), extension[1:].upper())
        if not deep:
            assert np.abs(np.asarray(opened.convert("RGB")).astype(int) - expected).max() <= tolerance


def test_writing_errors_leave_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    write_image(path, RGB)
    former = path.read_bytes()
    with pytest.raises(ValueError, match=r"cannot write \.xyz; use \.png \.jpg"):
        write_image(tmp_path / "image.xyz", RGB)
    with pytest.raises(ValueError, match="without an extension"):
        write_image(tmp_path / "image", RGB)
    with pytest.raises(ValueError, match="not float32"):
        write_image(path, RGB.astype(np.float32))
    with pytest.raises(ValueError, match=r"found \(24, 37, 2\)"):
        write_image(path, RGB[..., :2])
    with pytest.raises(ValueError, match=r"wide\.webp"):
        write_image(tmp_path / "wide.webp", np.zeros((2, 17_000, 3), np.uint8))

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_image(path, 255 - RGB)
    assert path.read_bytes() == former
    assert os.listdir(tmp_path) == ["image.png"]
