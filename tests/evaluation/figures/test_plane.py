"""The plane against brute force, NumPy, and what matplotlib's own objects hold."""

import itertools
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_lib import METRICS, changed, method, results

from aesop.evaluation.figures.drawing import save, style
from aesop.evaluation.figures.plane import Panel, Point, draw, panels
from aesop.evaluation.figures.spec import PlaneSpec
from aesop.evaluation.results import MethodResults
from aesop.evaluation.statistics import mean_intervals

pytest.importorskip("matplotlib")


def spec(**options) -> PlaneSpec:
    return PlaneSpec.model_validate({"kind": "plane", "results": "r.json", "dpi": 100} | options)


def mean(method: MethodResults, metric: str) -> float:
    return float(np.mean([image[metric] for image in method.values["Set14"].values()]))


def test_points_are_means_over_the_images():
    found = results(method("a"), method("b"))
    set5, set14, urban = panels(spec(labels={"b": "Ours"}), found)
    assert [panel.test_set for panel in (set5, set14, urban)] == ["Set5", "Set14", "Urban100"]
    assert [point.label for point in set14.points] == ["a", "Ours"]
    for point, measured in zip(set14.points, found.methods, strict=True):
        assert point.x == pytest.approx(mean(measured, "psnr"))
        assert point.y == pytest.approx(mean(measured, "lpips"))
        values = np.array([[image["psnr"] for image in measured.values["Set14"].values()]])
        assert point.x_interval == pytest.approx(mean_intervals(values)[0])
    without = panels(spec(sets=["Set14"], intervals=False), found)[0].points
    assert [point.x_interval for point in without] == [None, None]


def test_small_sets_have_no_intervals():
    (panel,) = panels(spec(), results(method("a", sets={"Set5": 3})))
    assert panel.points[0].x_interval is None


def test_seeds_of_a_method_are_one_point():
    found = results(method("a"), method("s1"), method("s2"))
    (panel,) = panels(spec(methods=["ours"], seeds={"ours": ["s1", "s2"]}, sets=["Set14"]), found)
    (point,) = panel.points
    assert (point.label, point.x) == ("ours", pytest.approx(np.mean([mean(each, "psnr") for each in found.methods[1:]])))


def test_reported_figures_are_marked():
    (panel,) = panels(spec(reported=["AESOP (RRDB)"], sets=["Set14"]), results(method("a")))
    assert panel.points[1] == Point("AESOP (RRDB)", 27.361, 0.1067, reported="Lee et al. 2025")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "ssim"}, "x: the results hold no ssim, but psnr, lpips"),
        ({"methods": ["a", "c"]}, "methods: the results hold no c, but a, b"),
        ({"sets": ["BSD100"]}, "sets: the results hold no BSD100, but Set5, Set14, Urban100"),
        ({"reported": ["AESOP"]}, "no figures of 'AESOP' are published"),
        ({"reported": ["Real-ESRGAN"]}, "reported: no psnr and lpips of Real-ESRGAN were measured like these results"),
        ({"reported": ["DRCT"]}, "reported: no psnr and lpips of DRCT were measured"),
    ],
)
def test_what_the_results_do_not_hold(options, message):
    with pytest.raises(ValueError, match=message):
        panels(spec(**options), results(method("a"), method("b")))


def test_a_value_that_is_missing_is_named():
    found = results(changed(method("a"), "Set14", "img_003", lpips=None))
    with pytest.raises(ValueError, match="a lacks lpips of some or all images of Set14"):
        panels(spec(sets=["Set14"]), found)


def drawn(panel_list, **options):
    with style():
        figure = draw(spec(**options), panel_list, METRICS["psnr"], METRICS["lpips"])
        figure.canvas.draw()
    return figure


def test_points_with_an_empty_name_have_no_label():
    (axes,) = drawn([Panel("Set14", [Point("a", 26.0, 0.2), Point("", 27.0, 0.3), Point("", 26.5, 0.4)])]).axes
    assert [text.get_text() for text in axes.texts] == ["a"]
    assert {(27.0, 0.3), (26.5, 0.4)} <= {tuple(line.get_xydata()[0]) for line in axes.lines}


