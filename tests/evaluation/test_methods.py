"""`aesop test` with path.compare_with and val.page: figures of every method, their files, the page; and what is refused."""

import base64
import csv
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.rrdbnet import RRDBNet
from aesop.commands.test import test
from aesop.evaluation import comparison_page
from aesop.evaluation.comparison_page import LARGEST_SIDE, MOST_IMAGES, MOST_PIXELS, plan_views
from aesop.evaluation.image_views import View, Window, most_different_window
from aesop.evaluation.methods import Method, check_result_names, method_names
from aesop.evaluation.results import Results
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.images.write import write_image
from aesop.metrics.psnr import psnr
from aesop.options.config import TestConfig
from aesop.weights.load import load_network
from aesop.weights.save import save_weights

test.__test__ = False  # it is `aesop test`, and no test
GENERATOR = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 4, "scale": 4}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "scale": 4, "dec_opt": GENERATOR}
DISCRIMINATOR = {"type": "UNetDiscriminatorSN", "num_feat": 8}
# The methods of a comparison of net.safetensors with other.safetensors, in the order of tables and pages.
METHODS = ["Bicubic", "other", "net"]


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def network(file: Path, seed: int, options: dict = GENERATOR) -> str:
    """A weight file of random weights that describes itself."""
    torch.manual_seed(seed)
    save_weights(file, build_network(options).state_dict(), {"network": json.dumps(options)})
    return str(file)


@pytest.fixture
def root(tmp_path) -> Path:
    """HR/ with two HR images, alone/ with an image without HR, the networks net and other."""
    for name, height in (("a", 64), ("b", 82)):  # 82 is cut to 80
        write_image(tmp_path / "HR" / f"{name}.png", cv2.resize(noise(height, 9, 9), (96, height)))
    write_image(tmp_path / "alone" / "c.png", cv2.resize(noise(3, 5, 5), (24, 20)))
    network(tmp_path / "net.safetensors", 0)
    network(tmp_path / "other.safetensors", 1)
    return tmp_path


def config(root: Path, path: dict | None = None, tested: dict = GENERATOR, sets: dict | None = None, **val) -> TestConfig:
    """A test of net.safetensors on HR/ and alone/."""
    both = {
        "test_1": {"name": "Pairs", "dataroot_gt": str(root / "HR")},
        "test_2": {"name": "Alone", "type": "SingleImageDataset", "dataroot_lq": str(root / "alone")},
    }
    return TestConfig.model_validate(
        {
            "name": "run", "scale": 4, "device": "cpu", "network_g": tested, "datasets": sets or both, "val": val,
            "path": {
                "pretrain_network_g": str(root / "net.safetensors"), "results_root": str(root / "results"), **(path or {})
            },
        }
    )  # fmt: skip


def compared(root: Path) -> dict:
    return {"compare_with": str(root / "other.safetensors")}


def run(options: TestConfig) -> str:
    console = Console(record=True, width=160, soft_wrap=True)
    test(options, console)
    return console.export_text()


def files(root: Path) -> dict[str, bytes]:
    """Every file below results/run and its content."""
    folder = root / "results" / "run"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images_of(page: str) -> dict[str, list[np.ndarray]]:
    """The page's images, RGB, by their alternative texts: of a view the slider's, then the crop's."""
    found: dict[str, list[np.ndarray]] = {}
    for alt, data in re.findall(r'<img[^>]* alt="([^"]*)" src="data:image/\w+;base64,([^"]*)"', page):
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        found.setdefault(alt, []).append(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))
    return found


