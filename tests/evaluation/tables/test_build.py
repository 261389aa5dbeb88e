"""What tables say: marks, captions, notes."""

import math

import pytest
from results_lib import METRICS, PROTOCOL, changed, method, results, without

from aesop.evaluation.comparison import Comparison, Estimate, compare
from aesop.evaluation.published import published_for
from aesop.evaluation.tables.build import differences_table, means_table
from aesop.evaluation.tables.table import Table


def row(table: Table, label: str) -> list[str]:
    (found,) = (each for each in table.rows if each.label == label)
    return [cell.text for cell in found.cells]


def places(table: Table, column: int = 0) -> dict[str, str]:
    return {each.label: each.cells[column].place for each in table.rows if each.cells[column].place}


def comparison(better: dict[str, tuple[float, tuple[str, ...]]], metric: str = "psnr") -> Comparison:
    """Of one set: method -> (mean, methods it is significantly better than)."""
    base = compare(results(*(method(name, sets={"S": 8}) for name in better), metrics={metric: METRICS[metric]}))
    estimates = {
        name: {metric: Estimate(mean=mean, low=mean, high=mean, better_than=than)} for name, (mean, than) in better.items()
    }
    (each,) = base.sets
    return base.model_copy(update={"sets": (each.model_copy(update={"estimates": estimates}),)})


@pytest.mark.parametrize(
    ("better", "significant", "always"),
    [
        ({"a": (3, ("b", "c")), "b": (2, ("c",)), "c": (1, ())}, {"a": "best", "b": "second"}, {"a": "best", "b": "second"}),
        ({"a": (3, ("b", "c")), "b": (2, ()), "c": (1, ())}, {"a": "best"}, {"a": "best", "b": "second"}),
        ({"a": (3, ("c",)), "b": (2, ("c",)), "c": (1, ())}, {}, {"a": "best", "b": "second"}),
        ({"a": (3, ("b",)), "b": (2, ())}, {"a": "best"}, {"a": "best", "b": "second"}),
        ({"a": (3.001, ()), "b": (3.004, ()), "c": (1, ()), "d": (0, ())}, {}, {"a": "best", "b": "best", "c": "second"}),
        ({"a": (3, ("c",)), "b": (math.nan, ()), "c": (1, ())}, {"a": "best"}, {"a": "best", "c": "second"}),
        ({"a": (3, ())}, {}, {}),
    ],
    ids=["both", "best", "undecided", "two", "printed alike", "one without a mean", "alone"],
)
def test_marks(better, significant, always):
    compared = comparison(better)
    assert places(means_table(compared)) == significant
    assert places(means_table(compared, "always")) == always
    assert places(means_table(compared, "never")) == {}


def test_marks_of_a_metric_whose_small_values_are_better():
    compared = comparison({"a": (3, ()), "b": (2, ("a",)), "c": (1, ("a", "b"))}, "lpips")
    for mark in ("significant", "always"):
        assert places(means_table(compared, mark)) == {"c": "best", "b": "second"}


def test_rows_and_columns():
    seeds = [method(f"run{k}", 0.5 + 0.1 * k, seed_of="ours") for k in range(2)]
    compared = compare(results(method("base"), *seeds), "base")
    table = means_table(compared)
    assert [(group.label, len(group.columns)) for group in table.groups] == [("Set5", 2), ("Set14", 2), ("Urban100", 2)]
    assert [each.label for each in table.rows] == [
        "base",
        "95 % interval, images",
        "ours (2 seeds)",
        "95 % interval, images",
        "sd over 2 seeds",
    ]
    estimate = compared.sets[0].estimates["ours"]["psnr"]
    assert row(table, "ours (2 seeds)")[0] == f"{estimate.mean:.2f}"
    assert table.rows[3].cells[0].text == f"[{estimate.low:.2f}, {estimate.high:.2f}]"
    assert row(table, "sd over 2 seeds")[0] == f"{estimate.seed_deviation:.2f}"
    assert [each.label for each in means_table(compared, intervals=False).rows] == [
        "base",
        "ours (2 seeds)",
        "sd over 2 seeds",
    ]

    table = differences_table(compared)
    assert [each.label for each in table.rows] == ["ours (2 seeds)", "95 % interval, images", "p", "wins : losses"]
    assert row(table, "ours (2 seeds)")[1].startswith("−0.00")
    assert row(table, "p")[0] == "–"
    assert row(table, "p")[2].endswith(" *")


