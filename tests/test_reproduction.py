"""reproduction/: the photographs' script against packages made here, the experiment at toy size."""

import gzip
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aesop import Upscaler
from aesop.data.find_pairs import find_pairs
from aesop.data.training_crops import TrainingCrops
from aesop.images import pack
from aesop.images.listing import list_images
from aesop.images.write import write_image
from aesop.inference.shipped_models import shipped_model
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.options.read import load_train_config
from aesop.weights.load import load_generator

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduction"))

import photographs
import ship
import teacher_pairs
import web_pairs

REPO = Path(__file__).resolve().parents[1]
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020, The Package
License: GPL-2+

Files: nature/a.jpg
       nature/b.jpg
Copyright: 2008, Ann Author <ann@example.org>
           2009, Bob Author
License: CC-BY-SA-4.0
Comment: see AUTHORS

Files: debian/*
Copyright: 2021, A Packager
License: Expat

License: GPL-2+
 Files: nature/a.jpg are not meant by this text.
"""


# --- photographs ---------------------------------------------------------------------------------------------------------


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def install(root: Path, package: str, files: dict[str, np.ndarray], copyright: str = COPYRIGHT) -> None:
    """Lay a Debian package's files out below `root`."""
    documents = root / "usr/share/doc" / package
    documents.mkdir(parents=True)
    (documents / "copyright").write_text(copyright)
    with gzip.open(documents / "changelog.Debian.gz", "wt") as file:
        file.write(f"{package} (1.2-3) unstable; urgency=low\n")
    for name, image in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, image)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two packages with three photographs, and nothing from Python's."""
    monkeypatch.setattr(photographs, "DEBIAN", {"some-pictures": ("usr/share/backgrounds", "nature/", "a c")})
    monkeypatch.setattr(photographs, "KDE_NAMES", "Path")
    monkeypatch.setattr(photographs, "PYTHON", {})
    root = tmp_path / "root"
    install(root, "some-pictures", {f"usr/share/backgrounds/{name}.jpg": noise(500, 700) for name in "ac"})
    install(root, photographs.KDE, {"usr/share/wallpapers/Path/contents/images/2560x1600.jpg": noise(1000, 1600)})
    about = {"KPlugin": {"Authors": [{"Name": "Eve"}], "License": "LGPLv3"}}
    (root / "usr/share/wallpapers/Path/metadata.json").write_text(json.dumps(about))
    return root


def test_the_set_and_its_credits(root, tmp_path, capsys):
    photographs.build(tmp_path / "out", root)
    file = tmp_path / "out" / "photographs.pack"
    assert [image.read().shape[:2] for image in list_images(file)] == [
        (480, 696), (480, 672), (312, 456), (480, 696), (480, 672), (312, 456),
        (960, 1536), (624, 1008), (408, 672), (264, 456),
    ]  # fmt: skip
    credits = (tmp_path / "out" / "CREDITS.md").read_text()
    assert "| a.jpg | 2008, Ann Author; 2009, Bob Author | CC-BY-SA-4.0 | some-pictures 1.2-3 (Debian) |" in credits
    assert "| c.jpg | 2020, The Package | GPL-2+ | some-pictures 1.2-3 (Debian) |" in credits
    assert "| Path.jpg | Eve | LGPLv3; GPL-2+ | plasma-workspace-wallpapers 1.2-3 (Debian) |" in credits
    assert "10 images of 3 photographs" in capsys.readouterr().out


def test_more_photographs_and_those_held_out(root, tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "MORE", {"x.png": ("Una", "some wallpapers"), "y.png": ("Una", "some wallpapers")})
    monkeypatch.setattr(photographs, "HELD_OUT", ("c.jpg", "y.png"))
    with pytest.raises(photographs.Missing, match=r"x\.png"):
        photographs.build(tmp_path / "out", root, tmp_path)
    for name in ("x.png", "y.png"):
        write_image(tmp_path / name, noise(240, 400))
    photographs.build(tmp_path / "out", root, tmp_path)
    trained, held_out = ([(image.name, image.read().shape[:2]) for image in list_images(f)] for f in (
        tmp_path / "out" / "photographs.pack", tmp_path / "out" / "heldout.pack"))  # fmt: skip
    assert held_out == [("c_480.png", (336, 480)), ("y_384.png", (240, 384))]
    assert [name for name, _ in trained if name[0] in "acxy"] == ["a_696.png", "a_672.png", "a_456.png", "x_384.png"]
    credits = (tmp_path / "out" / "CREDITS.md").read_text()
    assert "| x.png | Una | CC0-1.0 | some wallpapers |" in credits
    assert "c.jpg" not in credits


def test_those_held_out_exist():
    names = [f"{name}.jpg" for *_, listed in photographs.DEBIAN.values() for name in listed.split()]
    names += [f"{name}.jpg" for name in photographs.KDE_NAMES.split()]
    names += [*photographs.MORE, *(file for chosen in photographs.PYTHON.values() for file in chosen)]
    assert len(photographs.MORE) == 22
    assert len(set(photographs.HELD_OUT)) == 10
    assert set(photographs.HELD_OUT) <= set(names)


def test_a_licence_that_became_another_leaves_the_picture_out(root, tmp_path, capsys):
    file = root / "usr/share/doc/some-pictures/copyright"
    file.write_text(file.read_text().replace("CC-BY-SA-4.0", "CC-BY-NC-4.0"))
    photographs.build(tmp_path / "out", root)
    assert "left out: a.jpg, whose licence is now 'CC-BY-NC-4.0'" in capsys.readouterr().out
    assert all(not image.name.startswith("a_") for image in list_images(tmp_path / "out" / "photographs.pack"))
    assert "a.jpg" not in (tmp_path / "out" / "CREDITS.md").read_text()


def test_what_is_missing_is_named_with_its_install_line(root, tmp_path):
    (root / "usr/share/backgrounds/c.jpg").unlink()
    with pytest.raises(photographs.Missing, match=r"c\.jpg.*some-pictures"):
        photographs.build(tmp_path / "out", root)
    (root / "usr/share/wallpapers/Path/metadata.json").write_text('{"KPlugin": {"License": "LGPLv3"}}')
    with pytest.raises(photographs.Missing, match=r"Path/metadata\.json does not state 'Authors'"):
        photographs.build(tmp_path / "out", root)
    (root / "usr/share/wallpapers/Path/metadata.json").unlink()
    with pytest.raises(photographs.Missing, match=r"Path/metadata\.json.*install plasma-workspace-wallpapers again"):
        photographs.build(tmp_path / "out", root)
    with pytest.raises(photographs.Missing, match=r"apt-get install some-pictures plasma-workspace-wallpapers"):
        photographs.build(tmp_path / "out", tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_documents_that_are_not_installed_leave_the_version_out(root):
    (root / "usr/share/doc/some-pictures/changelog.Debian.gz").unlink()
    assert next(photographs.debian(root)).package == "some-pictures (unknown version) (Debian)"


def test_a_missing_python_package_is_named(monkeypatch):
    monkeypatch.setattr(photographs, "PYTHON", {("no-such-package-of-pictures", "none", "data"): {}})
    with pytest.raises(photographs.Missing, match="pip install no-such-package-of-pictures"):
        list(photographs.python())


def test_the_committed_credits_name_every_photograph():
    credits = (REPO / "src/aesop/assets/models/CREDITS.md").read_text(encoding="utf-8")
    names = [name for *_, listed in photographs.DEBIAN.values() for name in listed.split()] + photographs.KDE_NAMES.split()
    for file in [f"{name}.jpg" for name in names] + [file for chosen in photographs.PYTHON.values() for file in chosen]:
        assert f"| {file} |" in credits
    held_out = (REPO / "src/aesop/assets/photos/CREDITS.md").read_text(encoding="utf-8").partition("## heldout")[2]
    for file in [f"{name}.jpg" for name in names] + [file for chosen in photographs.PYTHON.values() for file in chosen]:
        assert file not in held_out


# --- pairs degraded beforehand --------------------------------------------------------------------------------------------


def smooth(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (height // 24, width // 24, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_pairs_degraded_beforehand_are_found_by_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr(web_pairs, "VARIANTS", 4)
    pack.write(tmp_path / "photographs.pack", [("a.png", smooth(96, 144)), ("b.png", smooth(72, 72))])
    pack.write(tmp_path / "heldout.pack", [("c_120.png", smooth(96, 120)), ("d_96.png", smooth(72, 96))])
    for _ in range(2):  # the second time over the first
        web_pairs.build(tmp_path)
    roots = {part: [str(tmp_path / f"{part[-2:]}_0{k}.pack") for k in range(4)] for part in ("hr", "lr")}
    crops = TrainingCrops(TrainDataset(dataroot_gt=roots["hr"], dataroot_lq=roots["lr"], gt_size=48), 4, seed=0)
    assert len(crops.pairs) == 8
    for k in range(8):
        lq, gt = (crops[k][part].float() for part in ("lq", "gt"))
        assert (lq - torch.nn.functional.avg_pool2d(gt, 4)).abs().mean() < 12  # grey levels: the same place
    assert (tmp_path / "hr_03.pack").stat().st_ino == (tmp_path / "photographs.pack").stat().st_ino
    held_out = PairedDataset(dataroot_gt=f"{tmp_path}/heldout_hr.pack", dataroot_lq=f"{tmp_path}/heldout_lr.pack")
    names = [pair.name for pair in find_pairs(held_out, "val")]
    assert names == ["c_120_bicubic_png", "c_120_area_jpeg60", "d_96_bicubic_jpeg40", "d_96_area_jpeg80"]


def test_degradations_follow_from_the_seed_and_are_as_many_jpegs_as_said(monkeypatch):
    qualities = []
    plain = web_pairs.jpeg
    monkeypatch.setattr(
        web_pairs, "jpeg", lambda image, quality, way: qualities.append(quality) or plain(image, quality, way)
    )
    for jpegs in (0, 1, 2):
        for seed in range(30):
            qualities.clear()
            first, second = (web_pairs.degraded(smooth(96, 144), jpegs, np.random.default_rng(seed)) for _ in range(2))
            assert np.array_equal(first, second)
            assert first.shape == (24, 36, 3)
            assert len(qualities) == 2 * jpegs
            assert all(40 <= quality <= 95 for quality in qualities)


def test_an_area_reduction_is_the_mean_of_its_pixels():
    hr = smooth(96, 144)
    mean = hr.reshape(24, 4, 36, 4, 3).mean(axis=(1, 3))
    assert np.abs(web_pairs.reduced(hr, 24, 36, "area") - mean).max() <= 1


def test_a_large_networks_images_get_the_names_of_their_lr_images(tmp_path):
    lr = [("a.png", smooth(24, 48)), ("b.png", smooth(48, 24))]
    pack.write(tmp_path / "lr_02.pack", lr)
    teacher_pairs.build(tmp_path, shipped_model(), [2])
    upscale = Upscaler(shipped_model())
    made = {image.name: image.read_uint8() for image in list_images(tmp_path / "sr_02.pack")}
    assert list(made) == ["a.png", "b.png"]
    for name, image in lr:
        np.testing.assert_array_equal(made[name], upscale(image))


@pytest.mark.parametrize("name", ["faithful", "web_student", "web_faithful"])
def test_recipes_of_one_stage_are_valid(name):
    config, _ = load_train_config(REPO / "reproduction" / f"{name}.yml")
    assert config.train.scheduler.periods == [config.train.total_iter]
    assert config.network_g.num_grow_ch == load_generator(shipped_model())[1].options["num_grow_ch"]


# --- shipping ------------------------------------------------------------------------------------------------------------


def test_shipping_refuses_what_no_training_wrote(tmp_path):
    with pytest.raises(ValueError, match="does not come from a training of a generator"):
        ship.ship(shipped_model(), tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
