"""The generator in the package: that it is what its card says, and good enough to be there."""

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_results import Summary
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import averages, measure, measuring
from aesop.evaluation.methods import predict
from aesop.images.read import ImageFile
from aesop.images.resize import imresize
from aesop.images.write import write_image
from aesop.inference.final_size import FinalSize
from aesop.inference.shipped_models import MODELS, faithful_partner, purpose_of, shipped_model
from aesop.inference.upscaler import Upscaler
from aesop.metrics.build import make_metrics
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.pictures.picture import Frame
from aesop.system.distributed import World
from aesop.weights.description import read_description
from aesop.weights.load import load_generator

SHARED = Path(os.environ.get("AESOP_SHARED", "../shared"))
CARD = shipped_model().with_name("README.md")
FILES = sorted(shipped_model().parent.glob("*.safetensors"))
CPU = torch.device("cpu")


def test_models_and_partners_are_all_that_is_there():
    models = [shipped_model(name) for name in MODELS]
    assert sorted([*models, *(faithful_partner(model) for model in models)]) == FILES
    assert all(purpose_of(file) for file in FILES)
    assert sum(file.stat().st_size for file in FILES) <= 15e6


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_they_are_small_and_known(file):
    net, info = load_generator(file)
    assert (info.arch, f"x{info.scale}") == ("RRDBNet", file.stem.removesuffix("_psnr")[-2:])
    assert sum(parameter.numel() for parameter in net.parameters()) <= 1.5e6
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_they_tell_nothing_of_the_machine_they_were_trained_on(file):
    text = "\n".join(load_generator(file)[1].metadata.values())
    assert "loss_weight" in text  # the recipe is there
    assert not re.search(r"(?m)[\s:'\"]/\w|dataroot|experiments_root|pretrain", text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_they_say_what_they_are(file):
    about = read_description(load_generator(file)[1].metadata)
    assert (about.title, about.license, "photo" in about.tags) == (file.stem, "Apache-2.0", True)
    assert "photographs" in about.description


def test_upscaling_without_naming_a_model(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_image(tmp_path / "photo.png", image)
    console = Console(record=True, width=200)
    results = [*upscale_files([tmp_path / "photo.png"], tmp_path / "out", console=console, device="cpu", precision="fp32")]
    assert "the bundled model that suits each picture" in console.export_text()
    assert re.search(r"photo_x4.png\nwith aesop_compact_x4 \(photo.png\)", Summary.of(results).text())
    net, _ = load_generator(shipped_model())
    expected = predict(net, image, None, 4, torch.device("cpu"))
    np.testing.assert_allclose(ImageFile.at(tmp_path / "out" / "photo_x4.png").read().astype(int), expected, atol=1)


@pytest.mark.parametrize(
    ("size", "scale", "model"),
    [
        (FinalSize(1.5), 1.5, "x2"),
        (FinalSize(2), 2, "x2"),
        (FinalSize(2.5), 2.5, "clean"),
        (FinalSize(width=60), 2, "x2"),
        (FinalSize(longest=90), 3, "clean"),
    ],
)
def test_clean_pictures_enlarged_by_two_or_less_get_the_x2_model(tmp_path, size, scale, model):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_image(tmp_path / "photo.png", image)
    (tmp_path / "photo.jpg").write_bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes())
    options = {"size": size, "console": Console(quiet=True), "device": "cpu", "precision": "fp32"}
    results = [*upscale_files([tmp_path / "photo.png", tmp_path / "photo.jpg"], tmp_path / "out", ext="png", **options)]
    assert [result.model for result in results] == [MODELS[model], MODELS["web"]]
    expected = Upscaler(model, "cpu", "fp32").upscale_frame(Frame(image), scale).pixels
    np.testing.assert_array_equal(ImageFile.at(results[0].target).read(), expected)


@pytest.fixture
def photographs(monkeypatch):
    """BSDS_test50, which no training saw."""
    data = SHARED / "data" / "BSDS_test50"
    if not data.is_dir():
        pytest.skip(f"needs {data}")
    monkeypatch.setenv("AESOP_WEIGHTS", str(SHARED / "weights"))
    return MeasuredPairs.find(PairedDataset(dataroot_gt=str(data)), "BSDS_test50", 4)


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def figures_in_card(heading: str, method: str) -> list[str]:
    """The cells of a method's row in the table whose first column is `heading`."""
    table = CARD.read_text(encoding="utf-8").partition(f"| {heading}")[2]
    row = re.search(rf"(?m)^\| \**{method}\** \|(.*)\|$", table)
    assert row is not None
    return [cell.strip(" *") for cell in row[1].split("|")]


@pytest.mark.slow
def test_the_clean_model_is_good_enough_to_be_shipped_and_has_the_figures_of_its_card(photographs):
    metrics = make_metrics({name: MetricOptions() for name in ("psnr", "lpips")}, 4, CPU)
    net, _ = load_generator(shipped_model("clean"))
    bicubic = averages(measure(lambda lq, _: imresize(lq, 4), photographs, metrics, World(device=CPU)))
    shipped = averages(measure(lambda lq, gt: predict(net, lq, gt, 4, CPU), photographs, metrics, World(device=CPU)))
    assert shipped["lpips"] <= 0.6 * bicubic["lpips"]
    assert shipped["psnr"] >= bicubic["psnr"] - 1
    for name, figures in (("bicubic", bicubic), ("aesop_compact_x4", shipped)):
        cells = figures_in_card("BSDS_test50 (50 photographs)", name)
        assert float(cells[0]) == pytest.approx(figures["psnr"], abs=0.01)
        assert float(cells[3]) == pytest.approx(figures["lpips"], abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("quality", [60, 40])
def test_the_web_model_is_better_than_the_clean_one_and_has_the_figures_of_its_card(photographs, quality):
    measured = measuring(make_metrics({name: MetricOptions() for name in ("psnr", "lpips")}, 4, CPU), CPU)
    nets = {name: load_generator(shipped_model(name))[0] for name in ("clean", "web")}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in nets}
    for sample in photographs:
        by_area = cv2.resize(sample.gt, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA)
        for lr in (as_jpeg(reduced, quality) for reduced in (imresize(sample.gt, 1 / 4), by_area)):
            for name, net in nets.items():
                rows[name].append(measured(predict(net, lr, None, 4, CPU), sample.gt))
    means = {name: averages(found) for name, found in rows.items()}
    assert means["web"]["lpips"] < 0.95 * means["clean"]["lpips"]
    for name, model in (("clean", "aesop_compact_x4"), ("web", "aesop_web_x4")):
        cells = figures_in_card("PSNR / LPIPS", model)
        psnr, lpips = map(float, cells[{60: 5, 40: 6}[quality]].split("/"))
        assert psnr == pytest.approx(means[name]["psnr"], abs=0.01)
        assert lpips == pytest.approx(means[name]["lpips"], abs=0.001)


@pytest.mark.slow
def test_the_x2_model_is_good_enough_to_be_shipped_and_has_the_figures_of_its_card(photographs):
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(SHARED / "data" / "BSDS_test50")), "BSDS_test50", 2)
    metrics = make_metrics({name: MetricOptions() for name in ("psnr", "lpips")}, 2, CPU)
    bicubic = averages(measure(lambda lq, _: imresize(lq, 2), pairs, metrics, World(device=CPU)))
    found = {"bicubic": bicubic}
    for file in (shipped_model("x2"), faithful_partner(shipped_model("x2"))):
        net, _ = load_generator(file)
        found[file.stem] = averages(
            measure(lambda lq, gt, net=net: predict(net, lq, gt, 2, CPU), pairs, metrics, World(device=CPU))
        )
    assert found["aesop_compact_x2"]["lpips"] <= 0.6 * bicubic["lpips"]
    assert found["aesop_compact_x2"]["psnr"] >= bicubic["psnr"] - 1
    for name, figures in found.items():
        cells = figures_in_card("BSDS_test50 (50 photographs), reduced to a half", name)
        assert float(cells[0]) == pytest.approx(figures["psnr"], abs=0.01)
        assert float(cells[3]) == pytest.approx(figures["lpips"], abs=0.001)


@pytest.mark.slow
def test_the_faithful_partner_of_the_clean_model_has_the_psnr_of_its_card():
    data = SHARED / "data" / "Set14" / "HR"
    if not data.is_dir():
        pytest.skip(f"needs {data}")
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(data)), "Set14", 4)
    metrics = make_metrics({"psnr": MetricOptions()}, 4, torch.device("cpu"))
    net, _ = load_generator(faithful_partner(shipped_model()))

    def enlarge(lq: np.ndarray, _: object) -> np.ndarray:
        return predict(net, lq, None, 4, torch.device("cpu"))

    stated = float(figures_in_card("Set14 | PSNR", "aesop_compact_x4_psnr")[0])
    measured = averages(measure(enlarge, pairs, metrics, World(device=torch.device("cpu"))))["psnr"]
    assert measured == pytest.approx(stated, abs=0.01)
