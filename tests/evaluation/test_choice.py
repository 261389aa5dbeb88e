"""Rules by which a model is chosen."""

import math

import pytest

from aesop.evaluation.choice import Axes, Rule
from aesop.evaluation.result_files import described
from aesop.options.validation import FrontOptions, MetricOptions

OPTIONS = {name: MetricOptions() for name in ("psnr", "lpips", "niqe")}
METRICS = described(OPTIONS)
VALUES = {
    "100": {"psnr": 27.0, "lpips": 0.30, "niqe": 6.0},
    "200": {"psnr": 26.8, "lpips": 0.20, "niqe": 5.0},
    "300": {"psnr": 25.0, "lpips": 0.18, "niqe": 4.0},
    "400": {"psnr": 24.0, "lpips": 0.19, "niqe": 3.0},
    "broken": {"psnr": math.nan, "lpips": 0.1, "niqe": 9.0},
}


def rule(best=None, at_least=(), at_most=()) -> Rule:
    return Rule.read(best, at_least, at_most, METRICS)


@pytest.mark.parametrize(
    ("chosen", "arguments"),
    [
        ("200", {}),  # the knee
        ("broken", {"best": "lpips"}),
        ("300", {"best": "lpips", "at_least": ["psnr=25"]}),
        ("200", {"best": "lpips", "at_least": ["psnr=25.01"]}),
        ("100", {"best": "psnr"}),
        ("200", {"best": "psnr", "at_most": ["lpips=0.2"]}),
        ("300", {"best": "psnr", "at_most": ["lpips=0.19", "niqe=4"]}),
        ("400", {"best": "niqe"}),
        ("300", {"at_most": ["niqe=4"]}),
    ],
)
def test_what_a_rule_chooses(chosen, arguments):
    axes = Axes.find(FrontOptions(), OPTIONS)
    assert axes is not None
    assert rule(**arguments).choose(VALUES, axes, METRICS) == chosen


def test_a_limit_that_no_model_reaches_names_the_nearest():
    axes = Axes.find(FrontOptions(), OPTIONS)
    assert axes is not None
    with pytest.raises(ValueError, match=r"none of the 4 models has psnr at least 30; best found: psnr 27\.0000"):
        rule("lpips", ["psnr=30"]).choose({k: v for k, v in VALUES.items() if k != "broken"}, axes, METRICS)


def test_a_rule_reads_like_a_sentence():
    assert str(rule()) == "knee of the front"
    assert str(rule("lpips", ["psnr=25.8"], ["niqe=5"])) == "best lpips with psnr at least 25.8 and niqe at most 5"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"best": "dists"}, "--best dists: not measured; measured are psnr, lpips, niqe"),
        ({"at_least": ["psnr"]}, "--at-least psnr: give METRIC=VALUE"),
        ({"at_least": ["psnr=high"]}, "--at-least psnr=high: give METRIC=VALUE"),
        ({"at_least": ["ssim=0.9"]}, "--at-least ssim=0.9: ssim is not measured"),
        ({"at_least": ["lpips=0.2"]}, "--at-least lpips=0.2: small values of lpips are better; use --at-most"),
        ({"at_most": ["psnr=25"]}, "--at-most psnr=25: large values of psnr are better; use --at-least"),
    ],
)
def test_rules_that_make_no_sense_are_refused(arguments, fault):
    with pytest.raises(ValueError, match=fault):
        rule(**arguments)
