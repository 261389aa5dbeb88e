"""Published figures appear beside results that were measured alike, and nowhere else."""

import pytest
from results_lib import PROTOCOL, method, results

from aesop.evaluation.published import published_for, published_methods


def names(**fields) -> list[str]:
    return [each.name for each, _ in published_for(results(method("a"), **fields))]


def with_psnr(**changes) -> dict:
    return {"metrics": {"psnr": PROTOCOL["metrics"]["psnr"] | changes}}


def test_figures_of_the_same_protocol():
    found = {each.name: figures for each, figures in published_for(results(method("a")))}
    assert found["bicubic"] == {
        "Set5": {"psnr": "28.42"},
        "Set14": {"psnr": "25.99"},
        "Urban100": {"psnr": "23.14"},
    }
    assert names(protocol=with_psnr(channels="RGB")) == ["EDSR-M", "EDSR-L", "MSRResNet", "MSRGAN"]


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


def test_names_of_sets_may_differ_in_case():
    measured = results(method("a", sets={"SET5": 5}))
    assert published_for(measured)[0][1] == {"SET5": {"psnr": "28.42"}}


def test_figures_are_numbers():
    for each in published_methods():
        for sets in each.figures.values():
            for row in sets.values():
                assert 15 < float(row["psnr"]) < 40
                assert 0.5 < float(row["ssim"]) < 1
