"""Kernels, bytes and peak memory of a step, counted on fake tensors, stay within the budgets of budgets.json.

A budget is a ratio to the published amount of work, which is counted in the same run, so that another version of PyTorch
changes both. After a change that is meant: `python tests/gpu/test_budgets.py` counts and records all of them (minutes).
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "benchmarks")]

from cases import CASES, RRDB, VGG_STYLE  # noqa: E402

from aesop.check import step_count  # noqa: E402
from aesop.check.step_count import StepCounter  # noqa: E402
from aesop.data.degradation import operations  # noqa: E402
from aesop.system import device as devices  # noqa: E402
from training_step import BASELINE, RECIPES, PublishedWork, Recipe, ours  # noqa: E402

FILE = HERE / "budgets.json"
TOLERANCE = 0.02
CPU = torch.device("cpu")
WAYS = ("fp32", "bf16+channels_last")
COUNTED = (
    "psnr", "psnr, checkpointing", "psnr, accumulate, AdamW", "autoencoder", "autoencoder, frozen decoder", "adversarial",
    "adversarial, VGG style", "adversarial, not relativistic", "adversarial, sharpened", "adversarial, accumulate",
    "adversarial, checkpointing", "adversarial, SwinIR", "adversarial, SwinIR, other size", "adversarial, DRCT",
)  # fmt: skip
SMALL = Recipe(128, 2, RRDB, VGG_STYLE)
GOALS = {"aesop": 3.8, "realworld": 5.6, "swinir": 11.7}
"""The most GiB of a step at full size, with bf16 and channels_last."""


@pytest.fixture(autouse=True)
def _bf16_everywhere(monkeypatch):
    """Fake tensors need no bfloat16 instructions."""
    monkeypatch.setattr(devices, "reason_against_bf16", lambda device: None)
    devices._pays.cache_clear()
    yield
    devices._pays.cache_clear()


def published(recipe: Recipe) -> Callable[[], Callable[[int], object]]:
    def build() -> Callable[[int], object]:
        work = PublishedWork(recipe, CPU)
        lq = torch.rand(recipe.batch, 3, recipe.side // 4, recipe.side // 4)
        gt = torch.rand(recipe.batch, 3, recipe.side, recipe.side)
        return lambda iteration: work.step(lq, gt)

    return build


def full_size(name: str, way: str) -> Callable[[], Callable[[int], object]]:
    recipe = RECIPES[name]

    def build() -> Callable[[int], object]:
        _, step = ours(recipe, way, CPU)
        lq = torch.rand(recipe.batch, 3, recipe.side // 4, recipe.side // 4)
        gt = torch.rand(recipe.batch, 3, recipe.side, recipe.side)
        return lambda iteration: step(lq, gt, iteration)

    return build if way != BASELINE else published(recipe)


def count_step(build: Callable[[], Callable[[int], object]]) -> StepCounter:
    """Count a step whose constants are fake tensors too."""
    operations._gaussian_line.cache_clear()
    try:
        return step_count.count_step(build)
    finally:
        operations._gaussian_line.cache_clear()


@cache
def baseline() -> StepCounter:
    """The published work with the small networks."""
    return count_step(published(SMALL))


def ratios(counted: StepCounter, to: StepCounter) -> dict[str, float]:
    return {name: getattr(counted, name) / getattr(to, name) for name in ("kernels", "bytes", "peak")}


def budgets() -> dict[str, Any]:
    return json.loads(FILE.read_text())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", COUNTED)
def test_small_step(name, way):
    found = ratios(count_step(lambda: CASES[name].build(way, CPU)), baseline())
    assert found == pytest.approx(budgets()["small"][name][way], rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RECIPES))
def test_full_step(name):
    to, counted = count_step(full_size(name, BASELINE)), count_step(full_size(name, WAYS[1]))
    assert ratios(counted, to) == pytest.approx(budgets()["full"][name][WAYS[1]]["ratios"], rel=TOLERANCE)
    assert counted.peak / 2**30 <= GOALS.get(name, 16)


def test_counts_follow_from_the_shapes():
    """One convolution with a bias, forward and backward, in closed form."""

    def build() -> Callable[[int], object]:
        layer, x = torch.nn.Conv2d(3, 8, 3, padding=1), torch.rand(2, 3, 16, 16)
        return lambda iteration: layer(x).backward(torch.ones(2, 8, 16, 16))

    counter = count_step(build)
    image, result, weight, bias = 4 * 2 * 3 * 16 * 16, 4 * 2 * 8 * 16 * 16, 4 * 8 * 3 * 9, 4 * 8
    convolution = [operation for operation in counter.operations if operation.name.startswith("convolution")]
    assert [operation.kernels for operation in convolution] == [2, 2]
    forward = image + weight + bias + result + 2 * result  # the bias is added in a second kernel
    backward = result + image + result + weight + bias
    assert [operation.bytes for operation in convolution] == [forward, backward]
    assert [operation.flops for operation in convolution] == [2 * 2 * 16 * 16 * 8 * 27] * 2


def test_memory_is_followed():
    kept = []

    def step(iteration: int) -> None:
        kept[:] = [torch.zeros(1000)]  # 4 000 bytes, as 4 096; the former list lives until this one is there
        torch.zeros(300).add_(1)

    counter = count_step(lambda: step)
    assert (counter.peak, counter.memory) == (4096 * 2, 4096)


FAULTS: dict[str, Callable[[torch.Tensor], object]] = {
    "kernels": lambda x: [x.neg() for _ in range(12)],
    "bytes": lambda x: x.double().float(),
    "peak": lambda x: x.repeat(40, 1, 1, 1),
}


@pytest.mark.parametrize("measure", FAULTS)
def test_a_planted_fault_leaves_the_budget(measure):
    """Some superfluous work in a small step is more than the tolerance."""

    def build() -> Callable[[int], object]:
        step, x = CASES["psnr"].build("fp32", CPU), torch.rand(2, 3, 128, 128)

        def faulty(iteration: int) -> None:
            step(iteration)
            FAULTS[measure](x)

        return faulty

    found = ratios(count_step(build), baseline())[measure]
    assert found > budgets()["small"]["psnr"]["fp32"][measure] * (1 + TOLERANCE)


def record() -> None:
    devices.reason_against_bf16 = lambda device: None  # ty: ignore[invalid-assignment]
    small = {
        name: {way: ratios(count_step(lambda name=name, way=way: CASES[name].build(way, CPU)), baseline()) for way in WAYS}
        for name in COUNTED
    }
    full: dict[str, Any] = {}
    for name in RECIPES:
        to = count_step(full_size(name, BASELINE))
        full[name] = {BASELINE: absolute(to)}
        for way in WAYS:
            counted = count_step(full_size(name, way))
            full[name][way] = absolute(counted) | {"ratios": ratios(counted, to)}
    FILE.write_text(json.dumps({"torch": torch.__version__, "small": small, "full": full}, indent=1) + "\n")


def absolute(counted: StepCounter) -> dict[str, float]:
    return {
        "kernels": counted.kernels, "GB": round(counted.bytes / 1e9, 2), "TFLOP": round(counted.flops / 1e12, 3),
        "peak GiB": round(counted.peak / 2**30, 3),
    }  # fmt: skip


if __name__ == "__main__":
    record()
