"""The published figures: every number has a source, and is possible."""

import math

import pytest

from aesop.evaluation.published import Source, published_methods, published_sources, reported_figures
from aesop.metrics import METRICS, PYIQA_NAMES

POSSIBLE = {
    "psnr": (15, 45),
    "ssim": (0.3, 1),
    "lpips": (0.01, 0.6),
    "dists": (0.01, 0.4),
    "niqe": (1, 10),
    "maniqa": (0, 1),
}


@pytest.mark.parametrize("source", published_sources(), ids=lambda source: source.short)
def test_every_figure_has_a_source_and_is_possible(source):
    assert len(source.source) > 40
    assert any(place in source.source for place in ("Table", "README"))
    assert source.protocol.endswith(".")
    assert source.short.split()[0] in source.source
    for metric in source.metrics:
        assert metric in METRICS or metric in PYIQA_NAMES
    for sets in source.methods.values():
        assert sets
        for values in sets.values():
            for metric, value in zip(source.metrics, values, strict=True):
                low, high = POSSIBLE[metric]
                assert low < value < high


def test_sources_are_named_once():
    shorts = [source.short for source in published_sources()]
    assert len(set(shorts)) == len(shorts)


def test_a_missing_value_is_refused():
    with pytest.raises(ValueError, match="A on Set5: 1 values for 2 metrics"):
        Source(source="s", short="s", protocol="p", metrics=("psnr", "ssim"), methods={"A": {"Set5": (30.0,)}})


def test_sets_are_found_under_their_other_names():
    """Figures as they stand in the tables of Lee et al. (2025) and Liang et al. (2022)."""
    found = reported_figures(["AESOP (RRDB)", "LDL (RRDB)"], ["set14", "Set5", "DIV2K_valid", "photos"], ["psnr", "lpips"])
    values = {(each.method, each.test_set, each.metric): (each.value, each.source.short) for each in found}
    assert values == {
        ("AESOP (RRDB)", "set14", "psnr"): (27.361, "Lee et al. 2025"),
        ("AESOP (RRDB)", "set14", "lpips"): (0.1067, "Lee et al. 2025"),
        ("AESOP (RRDB)", "DIV2K_valid", "psnr"): (29.079, "Lee et al. 2025"),
        ("AESOP (RRDB)", "DIV2K_valid", "lpips"): (0.0977, "Lee et al. 2025"),
        ("LDL (RRDB)", "set14", "psnr"): (27.228, "Lee et al. 2025"),
        ("LDL (RRDB)", "set14", "lpips"): (0.1132, "Lee et al. 2025"),
        ("LDL (RRDB)", "Set5", "psnr"): (31.033, "Liang et al. 2022"),
        ("LDL (RRDB)", "Set5", "lpips"): (0.0691, "Liang et al. 2022"),
        ("LDL (RRDB)", "DIV2K_valid", "psnr"): (28.819, "Lee et al. 2025"),
        ("LDL (RRDB)", "DIV2K_valid", "lpips"): (0.0999, "Lee et al. 2025"),
    }


def test_what_no_source_reports_is_left_out_or_refused():
    assert reported_figures(["SwinIR + GAN"], ["BSD100"], ["psnr"]) == []
    assert reported_figures(["SwinIR"], ["Set5"], ["lpips"]) == []
    with pytest.raises(ValueError, match=r"no figures of 'ESRGAM' are published here; did you mean 'ESRGAN'\?"):
        reported_figures(["ESRGAM"], ["Set5"], ["psnr"])


def test_all_asked_for_methods_are_there():
    assert {"ESRGAN", "SPSR", "LDL (RRDB)", "SwinIR", "DRCT", "AESOP (RRDB)", "Real-ESRGAN"} <= set(published_methods())
    assert not any(
        math.isnan(value) for s in published_sources() for m in s.methods.values() for v in m.values() for value in v
    )
