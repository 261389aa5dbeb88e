"""Methods compared on test sets: means, intervals, differences, and which of them are significant."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from aesop.evaluation import statistics
from aesop.evaluation.combine import known_name
from aesop.evaluation.results import Cost, CostRun, MethodResults, Metric, Results, Value
from aesop.evaluation.statistics import PairedTest
from aesop.system.wording import first_few


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Record):
    """A method's values minus those of the reference method, image by image."""

    mean: Value
    low: Value
    high: Value
    p: Value
    """Of Wilcoxon's signed-rank test, adjusted for the number of compared methods (Holm). NaN: not tested."""
    significant: bool
    """p is below ALPHA, and mean and ranks agree on the sign."""
    wins: int
    """Images on which the method is better."""
    losses: int


class Estimate(_Record):
    """A method's mean over the images of a test set. With several trainings, of each image's mean over the trainings."""

    mean: Value
    """NaN if a value is missing."""
    low: Value
    """Of the interval over images; NaN on small sets."""
    high: Value
    seed_deviation: Value | None = None
    """Standard deviation (n - 1) of the set's mean over trainings; None for one training."""
    better_than: tuple[str, ...] = ()
    """Methods than which this one is significantly better, with p adjusted for all pairs of methods (Holm)."""
    difference: Difference | None = None
    """To the reference method; None if the mean of either is missing."""


class SetComparison(_Record):
    name: str
    images: tuple[str, ...]
    """Over which means are taken: those that all methods have."""
    left_out: tuple[str, ...]
    """Images that only some methods have."""
    size: int
    """Images of the set, measured or not."""
    interval_coverage: tuple[float, float] | None
    """Simulated, of `statistics.CONFIDENCE` intervals on so many images; None: too few images for intervals."""
    estimates: Mapping[str, Mapping[str, Estimate]]
    """Method -> metric; what was not measured is absent."""


class ComparedMethod(_Record):
    name: str
    trainings: tuple[str, ...]
    """Names in the results; several for several seeds of one method."""
    source: str | None = None
    cost: Cost | None = None
    """Of the first training."""


class Comparison(_Record):
    format: int = 1
    name: str
    scale: int
    metrics: Mapping[str, Metric]
    methods: tuple[ComparedMethod, ...]
    sets: tuple[SetComparison, ...]
    reference: str | None
    protocol: Mapping[str, Any]
    statistics: Mapping[str, Any]
    missing: tuple[str, ...]
    """As in `Results`. Not empty: the comparison is partial."""
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"


Series = Mapping[str, Mapping[str, np.ndarray]]
"""Method -> metric -> values (trainings, images), NaN where there is no finite one. What was not measured is absent."""


def compare(
    results: Results, reference: str | None = None, common_images: bool = False, warnings: Sequence[str] = ()
) -> Comparison:
    """Compare all methods, and each with `reference`, a method's name.

    Results that name the same `seed_of` are one method, the mean of its trainings. Raises ValueError if methods were
    measured on different images of a set, unless `common_images` asks for means over those that all of them have.
    `warnings` are kept; values that are missing are added to them.
    """
    methods: dict[str, list[MethodResults]] = {}
    for result in results.methods:
        methods.setdefault(result.seed_of or result.name, []).append(result)
    for trainings in methods.values():
        trainings.sort(key=lambda training: training.name)  # the order changes the last digit of their mean
    if reference is not None:
        reference = known_name("--against", reference, methods)
    found, warnings = [], [*warnings, *_cost_runs(results)]
    for name in results.set_names:
        there = {method: trainings for method, trainings in methods.items() if any(t.values.get(name) for t in trainings)}
        images, left_out = _images(results, name, common_images)
        series = {method: _series(trainings, name, images, results.metrics) for method, trainings in there.items()}
        if not any(series.values()):
            continue
        warnings += _missing_values(name, there, series, images, results.metrics)
        found.append(
            SetComparison(
                name=name,
                images=tuple(images),
                left_out=tuple(left_out),
                size=results.set_size(name),
                interval_coverage=statistics.interval_coverage(len(images)),
                estimates=_estimates(series, results.metrics, reference),
            )
        )
    if not found:
        raise ValueError(
            f"{results.name}: there are no values of {', '.join(metric.label for metric in results.metrics.values())}"
        )
    return Comparison(
        name=results.name,
        scale=results.scale,
        metrics=results.metrics,
        methods=tuple(_described(method, trainings) for method, trainings in methods.items()),
        sets=tuple(found),
        reference=reference,
        protocol=results.protocol,
        statistics={
            "confidence": statistics.CONFIDENCE,
            "interval": "BCa bootstrap over images, expanded (Hesterberg 2015)",
            "resamples": statistics.RESAMPLES,
            "seed": statistics.SEED,
            "test": "Wilcoxon signed-rank, paired by image, two-sided; Holm",
            "alpha": statistics.ALPHA,
            "fewest_images_for_interval": statistics.FEWEST_FOR_INTERVAL,
            "fewest_images_for_test": statistics.FEWEST_FOR_TEST,
        },
        missing=results.missing,
        warnings=tuple(warnings),
    )


def _described(name: str, trainings: Sequence[MethodResults]) -> ComparedMethod:
    first = trainings[0]
    return ComparedMethod(name=name, trainings=tuple(t.name for t in trainings), source=first.source, cost=first.cost)


