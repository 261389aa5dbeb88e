"""Hostile images: an array or an ImageError that names the file, whatever the bytes; bombs are refused by their size."""

import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import cv2
import mutations
import pytest
import sandbox

from aesop.commands.upscale import upscale_files
from aesop.data.find_pairs import Pair
from aesop.images.errors import ImageError
from aesop.images.listing import list_images
from aesop.images.read import ImageFile

COUNT = int(os.environ.get("AESOP_HOSTILE_IMAGES", "150"))
SEED = int(os.environ.get("AESOP_HOSTILE_SEED", "0"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux does")
def test_mutated_images():
    report = sandbox.run("image", SEED, COUNT)
    assert report.failures == []
    assert report.total["refused"] > COUNT / 4
    assert report.total["accepted"] > COUNT / 10


def test_the_files_that_are_mutated_are_good_ones(tmp_path):
    for name, data in mutations.image_bases().items():
        (tmp_path / name).write_bytes(data)
        size = ImageFile.at(tmp_path / name).size()
        assert size in ((24, 37), (37, 24))
        assert ImageFile.at(tmp_path / name).read_with_alpha()[0].shape == (*size[::-1], 3)


def jpeg_of_size(width: int, height: int) -> bytes:
    data = mutations.image_bases()["gray.jpg"]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def tiff_of_size(width: int, height: int) -> bytes:
    data = bytearray(mutations.image_bases()["deflate.tif"])
    start = struct.unpack_from("<I", data, 4)[0]
    for k in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * k
        side = {256: width, 257: height, 278: height}.get(struct.unpack_from("<H", data, at)[0])
        if side:
            struct.pack_into("<HHII", data, at, struct.unpack_from("<H", data, at)[0], 4, 1, side)
    return bytes(data)


def bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(mutations.image_bases()["rgb.bmp"])
    struct.pack_into("<ii", data, 18, width, height)
    return bytes(data)


def compressed_zeros(count: int) -> bytes:
    packer = zlib.compressobj(1)
    part = bytes(1 << 20)
    return b"".join(
        [*(packer.compress(part) for _ in range(count >> 20)), packer.compress(bytes(count % (1 << 20))), packer.flush()]
    )


BOMBS = {
    "header.png": lambda: mutations.png_file(60_000, 60_000, zlib.compress(b"tiny")),
    "largest.png": lambda: mutations.png_file(2**31 - 1, 2**31 - 1, zlib.compress(b"tiny")),
    "real.png": lambda: mutations.png_file(30_000, 30_000, compressed_zeros(30_000 * 3751), bits=1),
    "interlaced.png": lambda: mutations.png_file(60_000, 60_000, zlib.compress(b"tiny"), interlaced=1),
    "frame.jpg": lambda: jpeg_of_size(65_500, 65_500),
    "strips.tif": lambda: tiff_of_size(2**31 - 1, 2**31 - 1),
    "wide.tif": lambda: tiff_of_size(2**31 - 1, 1),
    "large.bmp": lambda: bmp_of_size(60_000, 60_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_size(tmp_path, monkeypatch, name):
    file = tmp_path / name
    file.write_bytes(BOMBS[name]())
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(ImageError, match=rf"{name} has .* pixels, more than the limit of 200 megapixels: cut it"):
        ImageFile.at(file).read()
    with pytest.raises(ImageError, match="limit of 200 megapixels"):
        Pair(ImageFile.at(file), None, name).read(4)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()
    assert time.perf_counter() - begun < 5


def test_upscaling_goes_on_behind_a_bomb(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(BOMBS["header.png"]())
    (folder / "b.png").write_bytes(mutations.image_bases()["rgb.png"])
    (tmp_path / "net.safetensors").write_bytes(mutations.weight_bases()["described.safetensors"])
    bomb, good = upscale_files([folder], tmp_path / "out", tmp_path / "net.safetensors", device="cpu")
    assert "limit of 200 megapixels" in str(bomb.error)
    assert good.error is None


def test_a_bomb_within_the_limit_of_pixels(tmp_path):
    """Pixels behind the size that the header says are not unpacked."""
    file = tmp_path / "behind.png"
    file.write_bytes(mutations.png_file(8, 8, compressed_zeros(300 << 20)))
    begun = time.perf_counter()
    assert ImageFile.at(file).read().shape == (8, 8, 3)
    assert time.perf_counter() - begun < 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        for read in (ImageFile.read, ImageFile.size):
            with pytest.raises(ImageError, match=f"{name} is a folder, a pipe or a device"):
                read(ImageFile.at(tmp_path / name))
    with pytest.raises(ImageError, match="no image in"):
        list_images(tmp_path)
    (tmp_path / "real.png").write_bytes(mutations.image_bases()["rgb.png"])
    assert [path.name for path in list_images(tmp_path)] == ["real.png"]
