"""Folders of odd names, links, archives and pipes; results never replace inputs unasked."""

import os
import unicodedata
from pathlib import Path

import mutations
import numpy as np
import pytest
from typer.testing import CliRunner

from aesop.cli import app
from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_plan import Found, find_images, plan_targets
from aesop.commands.upscale_results import Result
from aesop.data.find_pairs import find_pairs
from aesop.images.listing import list_images
from aesop.images.read import ImageFile
from aesop.options.datasets import PairedDataset

PIXELS = mutations.image_bases()["rgb.png"]
ODD_NAMES = (
    "two words.png",
    " leading.png",
    "-o.png",
    "--overwrite.png",
    "größe-图像-😀.png",
    unicodedata.normalize("NFD", "é.png"),
    unicodedata.normalize("NFC", "è.png"),
    "\u202egnp.png",
    "line\nbreak.png",
    "[a-z]*?.png",
    "{}.png",
    "%s%n.png",
    "a'b\"c`d$e;f&g|h.png",
    "[bold]x[-].png",
    "dots...png",
    "UPPER.PNG",
    "x" * 240 + ".png",
)


@pytest.fixture
def net(tmp_path) -> Path:
    (tmp_path / "net.safetensors").write_bytes(mutations.weight_bases()["described.safetensors"])
    return tmp_path / "net.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def image(path: Path) -> Path:
    path.write_bytes(PIXELS)
    return path


def upscale(net: Path, inputs: list[Path], output: Path, **options: object) -> list[Result]:
    return [*upscale_files(inputs, output, net, device="cpu", **options)]  # ty: ignore[invalid-argument-type]


def command(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["upscale", "--device", "cpu", *map(str, words)])
    assert isinstance(result.exception, SystemExit | None)
    return result.exit_code, result.output