def _images(results: Results, name: str, common_images: bool) -> tuple[Sequence[str], list[str]]:
    """The images of a set that all trainings have, and those that only some have; both sorted."""
    images = results.set_images(name)
    if images.lacking and not common_images:
        lacking = [f"{method} lacks {first_few(lacks)}" for method, lacks in images.lacking.items()]
        raise ValueError(
            f"{name}: not all methods were measured on the same images: {first_few(lacking)}. Measure what is missing; "
            "aesop table --common-images takes means over the images that all methods have"
        )
    if not images.common:
        every = ", ".join(method.name for method in results.methods)
        raise ValueError(f"{name}: no image was measured with all of {every}: leave out a method or the set")
    return images.common, images.left_out


def _cost_runs(results: Results) -> list[str]:
    """A line if the costs are of several runs."""
    runs: dict[CostRun, list[str]] = {}
    for method in results.methods:
        if method.cost:
            runs.setdefault(method.cost.run, []).append(method.name)
    if len(runs) < 2:
        return []
    groups = [f"{', '.join(names)} ({run.machine}, {run.started})" for run, names in runs.items()]
    return [f"costs are of {len(runs)} runs, so their times do not compare: {'; '.join(groups)}"]


def _series(
    trainings: Sequence[MethodResults], name: str, images: Sequence[str], metrics: Iterable[str]
) -> dict[str, np.ndarray]:
    found = {}
    for metric in metrics:
        rows = [[training.values[name][image].get(metric) for image in images] for training in trainings]
        if any(value is not None for row in rows for value in row):
            values = np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=float)
            found[metric] = np.where(np.isfinite(values), values, np.nan)
    return found


def _missing_values(
    name: str,
    methods: Mapping[str, Sequence[MethodResults]],
    series: Series,
    images: Sequence[str],
    metrics: Mapping[str, Metric],
) -> list[str]:
    """A line for each mean that is missing because values are not finite."""
    lines = []
    for method, columns in series.items():
        for metric, values in columns.items():
            for training, row in zip(methods[method], values, strict=True):
                if bad := [image for image, value in zip(images, row, strict=True) if not np.isfinite(value)]:
                    what = f"{metrics[metric].label} of {training.name} for {first_few(bad)}"
                    lines.append(f"{name}: no {what}: its mean is missing")
    return lines


def _estimates(series: Series, metrics: Mapping[str, Metric], reference: str | None) -> dict[str, dict[str, Estimate]]:
    rows = {
        (method, metric): values.mean(axis=0) for method, columns in series.items() for metric, values in columns.items()
    }
    differences = {
        (method, metric): row - rows[reference, metric]
        for (method, metric), row in rows.items()
        if reference not in (None, method) and (reference, metric) in rows
    }
    intervals = iter(statistics.mean_intervals(np.stack([*rows.values(), *differences.values()])).tolist())
    interval = {cell: next(intervals) for cell in rows}
    difference_interval = {cell: next(intervals) for cell in differences}

    estimates: dict[str, dict[str, Estimate]] = {method: {} for method in series}
    for metric, column in metrics.items():
        finite = {m: rows[m, metric] for m in series if (m, metric) in rows and np.isfinite(rows[m, metric]).all()}
        tests = {(a, b): statistics.paired_test(finite[a] - finite[b]) for a, b in itertools.combinations(finite, 2)}
        better, against = _better(tests, column), _against(tests, reference)
        for method in (m for m in series if metric in series[m]):
            cell, trainings = (method, metric), series[method][metric]
            low, high = interval[cell]
            estimates[method][metric] = Estimate(
                mean=float(rows[cell].mean()) if method in finite else math.nan,
                low=low,
                high=high,
                seed_deviation=float(trainings.mean(axis=1).std(ddof=1)) if len(trainings) > 1 else None,
                better_than=tuple(sorted(worse for winner, worse in better if winner == method)),
                difference=_difference(differences[cell], difference_interval[cell], against[method], column)
                if method in against
                else None,
            )
    return estimates


def _better(tests: Mapping[tuple[str, str], PairedTest], metric: Metric) -> list[tuple[str, str]]:
    """The pairs (better method, worse method) that differ significantly."""
    pairs = []
    for (a, b), test in zip(tests, statistics.corrected(list(tests.values())), strict=True):
        if test.significant:
            pairs.append((a, b) if (test.sign > 0) == (metric.best == "max") else (b, a))
    return pairs


def _against(tests: Mapping[tuple[str, str], PairedTest], reference: str | None) -> dict[str, PairedTest]:
    """The tests of the other methods minus the reference."""
    found = {}
    for (a, b), test in tests.items():
        if b == reference:
            found[a] = test
        elif a == reference:
            found[b] = PairedTest(test.p, -test.sign)
    return dict(zip(found, statistics.corrected(list(found.values())), strict=True))


def _difference(values: np.ndarray, ends: Sequence[float], test: PairedTest, metric: Metric) -> Difference:
    gains = values if metric.best == "max" else -values
    return Difference(
        mean=float(values.mean()),
        low=ends[0],
        high=ends[1],
        p=test.p,
        significant=test.significant,
        wins=int(np.sum(gains > 0)),
        losses=int(np.sum(gains < 0)),
    )
