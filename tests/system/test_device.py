"""Devices: which precision float32 has on CUDA, which needs no GPU to be set."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aesop.commands.test import test as aesop_test
from aesop.data.degradation import jpeg
from aesop.data.degradation.random_degradation import batch_generator, degrade
from aesop.evaluation.measure import measure
from aesop.inference.upscaler import Upscaler
from aesop.options.degradation import DegradationOptions
from aesop.system.device import Float32InThreads, algorithms, available_memory, float32_on_cuda
from aesop.system.distributed import World


def tf32() -> tuple[bool, bool]:
    """Of matrix products and convolutions."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def _restored():
    before = tf32()
    yield
    assert tf32() == before == (False, True), "PyTorch's default"


def test_trainings_use_tf32_unless_they_are_deterministic():
    with algorithms(deterministic=False):
        assert tf32() == (True, True)
        with float32_on_cuda(tf32=False):
            assert tf32() == (False, False)
        assert tf32() == (True, True)
    with algorithms(deterministic=True):
        assert tf32() == (False, True)
    with pytest.raises(KeyError), algorithms(deterministic=False):
        raise KeyError


def test_the_cpu_computes_the_same():
    a, b = torch.rand(64, 64), torch.rand(64, 64)
    before = a @ b
    with float32_on_cuda(tf32=True):
        assert torch.equal(a @ b, before)
        assert torch.get_float32_matmul_precision() != "medium"


def test_threads_wait_for_the_setting_that_they_want():
    shared, entered, seen = Float32InThreads(), Event(), []

    def coarse() -> None:
        with shared.using(tf32=True):
            entered.set()
            seen.append(tf32())

    with ThreadPoolExecutor(1) as thread:
        with shared.using(tf32=False):
            coarse_done = thread.submit(coarse)
            with shared.using(tf32=False):  # as another thread may
                assert not entered.wait(0.2)
            seen.append(tf32())
        coarse_done.result(timeout=10)
    assert seen == [(False, False), (True, True)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says")
def test_available_memory():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    swap = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "SwapTotal" in line)
    assert 0 < (available_memory() or 0) <= total + 1024 * swap


def test_validations_use_tf32_in_the_network_and_not_in_metrics():
    image, seen = np.zeros((4, 4, 3), np.uint8), []

    class Pairs(list):
        name, pairs, scale = "", [SimpleNamespace(source="")], 1

    def predict(lq: np.ndarray, gt: np.ndarray) -> np.ndarray:
        seen.append(tf32())
        return lq

    def metric(*images: torch.Tensor) -> torch.Tensor:
        seen.append(tf32())
        return torch.zeros(1)

    metric.info = SimpleNamespace(needs_reference=True)
    with algorithms(deterministic=False):
        measure(predict, Pairs([{"name": "a", "lq": image, "gt": image}]), {"m": metric}, World())
    assert seen == [(True, True), (False, False)]


def test_upscaling_8_bits_uses_tf32_and_tests_do_not(monkeypatch, tmp_path):
    seen = []

    def stop(*args: object, **options: object) -> None:
        seen.append(tf32())
        raise ValueError("seen")

    monkeypatch.setattr("aesop.inference.upscaler.upscale_image", stop)
    monkeypatch.setattr("aesop.commands.test.MeasuredPairs", stop)
    datasets = SimpleNamespace(measured=lambda kind: {"test": None})
    config = SimpleNamespace(val=None, results_folder=tmp_path, datasets=datasets, scale=4)
    upscaler = Upscaler(device="cpu")
    eight, sixteen = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint16)
    for call in (lambda: upscaler(eight), lambda: upscaler(sixteen), lambda: aesop_test(config, None, World())):
        with pytest.raises(ValueError, match="seen"):
            call()
    assert seen == [(True, True), (False, False), (False, False)]


def test_the_cosine_transform_of_training_images_never_uses_tf32(monkeypatch):
    seen, genuine = [], jpeg._quantise_blocks
    monkeypatch.setattr(jpeg, "_quantise_blocks", lambda *args: seen.append(tf32()) or genuine(*args))
    with algorithms(deterministic=False):
        jpeg.jpeg(torch.rand(1, 3, 16, 16), 50)
        degrade(torch.rand(1, 3, 128, 128), DegradationOptions(), 4, batch_generator(0, 1))
    assert len(seen) == 2 + 4  # luma and chroma, once and in both rounds
    assert set(seen) == {(False, False)}
