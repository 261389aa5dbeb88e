"""What the page of a test shows of rows that were measured."""

import json
import re

import numpy as np
import pytest

from aesop.evaluation.comparison_page import add_planes, add_views, plane_axes
from aesop.evaluation.image_views import View, Window
from aesop.evaluation.measure import SetResults
from aesop.evaluation.results import Metric
from aesop.evaluation.shown_values import shown_values
from aesop.evaluation.statistics import mean_intervals
from aesop.web.page import Page

METRICS = {
    "ssim": Metric(label="SSIM", best="max", format=".4f"),
    "niqe": Metric(label="NIQE", best="min", format=".2f"),
    "psnr": Metric(label="PSNR", best="max", format=".2f"),
}


def results(methods=("Bicubic", "net"), images: int = 8, metrics=("ssim", "niqe", "psnr")) -> SetResults:
    random = np.random.default_rng(0)
    rows = {
        method: [{"image": f"img_{k}"} | {key: float(random.uniform(0.2, 0.9)) for key in metrics} for k in range(images)]
        for method in methods
    }
    crops = {name: np.full((48, 48, 3), 90, np.uint8) for name in ("LR", *methods, "HR")}
    parts = {name: np.full((64, 80, 3), 90, np.uint8) for name in ("LR", *methods, "HR")}
    view = View("img_1", "img_1", Window(8, 16, 64, 80), Window(16, 32, 48, 48), parts, crops)
    return SetResults("Set", rows, [view])


def page_with(add, *arguments) -> str:
    page = Page("t")
    page.section("s")
    add(page, *arguments)
    return page.html()


def test_axes_are_the_first_metrics_of_both_kinds():
    assert plane_axes(METRICS) == ("ssim", "niqe")
    assert plane_axes({"psnr": METRICS["psnr"]}) is None


def test_the_plane_shows_means_with_their_intervals():
    found = results()
    text = page_with(add_planes, [found], METRICS)
    (plane,) = [json.loads(each) for each in re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)]
    assert (plane["title"], plane["x_label"], plane["y_label"]) == ("Set", "SSIM ↑", "NIQE ↓")
    for point, (method, rows) in zip(plane["points"], found.rows.items(), strict=True):
        values = np.array([[row[key] for row in rows] for key in ("ssim", "niqe")])
        assert point["label"] == method
        assert [point["x"], point["y"]] == pytest.approx(values.mean(1))
        np.testing.assert_allclose([point["x_interval"], point["y_interval"]], mean_intervals(values))


@pytest.mark.parametrize(
    "found",
    [results(methods=("net",)), results(metrics=("ssim", "psnr")), results(metrics=("niqe",))],
    ids=["one method", "no metric to be small", "none to be large"],
)
def test_a_plane_needs_two_methods_and_two_kinds_of_metrics(found):
    assert 'class="plane"' not in page_with(add_planes, [found], METRICS)


def test_crops_have_the_values_of_their_image_and_their_place_is_marked():
    found = results()
    text = page_with(add_views, found, METRICS)
    values = {method: rows[1] for method, rows in found.rows.items()}
    for key, best in (("ssim", max), ("niqe", min)):
        top = best(row[key] for row in values.values())
        for row in values.values():
            shown = format(row[key], METRICS[key].format)
            assert (f"<b>{shown}</b>" in text) == (row[key] == top)
            assert shown in text
    assert f"{values['net']['psnr']:.2f}" not in text
    assert text.count('<span class="values">') == 2  # not below LR and HR
    assert 'style="left: 20.0%; top: 12.5%; width: 60.0%; height: 75.0%"' in text


def test_values_that_are_missing_are_dashes_and_never_the_best():
    values = {"a": {"ssim": 0.5, "psnr": float("inf")}, "b": {"psnr": 20.0, "ssim": float("nan")}}
    assert shown_values(METRICS, values) == {
        "a": [("0.5000", True), ("–", False), ("–", False)],
        "b": [("–", False), ("–", False), ("20.00", True)],
    }
