"""`aesop measure`: figures of finished images, networks, and interpolations; what is partial; what is refused."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.archs.rrdbnet import RRDBNet
from aesop.cli import app
from aesop.commands.measure import Request, measure, set_name, split_name
from aesop.commands.test import test as run_test
from aesop.evaluation.results import Results
from aesop.images.listing import list_images
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.images.write import write_image
from aesop.metrics import psnr
from aesop.options.config import TestConfig
from aesop.weights import pretrained
from aesop.weights.save import save_weights

SHARED = Path(os.environ.get("AESOP_SHARED") or Path(__file__).resolve().parents[3] / "shared")
GENERATOR = {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4, "scale": 4}
SIZES = {"img_1": (40, 48), "img_2": (48, 40), "img_10": (43, 50)}  # the last is cut to 40x48


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Set/HR with three images, good/ and bad/ with results for them, net.safetensors; no weights of metrics."""
    monkeypatch.setattr(pretrained, "find_spec", lambda package: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed, (name, size) in enumerate(SIZES.items()):
        hr = smooth(seed, *size)
        write_image(tmp_path / "Set" / "HR" / f"{name}.png", hr)
        for method, deviation in (("good", 3), ("bad", 20)):
            write_image(tmp_path / method / f"{name}_x4.png", noisy(mod_crop(hr, 4), deviation))
    torch.manual_seed(0)
    save_weights(tmp_path / "net.safetensors", build_network(GENERATOR).state_dict(), {"network": json.dumps(GENERATOR)})
    return tmp_path


def request(root: Path, *inputs: str, **changes) -> Request:
    """Of folders and files below root, on the CPU."""
    given = [str(root / each) if (root / each).exists() else each for each in inputs]
    hr = {"hr": [str(root / "Set" / "HR")]}
    return Request(inputs=given, **{**hr, "metrics": "psnr,ssim", "device": "cpu", "scale": 4, **changes})


def run(*args, **changes) -> tuple[Results, str]:
    console = Console(record=True, width=200, soft_wrap=True)
    return measure(request(*args, **changes), console), console.export_text()


def values(results: Results, method: str) -> dict[str, dict[str, float]]:
    (found,) = [each for each in results.methods if each.name == method]
    return dict(found.values["Set"])


# Figures.


def luma(image: np.ndarray) -> np.ndarray:
    return 16 + image.astype(np.float64) @ [65.481, 128.553, 24.966] / 255


def test_figures_are_those_of_a_hand_computation(root):
    results, output = run(root, "good", "bad", output=root / "out")
    assert [(method.name, method.source, method.sha256) for method in results.methods] == [
        ("good", str(root / "good"), None), ("bad", str(root / "bad"), None),
    ]  # fmt: skip
    for method in ("good", "bad"):
        assert list(values(results, method)) == ["img_1", "img_2", "img_10"]
        for name, row in values(results, method).items():
            hr = np.asarray(Image.open(root / "Set" / "HR" / f"{name}.png"))
            sr = np.asarray(Image.open(root / method / f"{name}_x4.png"))
            a, b = (luma(image[: sr.shape[0], : sr.shape[1]])[4:-4, 4:-4] for image in (sr, hr))
            assert row["psnr"] == pytest.approx(-10 * np.log10(np.mean(((a - b) / 255) ** 2) + 1e-8), abs=1e-4)
        mean = np.mean([row["psnr"] for row in values(results, method).values()])
        assert re.search(rf"│ Set, {method} +│ +{mean:.2f} ", output)
    assert not results.missing
    assert "note: Set, HR: cut to multiples of 4: img_10\n" in output
    with open(root / "out" / "values.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["set"], row["method"], row["image"]) for row in rows] == [
        ("Set", method, name) for method in ("good", "bad") for name in SIZES
    ]
    assert {row["image"]: float(row["psnr"]) for row in rows if row["method"] == "bad"} == {
        name: row["psnr"] for name, row in values(results, "bad").items()
    }
    assert Results.from_json((root / "out" / "results.json").read_text()) == results


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason=f"no reference figures in {SHARED} (set AESOP_SHARED)")
def test_finished_images_of_bicubic_have_the_figures_that_other_code_measured(tmp_path):
    reference = json.loads((SHARED / "weights" / "reference_figures.json").read_text())["results"]["Set5"]["bicubic"]
    for image in list_images(SHARED / "data" / "Set5" / "LRx4"):
        sr = imresize(image.read().astype(np.float64), 4)  # rounded once, as the reference says
        write_image(tmp_path / "Bic" / f"{image.stem}_bicubic.png", np.clip(np.floor(sr + 0.5), 0, 255).astype(np.uint8))
    folders = {"inputs": [str(tmp_path / "Bic")], "hr": [str(SHARED / "data" / "Set5" / "HR")]}
    results = measure(Request(**folders, metrics="psnr,ssim", device="cpu"), Console(quiet=True))
    found = results.methods[0].values["Set5"]
    assert {f"{name}.png" for name in found} == reference["per_image"].keys()
    for name, row in found.items():
        expected = reference["per_image"][f"{name}.png"]
        # Ours adds 1e-8 to the mean squared error, as published; the reference is rounded to six decimals.
        assert row["psnr"] == pytest.approx(expected["psnr_y"], abs=2e-4)
        assert row["ssim"] == pytest.approx(expected["ssim_y"], abs=2e-6)