def test_figure_shows_the_points_intervals_and_front():
    shown = [
        Point("a", 26.0, 0.2, (25.0, 27.5), (0.1, 0.3)),
        Point("b", 27.0, 0.3),
        Point("c", 26.5, 0.4),
        Point("d", 28.0, 0.15, reported="Lee et al. 2025"),
    ]
    figure = drawn([Panel("Set14", shown)])
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("PSNR ↑", "LPIPS ↓", "Set14")
    lines = [tuple(map(tuple, np.transpose(line.get_data()))) for line in axes.lines]
    for point in shown:
        assert ((point.x, point.y),) in lines
    assert ((25.0, 0.2), (27.5, 0.2)) in lines
    assert ((26.0, 0.1), (26.0, 0.3)) in lines
    assert ((26.0, 0.2), (26.0, 0.3), (27.0, 0.3)) in lines  # of what was measured
    faces = {line.get_xydata()[0][0]: line.get_markerfacecolor() for line in axes.lines if len(line.get_xydata()) == 1}
    assert faces[28.0] == "none" != faces[26.0]
    assert [text.get_text() for text in figure.texts] == ["Hollow: as reported by Lee et al. 2025, not measured here."]
    assert {text.get_text() for text in axes.texts} == {"a", "b", "c", "d"}
    without = drawn([Panel("Set14", shown)], front=False, dpi=72).axes[0].lines
    assert len(without) == len(axes.lines) - 1


def test_a_method_has_one_colour_in_all_panels():
    a, b, c = (Point(label, 1.0 + k, 2.0) for k, label in enumerate("abc"))
    first, second = drawn([Panel("one", [a, b, c]), Panel("two", [a, c])], front=False).axes
    assert first.lines[2].get_color() == second.lines[1].get_color() != first.lines[1].get_color()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_labels_cover_no_label_and_no_point(seed):
    random = np.random.default_rng(seed)
    cloud = [Point(f"method {k}", *random.uniform(0, 1, 2)) for k in range(7)]
    figure = drawn([Panel("Set14", cloud)])
    (axes,) = figure.axes
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in axes.texts]
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    for box, point in itertools.product(boxes, cloud):
        assert not box.contains(*axes.transData.transform((point.x, point.y)))


def test_files_are_the_same_every_time_and_of_print_size(tmp_path):
    found = panels(spec(), results(method("a"), method("b"), method("c")))[:1]
    files = [tmp_path / f"{name}.{kind}" for kind in ("pdf", "png") for name in "ab"]
    for file in files:
        save(lambda _: draw(spec(width=8.8, height=6.5), found, *METRICS.values()), file)
    contents = [file.read_bytes() for file in files]
    assert contents[0] == contents[1]
    assert contents[2] == contents[3]
    pdf, png = contents[0], contents[2]
    (box,) = set(re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf))
    assert [float(side) / 72 * 2.54 for side in box] == pytest.approx([8.8, 6.5], abs=0.01)
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert png_size(png) == tuple(math.floor(side / 2.54 * 100) for side in (8.8, 6.5))


def png_size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext")
def test_text_of_the_pdf_can_be_read(tmp_path):
    shown = [Panel("Set14", [Point("Ours", 27, 0.2), Point("Bicubic", 26, 0.4)]), Panel("Set5", [Point("Ours", 30, 0.1)])]
    save(lambda _: draw(spec(width=18), shown, *METRICS.values()), tmp_path / "f.pdf")
    text = subprocess.run(["pdftotext", tmp_path / "f.pdf", "-"], capture_output=True, text=True, check=True).stdout
    assert sorted(set(text.split()) & {"Ours", "Bicubic", "Set14", "Set5", "PSNR", "LPIPS"}) == [
        "Bicubic", "LPIPS", "Ours", "PSNR", "Set14", "Set5",
    ]  # fmt: skip


def test_other_kinds_of_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"written as \.pdf or \.png"):
        save(lambda _: None, tmp_path / "f.svg")
    assert list(tmp_path.iterdir()) == []