def test_coverage_stands_beside_intervals_of_small_sets_only():
    compared = compare(results(method("a", sets={"A": 3, "B": 5, "C": 14, "D": 50})))
    details = [group.detail for group in means_table(compared).groups]
    assert details[0] == "3 images, no intervals"
    assert details[1].startswith("5 images, coverage 8")
    assert details[2].startswith("14 images, coverage ")
    assert details[3] == "50 images"
    assert [group.detail for group in means_table(compared, intervals=False).groups][1] == "5 images"
    assert row(means_table(compared), "95 % interval, images")[0] == "–"


def test_sets_too_small_for_intervals_have_no_rows_and_no_words_about_them():
    compared = compare(results(method("a", sets={"A": 3}), method("b", sets={"A": 3})), reference="a")
    assert [each.label for each in means_table(compared).rows] == ["a", "b"]
    assert [each.label for each in differences_table(compared).rows] == ["b", "p", "wins : losses"]
    for table in (means_table(compared), differences_table(compared)):
        assert table.groups[0].detail == "3 images, no intervals"
        assert "interval" not in " ".join(table.caption)


def caption(*methods, **options) -> str:
    return " ".join(means_table(compare(results(*methods), **options)).caption)


def test_the_caption_states_statistics_and_protocol():
    text = caption(method("a"), method("b"))
    assert text.startswith(
        "Mean over images, with 95 % intervals over images (expanded BCa bootstrap, 10000 resamples; below 50"
    )
    assert "p < 0.05; not below 8 images" in text
    assert "PSNR on luma (Y of BT.601) without a border of 4 pixels; LPIPS on RGB; images rounded to 8 bits" in text
    text = caption(method("a", sets={"D": 60}), method("b", sets={"D": 60}))
    assert "below" not in text
    assert "Bold" not in caption(method("a"))
    small = caption(method("a", sets={"D": 6}), method("b", sets={"D": 6}))
    assert "Not tested: fewer than 8 images." in small
    assert "Bold" not in small


def test_partial_results_and_common_images_are_in_the_caption():
    partial = means_table(compare(results(method("a"), missing=("b: no image x",))))
    assert partial.caption[0] == "PARTIAL: not everything was measured."
    assert partial.notes == ["b: no image x"]
    text = caption(method("a"), without(method("b"), "Set14", "img_001"), common_images=True)
    assert "Set14: only the 13 of 14 images that all methods have." in text
    assert text.startswith("PARTIAL: not everything was measured.")
    everywhere = {**PROTOCOL, "sets": {"Set14": {"images": 16}}}  # two images that no method has
    (only, *_) = (line for line in means_table(compare(results(method("a"), protocol=everywhere))).caption if "only" in line)
    assert only == "Set14: only the 14 of 16 images that all methods have."


def test_a_missing_mean_is_shown_and_noted():
    table = means_table(compare(results(method("a"), changed(method("b"), "Set5", "img_001", psnr=math.nan))))
    assert row(table, "b")[0] == "–"
    assert table.rows[3].cells[0].text == "–"
    assert table.notes == ["Set5: no PSNR of b for img_001: its mean is missing"]


def test_what_nobody_measured_has_no_column():
    only = method("a", sets={"S": 8})
    for image in list(only.values["S"]):
        only = changed(only, "S", image, lpips=None)
    table = means_table(compare(results(only, method("b", sets={"T": 8}))))
    assert [[column.label for column in group.columns] for group in table.groups] == [["PSNR"], ["PSNR", "LPIPS"]]
    assert row(table, "a")[1:] == ["–", "–"]


def test_published_figures_are_apart_and_unmarked():
    measured = results(method("a"), method("b", 0.5))
    table = means_table(compare(measured), "always", published=published_for(measured))
    assert row(table, "bicubic †")[:3] == ["28.42", "–", "25.99"]
    assert all(cell.place is None for each in table.rows if each.kind == "published" for cell in each.cells)
    start = "† as published, not measured here: "
    assert all(note.startswith(start) for note in table.notes)
    assert any(note.startswith(f"{start}bicubic, SRCNN, SelfExSR (README of SelfExSR (Huang et al.") for note in table.notes)