def test_the_images_that_aesop_test_saves_have_its_figures(root):
    network = {"pretrain_network_g": str(root / "net.safetensors"), "results_root": str(root / "results")}
    config = TestConfig.model_validate(
        {
            "name": "run", "device": "cpu", "network_g": GENERATOR, "path": network,
            "datasets": {"test": {"name": "Set", "dataroot_gt": str(root / "Set" / "HR")}},
            "val": {"metrics": {"psnr": {}, "ssim": {}}, "suffix": "run", "page": True},
        }
    )  # fmt: skip
    tested = run_test(config, Console(quiet=True))
    finished, _ = run(root, "results/run/images/test", "net.safetensors", "bicubic")
    expected = {method.name: method.values for method in tested.methods}
    assert {method.name: method.values for method in finished.methods} == {
        "test": expected["net"], "net": expected["net"], "Bicubic": expected["Bicubic"],
    }  # fmt: skip
    assert finished.methods[1].sha256 == tested.methods[-1].sha256


def test_networks_see_the_lr_files(root):
    for name in SIZES:
        hr = mod_crop(ImageFile.at(root / "Set" / "HR" / f"{name}.png").read(), 4)
        write_image(root / "LR" / f"{name}x4.png", 255 - imresize(hr, 1 / 4))
    results, _ = run(root, "bicubic", "lanczos", "good", lr=[str(root / "LR")], scale=None)
    assert (results.scale, results.protocol["sets"]["Set"]["lr"]) == (4, "files")
    for name in SIZES:
        lr = Image.open(root / "LR" / f"{name}x4.png")
        hr = mod_crop(ImageFile.at(root / "Set" / "HR" / f"{name}.png").read(), 4)
        sr = np.asarray(lr.resize((lr.width * 4, lr.height * 4), Image.Resampling.LANCZOS))
        error = np.mean(((luma(sr) - luma(hr))[4:-4, 4:-4] / 255) ** 2)
        assert values(results, "Lanczos")[name]["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-4)
    assert results.protocol["sets"]["Set"].keys() == {"images", "lr", "hr_sha256", "lr_sha256"}
    finished, _ = run(root, "good", lr=[str(root / "LR")])
    assert finished.protocol["sets"]["Set"]["lr"] == "not used"


def test_several_sets_and_methods_in_one_folder(root):
    for method in ("A", "B"):
        for folder in ("Set", "Other"):
            shutil.copytree(root / "good", root / "results" / method / "visualization" / folder)
    shutil.copytree(root / "Set" / "HR", root / "Other" / "GT")
    results, _ = run(root, "results", hr=[str(root / "Set" / "HR"), str(root / "Other" / "GT")])
    assert [(method.name, list(method.values)) for method in results.methods] == [
        ("A", ["Set", "Other"]), ("B", ["Set", "Other"]),
    ]  # fmt: skip
    renamed, output = run(root, f"mine={root}/results/A", f"B={root}/results/B", hr=[f"Other={root}/Set/HR"])
    assert [(method.name, list(method.values)) for method in renamed.methods] == [("mine", ["Other"]), ("B", ["Other"])]
    assert "note: 3 images belong to no HR image" in output
    with pytest.raises(ValueError, match=r"results holds several methods \(A, B\): give the folder of each a name"):
        run(root, f"mine={root}/results")


def test_sets_that_share_their_hr_keep_their_results_apart(root):
    shutil.copytree(root / "good", root / "HAT" / "mild")
    shutil.copytree(root / "bad", root / "HAT" / "hard")
    hr = root / "Set" / "HR"
    results, _ = run(root, "HAT", hr=[f"mild={hr}", f"hard={hr}"])
    apart, _ = run(root, "good", "bad")
    (hat,) = results.methods
    assert (hat.values["mild"], hat.values["hard"]) == tuple(method.values["Set"] for method in apart.methods)


def test_a_network_that_computes_nan_is_named(root):
    weights = build_network(GENERATOR).state_dict()
    weights["conv_last.bias"].fill_(float("nan"))
    save_weights(root / "broken.safetensors", weights, {"network": json.dumps(GENERATOR)})
    results, output = run(root, "good", "broken.safetensors")
    assert len(results.missing) == 3
    assert all(re.match(r"Set, img_\d+, broken: .*NaN or infinity", line) for line in results.missing)
    assert [list(method.values) for method in results.methods] == [["Set"], []]
    assert re.search(r"│ Set, good +│", output)


def test_border_colour_and_names_of_metrics(root):
    results, output = run(root, "good", metrics="psnr, ms_ssim", crop_border=2, rgb=True, hr=[str(big(root))])
    assert "PSNR on RGB without a border of 2 pixels; MS-SSIM on luma (Y of BT.601) without a border of 2 pixels" in output
    hr, sr = (ImageFile.at(root / f / "big.png").read()[2:-2, 2:-2].astype(float) for f in ("big", "good"))
    psnr = -10 * np.log10(np.mean(((hr - sr) / 255) ** 2) + 1e-8)
    assert results.methods[0].values["big"]["big"]["psnr"] == pytest.approx(psnr, abs=1e-4)


def big(root: Path) -> Path:
    """A set of one image that is large enough for MS-SSIM and NIQE, with a result of good."""
    hr = smooth(0, 200, 240)
    write_image(root / "big" / "big.png", hr)
    write_image(root / "good" / "big.png", noisy(hr, 5))
    return root / "big"


def test_metrics_are_by_default_those_that_can_be_measured(root):
    _, output = run(root, "good", metrics=None)
    assert "note: lpips is left out: no weights for alexnet" in output
    assert "note: niqe is left out: no weights for niqe" in output
    assert "set AESOP_WEIGHTS to it.\n" in output
    assert "Looked at" not in output
    (root / "weights").mkdir()
    np.savez(root / "weights" / "niqe_pris_params.npz", mu_pris_param=np.ones(36), cov_pris_param=np.eye(36))
    results, output = run(root, "good", metrics=None)
    assert list(results.metrics) == ["psnr", "ssim"]
    assert re.search(r"note: niqe is left out: .*img_1\.png: NIQE needs two blocks", output)
    results, _ = run(root, "good", metrics=None, hr=[str(big(root))])
    assert list(results.metrics) == ["psnr", "ssim", "niqe"]


# Kinds and sizes.


def test_kinds_of_images_are_named_and_measured_as_said(root):
    folder, rgb = root / "kinds", ImageFile.at(root / "good" / "img_1_x4.png").read()
    gray = rgb[..., 1]
    write_image(folder / "gray" / "img_1.png", gray)
    write_image(folder / "same" / "img_1.png", np.stack([gray] * 3, -1))
    write_image(folder / "alpha" / "img_1.png", np.dstack([rgb, np.zeros_like(gray)]))
    write_image(
        folder / "deep" / "img_1.png", np.minimum(rgb * np.uint32(257) + 100, 65535).astype(np.uint16)
    )  # rounds to rgb
    write_image(folder / "plain" / "img_1.png", rgb)
    (root / "one").mkdir()
    shutil.copy(root / "Set" / "HR" / "img_1.png", root / "one")
    results, output = run(root, "kinds", hr=[str(root / "one")])
    found = {method.name: method.values["one"]["img_1"] for method in results.methods}
    assert found["gray"] == found["same"]
    assert found["alpha"] == found["deep"] == found["plain"] != found["gray"]
    notes = [line for line in output.splitlines() if line.startswith("note")]
    assert notes == [
        "note: one, alpha: transparency left out",
        "note: one, deep: 16 bits, rounded to 8",
        "note: one, gray: gray, repeated to three channels",
    ]


def test_results_of_uncut_hr_are_cut_like_hr(root):
    hr = ImageFile.at(root / "Set" / "HR" / "img_10.png").read()
    shutil.copytree(root / "good", root / "whole")
    write_image(root / "whole" / "img_10_x4.png", noisy(hr, 3))
    write_image(root / "good" / "img_10_x4.png", noisy(hr, 3)[:40, :48])
    results, output = run(root, "good", "whole")
    assert values(results, "good") == values(results, "whole")
    assert "note: Set, whole: cut to multiples of 4: img_10\n" in output


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((10, 12), "it is 4 times smaller: LR, or a result of another scale"),
        ((20, 24), "it is 2 times smaller: LR, or a result of another scale"),
        ((80, 96), "it is 2 times larger: a result of another scale"),
        ((48, 40), "width and height are swapped"),
        ((32, 40), "a border of 4 pixels was probably cut off: save whole images and give --crop-border"),
        ((39, 48), "HR was cut to multiples of 3; if this is the scale, give it with --scale"),
        ((37, 48), "it belongs to another image, or was cut or resized"),
    ],
)
def test_other_sizes_are_explained_before_anything_is_computed(root, monkeypatch, size, reason):
    monkeypatch.setattr("aesop.evaluation.evaluate.measure_methods", lambda *_, **__: pytest.fail("something was measured"))
    file = root / "good" / "img_1_x4.png"
    write_image(file, np.zeros((*size, 3), np.uint8))
    with pytest.raises(ValueError) as error:
        run(root, "bad", "good")
    sizes = rf"\({size[1]}x{size[0]}\) does not have the size of HR \(48x40\)"
    assert re.match(rf"{re.escape(str(file))} {sizes}: {re.escape(reason)}", str(error.value))


