"""Intervals and tests against closed forms, enumeration, and textbook formulas."""

import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata, t

from aesop.evaluation.statistics import (
    ALPHA,
    PairedTest,
    corrected,
    holm,
    interval_coverage,
    mean_intervals,
    paired_test,
)

REPO = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).lognormal(0, 0.8, shape)


def textbook_bca(values: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Efron and Tibshirani, equations 14.9 to 14.15, with all n^n resamples: their means, and the levels of both ends.

    The quantiles z are Hesterberg's expanded ones.
    """
    n = len(values)
    means = np.array(list(itertools.product(values, repeat=n))).mean(axis=1)
    below, equal = np.mean(means < values.mean() - 1e-12), np.mean(np.abs(means - values.mean()) <= 1e-12)
    z0 = norm.ppf(below + equal / 2)
    leaving_out = np.array([np.delete(values, k).mean() for k in range(n)])
    u = leaving_out.mean() - leaving_out
    a = np.sum(u**3) / (6 * np.sum(u**2) ** 1.5)
    reach = math.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1)
    return means, [norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in (-reach, reach)]


def test_an_interval_is_that_of_the_textbook():
    values = draw(1, 6)
    means, levels = textbook_bca(values[0])
    (interval,) = mean_intervals(values, resamples=1_000_000)
    for end, level in zip(interval, levels, strict=True):  # so many random resamples know a level to 0.001
        assert np.mean(means < end - 1e-12) - 0.002 <= level <= np.mean(means <= end + 1e-12) + 0.002


def test_intervals_of_many_normal_values_are_those_of_the_normal_distribution():
    values = norm.ppf((np.arange(400) + 0.5) / 400)[None] * 3 + 28
    (interval,) = mean_intervals(values)
    half = 1.96 * values.std() / math.sqrt(400)
    assert interval == pytest.approx([28 - half, 28 + half], abs=0.03 * half)


@pytest.mark.parametrize("images", [12, 40])
def test_intervals_of_few_normal_values_are_those_of_student(images):
    values = norm.ppf((np.arange(images) + 0.5) / images)[None] * 3 + 28
    (interval,) = mean_intervals(values)
    half = t.ppf(0.975, images - 1) * values.std(ddof=1) / math.sqrt(images)
    assert interval == pytest.approx([28 - half, 28 + half], abs=0.05 * half)


def test_an_interval_does_not_depend_on_the_rows_beside_it():
    values = draw(5, 20)
    together = mean_intervals(values)
    assert np.array_equal(together[::-1], mean_intervals(values[::-1]))
    for row, interval in zip(values, together, strict=True):
        assert mean_intervals(row[None])[0] == pytest.approx(interval, rel=1e-12)


def test_shifted_and_mirrored_values_have_shifted_and_mirrored_intervals():
    values = draw(4, 15)
    intervals = mean_intervals(values)
    assert mean_intervals(values + 7) == pytest.approx(intervals + 7)
    assert mean_intervals(3 * values) == pytest.approx(3 * intervals)
    assert mean_intervals(-values) == pytest.approx(-intervals[:, ::-1], rel=1e-3)


def test_values_without_variation_have_an_interval_of_length_zero():
    shifted = (draw(1, 9) + 0.3) - draw(1, 9)  # a constant up to rounding
    values = np.concatenate([np.full((1, 9), 0.1), shifted, np.zeros((1, 9)), draw(1, 9)])
    intervals = mean_intervals(values)
    assert intervals[:3] == pytest.approx(np.array([[0.1, 0.1], [0.3, 0.3], [0, 0]]))
    assert intervals[3, 0] < intervals[3, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_have_no_interval_and_leave_others_alone(bad):
    values = draw(3, 10)
    expected = mean_intervals(values)
    values[1, 4] = bad
    intervals = mean_intervals(values)
    assert np.isnan(intervals[1]).all()
    assert np.array_equal(intervals[[0, 2]], expected[[0, 2]])


def test_few_images_have_no_interval():
    assert np.isnan(mean_intervals(draw(2, 4))).all()
    assert np.isfinite(mean_intervals(draw(2, 5))).all()


def enumerated_p(differences: np.ndarray) -> float:
    """Of the signed-rank test: all assignments of signs are equally likely. Zeros keep their ranks, but have no sign."""
    ranks = rankdata(np.abs(differences)) * (differences != 0)
    observed = abs(np.sum(np.sign(differences) * ranks))
    sums = np.array(list(itertools.product((-1, 1), repeat=len(ranks)))) @ ranks
    return np.mean(np.abs(sums) >= observed - 1e-9)


@pytest.mark.parametrize(
    "differences",
    [
        np.random.default_rng(1).normal(0.4, 1, 8),
        np.random.default_rng(2).normal(0.8, 1, 11),
        np.array([0.1, 0.1, 0.3, -0.1, 0.2, 0.3, 0.4, 0.1, 0.2]),
        np.array([0.0, 0.0, 0.3, -0.1, 0.2, 0.5, 0.4, 0.1]),
    ],
    ids=["8", "11", "ties", "zeros"],
)
def test_p_is_that_of_an_enumeration_of_all_signs(differences):
    test = paired_test(differences)
    assert test.p == pytest.approx(enumerated_p(differences), rel=1e-9)
    assert paired_test(-differences) == PairedTest(test.p, -test.sign)
    assert test.sign == 1


def test_the_smallest_p_of_eight_images():
    assert paired_test(np.arange(1.0, 9)).p == pytest.approx(2 / 2**8)


def test_fewer_than_eight_images_are_not_tested():
    test = paired_test(np.ones(7) + np.arange(7))
    assert math.isnan(test.p)
    assert not test.significant
    assert not corrected([test])[0].significant


def test_equal_methods_do_not_differ():
    assert paired_test(np.zeros(20)) == PairedTest(1.0, 0)


def test_a_mean_against_the_ranks_is_not_significant():
    """One image decides the mean, all others the ranks."""
    differences = np.array([*np.linspace(0.1, 0.2, 30), -50.0])
    test = paired_test(differences)
    assert test.p < ALPHA
    assert not test.significant


def test_holm_of_a_known_example():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.01, np.nan, 0.5])) == pytest.approx([0.02, np.nan, 0.5], nan_ok=True)
    assert len(holm(np.array([]))) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, alpha):
    rejected = set()
    for step, k in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[k] * (len(p_values) - step) > alpha:
            break
        rejected.add(k)
    assert set(np.nonzero(holm(np.array(p_values)) <= alpha)[0]) == rejected


def test_coverage_is_that_of_the_record():
    packaged = json.loads((REPO / "src/aesop/assets/interval_coverage.json").read_text())
    assert json.loads((REPO / packaged["record"]).read_text())["mean"] == packaged["mean"]
    assert interval_coverage(4) is None
    assert interval_coverage(13) == interval_coverage(10)
    low, high = interval_coverage(1000)
    assert 0.9 < low <= high < 0.97
    assert 0.85 < interval_coverage(5)[0] < interval_coverage(14)[0] < 0.94
