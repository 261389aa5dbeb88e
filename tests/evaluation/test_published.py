"""Published figures: each has a source and is possible; they appear beside results that were measured alike only."""

import pytest
from results_lib import PROTOCOL, method, results

from aesop.evaluation.published import _Source, published_for, published_methods
from aesop.metrics import METRICS, PYIQA_NAMES

POSSIBLE = {
    "psnr": (15, 45),
    "ssim": (0.3, 1),
    "lpips": (0.01, 0.6),
    "dists": (0.01, 0.4),
    "niqe": (1, 10),
    "maniqa": (0, 1),
}


def names(**fields) -> list[str]:
    return [each.name for each, _ in published_for(results(method("a"), **fields))]


def with_psnr(**changes) -> dict:
    return {"metrics": {"psnr": PROTOCOL["metrics"]["psnr"] | changes}}


def test_every_figure_has_a_source_and_is_possible():
    for each in published_methods():
        assert any(place in each.source for place in ("Table", "README", "model zoo"))
        assert len(each.source) > 40
        assert each.short.split()[0] in each.source
        assert set(each.measured) <= set(METRICS) | set(PYIQA_NAMES)
        assert each.figures
        for row in each.figures.values():
            assert row
            for metric, value in row.items():
                low, high = POSSIBLE[metric]
                assert low < float(value) < high


def test_no_method_has_two_figures_of_one_metric_and_set():
    """Of the same protocol: a table would show two rows that differ for no reason."""
    seen = set()
    for each in published_methods():
        for name, row in each.figures.items():
            for metric in row:
                entry = (each.name, each.scale, name.lower(), metric, each.measured.get(metric))
                assert entry not in seen
                seen.add(entry)


def test_the_methods_that_papers_compare_with_are_there():
    there = {each.name for each in published_methods()}
    assert {"ESRGAN", "SPSR", "LDL (RRDB)", "SwinIR", "DRCT", "AESOP (RRDB)", "Real-ESRGAN"} <= there


def test_figures_of_the_same_protocol():
    """As they stand in the tables of SelfExSR's README, Liang et al. (2022), and Lee et al. (2025)."""
    measured = results(method("a", sets={"Set5": 5, "set14": 14, "DIV2K_valid": 100}))
    found = {each.name: figures for each, figures in published_for(measured)}
    assert found["bicubic"] == {"Set5": {"psnr": "28.42"}, "set14": {"psnr": "25.99"}}
    assert found["SPSR"]["set14"] == {"psnr": "26.860", "lpips": "0.1207"}
    assert found["SPSR"]["DIV2K_valid"] == {"psnr": "28.182", "lpips": "0.1099"}
    assert found["AESOP (RRDB)"]["set14"] == {"psnr": "27.361", "lpips": "0.1067"}
    assert found["AESOP (RRDB)"]["DIV2K_valid"] == {"psnr": "29.079", "lpips": "0.0977"}
    assert "Real-ESRGAN" not in found
    assert set(names(protocol=with_psnr(channels="RGB"))) == {"EDSR-M", "EDSR-L", "MSRResNet", "MSRGAN"}


def test_methods_by_name():
    measured = results(method("a"))
    assert [each.name for each, _ in published_for(measured, ["AESOP (RRDB)", "DRCT"])] == ["AESOP (RRDB)", "DRCT"]
    with pytest.raises(ValueError, match="no figures of 'AESOP' are published here, but of ESRGAN, SPSR"):
        published_for(measured, ["AESOP"])


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": {}},
        {"protocol": with_psnr(crop_border=0)},
        {"protocol": with_psnr(type="pyiqa:psnr")},
        {"scale": 8},
        {"methods": (method("a", sets={"Kodak24": 24}),)},
    ],
    ids=["unknown protocol", "border", "metric", "scale", "set"],
)
def test_other_protocols_have_none(fields):
    assert published_for(results(**{"methods": (method("a"),)} | fields)) == []


def test_faults_of_the_file():
    entry = {"source": "s", "short": "s", "scale": "4", "measured": {}, "note": "", "metrics": ["psnr", "ssim"]}
    with pytest.raises(ValueError, match="A on Set5: 1 values for 2 metrics"):
        _Source.model_validate(entry | {"methods": {"A": {"Set5": "30.0"}}})
    with pytest.raises(ValueError, match="could not convert"):
        _Source.model_validate(entry | {"methods": {"A": {"Set5": ["30.0", "-"]}}})