def test_lr_that_was_made_without_cutting_hr_is_explained(root):
    write_image(root / "good" / "img_10_x4.png", np.zeros((44, 52, 3), np.uint8))
    with pytest.raises(ValueError, match=r"LR was made without cutting HR to multiples of 4 first"):
        run(root, "good")


# What is missing.


def test_missing_and_unreadable_images_are_named_and_means_are_over_common_ones(root):
    (root / "good" / "img_2_x4.png").unlink()
    content = (root / "bad" / "img_10_x4.png").read_bytes()
    (root / "bad" / "img_10_x4.png").write_bytes(content[: len(content) // 2])
    results, output = run(root, "good", "bad", "bicubic", output=root / "out")
    assert list(values(results, "good")) == ["img_1", "img_10"]
    assert list(values(results, "bad")) == ["img_1", "img_2"]
    assert list(values(results, "Bicubic")) == list(SIZES)
    missing, unreadable = results.missing
    assert missing == "Set, img_2, good: there is no image"
    assert unreadable.startswith(f"Set, img_10, bad: image {root}/bad/img_10_x4.png is truncated")
    assert f"partial results, 2 missing:\n  {missing}\n  {unreadable}" in output
    for method in ("good", "bad", "Bicubic"):
        assert re.search(
            rf"Set \(PARTIAL: 1 of 3 images\), {method} +│ +{values(results, method)['img_1']['psnr']:.2f} ", output
        )
    assert Results.from_json((root / "out" / "results.json").read_text()).missing == results.missing


def test_hr_that_is_damaged_behind_its_header_is_missing_for_all(root):
    file = root / "Set" / "HR" / "img_2.png"
    file.write_bytes(file.read_bytes()[:-200])
    results, _ = run(root, "good", "bicubic")
    (line,) = results.missing
    assert line.startswith(f"Set, img_2, HR: image {file} is truncated")
    assert [list(method.values["Set"]) for method in results.methods] == [["img_1", "img_10"]] * 2
    file.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"img_2\.png is not a supported image"):
        run(root, "good")


def test_a_method_without_a_whole_set(root):
    shutil.copytree(root / "Set" / "HR", root / "Other" / "HR")
    for folder in ("Set", "Other"):
        shutil.copytree(root / "good", root / "both" / folder)
    shutil.copytree(root / "bad", root / "half" / "Set")
    results, output = run(root, "both", "half", hr=[str(root / "Set" / "HR"), str(root / "Other" / "HR")])
    assert results.missing == ("Other, half: there are no images",)
    assert [list(method.values) for method in results.methods] == [["Set", "Other"], ["Set"]]
    labels = [line.split("│")[1].strip() for line in output.splitlines() if line.startswith("│")]
    assert labels == ["Set, both", "Set, half", "Other, both"]


def test_partial_results_make_the_command_fail(root):
    runner, hr = CliRunner(), ["--hr", str(root / "Set" / "HR"), "--metrics", "psnr", "--device", "cpu", "--scale", "4"]
    done = runner.invoke(app, ["measure", str(root / "good"), *hr, "-o", str(root / "whole")])
    assert done.exit_code == 0, done.output
    (root / "good" / "img_2_x4.png").unlink()
    done = runner.invoke(app, ["measure", str(root / "good"), *hr, "-o", str(root / "part")])
    assert done.exit_code == 1
    assert json.loads((root / "part" / "results.json").read_text())["missing"] == ["Set, img_2, good: there is no image"]
    assert json.loads((root / "whole" / "results.json").read_text())["missing"] == []


# What is refused.


@pytest.mark.parametrize(
    ("inputs", "changes", "message"),
    [
        (["good", "nowhere"], {}, r"weight file nowhere does not exist, and no known model has this name"),
        (["good"], {"metrics": "pnsr"}, r"there is no metric 'pnsr'"),
        (["good"], {"metrics": "aepsnr"}, r"aepsnr: give the weight file of an auto-encoder with --autoencoder"),
        (["good"], {"metrics": "lpips"}, r"no weights for alexnet on this machine"),
        (["bicubic", "Bicubic"], {}, r"two methods are called Bicubic"),
        (["net.safetensors"], {"scale": 2}, r"net\.safetensors enlarges 4 times, but --scale 2"),
        (["good"], {"hr": ["nowhere"]}, r"image folder nowhere does not exist"),
        (["good"], {"lr": ["a", "b"]}, r"--lr: give a folder for each --hr, in the same order; found 2 for 1"),
        (
            ["empty"],
            {},
            r"none of its 1 images belongs to an HR image: their names, such as other\.png, must contain .* img_1$",
        ),
    ],
)
def test_mistakes_are_named_first(root, monkeypatch, inputs, changes, message):
    monkeypatch.setattr("aesop.evaluation.evaluate.measure_methods", lambda *_, **__: pytest.fail("something was measured"))
    write_image(root / "empty" / "other.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises((ValueError, OSError), match=message):
        run(root, *inputs, output=root / "out", **changes)
    assert not (root / "out").exists()


def test_lr_that_does_not_pair_is_refused(root):
    for name in ("img_1", "img_2"):
        write_image(root / "LR" / f"{name}.png", np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=r"--lr: 1 of 3 HR images have no LR image in .*LR: .*img_10\.png"):
        run(root, "bicubic", lr=[str(root / "LR")])
    write_image(root / "LR" / "img_1x4.png", np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=r"--lr: .*img_1\.png and .*img_1x4\.png both belong to .*HR/img_1\.png"):
        run(root, "bicubic", lr=[str(root / "LR")])
    (root / "LR" / "img_1x4.png").unlink()
    write_image(root / "LR" / "img_10.png", np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"HR/img_2\.png \(40x48 after cutting to multiples of 4\) is not 4 times .*LR/img_2\.png"
    ):
        run(root, "bicubic", lr=[str(root / "LR")])


def test_results_are_not_overwritten_unasked(root):
    run(root, "good", output=root / "out")
    before = (root / "out" / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"out/results\.json exists: give another folder, or --overwrite"):
        run(root, "bad", output=root / "out")
    assert (root / "out" / "results.json").read_bytes() == before
    run(root, "bad", output=root / "out", overwrite=True)
    assert (root / "out" / "results.json").read_bytes() != before


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/d/Set5/HR", "Set5"),
        ("/d/Set5/GTmod12", "Set5"),
        ("/d/Set5/HRx3/", "Set5"),
        ("/d/Set5/hr_x4", "Set5"),
        ("/d/Set5", "Set5"),
        ("/d/DIV2K_valid_HR", "DIV2K_valid_HR"),
        ("/d/x/../Urban100.pack", "Urban100"),
        ("/HR", "/"),
    ],
)
def test_names_of_sets(folder, name):
    assert set_name(folder) == name


