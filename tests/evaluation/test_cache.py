"""SR images and values of the cache: hits and misses, damage, folders that cannot be written to, the size."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aesop.data.measured_pairs import MeasuredPairs, Sample
from aesop.evaluation import cache as cache_module
from aesop.evaluation import protocol
from aesop.evaluation.cache import Cache
from aesop.evaluation.methods import Method
from aesop.images.write import write_image
from aesop.metrics.build import make_metrics
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.system.user_cache import trim

CPU = torch.device("cpu")


def noise(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Counting:
    """A method that answers with noise, and counts its answers."""

    def __init__(self):
        self.count = 0
        self.method = Method("net", self.answer, "net.pth", "weights' hash", {"tile": 0})

    def answer(self, sample: Sample) -> np.ndarray:
        self.count += 1
        return noise(len(self.method.name), *(4 * side for side in sample.lq.shape[:2]))


@pytest.fixture
def sample(tmp_path) -> Sample:
    write_image(tmp_path / "HR" / "a.png", noise(0))
    return MeasuredPairs.find(PairedDataset(dataroot_gt=str(tmp_path / "HR")), "val", 4)[0]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache"


def files(folder: Path, kind: str) -> list[Path]:
    return [path for path in (folder / kind).rglob("*") if path.is_file()]


def test_an_answer_is_computed_once(sample, folder):
    net = Counting()
    first, second = (Cache(folder).method(net.method).answer(sample) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert net.count == 1
    assert [len(files(folder, kind)) for kind in ("images", "records")] == [1, 1]


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "other weights' hash"}, {"settings": {"tile": 32}}, {"settings": {"tile": 0, "precision": "bf16"}}],
)
def test_an_answer_of_another_network_is_another_one(sample, folder, changes):
    net = Counting()
    for method in (net.method, replace(net.method, **changes), net.method):
        Cache(folder).method(method).answer(sample)
    assert net.count == 2


def test_what_an_answer_depends_on(tmp_path, folder, monkeypatch):
    """HR, from which LR is made; LR files; aesop's code; the versions of libraries."""
    net = Counting()

    def answer(seed: int, lr: int | None = None) -> int:
        write_image(tmp_path / "HR" / "a.png", noise(seed))
        if lr is not None:
            write_image(tmp_path / "LR" / "a.png", noise(lr, 8, 8))
        data = PairedDataset(dataroot_gt=str(tmp_path / "HR"), dataroot_lq=None if lr is None else str(tmp_path / "LR"))
        before = net.count
        Cache(folder).method(net.method).answer(MeasuredPairs.find(data, "val", 4)[0])
        return net.count - before

    assert [answer(0), answer(1), answer(0)] == [1, 1, 0]
    assert [answer(0, lr=2), answer(0, lr=3), answer(0, lr=2), answer(0)] == [1, 1, 0, 0]
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "code_version", lambda: "edited")
        assert [answer(0), answer(0)] == [1, 0]
    monkeypatch.setattr(cache_module, "versions", lambda: {"torch": "3.0"})
    assert [answer(0), answer(0)] == [1, 0]


def test_the_code_that_computes_is_in_its_version(tmp_path, monkeypatch):
    assert len(protocol.code_version()) == 64
    root = tmp_path / "aesop"
    (root / "metrics").mkdir(parents=True)
    monkeypatch.setattr(protocol.aesop, "__file__", str(root / "__init__.py"))
    found = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (root / "metrics" / "psnr.py").write_text(text)
        found.append(protocol.code_version.__wrapped__())
    assert found[0] == found[2] != found[1]


def test_finished_images_and_interpolations_are_not_kept(folder):
    method = Method("Bicubic", lambda sample: noise(0))
    assert Cache(folder).method(method) is method


