"""The generators in the package: that they are what their card says, and good enough to be there."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from aesop.config import MetricOptions, PairedDataset
from aesop.data.images import read_image, write_image
from aesop.data.pairs import MeasuredPairs
from aesop.data.resize import imresize
from aesop.evaluate import averages, make_metrics, measure, predict
from aesop.inference import SHIPPED_SCALES, shipped_model, summary, upscale_files
from aesop.weights import load_generator

SHARED = Path(os.environ.get("AESOP_SHARED", "../shared"))
CARD = shipped_model().with_name("README.md")
at_each_scale = pytest.mark.parametrize("scale", SHIPPED_SCALES)


@at_each_scale
def test_it_is_small_and_known(scale):
    net, info = load_generator(shipped_model(scale))
    assert shipped_model(scale).stat().st_size <= 5e6
    assert (info.arch, info.scale) == ("RRDBNet", scale)
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


@at_each_scale
def test_it_tells_nothing_of_the_machine_it_was_trained_on(scale):
    text = "\n".join(load_generator(shipped_model(scale))[1].metadata.values())
    assert "loss_weight" in text  # the recipe is there
    assert not re.search(r"(?m)[\s:'\"]/\w|dataroot|experiments_root|pretrain", text)


@at_each_scale
def test_upscaling_without_naming_a_model(tmp_path, scale):
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    write_image(tmp_path / "photo.png", image)
    console = Console(record=True, width=200)
    asked = {} if scale == 4 else {"scale": scale}  # 4 is what comes unasked
    results = upscale_files([tmp_path / "photo.png"], tmp_path / "out", console=console, device="cpu", **asked)
    assert f"aesop_compact_x{scale}" in console.export_text()
    assert f"photo_x{scale}.png" in summary(results)
    net, _ = load_generator(shipped_model(scale))
    expected = predict(net, image, None, scale, torch.device("cpu"))
    np.testing.assert_allclose(read_image(tmp_path / "out" / f"photo_x{scale}.png").astype(int), expected, atol=1)


def test_a_scale_that_is_not_there(tmp_path):
    write_image(tmp_path / "photo.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="--scale 3: aesop comes with models for x2 and x4; name another one with -m"):
        upscale_files([tmp_path / "photo.png"], tmp_path / "out", scale=3)
    with pytest.raises(ValueError, match=r"--scale 2: .*aesop_compact_x4.safetensors is a x4 model"):
        upscale_files([tmp_path / "photo.png"], tmp_path / "out", shipped_model(), scale=2, device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@at_each_scale
def test_it_is_good_enough_to_be_shipped(monkeypatch, scale):
    """The conditions of its card, on the 50 photographs it was never trained on, and the card's own figures."""
    data = SHARED / "data" / "BSDS_test50"
    if not data.is_dir():
        pytest.skip(f"needs {data}")
    monkeypatch.setenv("AESOP_WEIGHTS", str(SHARED / "weights"))
    device = torch.device("cpu")
    pairs = MeasuredPairs(PairedDataset(dataroot_gt=str(data)), "BSDS_test50", scale)
    metrics = make_metrics({name: MetricOptions() for name in ("psnr", "lpips")}, scale, device)
    net, _ = load_generator(shipped_model(scale))
    bicubic = averages(measure(lambda lq, _: imresize(lq, scale), pairs, metrics, device))
    shipped = averages(measure(lambda lq, gt: predict(net, lq, gt, scale, device), pairs, metrics, device))
    assert shipped["lpips"] <= 0.6 * bicubic["lpips"]
    assert shipped["psnr"] >= bicubic["psnr"] - 1
    table = CARD.read_text(encoding="utf-8").partition(f"| BSDS_test50, x{scale} ")[2]
    for name, figures in (("bicubic", bicubic), (f"aesop_compact_x{scale}", shipped)):
        row = re.search(rf"(?m)^\| \**{name}\** \|(.*)\|$", table)
        assert row is not None
        cells = [float(cell.strip(" *")) for cell in row[1].split("|")]
        assert cells[0] == pytest.approx(figures["psnr"], abs=0.01)
        assert cells[4] == pytest.approx(figures["lpips"], abs=0.001)
