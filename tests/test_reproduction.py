"""reproduction/: the photographs' script against packages made here, the experiment at toy size."""

import gzip
import json
import os
import signal
import subprocess
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
from aesop.images.read import ImageFile
from aesop.images.write import write_image
from aesop.inference.shipped_models import shipped_model
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.options.pipeline import plan
from aesop.options.read import load_train_config
from aesop.weights.load import load_generator
from aesop.weights.read import read_state_dict
from aesop.weights.save import save_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduction"))

import photographs
import ship
import teacher_pairs
import web_pairs

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("AESOP_SHARED", "../shared"))
TOY = [
    "device=cpu",
    "precision=fp32",
    "network_g.num_block=1",
    "datasets.train.gt_size=48",
    "datasets.train.batch_size_per_gpu=2",
    "stages.adversarial.network_d.num_feat=4",
    *(f"stages.{stage}.train.total_iter=4" for stage in ("psnr", "autoencoder", "adversarial")),
]

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


# --- the experiment ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run():
    pytest.importorskip("matplotlib", reason='the experiment draws with it: pip install "aesop-sr[reproduction]"')
    import run

    return run


def test_the_variants_differ_in_what_their_names_say(run):
    def losses(name: str) -> dict:
        dump = plan(run.FILE, run.VARIANTS[name][1])["adversarial"].model_dump(mode="json")
        others.append({key: value for key, value in dump.items() if key != "train"})
        return dump["train"]

    others: list[dict] = []
    found = {name: losses(name) for name in run.VARIANTS}
    assert all(rest == others[0] for rest in others)
    assert {name: (train["pixel_opt"] or {}).get("type") for name, train in found.items() if "no_artifact" not in name} == {
        "pixel": "L1Loss", "pixel_0.01": "L1Loss", "lr_pixel": "LRL1Loss", "aesop": None
    }  # fmt: skip
    assert found["pixel_0.01"]["pixel_opt"]["loss_weight"] == 0.01
    for name, train in found.items():
        assert (train["artifacts_opt"] is None) == name.endswith("_no_artifact")
        assert (train["aesop_opt"] is not None) == name.startswith("aesop")
    rests = [
        {key: train[key] for key in train.keys() - {"pixel_opt", "aesop_opt", "artifacts_opt"}} for train in found.values()
    ]
    assert all(rest == rests[0] for rest in rests)


def test_a_missing_test_set_is_named(run, tmp_path):
    with pytest.raises(ValueError, match=r"Set5 does not exist; .* must hold Set5, Set14, BSDS_test50"):
        run.experiment(tmp_path, ["aesop"], 1, [], TOY)


def test_folders_that_could_be_mistaken_for_hr_images_are_refused(run, tmp_path):
    write_image(tmp_path / "Set5" / "a.png", noise(8, 8))
    write_image(tmp_path / "Set5" / "LRx2" / "a.png", noise(4, 4))
    with pytest.raises(ValueError, match=r"Set5 contains LRx2 but no HR folder: move the HR images to .*Set5/HR"):
        run.experiment(tmp_path, ["aesop"], 1, [], TOY)


def test_options_that_the_experiment_cannot_have(run, tmp_path):
    with pytest.raises(ValueError, match="--seeds 0: must be at least 1"):
        run.experiment(tmp_path, ["aesop"], 0, [], TOY)
    with pytest.raises(ValueError, match=r"stages\.adversarial\.weights: .*remove this option"):
        run.experiment(tmp_path, ["aesop"], 1, [], [*TOY, f"stages.adversarial.weights={shipped_model()}"])


def test_what_is_missing_is_named_before_anything_is_trained(run, tmp_path, monkeypatch):
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in run.SETS:
        (tmp_path / name).mkdir()
    options = [*TOY, f"path.experiments_root={tmp_path}/runs", f"datasets.train.dataroot_gt={tmp_path}/p.pack"]
    with pytest.raises(ValueError, match=r"the experiment cannot run:(.|\n)*p\.pack(.|\n)*vgg16(.|\n)*val\.metrics\.lpips"):
        run.experiment(tmp_path, ["aesop"], 1, [], options)
    with pytest.raises(ValueError, match=r"--compare .*aesop_compact_x4\.safetensors: x4 model, expected x2"):
        run.experiment(tmp_path, ["aesop"], 1, [shipped_model()], [*options, "scale=2"])
    assert not (tmp_path / "runs").exists()


def test_psnr_at_equal_lpips(run):
    """Straight lines, of which the closed form is known; one run turns back on its way."""

    def row(method: str, points: list[tuple[float, float]]) -> object:
        figures = {"Set14": {"psnr": 30.0, "lpips": 0.4}}
        return run.Row(method, figures, 0, [{"iter": i, "psnr": p, "lpips": q} for i, (p, q) in enumerate(points)] or None)

    rows = [row("PSNR net", []), row("a", [(29, 0.2)]), row("a", [(28, 0.2)]), row("b", [(29, 0.35), (25, 0.38), (26, 0.1)])]
    assert run.at_equal_lpips(rows).splitlines() == [
        "| Set14: PSNR at LPIPS | 0.350 | 0.300 | 0.250 | 0.200 |",
        "| --- | --- | --- | --- | --- |",
        "| a | 29.62 ± 0.18 | 29.25 ± 0.35 | 28.88 ± 0.53 | 28.50 ± 0.71 |",
        "| b | 29.00 | 25.29 | 25.46 | 25.64 |",
    ]
    worse = row("worse", [(29, 0.5)])
    assert run.at_equal_lpips([*rows, worse, worse]).splitlines()[-1] == "| worse | nan | nan | nan | nan |"
    assert run.at_equal_lpips([rows[0], worse]) == "No run's LPIPS on Set14 fell below the PSNR net's."


