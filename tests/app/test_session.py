"""What a visitor of the page may drop, and what becomes of the files; without a browser."""

import re
import struct
import zlib
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from aesop.app import session
from aesop.app.session import Cancelled, Session, Sessions, Wish
from aesop.cli import app
from aesop.inference.final_size import FinalSize
from aesop.inference.hallucination import read_map
from aesop.inference.shipped_models import shipped_model
from aesop.pictures.preview import LONGEST_SIDE, write_preview
from aesop.weights.load import load_network
from aesop.weights.save import save_weights

_CHUNKS = ((b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000))))
BOMB = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in _CHUNKS
)


def ignore(part: float) -> None:
    pass


def picture(path: Path, width: int = 24, height: int = 16) -> Path:
    """A picture with a resolution and Exif."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, dpi=(300, 300), exif=exif)
    return path


@pytest.fixture
def visitor(tmp_path):
    folder = tmp_path / "visitor"
    folder.mkdir()
    return Session(folder)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("notes.png", b"a list of things\n", "notes.png is no picture, but text: see what it says"),
        ("bomb.png", BOMB, "image bomb.png has 50000 x 50000 pixels.*200 megapixels"),
        ("empty.jpg", b"", "image empty.jpg is empty"),
        ("clip.mp4", b"\0\0\0\x18ftypmp42", "clip.mp4: a video"),
        ("letter.txt", b"Dear", "letter.txt"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_in_one_line_and_not_kept(tmp_path, visitor, name, content, line):
    dropped = tmp_path / name
    dropped.write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
        visitor.add(dropped)
    shown = visitor.line(caught.value)
    assert re.search(line, shown)
    assert str(tmp_path) not in shown
    assert "\n" not in shown
    assert not visitor.pictures
    assert not [path for path in visitor.folder.rglob("*") if path.is_file()]


def test_pictures_and_results_may_only_have_so_many_pixels(tmp_path, visitor, monkeypatch):
    monkeypatch.setattr(session, "MAX_MEGAPIXELS", 0.001)
    monkeypatch.setattr(session, "MAX_RESULT_MEGAPIXELS", 1)
    visitor.add(picture(tmp_path / "small.png"))
    with pytest.raises(ValueError, match="this page takes"):
        visitor.add(picture(tmp_path / "large.png", 40, 40))
    with pytest.raises(ValueError, match=r"small\.png would have 2 megapixels"):
        visitor.upscale(Wish(None, FinalSize(longest=1_536)), ignore)
    assert not visitor.results


def test_results_are_byte_for_byte_those_of_the_command_line(tmp_path, visitor):
    dropped = [picture(tmp_path / "cat.png"), picture(tmp_path / "dog.jpg", 16, 24)]
    for path in dropped:
        visitor.add(path)
    parts: list[float] = []
    visitor.upscale(Wish(None, FinalSize(scale=2)), parts.append)
    asked = ["upscale", *map(str, dropped), "--scale", "2", "-o", str(tmp_path / "command")]
    assert CliRunner().invoke(app, asked).exit_code == 0
    made = {result.target.name: result.target.read_bytes() for result in visitor.results}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "command").iterdir()}
    assert [*made] == ["cat_x2.png", "dog_x2.jpg"]
    assert Image.open(visitor.results[0].target).info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert parts == sorted(parts)
    assert parts[-1] == 1


def test_texture_and_map_are_those_of_the_command_line(tmp_path, visitor):
    faithful = tmp_path / "faithful.safetensors"
    net, info = load_network(shipped_model())
    with torch.no_grad():
        for weight in net.parameters():
            weight *= 0.97
    save_weights(faithful, net.state_dict(), dict(info.metadata))
    visitor.add(picture(tmp_path / "cat.png"))
    visitor.upscale(Wish(shipped_model(), FinalSize(scale=4), 0.3, faithful), ignore)
    asked = ["-m", "clean", "--texture", "0.3", "--faithful-model", str(faithful), "--hallucination-map"]
    asked += ["-o", str(tmp_path / "command")]
    assert CliRunner().invoke(app, ["upscale", str(tmp_path / "cat.png"), *asked]).exit_code == 0
    target = visitor.results[0].target
    for file in (target, visitor.results[0].map):
        assert file.read_bytes() == (tmp_path / "command" / file.name).read_bytes()
    visitor.upscale(Wish(None, FinalSize(scale=4)), ignore)
    assert visitor.results[0].target.read_bytes() != (tmp_path / "command" / target.name).read_bytes()


def test_the_map_over_a_result_is_bright_where_the_map_is(tmp_path, visitor):
    image = np.full((48, 64, 3), 128, np.uint8)
    image[:, 32:] = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "half.png")
    visitor.add(tmp_path / "half.png")
    visitor.upscale(Wish(None, FinalSize(scale=4)), ignore)
    over = np.asarray(Image.open(visitor.previews(0)[2]).convert("L")).astype(float)
    levels, _ = read_map(visitor.results[0].map)
    assert levels[:, 144:].mean() > 2 * levels[:, :112].mean()
    assert over[:, 144:].mean() > over[:, :112].mean() + 20


def test_a_damaged_picture_fails_alone(tmp_path, visitor):
    whole, damaged = picture(tmp_path / "whole.png"), picture(tmp_path / "damaged.png", 64, 64)
    damaged.write_bytes(damaged.read_bytes()[:3000])
    for path in (damaged, whole):
        visitor.add(path)
    visitor.upscale(Wish(None, FinalSize(scale=2)), ignore)
    assert [bool(result.error) for result in visitor.results] == [True, False]
    assert visitor.line(visitor.results[0].error).startswith("image damaged.png")


def test_two_pictures_of_one_name_get_two_results(tmp_path, visitor):
    visitor.add(picture(tmp_path / "a" / "cat.png"))
    visitor.add(picture(tmp_path / "b" / "cat.png", 16, 16))
    visitor.upscale(Wish(None, FinalSize(scale=2)), ignore)
    sizes = {result.target.name: Image.open(result.target).size for result in visitor.results}
    assert sizes == {"cat_x2.png": (48, 32), "cat 2_x2.png": (32, 32)}


def test_what_was_cleared_can_be_dropped_again_and_earlier_results_stay_to_be_looked_at(tmp_path, visitor):
    visitor.add(picture(tmp_path / "cat.png"))
    visitor.upscale(Wish(None, FinalSize(scale=2)), ignore)
    visitor.clear()
    assert [Image.open(path).size for path in visitor.previews(0)] == [(24, 16), (48, 32), (48, 32)]
    visitor.add(tmp_path / "cat.png")
    visitor.upscale(Wish(None, FinalSize(scale=3)), ignore)
    kept = sorted(path.name for path in visitor.folder.rglob("*.png"))
    assert kept == ["cat.png", "cat_x3.png", "cat_x3_map.png"]


def test_without_pictures_there_is_nothing_to_upscale(visitor):
    with pytest.raises(ValueError, match="drop some first"):
        visitor.upscale(Wish(None, FinalSize(scale=2)), ignore)


def test_work_ends_at_a_cancel_and_can_begin_again(tmp_path, visitor):
    visitor.add(picture(tmp_path / "cat.png"))

    def cancel_from_another_thread(part: float) -> None:
        thread = Thread(target=visitor.cancel, daemon=True)
        thread.start()
        visitor._stop.wait(10)

    with pytest.raises(Cancelled):
        visitor.upscale(Wish(None, FinalSize(scale=2)), cancel_from_another_thread)
    assert not visitor.results
    visitor.upscale(Wish(None, FinalSize(scale=2)), ignore)
    assert len(visitor.results) == 1


def test_sessions_share_no_files_and_leave_none(tmp_path):
    sessions = Sessions(tmp_path)
    first, second = sessions.of("first"), sessions.of("second")
    assert sessions.of("first") is first
    first.add(picture(tmp_path / "in" / "cat.png"))
    assert not second.pictures
    assert first.folder != second.folder
    sessions.close("first")
    assert not first.folder.exists()
    assert second.folder.exists()
    sessions.close_all()
    assert not second.folder.exists()


@pytest.mark.parametrize("suffix", [".tif", ".gif"])
def test_browsers_can_show_a_preview_of_what_they_cannot_show_themselves(tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    frames = [Image.new("RGB", (60, 30), colour) for colour in ("red", "blue")]
    frames[0].save(source, save_all=True, append_images=frames[1:])
    write_preview(source, tmp_path / "preview.png")
    made = Image.open(tmp_path / "preview.png")
    assert (made.format, made.size, made.convert("RGB").getpixel((5, 5))) == ("PNG", (60, 30), (255, 0, 0))


def test_a_preview_is_no_larger_than_a_screen(tmp_path):
    Image.new("L", (3 * LONGEST_SIDE, 30), 100).save(tmp_path / "wide.png")
    write_preview(tmp_path / "wide.png", tmp_path / "preview.png")
    made = Image.open(tmp_path / "preview.png")
    assert (made.size, made.mode, made.getextrema()) == ((LONGEST_SIDE, 10), "L", (100, 100))
