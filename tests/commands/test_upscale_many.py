"""Folders of pictures on several devices, large pictures, and the progress of all."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from typer.testing import CliRunner

from aesop.cli import app
from aesop.commands import upscale_picture
from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_progress import UpscaleProgress
from aesop.commands.upscale_results import Result
from aesop.inference.upscaler import Upscaler
from aesop.weights.load import LoadedInfo


class Doubled(nn.Module):
    """Repeats pixels, and fails where a picture begins with the number 13."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(x, scale_factor=2, mode="nearest")
        return y * torch.nan if round(float(x[0, 0, 0, 0] * 255)) == 13 else y


def picture(side: int, first: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side + 3, 3), np.uint8)
    pixels[0, 0] = first
    return pixels


def doubled(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, 0).repeat(2, 1)


@pytest.fixture(autouse=True)
def _network(monkeypatch, tmp_path):
    def load(path: Path) -> tuple[nn.Module, LoadedInfo]:
        return Doubled(), LoadedInfo("RRDBNet", 2, {}, {})

    monkeypatch.setattr("aesop.weights.load.load_generator", load)
    monkeypatch.chdir(tmp_path)


def run(inputs: Path | str, output: Path | str, **options) -> list[Result]:
    options = {"device": "cpu", "console": Console(file=io.StringIO())} | options
    return list(upscale_files([Path(inputs)], Path(output), **options))


