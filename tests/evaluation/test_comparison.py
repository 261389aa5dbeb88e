"""Means, differences, and verdicts, computed again by hand."""

import json
import math
import statistics

import numpy as np
import pytest
from results_lib import changed, method, results, without
from scipy.stats import wilcoxon

from aesop.evaluation.comparison import Comparison, compare
from aesop.evaluation.statistics import holm, mean_intervals


def values(of, set_name: str, metric: str) -> np.ndarray:
    return np.array([row[metric] for row in of.values[set_name].values()])


def found(comparison: Comparison, set_name: str, method_name: str, metric: str):
    (each,) = (each for each in comparison.sets if each.name == set_name)
    return each.estimates[method_name][metric]


def test_means_differences_and_counts_by_hand():
    base, good, bad = method("base"), method("good", 0.3), method("bad", -0.02)
    comparison = compare(results(base, good, bad), "base")
    for metric, sign in (("psnr", 1), ("lpips", -1)):
        ours, theirs = values(good, "Set14", metric), values(base, "Set14", metric)
        estimate = found(comparison, "Set14", "good", metric)
        assert estimate.mean == pytest.approx(statistics.fmean(ours))
        assert [estimate.low, estimate.high] == pytest.approx(mean_intervals(ours[None])[0])
        difference = estimate.difference
        assert difference.mean == pytest.approx(statistics.fmean(ours) - statistics.fmean(theirs))
        assert [difference.low, difference.high] == pytest.approx(mean_intervals((ours - theirs)[None])[0])
        assert difference.wins == sum(sign * (a - b) > 0 for a, b in zip(ours, theirs, strict=True))
        assert difference.losses == 14 - difference.wins
        p = [wilcoxon(values(each, "Set14", metric), theirs).pvalue for each in (good, bad)]
        assert difference.p == pytest.approx(holm(np.array(p))[0])
        assert difference.significant
    assert found(comparison, "Set14", "base", "psnr").difference is None


def test_the_order_of_methods_and_images_changes_nothing():
    methods = [method("a"), method("b", 0.1), method("c", 0.5), *(method(f"s{k}", 0.2, seed_of="s") for k in range(3))]
    expected = compare(results(*methods), "a")
    shuffled = [
        each.model_copy(update={"values": {name: dict(reversed(images.items())) for name, images in each.values.items()}})
        for each in reversed(methods)
    ]
    other = compare(results(*shuffled), "a")
    for ours, theirs in zip(expected.sets, other.sets, strict=True):
        assert json.loads(ours.model_dump_json()) == json.loads(theirs.model_dump_json())


def test_better_than_follows_the_direction_of_the_metric():
    comparison = compare(results(method("low"), method("high", 1.0)))
    assert found(comparison, "Urban100", "high", "psnr").better_than == ("low",)
    assert found(comparison, "Urban100", "high", "lpips").better_than == ("low",)
    assert found(comparison, "Urban100", "low", "lpips").better_than == ()


def test_small_sets_are_never_significant():
    comparison = compare(results(method("low"), method("high", 5.0)), "low")
    estimate = found(comparison, "Set5", "high", "psnr")
    assert estimate.difference.low > 0
    assert math.isnan(estimate.difference.p)
    assert not estimate.difference.significant
    assert estimate.better_than == ()


def test_the_same_difference_is_significant_between_two_methods_and_not_among_five():
    base, better = method("base", sets={"S": 10}), method("better", sets={"S": 10})
    gains = [0.5, -0.1, 0.3, 0.6, -0.2, 0.7, 0.4, 0.05, 0.8, 0.9]
    for image, gain in zip(list(base.values["S"]), gains, strict=True):
        better = changed(better, "S", image, psnr=base.values["S"][image]["psnr"] + gain)
    p = wilcoxon(gains).pvalue
    assert p < 0.05 < 4 * p
    others = [method(f"{k}", sets={"S": 10}) for k in range(3)]
    two, five = (compare(results(base, better, *more), "base") for more in ([], others))
    assert found(two, "S", "better", "psnr").difference.p == pytest.approx(p)
    assert found(two, "S", "better", "psnr").better_than == ("base",)
    assert not found(five, "S", "better", "psnr").difference.significant
    assert "base" not in found(five, "S", "better", "psnr").better_than


