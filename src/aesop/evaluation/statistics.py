"""Intervals of means, paired tests, and the correction for several comparisons. The unit of all of them is the image.

BCa intervals of few values are too short: the bootstrap takes the variance of n values to be (n - 1) / n of what it is, and
the normal distribution for Student's. So their levels are moved outwards, as in Hesterberg, "What Teachers Should Know
About the Bootstrap" (The American Statistician 69, 2015), and as `expand = TRUE` in his R package `resample`.
`benchmarks/statistics_coverage.py` checks by simulation what intervals and tests promise.
"""

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 0
ALPHA = 0.05
FEWEST_FOR_INTERVAL = 5
FEWEST_FOR_TEST = 8
"""With fewer images, or with many methods some more, no outcome of the test is significant after Holm's correction."""


def mean_intervals(values: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Bootstrap intervals (BCa, expanded) of the means of rows: (rows, images) -> (rows, 2), each lower and upper end.

    All rows are resampled by the same images, so a row's interval does not depend on the rows beside it. A row without
    variation has an interval of length zero. NaN for rows with values that are not finite, and for fewer than
    FEWEST_FOR_INTERVAL images.
    """
    from scipy.stats import bootstrap  # takes a second to import

    rows, images = values.shape
    intervals = np.full((rows, 2), np.nan)
    finite = np.isfinite(values).all(axis=1)
    if images < FEWEST_FOR_INTERVAL or not finite.any():
        return intervals
    constant = finite & is_constant(values)
    intervals[constant] = values[constant].mean(axis=1, keepdims=True)
    varied = finite & ~constant
    if varied.any():
        found = bootstrap(
            (np.ascontiguousarray(values[varied]),),
            np.mean,
            n_resamples=resamples,
            batch=500,  # 12 MB for 30 rows of 100 images
            vectorized=True,
            axis=-1,
            confidence_level=expanded_confidence(images),
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        intervals[varied] = np.stack([found.low, found.high], axis=-1)
    return intervals


def expanded_confidence(images: int) -> float:
    """The confidence for which the bootstrap is asked, so that intervals of normal values contain the mean with CONFIDENCE.

    The quantiles of Student's distribution, times sqrt(n / (n - 1)), take the place of the normal ones: 0.998 for 5 images,
    0.958 for 50, and CONFIDENCE for many.
    """
    from scipy.stats import norm, t

    reach = math.sqrt(images / (images - 1)) * t.ppf((1 + CONFIDENCE) / 2, images - 1)
    return float(1 - 2 * norm.sf(reach))


def is_constant(values: np.ndarray) -> np.ndarray:
    """Whether the values of each row agree up to rounding: (rows, images) -> (rows,)."""
    with np.errstate(invalid="ignore"):
        return np.ptp(values, axis=1) <= 8 * np.finfo(float).eps * np.abs(values).max(axis=1)


class PairedTest(NamedTuple):
    """Wilcoxon's signed-rank test of one method's values minus another's."""

    p: float
    """Two-sided. NaN: not tested."""
    sign: int
    """Of both the mean and the rank sum; 0 if they disagree."""

    @property
    def significant(self) -> bool:
        return self.p < ALPHA and self.sign != 0


def paired_test(differences: np.ndarray) -> PairedTest:
    """Test the differences (images,) of two methods. Fewer than FEWEST_FOR_TEST images are not tested.

    The p-value is exact up to 50 images without ties. Zero differences keep their ranks (Pratt).
    """
    from scipy.stats import rankdata, wilcoxon

    mean, ranks = differences.mean(), np.sum(np.sign(differences) * rankdata(np.abs(differences)))
    sign = int(np.sign(mean)) if mean * ranks > 0 else 0
    if len(differences) < FEWEST_FOR_TEST:
        return PairedTest(np.nan, sign)
    if not differences.any():
        return PairedTest(1.0, 0)
    return PairedTest(float(wilcoxon(differences, zero_method="pratt").pvalue), sign)


def corrected(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The tests with p-values adjusted for their number (Holm)."""
    adjusted = holm(np.array([test.p for test in tests]))
    return [PairedTest(float(p), test.sign) for p, test in zip(adjusted, tests, strict=True)]


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values for their number (Holm's step-down method); NaN stays NaN and does not count."""
    adjusted = np.full(len(p_values), np.nan)
    (tested,) = np.nonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def interval_coverage(images: int) -> tuple[float, float] | None:
    """The share of intervals that contain the population's mean: lowest and highest over the simulated populations.

    Of the largest simulated number of images that is not above `images`. None for fewer than FEWEST_FOR_INTERVAL images.
    """
    if images < FEWEST_FOR_INTERVAL:
        return None
    simulated = _simulated_coverage()
    shares = simulated[max(n for n in simulated if n <= images)].values()
    return min(shares), max(shares)


@cache
def _simulated_coverage() -> dict[int, dict[str, float]]:
    """Number of images -> population -> share."""
    text = (resources.files("aesop") / "assets" / "interval_coverage.json").read_text(encoding="utf-8")
    return {int(n): shares for n, shares in json.loads(text)["mean"].items()}
