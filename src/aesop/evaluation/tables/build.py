"""Tables of a comparison."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from aesop.evaluation import protocol_text, statistics
from aesop.evaluation.comparison import ComparedMethod, Comparison, Difference, Estimate, SetComparison
from aesop.evaluation.published import Figures, PublishedMethod
from aesop.evaluation.results import Metric
from aesop.evaluation.tables.table import NONE, Cell, Column, Group, Place, Row, RowKind, Table

Mark = Literal["significant", "always", "never"]
FULL_COVERAGE_FROM = 50
"""Images from which on intervals contain the mean nearly as often as they promise (see the record of the simulation)."""
INTERVAL = f"{100 * statistics.CONFIDENCE:.0f} % interval, images"
PLACES: tuple[Place, Place] = ("best", "second")
MARKS = {
    "significant": "Bold: significantly better than every other method; underlined: than every other but the bold one "
    "(Wilcoxon signed-rank test over images, Holm's adjustment for all pairs of methods, "
    f"p < {statistics.ALPHA}{{untested}}).",
    "always": "Bold: best; underlined: second; whether or not the difference is significant.",
}


def means_table(
    comparison: Comparison,
    mark: Mark = "significant",
    intervals: bool = True,
    published: Sequence[tuple[PublishedMethod, Figures]] = (),
) -> Table:
    """Means over images; below each its interval, and for several trainings the standard deviation of the mean over them."""
    some_have_intervals = intervals and _have_intervals(comparison)
    columns, metrics = _columns(comparison), comparison.metrics
    places = [_places(each, key, metrics[key], mark) for each, key in columns]
    rows = []
    for method in comparison.methods:
        seeds = len(method.trainings)
        means = _row(comparison, method.name, _label(method), _mean)
        cells = [replace(cell, place=each.get(method.name)) for cell, each in zip(means.cells, places, strict=True)]
        rows.append(replace(means, cells=cells, kind="method"))
        if some_have_intervals:
            rows.append(_row(comparison, method.name, INTERVAL, _interval))
        if seeds > 1:
            rows.append(_row(comparison, method.name, f"sd over {seeds} seeds", _seed_deviation))
    for reported, figures in published:
        texts = [figures.get(each.name, {}).get(key, NONE) for each, key in columns]
        rows.append(Row(f"{reported.name} †", [Cell(text) for text in texts], "published"))
    caption = _caption(comparison, "Mean over images", some_have_intervals)
    if any(len(method.trainings) > 1 for method in comparison.methods):
        caption.append(
            "Methods with several seeds: mean of the trainings; sd: standard deviation of the mean over trainings."
        )
    if mark == "significant" and all(len(each.images) < statistics.FEWEST_FOR_TEST for each in comparison.sets):
        caption.append(f"Not tested: fewer than {statistics.FEWEST_FOR_TEST} images.")
    elif mark in MARKS and len(comparison.methods) > 1:
        caption.append(MARKS[mark].format(untested=_untested(comparison)))
    return Table(
        f"{_slug(comparison.name)}-means",
        [*caption, *_protocol(comparison)],
        _groups(comparison, intervals),
        rows,
        [*comparison.missing, *comparison.warnings, *_sources([method for method, _ in published])],
    )


def differences_table(comparison: Comparison) -> Table:
    """Each method minus the reference: mean, interval, p, wins and losses."""
    parts: list[tuple[str, Callable[[Difference, Metric], str]]]
    parts = [("p", _p), ("wins : losses", _wins)]
    if _have_intervals(comparison):
        parts.insert(0, (INTERVAL, _interval))
    rows = []
    for method in comparison.methods:
        if method.name != comparison.reference:
            rows.append(_row(comparison, method.name, _label(method), _of_difference(_mean_difference), "method"))
            rows += [_row(comparison, method.name, label, _of_difference(text)) for label, text in parts]
    test = (
        "p: Wilcoxon signed-rank test over images, Holm's adjustment for the compared methods"
        f"{_untested(comparison)}; *: p < {statistics.ALPHA}."
    )
    caption = _caption(comparison, f"Difference to {comparison.reference}, mean over images", _have_intervals(comparison))
    return Table(
        f"{_slug(comparison.name)}-differences",
        [*caption, test, *_protocol(comparison)],
        _groups(comparison, intervals=True),
        rows,
        [*comparison.missing, *comparison.warnings],
    )


def _sources(published: Sequence[PublishedMethod]) -> list[str]:
    names: dict[str, list[str]] = {}
    for method in published:
        names.setdefault(method.source, []).append(method.name)
    return [f"† as published, not measured here: {', '.join(names[source])} ({source})" for source in names]


def _label(method: ComparedMethod) -> str:
    seeds = len(method.trainings)
    return f"{method.name} ({seeds} seeds)" if seeds > 1 else method.name


def _row(
    comparison: Comparison, method: str, label: str, text: Callable[[Estimate, Metric], str], kind: RowKind = "detail"
) -> Row:
    estimates = [(each.estimates.get(method, {}).get(key), key) for each, key in _columns(comparison)]
    return Row(
        label, [Cell(text(estimate, comparison.metrics[key]) if estimate else NONE) for estimate, key in estimates], kind
    )


def _of_difference(text: Callable[[Difference, Metric], str]) -> Callable[[Estimate, Metric], str]:
    return lambda estimate, metric: text(estimate.difference, metric) if estimate.difference else NONE


def _columns(comparison: Comparison) -> list[tuple[SetComparison, str]]:
    """The metrics of each set that at least one method was measured by."""
    return [
        (each, key)
        for each in comparison.sets
        for key in comparison.metrics
        if any(key in e for e in each.estimates.values())
    ]


def _groups(comparison: Comparison, intervals: bool) -> list[Group]:
    groups = []
    for each in comparison.sets:
        detail = f"{len(each.images)} image{'' if len(each.images) == 1 else 's'}"
        if intervals and len(each.images) < FULL_COVERAGE_FROM:
            coverage = each.interval_coverage
            detail += ", no intervals" if coverage is None else f", coverage {_percent_range(*coverage)}"
        metrics = [comparison.metrics[key] for other, key in _columns(comparison) if other is each]
        groups.append(Group(each.name, detail, [Column(metric.label, metric.best) for metric in metrics]))
    return groups


def _have_intervals(comparison: Comparison) -> bool:
    """Whether any test set has enough images for them."""
    return any(each.interval_coverage is not None for each in comparison.sets)


def _caption(comparison: Comparison, what: str, intervals: bool) -> list[str]:
    first = what
    if intervals:
        small = any(len(each.images) < FULL_COVERAGE_FROM for each in comparison.sets)
        coverage = f"; below {FULL_COVERAGE_FROM} images with the coverage given for each set" if small else ""
        percent, resamples = f"{100 * statistics.CONFIDENCE:.0f} %", statistics.RESAMPLES
        first += f", with {percent} intervals over images (expanded BCa bootstrap, {resamples} resamples{coverage})"
    common = [
        f"{each.name}: only the {len(each.images)} of {each.size} images that all methods have."
        for each in comparison.sets
        if len(each.images) < each.size
    ]
    partial = ["PARTIAL: not everything was measured."] if comparison.missing or common else []
    return [*partial, f"{first}.", *common]


def _untested(comparison: Comparison) -> str:
    small = any(len(each.images) < statistics.FEWEST_FOR_TEST for each in comparison.sets)
    return f"; not below {statistics.FEWEST_FOR_TEST} images" if small else ""


def _protocol(comparison: Comparison) -> list[str]:
    text = protocol_text.caption(comparison.protocol)
    return [text or f"Scale {comparison.scale}."]


def _places(each: SetComparison, key: str, metric: Metric, mark: Mark) -> dict[str, Place]:
    """Which methods are marked as best and second."""
    found = {name: columns[key] for name, columns in each.estimates.items() if key in columns}
    found = {name: estimate for name, estimate in found.items() if math.isfinite(estimate.mean)}
    if mark == "never" or len(found) < 2:
        return {}
    if mark == "always":  # methods that print the same share a place
        ordered = sorted(found.values(), key=lambda estimate: estimate.mean, reverse=metric.best == "max")
        texts = list(dict.fromkeys(_mean(estimate, metric) for estimate in ordered))[:2]
        place: dict[str, Place] = dict(zip(texts, PLACES, strict=False))
        return {name: place[text] for name, e in found.items() if (text := _mean(e, metric)) in place}
    best = next((name for name, e in found.items() if len(e.better_than) == len(found) - 1), None)
    if best is None:
        return {}
    second = next((name for name, e in found.items() if len(e.better_than) == len(found) - 2 > 0), None)
    return dict(zip(filter(None, [best, second]), PLACES, strict=False))


def _mean(estimate: Estimate, metric: Metric) -> str:
    return _number(estimate.mean, metric.format)


def _mean_difference(difference: Difference, metric: Metric) -> str:
    return _number(difference.mean, f"+z{metric.format}")


def _interval(estimate: Estimate | Difference, metric: Metric) -> str:
    if not math.isfinite(estimate.low):
        return NONE
    spec = f"+z{metric.format}" if isinstance(estimate, Difference) else metric.format
    return f"[{_number(estimate.low, spec)}, {_number(estimate.high, spec)}]"


def _seed_deviation(estimate: Estimate, metric: Metric) -> str:
    return NONE if estimate.seed_deviation is None else _number(estimate.seed_deviation, metric.format)


def _p(difference: Difference, _: Metric) -> str:
    if math.isnan(difference.p):
        return NONE
    text = "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}"
    return f"{text} *" if difference.significant else text


def _wins(difference: Difference, _: Metric) -> str:
    return f"{difference.wins} : {difference.losses}"


def _number(value: float, spec: str) -> str:
    return format(value, spec).replace("-", "−") if math.isfinite(value) else NONE


def _percent_range(low: float, high: float) -> str:
    low, high = round(100 * low), round(100 * high)
    return f"{low} %" if low == high else f"{low}–{high} %"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "results"
