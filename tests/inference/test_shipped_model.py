"""The generator in the package: that it is what its card says, and good enough to be there."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_results import Summary
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import averages, measure
from aesop.evaluation.methods import predict
from aesop.images.read import ImageFile
from aesop.images.resize import imresize
from aesop.images.write import write_image
from aesop.inference.shipped_model import faithful_partner, shipped_model
from aesop.metrics.build import make_metrics
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.system.distributed import World
from aesop.weights.load import load_generator

SHARED = Path(os.environ.get("AESOP_SHARED", "../shared"))
CARD = shipped_model().with_name("README.md")


def test_it_is_small_and_known():
    net, info = load_generator(shipped_model())
    assert shipped_model().stat().st_size <= 5e6
    assert (info.arch, info.scale) == ("RRDBNet", 4)
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


def test_it_tells_nothing_of_the_machine_it_was_trained_on():
    text = "\n".join(load_generator(shipped_model())[1].metadata.values())
    assert "loss_weight" in text  # the recipe is there
    assert not re.search(r"(?m)[\s:'\"]/\w|dataroot|experiments_root|pretrain", text)


def test_upscaling_without_naming_a_model(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_image(tmp_path / "photo.png", image)
    console = Console(record=True, width=200)
    results = [*upscale_files([tmp_path / "photo.png"], tmp_path / "out", console=console, device="cpu", precision="fp32")]
    assert "aesop_compact_x4" in console.export_text()
    assert "photo_x4.png" in Summary.of(results).text()
    net, _ = load_generator(shipped_model())
    expected = predict(net, image, None, 4, torch.device("cpu"))
    np.testing.assert_allclose(ImageFile.at(tmp_path / "out" / "photo_x4.png").read().astype(int), expected, atol=1)


@pytest.mark.slow
def test_it_is_good_enough_to_be_shipped(monkeypatch):
    """The conditions of its card, on the 50 photographs it was never trained on, and the card's own figures."""
    data = SHARED / "data" / "BSDS_test50"
    if not data.is_dir():
        pytest.skip(f"needs {data}")
    monkeypatch.setenv("AESOP_WEIGHTS", str(SHARED / "weights"))
    device = torch.device("cpu")
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(data)), "BSDS_test50", 4)
    metrics = make_metrics({name: MetricOptions() for name in ("psnr", "lpips")}, 4, device)
    net, _ = load_generator(shipped_model())
    bicubic = averages(measure(lambda lq, _: imresize(lq, 4), pairs, metrics, World(device=device)))
    shipped = averages(measure(lambda lq, gt: predict(net, lq, gt, 4, device), pairs, metrics, World(device=device)))
    assert shipped["lpips"] <= 0.6 * bicubic["lpips"]
    assert shipped["psnr"] >= bicubic["psnr"] - 1
    table = CARD.read_text(encoding="utf-8").partition("BSDS_test50")[2]
    for name, figures in (("bicubic", bicubic), ("aesop_compact_x4", shipped)):
        row = re.search(rf"(?m)^\| \**{name}\** \|(.*)\|$", table)
        assert row is not None
        cells = [float(cell.strip(" *")) for cell in row[1].split("|")]
        assert cells[0] == pytest.approx(figures["psnr"], abs=0.01)
        assert cells[4] == pytest.approx(figures["lpips"], abs=0.001)


@pytest.mark.slow
def test_its_faithful_partner_has_the_psnr_of_its_card():
    data = SHARED / "data" / "Set14" / "HR"
    if not data.is_dir():
        pytest.skip(f"needs {data}")
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(data)), "Set14", 4)
    metrics = make_metrics({"psnr": MetricOptions()}, 4, torch.device("cpu"))
    net, _ = load_generator(faithful_partner(shipped_model()))

    def enlarge(lq: np.ndarray, _: object) -> np.ndarray:
        return predict(net, lq, None, 4, torch.device("cpu"))

    (stated,) = re.findall(r"Set14: ([\d.]+) dB, LPIPS", CARD.read_text(encoding="utf-8"))
    measured = averages(measure(enlarge, pairs, metrics, World(device=torch.device("cpu"))))["psnr"]
    assert measured == pytest.approx(float(stated), abs=0.01)