@pytest.fixture
def toy(run, tmp_path, monkeypatch):
    """Test sets of one image, a pack of one photograph, and the options to use them."""
    if not (SHARED / "weights").is_dir():
        pytest.skip(f"needs the weights of VGG16, LPIPS and DISTS in {SHARED / 'weights'}")
    monkeypatch.setenv("AESOP_WEIGHTS", str((SHARED / "weights").resolve()))
    for name in run.SETS:
        folder = tmp_path / "data" / name / "HR" if name == "Set5" else tmp_path / "data" / name
        folder.mkdir(parents=True)
        write_image(folder / "a.png", noise(96, 96))
    pack.write(tmp_path / "p.pack", [("a.png", noise(96, 120))])
    return [*TOY, f"datasets.train.dataroot_gt={tmp_path}/p.pack"]


@pytest.mark.slow
def test_the_experiment_at_toy_size(run, toy, tmp_path):
    options = [*toy, f"path.experiments_root={tmp_path}/runs"]
    run.experiment(tmp_path / "data", ["aesop"], 1, [], options)
    folder = tmp_path / "runs" / "x4"
    model = folder / "3_aesop_0" / "models" / "net_g_00000004.safetensors"
    before = model.stat().st_mtime_ns
    run.experiment(tmp_path / "data", ["aesop", "pixel"], 2, [model], options)
    assert model.stat().st_mtime_ns == before
    rows = json.loads((folder / "results.json").read_text())
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("bicubic", None), ("Lanczos", None), (model.stem, None), ("PSNR net", None),
        *((run.VARIANTS[name][0], seed) for seed in (0, 1) for name in ("aesop", "pixel")),
    ]  # fmt: skip
    assert rows[2]["figures"] == rows[4]["figures"]  # the same weights, measured apart
    assert [point["iter"] for point in rows[4]["trajectory"]] == [1, 2, 3, 4]
    assert set(rows[0]["figures"]["Set5"]) == set(run.MEASURED)
    for name in ("bicubic.json", "psnr_net.json"):
        (folder / name).write_text((folder / name).read_text().replace('"psnr": ', '"psnr": 1'))
    start = folder / "1_psnr" / "models" / "net_g_00000004.safetensors"
    state, about = read_state_dict(start)
    save_weights(start, {name: tensor.half() for name, tensor in state.items()}, about)  # as if it had been trained anew
    run.experiment(tmp_path / "data", ["aesop"], 1, [], options, ["dists"])
    again = {row["method"]: row["figures"] for row in json.loads((folder / "results.json").read_text())}
    assert again["PSNR net"]["Set5"]["psnr"] == pytest.approx(rows[3]["figures"]["Set5"]["psnr"], abs=0.1)
    assert again["bicubic"]["Set5"]["psnr"] > 100  # depends on no weights but the auto-encoder's, and is kept
    assert "DISTS" not in (folder / "table.md").read_text()
    run.write(folder, [run.Row(**row) for row in rows])
    first, second = (row["figures"]["Set5"]["psnr"] for row in rows if row["method"] == "AESOP, weight 1")
    middle, apart = (first + second) / 2, abs(first - second) / 2**0.5
    assert f"| AESOP, weight 1 | {middle:.2f} ± {apart:.2f} |" in (folder / "table.md").read_text()
    for picture in ("plot.png", "crops.png"):
        assert ImageFile.at(folder / picture).read().std() > 10
    ship.ship(model, tmp_path / "shipped.safetensors")
    (trained, _), (shipped, info) = (load_generator(file) for file in (model, tmp_path / "shipped.safetensors"))
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor.half().float(), shipped.state_dict()[name])
    assert str(tmp_path) not in "".join(info.metadata.values())


def test_shipping_refuses_what_no_training_wrote(tmp_path):
    with pytest.raises(ValueError, match="does not come from a training of a generator"):
        ship.ship(shipped_model(), tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_experiment_that_was_stopped_ends_as_one_that_was_not(run, toy, tmp_path):
    arguments = ["--test-data", f"{tmp_path}/data", "--seeds", "1", "--only", "aesop", "--without", "dists"]
    options = [*toy, "scale=2", "name=x2", "logger.print_freq=1"]
    options += [f"stages.{stage}.train.total_iter=30" for stage in ("psnr", "adversarial")]
    folders = [tmp_path / name for name in ("stopped", "whole")]
    stopped, whole = (
        [sys.executable, run.__file__, *arguments, *options, f"path.experiments_root={folder}"] for folder in folders
    )
    for run_name, not_begun in (("1_psnr", "2_autoencoder"), ("3_aesop_0", "3_aesop_0/figures.json")):
        with subprocess.Popen(stopped, stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(f"[x2/{run_name}] 5/30"):
                    process.send_signal(signal.SIGTERM)
            assert process.wait() == 128 + signal.SIGTERM
        assert not (folders[0] / "x2" / not_begun).exists()
    for command in (stopped, whole):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    kept, undisturbed = ((folder / "x2" / "results.json").read_text() for folder in folders)
    assert kept == undisturbed