@pytest.mark.parametrize("kind", ["images", "records"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\0" * len(data), lambda data: data + b"x"],
    ids=["empty", "half", "zeros", "longer"],
)
def test_what_is_damaged_is_computed_again(sample, folder, kind, damage):
    net = Counting()
    cached = Cache(folder).method(net.method)
    expected = cached.answer(sample)
    (path,) = files(folder, kind)
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(cached.answer(sample), expected)
    np.testing.assert_array_equal(cached.answer(sample), expected)
    assert net.count <= 2
    other = noise(5)
    (path,) = files(folder, "images")
    write_image(path, other)  # a whole image, but not the one of this name
    np.testing.assert_array_equal(cached.answer(sample), expected)


@pytest.mark.parametrize("change", [{"value": 1.5}, {"value": "x"}, {"key": "x"}, {"sum": ""}])
def test_a_changed_value_is_computed_again(sample, folder, change):
    options = {"psnr": MetricOptions()}
    metrics = make_metrics(options, 4, CPU)
    sr, gt = noise(1), sample.gt
    measure_image = Cache(folder).measuring(metrics, options, 4, CPU)
    expected = measure_image(sr, gt)
    (path,) = files(folder, "records")
    record = json.loads(path.read_text())
    assert record["value"] == expected["psnr"]
    path.write_text(json.dumps(record | change))
    assert measure_image(sr, gt) == expected
    assert json.loads(path.read_text()) == record


def test_values_depend_on_images_options_and_weights(tmp_path, folder, monkeypatch):
    calls = []
    monkeypatch.setattr(
        cache_module, "measuring", lambda metrics, _: lambda *_: calls.append(list(metrics)) or dict.fromkeys(metrics, 1.0)
    )
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path))
    for content in (b"first", b"second, longer"):
        for name in ("alexnet_features.safetensors", "lpips_lin_alex.safetensors"):
            (tmp_path / name).write_bytes(content)

        def measured(seed: int = 0, gt: int = 1, scale: int = 4, **entries: dict) -> list:
            calls.clear()
            options = {name: MetricOptions(**entry) for name, entry in ({"psnr": {}, "lpips": {}} | entries).items()}
            metrics = dict.fromkeys(options)
            assert Cache(folder).measuring(metrics, options, scale, CPU)(noise(seed), noise(gt)) == dict.fromkeys(
                options, 1.0
            )
            return calls[0]

        first = measured()
        assert first == (["psnr", "lpips"] if content == b"first" else ["lpips"])  # another file of the same name
        assert measured() == []
        if content == b"first":
            assert measured(seed=2) == measured(gt=2) == measured(scale=2) == ["psnr", "lpips"]
            assert measured(psnr={"crop_border": 3}) == ["psnr"]
            assert measured(psnr={"test_y_channel": False}) == ["psnr"]
            assert measured(ssim={}) == ["ssim"]
            assert measured(psnr={"crop_border": 4}) == []  # the default
        assert measured() == []


def test_values_that_are_no_numbers_or_infinite_are_kept(folder, monkeypatch):
    found = {"psnr": float("nan"), "ssim": float("inf")}
    monkeypatch.setattr(cache_module, "measuring", lambda metrics, _: lambda *_: {name: found[name] for name in metrics})
    options = {name: MetricOptions() for name in found}
    measure_image = Cache(folder).measuring(dict.fromkeys(found), options, 4, CPU)
    measure_image(noise(0), noise(1))
    monkeypatch.setattr(cache_module, "measuring", lambda metrics, _: lambda *_: dict.fromkeys(metrics, 0.0))
    assert str(measure_image(noise(0), noise(1))) == str(found)


def test_a_folder_that_cannot_be_written_to_costs_a_line(sample, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    net = Counting()
    cached = Cache(tmp_path / "file" / "cache").method(net.method)
    np.testing.assert_array_equal(cached.answer(sample), cached.answer(sample))
    assert net.count == 2
    assert caplog.text.count("cannot be written to") == 1


def test_what_was_used_longest_ago_is_removed(tmp_path):
    now = time.time()
    for age, name in enumerate(("new", "used", "old", "older")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 100)
        os.utime(tmp_path / name / "file", (now - age, now - age))
    trim(tmp_path, 400)
    assert len(files(tmp_path, ".")) == 4
    trim(tmp_path, 300)  # leaves at most 270
    assert sorted(path.parent.name for path in files(tmp_path, ".")) == ["new", "used"]
    trim(tmp_path / "nowhere", 300)


def test_an_answer_that_was_used_counts_as_new(sample, folder):
    net = Counting()
    cached = Cache(folder).method(net.method)
    cached.answer(sample)
    for path in files(folder, "."):
        os.utime(path, (0, 0))
    cached.answer(sample)
    assert all(path.stat().st_mtime > 0 for path in files(folder, "."))