def test_names_in_front_of_paths(tmp_path):
    assert split_name("HAT=results/HAT") == ("HAT", "results/HAT")
    assert split_name("results/HAT") == (None, "results/HAT")
    (tmp_path / "a=b").mkdir()
    assert split_name(f"{tmp_path}/a=b") == (None, f"{tmp_path}/a=b")


# The cache, as a user meets it.


def test_only_what_is_new_is_computed(root, monkeypatch):
    passes, forward = [], RRDBNet.forward
    monkeypatch.setattr(RRDBNet, "forward", lambda net, x: passes.append(x.shape) or forward(net, x))
    measured = []
    genuine = psnr.unrounded_psnr
    monkeypatch.setattr(psnr, "unrounded_psnr", lambda *args, **named: measured.append(1) or genuine(*args, **named))

    def computed(*inputs: str, **changes) -> tuple[Results, int, int]:
        passes.clear(), measured.clear()
        results, _ = run(root, *inputs, cache=root / "cache", **changes)
        return results, len(passes), len(measured)

    cold, *counts = computed("good", "net.safetensors")
    assert counts == [3, 6]
    warm, *counts = computed("good", "net.safetensors")
    assert counts == [0, 0]
    assert warm == cold
    assert computed("good", "net.safetensors", "bad")[1:] == (0, 3)  # another method
    assert computed("good", "net.safetensors", metrics="ssim,lrpsnr")[1:] == (0, 6)  # another metric
    assert computed("good", "net.safetensors", crop_border=3)[1:] == (0, 6)
    assert computed("net.safetensors", tile=32)[1] == 3
    write_image(root / "good" / "img_1_x4.png", smooth(9, 40, 48))
    changed, *counts = computed("good", "net.safetensors")
    assert counts == [0, 1]
    assert values(changed, "good")["img_1"] != values(cold, "good")["img_1"]
    assert values(changed, "net") == values(cold, "net")
    torch.manual_seed(1)
    save_weights(root / "net.safetensors", build_network(GENERATOR).state_dict(), {"network": json.dumps(GENERATOR)})
    changed, *counts = computed("good", "net.safetensors")
    assert counts == [3, 3]
    assert changed == run(root, "good", "net.safetensors")[0]  # without the cache