def files(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# --- many ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> dict[str, np.ndarray]:
    """`in` with nine pictures; the network fails for 3.png, and 5.png is damaged."""
    Path("in").mkdir()
    pictures = {f"{k}.png": picture(8 + k, 13 if k == 3 else 0) for k in range(9)}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(Path("in", name))
    Path("in/5.png").write_bytes(Path("in/5.png").read_bytes()[:100])
    return pictures


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu", "cpu,cpu,cpu"])
def test_errors_stay_with_their_pictures_and_results_come_in_order(folder, device):
    results = run("in", "out", device=device)
    assert [result.source.name for result in results] == list(folder)
    assert [result.source.name for result in results if result.error] == ["3.png", "5.png"]
    assert "NaN" in (results[3].error or "")
    for result in results:
        if not result.error:
            np.testing.assert_array_equal(np.asarray(Image.open(result.target)), doubled(folder[result.source.name]))
    assert files("out") == [f"{k}_x2.png" for k in range(9) if k not in (3, 5)]


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_an_error_of_writing_stays_with_its_picture(folder, monkeypatch, device):
    write = upscale_picture.write_picture

    def full_disk(path: Path, *args, **kwargs) -> list[str]:
        if path.name == "4_x2.png":
            raise OSError(28, "No space left on device")
        return write(path, *args, **kwargs)

    monkeypatch.setattr(upscale_picture, "write_picture", full_disk)
    results = run("in", "out", device=device)
    assert [result.source.name for result in results if result.error] == ["3.png", "4.png", "5.png"]


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_an_interrupt_leaves_nothing_half_written(folder, monkeypatch, device):
    upscale, begun = Upscaler.upscale_frame, []

    def interrupted(self, *args):
        begun.append(self)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return upscale(self, *args)

    monkeypatch.setattr(Upscaler, "upscale_frame", interrupted)
    stopped = CliRunner().invoke(app, ["upscale", "in", "-o", "out", "--device", device])
    assert stopped.exit_code == 130
    made = files("out")
    done = (
        f"{len(made)} of 9 images {'is' if len(made) == 1 else 'are'} done; to go on, repeat the command with --skip-exist"
    )
    assert f"interrupted: {done}" in stopped.stderr
    for name in made:
        np.testing.assert_array_equal(np.asarray(Image.open(Path("out", name))), doubled(folder[f"{name[0]}.png"]))


def test_a_file_that_another_program_has_made_stays(folder, monkeypatch):
    read = upscale_picture.PictureWork.read

    def later(self) -> None:
        if self.number == 2:
            self.target.write_text("notes")
        read(self)

    monkeypatch.setattr(upscale_picture.PictureWork, "read", later)
    results = run("in", "out")
    assert "exists" in (results[2].error or "")
    assert Path("out/2_x2.png").read_text() == "notes"


def test_wrong_devices_are_named(folder):
    with pytest.raises(ValueError, match="unknown device 'cpux'"):
        run("in", "out", device="cpu,cpux")


def test_the_option_tta(folder):
    done = CliRunner().invoke(app, ["upscale", "in/0.png", "-o", "out", "--tta", "--device", "cpu"])
    assert done.exit_code == 0
    np.testing.assert_array_equal(np.asarray(Image.open("out/0_x2.png")), doubled(folder["0.png"]))


# --- large -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_rows(monkeypatch) -> list[int]:
    """Every picture is large. The rows with which strips of them begin."""
    tops, upscale = [], Upscaler.upscale_by_rows

    def recorded(self, frame, on_rows, on_progress):
        def note(top, rows):
            tops.append(top)
            on_rows(top, rows)

        upscale(self, frame, note, on_progress)

    monkeypatch.setattr(upscale_picture, "LARGE", 10)
    monkeypatch.setattr(Upscaler, "upscale_by_rows", recorded)
    return tops


def stored(path: Path) -> np.ndarray:
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


@pytest.mark.parametrize("ext", ["png", "tif"])
@pytest.mark.parametrize("kind", ["colour", "gray", "deep gray", "deep", "float"])
def test_large_pictures_are_written_by_rows(by_rows, ext, kind):
    pixels = picture(90)
    if "deep" in kind:
        pixels = pixels.astype(np.uint16) * 257
    if "gray" in kind:
        pixels = pixels[..., 0].copy()
    if kind == "float":
        pixels = pixels.astype(np.float32) / 100 - 0.5  # beyond [0, 1]
    tifffile.imwrite("a.tif", pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    (result,) = run("a.tif", "out", ext=ext, tile=32)
    assert result.error is None
    assert by_rows[0] == 0
    assert len(by_rows) > 3
    expected = doubled(pixels)
    if ext == "png" and kind == "deep":  # Pillow reads it with 8 bits
        expected = expected // 257
    elif ext == "png" and kind == "float":
        expected = (expected.clip(0, 1) * 255).round()
    np.testing.assert_allclose(stored(result.target), expected, atol=(1 if ext == "png" else 2e-6) if kind == "float" else 0)


def test_large_pictures_of_other_kinds_are_computed_first(by_rows):
    clear = np.dstack([picture(40), np.full((40, 43), 200, np.uint8)])
    Image.fromarray(clear).save("clear.png")
    Image.fromarray(picture(40)).save("a.png")
    (result,) = run("clear.png", "out")
    np.testing.assert_array_equal(stored(result.target), doubled(clear))
    (result,) = run("a.png", "out", ext="bmp")
    np.testing.assert_array_equal(stored(result.target), doubled(picture(40)))
    assert by_rows == []


def test_the_need_of_memory_is_said_before_the_work(by_rows, monkeypatch):
    Image.fromarray(picture(40)).save("a.png")
    log = io.StringIO()
    (result,) = run("a.png", "out", ext="bmp", console=Console(file=log, width=200))
    assert result.error is None
    assert "a.png: 86 x 80 pixels need about" in log.getvalue()

    monkeypatch.setattr(upscale_picture, "available_memory", lambda: 20_000)
    monkeypatch.setattr(Upscaler, "upscale_frame", lambda *_: pytest.fail("computed"))
    (result,) = run("a.png", "out", ext="jpg")
    assert "a.png: 86 x 80 pixels need about 21 kB of memory as jpg, and 20 kB are free" in (result.error or "")
    assert "--ext png" in (result.error or "")
    assert run("a.png", "out", ext="tif")[0].error is None


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_large_pictures_take_their_turn(by_rows, folder, monkeypatch, device):
    monkeypatch.setattr(upscale_picture, "LARGE", 4 * 13 * 16)  # 6, 7, and 8 are larger
    results = run("in", "out", device=device)
    assert [result.source.name for result in results if result.error] == ["3.png", "5.png"]
    for number in (2, 7):
        np.testing.assert_array_equal(stored(results[number].target), doubled(folder[f"{number}.png"]))
    assert by_rows == [0, 0, 0]


def test_nothing_is_left_of_a_large_picture_that_fails(by_rows, monkeypatch):
    pixels = picture(90)
    pixels[48:, :, 0] = 13  # in tiles below the first
    Image.fromarray(pixels).save("a.png")
    (result,) = run("a.png", "out", tile=32, overlap=0)
    assert "NaN" in (result.error or "")
    assert by_rows
    assert files("out") == []

    monkeypatch.setattr("aesop.pictures.png_file._filtered", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    Image.fromarray(picture(90)).save("a.png")
    (result,) = run("a.png", "out", tile=32)
    assert "No space left" in (result.error or "")
    assert files("out") == []


def test_interrupting_a_large_picture_leaves_nothing(by_rows, monkeypatch):
    Image.fromarray(picture(90)).save("a.png")

    def interrupted(self, number: int, part: float) -> None:
        if part > 0.5:
            raise KeyboardInterrupt

    monkeypatch.setattr(UpscaleProgress, "update", interrupted)
    with pytest.raises(KeyboardInterrupt, match="0 of 1 image are done, and nothing was written"):
        run("a.png", "out", tile=32)
    assert by_rows
    assert files("out") == []


# --- progress --------------------------------------------------------------------------------------------------------


def lines_of(log: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]


def test_images_count_by_their_pixels():
    Path("in").mkdir()
    for name, side in (("1", 10), ("2", 30), ("3", 20)):
        Image.fromarray(picture(side)).save(f"in/{name}.png")
    Path("in/4.png").write_bytes(b"no picture: counts like the average")
    log = io.StringIO()
    run("in", "out", console=Console(file=log), progress="json")
    pixels = [10 * 13, 30 * 33, 20 * 23]
    total = sum(pixels) * 4 / 3
    begun = {}
    for line in lines_of(log):
        begun.setdefault(line["number"], line["percent"])
    assert begun[1] == 0
    for number in (2, 3):  # the one before is computed, and perhaps written
        before = sum(pixels[: number - 1])
        assert int(100 * (before - 0.01 * pixels[number - 2]) / total) <= begun[number] <= int(100 * before / total)
    percents = [line["percent"] for line in lines_of(log)]
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_time_left_does_not_count_on_what_is_skipped(monkeypatch):
    log, now = io.StringIO(), [0.0]
    monkeypatch.setattr("aesop.commands.upscale_progress.time.perf_counter", lambda: now[0])
    with UpscaleProgress(Console(file=log), 10, "json") as shown:
        for number in range(5):  # were there
            shown.begin(number, "a")
            shown.finish(number, worked=False)
        now[0] = 8.0
        shown.begin(5, "b")
        shown.update(5, 0.5)
        shown.finish(5)
    assert shown.succeeded == 6
    left = {line["percent"]: line["seconds_left"] for line in lines_of(log)}
    assert left[50] is None
    assert left[60] == 32.0  # four more, each of which takes 8 s


def test_progress_never_goes_back_when_tiles_shrink():
    log = io.StringIO()
    with UpscaleProgress(Console(file=log), 1, "plain") as shown:
        shown.begin(0, "a")
        for part in (0.5, 0.1, 0.6):
            shown.update(0, part)
    percents = [int(line.partition("%")[0]) for line in log.getvalue().splitlines()]
    assert percents == sorted(percents)
