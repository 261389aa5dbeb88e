"""benchmarks/gpu.py at toy size on the CPU, so that a lent GPU is not spent on finding mistakes."""

import json
import logging
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gpu
import record
import roofline
import training_step
from aesop.system.device import reason_against_bf16
from training_step import Recipe, ours

CPU = torch.device("cpu")


def test_all_parts_at_toy_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    gpu.main(["--device", "cpu", "--toy", "--record"])
    found = json.loads(next(tmp_path.glob("gpu_toy_*_cpu.json")).read_text())
    printed = capsys.readouterr().out
    assert "failed" not in printed
    assert found["failed_parts"] == found["left_out"] == []
    assert set(found["steps"]) == set(gpu.GOALS)
    checks = [passed for row in found["checks"].values() for passed in row.values() if isinstance(passed, bool)]
    assert len(checks) == 3 * 7
    assert all(checks)
    assert found["roofline"]["share"] > 0
    assert all({"convolution", "elementwise", "optimiser"} <= set(row["kinds"]) for row in found["profile"].values())
    # The network is the same in every way, so only rounding and what padding changes at the border are left.
    apart = {name: row["grey_levels_apart"] for name, row in found["upscaling"].items() if "seconds" in row}
    assert apart["ours, fp32"] == apart["ours, fp32, whole image"] == 0
    if reason_against_bf16(CPU) is None:  # else bf16 falls back to fp32
        assert apart["ours, bf16"] < 20
    assert "cuda_graphs is ignored: it needs CUDA" in printed


def test_rows_that_do_not_get_done():
    def fails() -> dict:
        logging.getLogger("aesop").warning("compile: left out")
        raise RuntimeError("CUDA error: out of memory\nmore")

    run = gpu.Run(CPU, gpu.TOY, rounds=1, row_limit=0.2, until=time.monotonic() + 60)
    rows = {"a": run.row("a", fails), "b": run.row("b", lambda: time.sleep(10) or {}), "c": run.row("c", lambda: {"x": 1})}
    assert rows["a"]["failed"] == "RuntimeError: CUDA error: out of memory"
    assert rows["a"]["notes"] == ["aesop: compile: left out"]
    assert rows["b"]["failed"].startswith("not done after")
    assert set(gpu.done(rows)) == {"c"}
    run.until = time.monotonic()
    rows["d"] = run.row("d", fails)
    assert gpu.left_out({"steps": rows}) == ["steps d"]
    assert [line.count("|") for line in gpu.not_done(rows, 5)] == [6, 6, 6]


def test_a_step_without_its_baseline_is_still_a_table(monkeypatch, capsys):
    def fail(builders, device, rounds):
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = gpu.Run(CPU, gpu.TOY, rounds=1, row_limit=60, until=time.monotonic() + 60)
    monkeypatch.setattr(gpu, "measure", fail)
    gpu.measure_steps(run, "autoencoder")
    assert "| published work | failed: OutOfMemoryError: CUDA out of memory | | | |" in capsys.readouterr().out


def test_the_roofline_counts_what_a_step_computes(monkeypatch):
    """Against PyTorch's own count of a whole step."""
    recipe = Recipe(128, 1, gpu.TINY, {"type": "VGGStyleDiscriminator128", "num_feat": 4})
    monkeypatch.setattr(training_step, "AUTOENCODER", gpu.TINY_AUTOENCODER)
    stage, _ = ours(recipe, "fp32", CPU)
    counter = FlopCounterMode(display=False)
    with counter:
        stage.step(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 128, 128), 1)
    peaks = {"bf16": 1e12, "tf32": 1e12, "copy": 1e12}
    assert sum(row["flops"] for row in roofline.roofline(recipe, 2, "fp32", peaks).values()) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16>", "copy/cat"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_nhwc", "convolution"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::leaky_relu_kernel>", "elementwise"),
        ("void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>", "copy/cat"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimiser"),
        ("triton_poi_fused_cat_convolution_leaky_relu_0", "elementwise"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW", "normalisation"),
    ],
)
def test_kinds_of_kernels(kernel, kind):
    assert gpu.kind_of_kernel(kernel) == kind