def test_aesop_test_uses_the_cache_if_asked(root, monkeypatch):
    passes, forward = [], RRDBNet.forward
    monkeypatch.setattr(RRDBNet, "forward", lambda net, x: passes.append(x.shape) or forward(net, x))
    for cache, expected in ((False, [3, 6]), (True, [3, 3])):
        counts = []
        passes.clear()
        for number in range(2):
            config = TestConfig.model_validate(
                {
                    "name": f"run{number}", "device": "cpu", "network_g": GENERATOR,
                    "datasets": {"test": {"dataroot_gt": str(root / "Set" / "HR")}}, "val": {"cache": cache},
                    "path": {"pretrain_network_g": str(root / "net.safetensors"), "results_root": str(root / "results")},
                }
            )  # fmt: skip
            run_test(config, Console(quiet=True))
            counts.append(len(passes))
        assert counts == expected
        saved = [sorted((root / "results" / run).rglob("*.png")) for run in ("run0", "run1")]
        assert [path.read_bytes() for path in saved[0]] == [path.read_bytes() for path in saved[1]]


@pytest.mark.slow
def test_two_processes_write_what_one_does(root):
    (root / "bad" / "img_2_x4.png").unlink()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = ["-m", "aesop", "measure", str(root / "bad"), str(root / "net.safetensors"), "bicubic"]
    arguments += ["--hr", str(root / "Set" / "HR"), "--metrics", "psnr,ssim", "--device", "cpu", "--name", "same"]
    ways = {
        "one": ["--no-cache"],
        "two": ["--no-cache"],
        "three": ["--cache", str(root / "c")],
        "four": ["--cache", str(root / "c")],
    }
    outputs = {}
    for name, more in ways.items():
        start = (
            [sys.executable]
            if name == "one"
            else [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        )
        done = subprocess.run(
            [*start, *arguments, *more, "-o", str(root / name)], env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.stdout.count("PSNR ↑") == 1, done.stdout + done.stderr
        assert done.returncode == 1  # partial
        outputs[name] = [(root / name / file).read_bytes() for file in ("results.json", "values.csv")]
    assert outputs["one"] == outputs["two"] == outputs["three"] == outputs["four"]


def test_cost_is_measured_on_the_largest_image(root, monkeypatch):
    monkeypatch.chdir(root)
    output = root / "out"
    words = ["measure", "net=net.safetensors", "bicubic", "--hr", "Set/HR", "--cost", "--no-cache", "-o", str(output)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = Results.from_json((output / "results.json").read_text())
    net, bicubic = found.methods
    assert bicubic.cost is None
    assert net.cost
    assert net.cost.parameters == sum(p.numel() for p in build_network(GENERATOR).parameters())
    assert net.cost.gflops > 0
    assert net.cost.seconds > 0
    assert net.cost.run.lr == "12x10"  # img_10 has 50x43 pixels, before it is cut
    assert "GFLOPs/MP" in result.output


def test_cost_needs_a_network(root, monkeypatch):
    monkeypatch.chdir(root)
    result = CliRunner().invoke(app, ["measure", "bicubic", "--hr", "Set/HR", "--cost", "--no-cache"])
    assert result.exit_code == 1
    assert "--cost: none of the methods is a network" in result.output