def test_seeds_are_one_method():
    seeds = [method(f"run{k}", 0.1 * k, seed_of="ours") for k in range(3)]
    comparison = compare(results(method("base"), *seeds), "base")
    assert [(each.name, each.trainings) for each in comparison.methods] == [
        ("base", ("base",)),
        ("ours", ("run0", "run1", "run2")),
    ]
    by_seed = np.array([values(each, "Set14", "psnr") for each in seeds])
    estimate = found(comparison, "Set14", "ours", "psnr")
    assert estimate.mean == pytest.approx(by_seed.mean())
    assert estimate.seed_deviation == pytest.approx(statistics.stdev(by_seed.mean(axis=1)))
    assert [estimate.low, estimate.high] == pytest.approx(mean_intervals(by_seed.mean(axis=0)[None])[0])
    assert found(comparison, "Set14", "base", "psnr").seed_deviation is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_missing_value_is_named_and_leaves_no_mean(bad):
    broken = changed(method("b", 1.0), "Set14", "img_003", lpips=bad)
    broken = changed(broken, "Set14", "img_004", lpips=None)
    comparison = compare(results(method("a"), broken, method("c", 2.0)), "a")
    assert comparison.warnings == ("Set14: no LPIPS of b for img_003; img_004: its mean is missing",)
    estimate = found(comparison, "Set14", "b", "lpips")
    assert math.isnan(estimate.mean)
    assert math.isnan(estimate.low)
    assert estimate.difference is None
    assert found(comparison, "Set14", "b", "psnr").mean > 0
    assert found(comparison, "Set14", "c", "lpips").better_than == ("a",)
    assert Comparison.model_validate_json(comparison.to_json()).sets[1].estimates["b"]["lpips"].difference is None


def test_a_metric_or_set_that_was_not_measured_is_absent():
    only_psnr = method("b", sets={"Set14": 14})
    for image in list(only_psnr.values["Set14"]):
        only_psnr = changed(only_psnr, "Set14", image, lpips=None)
    comparison = compare(results(method("a"), only_psnr))
    assert not comparison.warnings
    sets = {each.name: each.estimates for each in comparison.sets}
    assert set(sets["Set5"]) == {"a"}
    assert set(sets["Set14"]["b"]) == {"psnr"}


def test_other_images_are_an_error_that_names_them():
    partial = without(method("b"), "Set14", "img_003", "img_010")
    with pytest.raises(ValueError, match=r"Set14: .*b lacks img_003; img_010.*--common-images"):
        compare(results(method("a"), partial))


def test_means_over_common_images_on_request():
    whole, partial = method("a"), without(method("b"), "Set14", "img_003")
    comparison = compare(results(whole, partial), common_images=True)
    (each,) = (each for each in comparison.sets if each.name == "Set14")
    assert each.left_out == ("img_003",)
    assert len(each.images) == 13
    expected = np.delete(values(whole, "Set14", "psnr"), 3).mean()
    assert each.estimates["a"]["psnr"].mean == pytest.approx(expected)


def test_no_common_images():
    a, b = without(method("a", sets={"S": 2}), "S", "img_000"), without(method("b", sets={"S": 2}), "S", "img_001")
    with pytest.raises(ValueError, match="S: no image was measured with all of a, b"):
        compare(results(a, b), common_images=True)


def test_a_training_without_a_set_is_named():
    seeds = [method("run0", seed_of="ours"), method("run1", seed_of="ours", sets={"Set5": 5})]
    with pytest.raises(ValueError, match=r"Set14: .*run1 lacks img_000"):
        compare(results(*seeds))


def test_an_unknown_reference():
    with pytest.raises(ValueError, match="--against c: there is none; there are a, b"):
        compare(results(method("a"), method("b")), "c")


def test_a_reference_in_other_letters():
    assert compare(results(method("Bicubic"), method("b")), "bicubic").reference == "Bicubic"
    with pytest.raises(ValueError, match="--against bicubic"):
        compare(results(method("Bicubic"), method("BICUBIC")), "bicubic")


def test_no_values():
    with pytest.raises(ValueError, match="test: there are no values of PSNR, LPIPS"):
        compare(results(method("a", sets={})))