def psnr_of(root: Path) -> dict[str, dict[str, float]]:
    """The column `psnr` of values.csv by method and image of the set Pairs."""
    found: dict[str, dict[str, float]] = {}
    with open(root / "results" / "run" / "values.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["set"] == "Pairs":
                found.setdefault(row["method"], {})[row["image"]] = float(row["psnr"])
    return found


# Figures and files.


def apart(a: np.ndarray, b: np.ndarray) -> int:
    """In grey levels. Networks run channels_last on a CPU: sums in another order may round to the next level."""
    assert a.shape == b.shape
    return np.abs(a.astype(int) - b).max()


def test_every_method_is_measured_on_every_set(root):
    output = run(config(root, compared(root), metrics={"psnr": {}, "rgb": {"type": "psnr", "test_y_channel": False}}))
    folder = root / "results" / "run"
    nets = {name: load_network(root / f"{name}.safetensors")[0] for name in METHODS[1:]}
    with torch.inference_mode():
        answers = {name: lambda lq, net=net: to_array(net(to_tensor(lq)[None])[0]) for name, net in nets.items()}
        answers["Bicubic"] = lambda lq: imresize(lq, 4)
        expected = {}
        for method in METHODS:
            place = "test_1" if method == "net" else f"test_1_{method}"
            for name in ("a", "b"):
                hr = mod_crop(ImageFile.at(root / "HR" / f"{name}.png").read(), 4)
                sr = ImageFile.at(folder / "images" / place / f"{name}.png").read()
                assert apart(sr, answers[method](imresize(hr, 1 / 4))) <= (method != "Bicubic")
                expected[method, name] = psnr(to_tensor(sr)[None], to_tensor(hr)[None], 4, True).item()
            assert psnr_of(root)[method] == {"a": expected[method, "a"], "b": expected[method, "b"]}
            mean = (expected[method, "a"] + expected[method, "b"]) / 2
            assert re.search(rf"Pairs, {method} +│ +{mean:.2f} ", output)
            image = ImageFile.at(folder / "images" / place.replace("_1", "_2") / "c.png").read()
            assert apart(image, answers[method](ImageFile.at(root / "alone" / "c.png").read())) <= (method != "Bicubic")
    results = Results.from_json((folder / "results.json").read_text())
    assert [method.name for method in results.methods] == METHODS
    bicubic, other, _ = results.methods
    assert (bicubic.source, bicubic.sha256) == (None, None)
    assert other.source == str(root / "other.safetensors")
    assert other.sha256 == hashlib.sha256((root / "other.safetensors").read_bytes()).hexdigest()
    assert {image: row["psnr"] for image, row in other.values["Pairs"].items()} == psnr_of(root)["other"]
    assert "Pairs: 2 images, 3 methods in" in output
    assert [line.split("│")[1].split()[-1] for line in output.splitlines() if "│ Alone, " in line] == METHODS
    assert not (folder / "page.html").exists()


def test_what_is_measured_of_the_tested_network_does_not_change(root):
    output = run(config(root, suffix="sr"))
    alone = files(root)
    assert alone.keys() == {
        "values.csv", "results.json",
        "images/test_1/a_sr.png", "images/test_1/b_sr.png", "images/test_2/c_sr.png",
    }  # fmt: skip
    (tested,) = Results.from_json(alone.pop("results.json").decode()).methods
    assert re.search(r"Pairs: 2 images in \d", output)
    assert [line.split("│")[1].strip() for line in output.splitlines() if line.startswith("│")] == ["Pairs", "Alone"]
    run(config(root, compared(root), suffix="sr", page=True))
    beside = files(root)
    methods = Results.from_json(beside["results.json"].decode()).methods
    assert [method.name for method in methods] == METHODS
    assert methods[-1] == tested
    header, *rows = alone.pop("values.csv").splitlines()
    assert set(rows) < set(beside["values.csv"].splitlines())
    assert header == beside["values.csv"].splitlines()[0]
    assert {name: beside[name] for name in alone} == alone


def test_a_page_alone_is_worth_testing_for(root):
    output = run(config(root, sets={"test": config(root).datasets.measured("test_2")["test_2"]}, page=True, save_img=False))
    assert files(root).keys() == {"values.csv", "results.json", "page.html"}
    assert f"side by side: {root}/results/run/page.html\n" in output


def test_large_images_are_seen_in_tiles_by_every_network(root, monkeypatch):
    seen = []

    def forward(net: RRDBNet, x: torch.Tensor) -> torch.Tensor:
        seen.append(max(x.shape[-2:]))
        return torch.zeros(1, 3, *(4 * side for side in x.shape[-2:]))

    monkeypatch.setattr(RRDBNet, "forward", forward)
    write_image(root / "alone" / "c.png", noise(0, 40, 70))
    for tile, expected in ((0, 70), (32, 32)):
        seen.clear()
        run(config(root, compared(root), tile=tile))
        assert max(seen) == expected
    assert len([side for side in seen if side == 32]) == 2 * 2 * 4  # two networks, 2 x 4 tiles


# The page.


def test_the_page_shows_every_method(root):
    run(config(root, compared(root), metrics={"psnr": {}}, page=True))
    folder = root / "results" / "run"
    page = (folder / "page.html").read_text(encoding="utf-8")
    shown = images_of(page)
    sliders = {f"a, {method}" for method in ("LR", *METHODS, "HR")} | {f"c, {method}" for method in ("LR", *METHODS)}
    assert sliders <= shown.keys()
    assert "c, HR" not in shown
    for section, name in (("test_1", "a"), ("test_2", "c")):
        for method in METHODS:
            place = section if method == "net" else f"{section}_{method}"
            image = ImageFile.at(folder / "images" / place / f"{name}.png").read()
            np.testing.assert_array_equal(shown[f"{name}, {method}"][0], image)
    lq = ImageFile.at(root / "alone" / "c.png").read()
    np.testing.assert_array_equal(shown["c, LR"][0], lq.repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(shown["a, HR"][0], ImageFile.at(root / "HR" / "a.png").read())
    # One table, of the set with HR: its figures, the best one marked.
    assert page.count("<table>") == 1
    means = {method: float(np.mean(list(values.values()))) for method, values in psnr_of(root).items()}
    cells = re.findall(r'<th scope="row">(\w+)</th><td( class="best")?>([\d.]+)</td>', page)
    best = max(means.values())
    assert cells == [(method, ' class="best"' * (mean == best), f"{mean:.2f}") for method, mean in means.items()]
    assert page.count("where bicubic loses most.") == page.count("where net differs most from bicubic.") == 1
    assert f"<dt>other</dt><dd>{root}/other.safetensors</dd>" in page
    assert "Shown are" not in page


def test_a_page_shows_a_part_of_many_and_of_large_images(root, monkeypatch):
    monkeypatch.setattr(comparison_page, "MOST_IMAGES", 2)
    monkeypatch.setattr(comparison_page, "LARGEST_SIDE", 64)
    output = run(config(root, page=True))
    page = (root / "results" / "run" / "page.html").read_text(encoding="utf-8")
    assert {alt.split(",")[0] for alt in images_of(page)} >= {"a", "c"}
    assert "b, HR" not in images_of(page)
    assert "Shown are 1 of 2 images. The crops below each image" in page
    assert "page.html (2 of 3 images)\n" in output
    assert "a: 64x64 of 96x64 pixels" in page
    assert images_of(page)["a, HR"][0].shape == (64, 64, 3)


def test_an_autoencoder_has_a_page_without_bicubic(root):
    network(root / "net.safetensors", 0, AUTOENCODER)
    run(config(root, tested=AUTOENCODER, page=True))
    assert files(root).keys() >= {"values.csv", "page.html"}
    assert not [name for name in files(root) if "Bicubic" in name]
    page = (root / "results" / "run" / "page.html").read_text(encoding="utf-8")
    shown = images_of(page)
    assert {"a, LR", "a, net", "a, HR", "c, Input", "c, net"} <= shown.keys()
    np.testing.assert_array_equal(shown["c, Input"][0], ImageFile.at(root / "alone" / "c.png").read())
    assert "where net differs most from its input." in page


def test_a_page_has_room_for_so_much():
    shown, side = plan_views({"one": 5, "two": 14, "three": 100}, 3, 4)
    assert (shown["one"], shown["two"], shown["three"]) == (5, 9, 9)
    assert side**2 * 23 * 5 <= MOST_PIXELS < (side + 4) ** 2 * 23 * 5
    assert plan_views({"one": 3}, 3, 3) == ({"one": 3}, LARGEST_SIDE)
    assert plan_views({"one": 1000}, 3, 8)[0] == {"one": MOST_IMAGES}
    assert plan_views({"one": 1000}, 3, 8)[1] % 8 == 0
    assert sum(plan_views({str(k): 2 for k in range(30)}, 3, 4)[0].values()) == 30  # one of each set at least


# Views.


def sample(lq: np.ndarray, gt: np.ndarray | None) -> Any:
    return SimpleNamespace(name="n", lq=lq, gt=gt)


def test_the_window_is_where_images_differ():
    a = np.full((200, 240, 3), 128, np.uint8)
    b = a.copy()
    b[100:140, 120:160] = noise(0, 40, 40)
    assert most_different_window(a, b, 40, 4) == Window(100, 120, 40, 40)
    # Half a window off the border, unless the image is too small for that, or for the window.
    b[:8, :8] = 255 - b[:8, :8]
    b[100:140, 120:160] = 128
    b[30, 30] = 0
    window = most_different_window(a, b, 40, 4)
    assert 20 <= window.top <= 30 < window.top + 40
    assert 20 <= window.left <= 30 < window.left + 40
    assert most_different_window(a[:48, :32], b[:48, :32], 40, 4) == Window(4, 0, 40, 32)


def test_a_view_is_around_what_bicubic_loses_or_the_network_adds():
    """HR has its detail above, the network's answer below; LR is even."""
    lq, hr, sr = (np.full((side, side, 3), 128, np.uint8) for side in (60, 240, 240))
    hr[60:76, 100:116] = noise(0, 16, 16)
    sr[160:176, 100:116] = noise(1, 16, 16)
    for gt, top in ((hr, 60), (None, 160)):
        view = View.of(sample(lq, gt), {"Bicubic": imresize(lq, 4), "net": sr}, 4, side=64, crop=16)
        assert view.crop == Window(top, 100, 16, 16)
        assert view.part == Window(top - 24, 76, 64, 64)


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 8])
def test_a_part_lies_around_its_window_on_the_grid(grid):
    height, width, side = 240, 120, 96
    for top in range(0, height - 48 + 1, grid):
        window = Window(top, 24, 48, 48)
        part = window.grown(side, (height, width), grid)
        assert (part.height, part.width) == (96, 96)
        assert part.top % grid == part.left % grid == 0
        assert 0 <= part.top <= window.top
        assert window.top + 48 <= part.top + 96 <= height
        if 24 + grid <= top <= height - 72 - grid:
            assert abs(part.top - (window.top - 24)) < grid


