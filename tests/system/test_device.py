"""Devices: float32 on CUDA, which needs no GPU to be set; which precision is fastest; threads and memory on a CPU."""

import multiprocessing
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
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
from aesop.system import device
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
        name, pairs, scale = "", [SimpleNamespace(source="", name="a")], 1

    def predict(lq: np.ndarray, gt: np.ndarray) -> np.ndarray:
        seen.append(tf32())
        return lq

    def metric(*images: torch.Tensor) -> torch.Tensor:
        seen.append(tf32())
        return torch.zeros(1)

    metric.info = SimpleNamespace(needs_reference=True)
    with algorithms(deterministic=False):
        sample = SimpleNamespace(name="a", lq=image, gt=image, notes=[])
        measure(predict, Pairs([sample]), {"m": metric}, World())
    assert seen == [(True, True), (False, False)]


def test_upscaling_8_bits_uses_tf32_and_tests_do_not(monkeypatch, tmp_path):
    seen = []

    def stop(*args: object, **options: object) -> None:
        seen.append(tf32())
        raise ValueError("seen")

    monkeypatch.setattr("aesop.inference.upscaler.upscale_image", stop)
    monkeypatch.setattr("aesop.commands.test.MeasuredPairs.find", stop)
    datasets = SimpleNamespace(measured=lambda kind: {"test": None})
    network = SimpleNamespace(model_dump=dict)
    config = SimpleNamespace(val=None, results_folder=tmp_path, datasets=datasets, scale=4, network_g=network)
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


# --- precision, threads and memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maker", "instructions", "expected"),
    [
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16"}, "fp32"),  # in a virtual machine without AMX
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16", "amx_tile"}, "bf16"),
        ("AMD EPYC 9R14", {"avx512_bf16"}, "bf16"),
        ("AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", set(), "fp32"),
        ("aarch64", set(), "fp32"),
    ],
)
def test_the_fastest_precision_of_a_processor(maker, instructions, expected, monkeypatch):
    monkeypatch.setattr(device, "processor", lambda: maker)
    for name in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in instructions)
    assert device.fastest_precision(torch.device("cpu")) == expected
    for name in ("amx_tile", "avx512_bf16"):  # an older PyTorch does not know
        monkeypatch.delattr(torch.cpu, f"_is_{name}_supported")
    assert device.fastest_precision(torch.device("cpu")) == "fp32"


@pytest.mark.parametrize(
    ("name", "reason", "capability", "expected"),
    [
        ("cuda", None, (8, 0), "bf16"),
        ("cuda", "has none", (7, 5), "fp16"),
        ("cuda", "has none", (6, 1), "fp32"),
        ("mps", None, None, "fp16"),
    ],
)
def test_the_fastest_precision_of_a_gpu(name, reason, capability, expected, monkeypatch):
    monkeypatch.setattr(device, "reason_against_bf16", lambda _: reason)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert device.fastest_precision(torch.device(name)) == expected


@pytest.mark.parametrize(
    ("maker", "instructions", "slower"),
    [
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16"}, True),
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16", "amx_tile"}, False),
        ("AMD EPYC 9R14", {"avx512_bf16"}, False),
    ],
)
def test_bf16_where_it_is_slower_runs_with_a_line(maker, instructions, slower, monkeypatch, caplog):
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "processor", lambda: maker)
    for name in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in instructions)
    device.reason_against_bf16.cache_clear()
    device._pays.cache_clear()
    try:
        assert device.uses_bf16(cpu, "bf16")
        assert device.uses_bf16(cpu, "bf16")
        assert caplog.text.count("bf16 is slower than fp32") == slower  # once
        caplog.clear()
        assert not device.uses_bf16(cpu, "fp32")
        assert not caplog.text
    finally:
        device.reason_against_bf16.cache_clear()
        device._pays.cache_clear()


@pytest.mark.parametrize(
    ("load", "threads", "name", "hints"),
    [(9.0, 2, "cpu", True), (2.0, 2, "cpu", False), (9.0, 1, "cpu", False), (9.0, 2, "cuda", False)],
)
def test_a_busy_machine_brings_a_hint_of_threads(load, threads, name, hints, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    hint = device.hint_of_threads(torch.device(name))
    assert ("OMP_NUM_THREADS=1" in hint) if hints else hint is None


def test_threads_are_set_for_a_while():
    before = torch.get_num_threads()
    with device.threads_on_cpu(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with device.threads_on_cpu(None):
        assert torch.get_num_threads() == before


def _page_faults(results: Connection) -> None:
    """Of five large tensors, one after the other."""
    import resource  # only Unix has it

    device.keep_freed_memory()
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(200_000_000, dtype=torch.uint8)
        results.send(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_freed_memory_is_kept():
    """A later large tensor needs no new pages from the system."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_page_faults, args=(theirs,))
    process.start()
    first, *others = (ours.recv() for _ in range(5))
    process.join()
    assert min(others) < first / 100