def test_odd_names_in_a_folder(net, folder, tmp_path):
    for name in ODD_NAMES:
        image(folder / name)
    results = upscale(net, [folder], tmp_path / "out")
    assert [result.error for result in results] == [None] * len(ODD_NAMES)
    assert len(list((tmp_path / "out").iterdir())) == len(ODD_NAMES)
    pairs = find_pairs(PairedDataset(dataroot_gt=str(folder)), "val")
    assert sorted(pair.gt.name for pair in pairs) == sorted(ODD_NAMES)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_on_the_command_line(net, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    image(Path(name))
    code, text = command("-m", net, "-o", "out", "--suffix", "", "--", name)
    assert code == 0
    assert "upscaled 1 of 1 image: out" in text
    assert ImageFile.at(Path("out", name)).read().shape == (148, 96, 3)


def test_a_name_without_room_for_the_suffix(net, tmp_path):
    file = image(tmp_path / ("x" * 251 + ".png"))
    result = upscale(net, [file], tmp_path / "out")[0]
    assert "the name has 258 bytes, and the file system allows 255" in str(result.error)
    assert upscale(net, [file], tmp_path / "out", suffix="")[0].error is None


def test_what_is_no_image_is_left_out(folder, tmp_path):
    image(folder / "good.png")
    for name in ("x.zip", "x.tar", "x.png.zip", ".hidden.png", "Thumbs.db"):
        (folder / name).write_bytes(b"PK\3\4")
    (folder / "folder.png").mkdir()
    (folder / ".hidden").mkdir()
    image(folder / ".hidden" / "x.png")
    image(tmp_path / "outside.png")
    (folder / "linked.png").symlink_to(tmp_path / "outside.png")
    (folder / "dangling.png").symlink_to(tmp_path / "nothing.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    assert [image.name for image in list_images(folder)] == ["good.png", "linked.png"]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "loop.png", "dangling.png", "pipe.png", "folder.png"])
def test_what_is_no_image_is_named_when_given(net, tmp_path, name):
    file = tmp_path / name
    if name.startswith("x"):
        file.write_bytes(b"PK\3\4")
    elif name == "pipe.png":
        os.mkfifo(file)
    elif name == "folder.png":
        file.mkdir()
    else:
        file.symlink_to(file if name == "loop.png" else tmp_path / "nothing")
    code, text = command(file, "-m", net, "-o", tmp_path / "out")
    assert code == 1
    assert name in text
    assert "Traceback" not in text


def test_a_folder_of_links_to_itself_has_an_end(folder):
    image(folder / "a.png")
    (folder / "self").symlink_to(folder, target_is_directory=True)
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    assert len(list_images(folder)) == 1


@pytest.mark.parametrize("form", ["same", "dotted", "up and down", "link", "linked folder", "relative"])
def test_an_input_is_not_replaced_unasked(net, folder, tmp_path, monkeypatch, form):
    source = image(folder / "a.png")
    target = source
    if form == "dotted":
        target = folder / "." / "a.png"
    elif form == "up and down":
        target = folder / ".." / "images" / "a.png"
    elif form == "link":
        target = tmp_path / "link.png"
        target.symlink_to(source)
    elif form == "linked folder":
        (tmp_path / "other").symlink_to(folder, target_is_directory=True)
        target = tmp_path / "other" / "a.png"
    elif form == "relative":
        monkeypatch.chdir(folder)
        target = Path("a.png")
    with pytest.raises(ValueError, match=r"(is the input itself|link\.png exists)(.|\n)*--overwrite"):
        upscale(net, [source], target)
    assert source.read_bytes() == PIXELS
    assert upscale(net, [source], target, overwrite=True)[0].error is None
    assert ImageFile.at(target).read().shape == (148, 96, 3)


def test_an_input_is_not_replaced_through_a_hard_link(net, folder, tmp_path):
    source, target = image(folder / "a.png"), tmp_path / "hard.png"
    os.link(source, target)
    with pytest.raises(ValueError, match="--overwrite"):
        upscale(net, [source], target)
    assert upscale(net, [source], target, overwrite=True)[0].error is None
    assert source.read_bytes() == PIXELS  # the name gets another file, what both were stays


def test_another_input_is_not_replaced_even_when_asked(net, folder, tmp_path):
    one, other = image(folder / "a.png"), image(folder / "a_x4.png")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    for output in (folder, tmp_path / "link", folder / ".." / "images"):
        with pytest.raises(ValueError, match="another input"):
            upscale(net, [one, other], output, overwrite=True)
    assert one.read_bytes() == other.read_bytes() == PIXELS


def test_upper_and_lower_case_are_one_file_where_the_system_says_so(folder, monkeypatch):
    monkeypatch.setattr(os.path, "normcase", lambda path: os.fspath(path).lower())
    for name in ("b.png", "B_X4.png"):
        image(folder / name)
    found = [Found(folder, "b.png"), Found(folder, "B_X4.png")]
    with pytest.raises(ValueError, match="another input"):
        plan_targets(found, [folder], folder, None, "_x4", overwrite=True)
    plan = plan_targets([Found(folder, "x.png"), Found(folder, "X.png")], [], folder / "out", None, "", overwrite=True)
    assert [plan.target(number).name for number in (0, 1)] == ["x.png", "X_png.png"]


def test_an_output_that_is_a_link_to_itself(net, folder, tmp_path):
    image(folder / "a.png")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert find_images([folder], loop)
    code, text = command(folder, "-m", net, "-o", loop)
    assert code == 1
    assert "loop" in text
    assert "Traceback" not in text


def test_a_dangling_link_as_target_makes_nothing_elsewhere(net, folder, tmp_path):
    source, outside = image(folder / "a.png"), tmp_path / "outside.png"
    (tmp_path / "out.png").symlink_to(outside)
    with pytest.raises(ValueError, match=r"out\.png exists"):
        upscale(net, [source], tmp_path / "out.png")
    assert upscale(net, [source], tmp_path / "out.png", overwrite=True)[0].error is None
    assert not outside.exists()
    np.testing.assert_array_equal(ImageFile.at(tmp_path / "out.png").read().shape, (148, 96, 3))