def test_a_view_keeps_parts_of_the_same_place():
    hr = noise(0, 240, 160)
    lq = imresize(hr, 1 / 4)
    view = View.of(sample(lq, hr), {"one": hr // 2, "two": 255 - hr}, 4, side=96, crop=16)
    part, window = view.part, view.crop
    assert list(view.images) == list(view.crops) == ["LR", "one", "two", "HR"]
    assert {image.shape for image in view.images.values()} == {(96, 96, 3)}
    np.testing.assert_array_equal(view.images["one"], view.images["HR"] // 2)
    np.testing.assert_array_equal(view.images["HR"], hr[part.top : part.top + 96, part.left : part.left + 96])
    np.testing.assert_array_equal(view.crops["two"], 255 - hr[window.top : window.top + 16, window.left : window.left + 16])
    assert view.crops["LR"].shape == (4, 4, 3)
    np.testing.assert_array_equal(view.crops["LR"], lq[window.top // 4 :, window.left // 4 :][:4, :4])
    inside = view.images["LR"][window.top - part.top :, window.left - part.left :][:16, :16]
    np.testing.assert_array_equal(inside, view.crops["LR"].repeat(4, 0).repeat(4, 1))
    assert view.caption == "n: 96x96 of 160x240 pixels, around the crop"


# Names and mistakes.


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["x/aesop.pth", "y/real.esrgan.safetensors"], ["aesop", "real.esrgan"]),
        (["runs/a/models/net_g.pth", "runs/b/models/net_g.pth", "c.pth"], ["a-net_g", "b-net_g", "c"]),
        (["net.pth", "net.safetensors"], ["net", "net-2"]),
        (["net.pth", "net.pth", "net.pth"], ["net", "net-2", "net-3"]),
        (["x/net.pth", "y/Net.pth"], ["x-net", "y-Net"]),
        (["bicubic.pth", "HR.pth", "net-2.pth"], ["bicubic-2", "HR-2", "net-2"]),
    ],
)
def test_methods_are_called_after_their_files(given, names):
    assert method_names(given) == names


def test_results_of_one_name_are_refused():
    methods = [Method("x", lambda lq, gt: lq), Method("net", lambda lq, gt: lq, tested=True)]
    check_result_names(["test", "test_2"], methods)
    with pytest.raises(ValueError, match=r"path\.compare_with: two results would be named test_x, .*rename the section"):
        check_result_names(["test", "test_X"], methods)
    check_result_names(["test_x", "test_X"], methods[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (None, r"path\.compare_with: weight file .*second\.safetensors does not exist"),
        ({**GENERATOR, "scale": 2}, r"path\.compare_with: .*second\.safetensors enlarges 2 times and the tested network 4"),
        (AUTOENCODER, r"path\.compare_with: .*second\.safetensors contains AutoEncoder.*, not a generator: give"),
        (
            DISCRIMINATOR,
            r"path\.compare_with: .*second\.safetensors contains UNetDisc.*, not a generator: give the net_g file",
        ),
    ],
)
def test_models_that_cannot_be_compared_are_refused_first(root, monkeypatch, options, message):
    monkeypatch.setattr(RRDBNet, "forward", lambda *_: pytest.fail("something was computed"))
    second = root / "second.safetensors"
    if options is not None:
        network(second, 0, options)
    with pytest.raises(ValueError, match=message):
        run(config(root, {"compare_with": [str(root / "other.safetensors"), str(second)]}))
    assert not (root / "results").exists()


def test_an_autoencoder_is_compared_with_nothing(root, monkeypatch):
    network(root / "net.safetensors", 0, AUTOENCODER)
    monkeypatch.setattr(AutoEncoder, "forward", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(ValueError, match=r"path\.compare_with: network_g is an auto-encoder"):
        run(config(root, compared(root), tested=AUTOENCODER))
    assert not (root / "results").exists()
