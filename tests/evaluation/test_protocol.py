"""What is on record, in words, and compared."""

import copy
import hashlib
import re

import numpy as np
import pytest
import torch

import aesop
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation import protocol
from aesop.evaluation.measure import measure_methods
from aesop.evaluation.methods import bicubic
from aesop.evaluation.protocol import build, metric_record
from aesop.evaluation.protocol_text import caption, differences
from aesop.images.write import write_image
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.system.distributed import World
from aesop.weights import pretrained


def noise(seed: int, side: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def made(tmp_path):
    """A protocol of bicubic on images with the given seeds and, perhaps, LR files; PSNR with the given border."""

    def make(*seeds: int, lr: int | None = None, border: int = 4, scale: int = 4) -> dict:
        hr, folder = tmp_path / str(seeds), tmp_path / f"LR{seeds}{lr}"
        for number, seed in enumerate(seeds):
            write_image(hr / f"{number}.png", noise(seed, 32))
            if lr is not None:
                write_image(folder / f"{number}.png", noise(lr, 8))
        data = PairedDataset(dataroot_gt=str(hr), dataroot_lq=None if lr is None else str(folder))
        pairs = MeasuredPairs.find(data, "Set", scale)
        methods = [bicubic(scale)]
        results = measure_methods(methods, pairs, lambda sr, gt: {"psnr": 1.0}, World(), {}, on_record=True)
        return build(scale, {"psnr": MetricOptions(crop_border=border)}, methods, {"Set": (pairs, results)})

    return make


def test_equal_protocols_do_not_differ(made):
    assert differences(made(0, 1), made(0, 1)) == []


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"border": 4}, {"border": 2}, ["metrics.psnr.crop_border: 4 and 2"]),
        ({"scale": 2}, {"scale": 4}, ["scale: 2 and 4", "images: .*multiples of 2.* and .*multiples of 4"]),
        ({}, {"lr": 5}, ["sets.Set.lr: MATLAB's bicubic and files"]),
        ({"lr": 5}, {"lr": 6}, ["sets.Set.lr_sha256: [0-9a-f]{12} and [0-9a-f]{12}"]),
    ],
)
def test_what_decides_figures_is_compared(made, a, b, expected):
    found = differences(made(0, **a), made(0, **b))
    assert len(found) == len(expected)
    for pattern, line in zip(expected, found, strict=True):
        assert re.match(pattern, line)


def test_images_and_their_number_are_compared(made):
    assert [line.partition(":")[0] for line in differences(made(0), made(1))] == ["sets.Set.hr_sha256"]
    assert differences(made(0), made(0, 1))[0] == "sets.Set.images: 1 and 2"


def test_what_does_not_decide_figures_is_not_compared(made):
    a, b = made(0), copy.deepcopy(made(0))
    b["versions"]["torch"], b["machine"] = "0.1", "an abacus"
    b["sets"]["Other"] = b["sets"]["Set"]
    b["metrics"]["rgb"] = b["metrics"]["psnr"]
    b["networks"] = {"precision": "bf16", "tile": 32, "device": "cuda"}
    b["sets"]["Set"] = b["sets"]["Set"] | {"lr": protocol.LR_UNUSED}
    assert differences(a, b) == differences(b, a) == []
    a["networks"] = {"precision": "bf16", "tile": 0, "device": "cpu"}
    assert differences(a, b) == ["networks.tile: 0 and 32"]


def test_weights_of_metrics_are_on_record(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda package: None)
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path))
    contents = {"alexnet": b"trunk", "lpips_alex": b"heads"}
    for file, content in zip(("alexnet_features.safetensors", "lpips_lin_alex.safetensors"), contents.values(), strict=True):
        (tmp_path / file).write_bytes(content)
    record = metric_record("lpips", MetricOptions())
    assert record == {
        "label": "LPIPS", "type": "lpips", "crop_border": 0, "channels": "RGB",
        "weights": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }  # fmt: skip
    (tmp_path / "lpips_lin_alex.safetensors").write_bytes(b"others")
    after = metric_record("lpips", MetricOptions())
    found = differences({"metrics": {"lpips": record}}, {"metrics": {"lpips": after}})
    assert [line.partition(":")[0] for line in found] == ["metrics.lpips.weights.lpips_alex"]
    assert metric_record("p", MetricOptions(type="calculate_psnr", test_y_channel=False))["channels"] == "RGB"


def test_captions(made):
    computed = f" Computed with aesop {aesop.__version__} and torch {torch.__version__}"
    assert caption(made(0)) == (
        "Scale 4. PSNR on luma (Y of BT.601) without a border of 4 pixels; images rounded to 8 bits, HR cut to multiples of "
        f"the scale; LR by MATLAB's bicubic.{computed}."
    )
    weights = {"alexnet": "0123456789abcdef", "lpips_alex": "fedcba9876543210"}
    learned = made(0) | {"metrics": {"lpips": {"label": "LPIPS", "channels": "RGB", "crop_border": 0, "weights": weights}}}
    assert caption(learned).endswith(f"{computed}; weights of metrics alexnet 01234567, lpips_alex fedcba98.")
    both = made(0, lr=5)
    both["metrics"] |= {name: metric_record(name, MetricOptions()) for name in ("ssim", "ms_ssim", "lrpsnr")}
    both["sets"] |= {"Other": made(0)["sets"]["Set"], "Finished": {"images": 3, "lr": protocol.LR_UNUSED}}
    assert caption(both) == (
        "Scale 4. PSNR, SSIM and MS-SSIM on luma (Y of BT.601) without a border of 4 pixels; LR-PSNR on luma (Y of BT.601); "
        "images rounded to 8 bits, HR cut to multiples of the scale; LR from files (Set); LR by MATLAB's bicubic (Other)."
        f"{computed}."
    )
