"""What the simulation of intervals and tests found, and that it still finds it."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import statistics_coverage as simulation

REPO = Path(__file__).parents[1]
RECORD = json.loads((REPO / json.loads(simulation.PACKAGED.read_text())["record"]).read_text())
MEASURED = ("photographs, PSNR", "photographs, SSIM", "photographs, LPIPS")
KEPT = {"mean": ("normal", "beta", *MEASURED, "log-normal"), "difference": ("normal", "skewed", MEASURED[0], MEASURED[2])}
"""Populations for which intervals keep their promise: all but heavy tails, and differences in SSIM (skewness 1.8)."""


def deviations(share: float, count: int) -> float:
    """Four standard deviations of a share that `count` experiments found."""
    return 4 * math.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("images", ["50", "100"])
def test_from_50_images_on_intervals_keep_their_promise(kind, images):
    for name in KEPT[kind]:
        assert 0.93 <= RECORD[kind][images][name] <= 0.97


def test_differences_that_are_none_are_rarely_significant():
    assert set(RECORD["false_positives"]) == {"8", "14", "50", "100"}
    for shares in RECORD["false_positives"].values():
        for share in shares.values():
            assert share <= 0.05 + deviations(0.05, RECORD["experiments"] // 5) / 2


@pytest.mark.slow
@pytest.mark.parametrize("images", [5, 14, 50])
@pytest.mark.parametrize("name", simulation.MEANS)
def test_coverage_can_be_repeated(images, name):
    recorded = RECORD["mean"][str(images)][name]
    found = simulation.coverage(simulation.MEANS[name], experiments=1000, resamples=1000, images=images)
    assert found == pytest.approx(recorded, abs=deviations(recorded, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "ties"])
def test_false_positives_can_be_repeated(noise):
    for share in simulation.false_positives(300, 14, noise).values():
        assert share <= 0.05 + deviations(0.05, 300)
