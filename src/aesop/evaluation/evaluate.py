"""From methods and test sets to results: what `aesop test` and `aesop measure` share."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation import protocol, protocol_text
from aesop.evaluation.cache import Cache
from aesop.evaluation.measure import SaveImage, SetResults, measure_methods, measuring
from aesop.evaluation.methods import Method
from aesop.evaluation.result_files import described, means, summary_table, write_results
from aesop.evaluation.results import MethodResults, Results
from aesop.metrics.build import make_metrics
from aesop.options.validation import MetricOptions
from aesop.system.distributed import World
from aesop.system.terminal import Note
from aesop.system.wording import first_few

Savers = Callable[[str], Mapping[str, SaveImage]]
"""For a test set's key: see `measure_methods`."""


@dataclass(frozen=True)
class Evaluation:
    """What is measured: methods on test sets, which have one scale."""

    name: str
    methods: Sequence[Method]
    sets: Mapping[str, MeasuredPairs]
    """By unique keys."""
    metrics: Mapping[str, MetricOptions]
    cache: Cache | None = None
    tolerant: bool = False
    """Name images that cannot be measured in the results instead of raising an error; see `measure_methods`."""
    savers: Savers = lambda key: {}
    views: Mapping[str, int] = field(default_factory=dict)
    """By key, how many images are kept as views, of at most `view_side` pixels."""
    view_side: int = 0

    @property
    def scale(self) -> int:
        return next(iter(self.sets.values())).scale

    def run(self, world: World, console: Console) -> tuple[Results, dict[str, SetResults]]:
        """Measure everything. Returns the results, and by key what else was found on each set."""
        metrics = make_metrics(self.metrics, self.scale, world.device)
        measure_image, methods = measuring(metrics, world.device), self.methods
        if self.cache:
            measure_image = self.cache.measuring(metrics, self.metrics, self.scale, world.device)
            methods = [self.cache.method(method) for method in methods]
        found: dict[str, SetResults] = {}
        for key, pairs in self.sets.items():
            start, present = time.perf_counter(), [method for method in methods if _has_any(method, pairs)]
            found[key] = measure_methods(
                *(present, pairs, measure_image, world, self.savers(key), self.views.get(key, 0), self.view_side),
                on_record=True, tolerant=self.tolerant,
            )  # fmt: skip
            compared = f", {len(present)} methods" if len(present) > 1 else ""
            taken = f"{time.perf_counter() - start:.1f} s"
            console.print(Note(f"{pairs.name}: {len(pairs)} images{compared} in {taken}"))
            for (whose, change), images in found[key].notes.items():
                some = "" if len(images) == len(pairs) else f": {first_few(images, separator=', ')}"
                console.print(Note(f"note: {pairs.name}, {whose}: {change}{some}"))
        if self.cache and world.is_main:
            self.cache.trim()
        return self._results(found), found

    def _results(self, found: Mapping[str, SetResults]) -> Results:
        names = _unique_names(self.sets)
        sets = {names[key]: (self.sets[key], found[key]) for key in self.sets}
        methods = [
            MethodResults(
                name=method.name,
                values={
                    name: {
                        str(row["image"]): {metric: value for metric, value in row.items() if isinstance(value, float)}
                        for row in results.rows.get(method.name, ())
                    }
                    for name, (_, results) in sets.items()
                    if results.rows.get(method.name)
                },
                source=method.source,
                sha256=method.sha256,
            )
            for method in self.methods
        ]
        absent = [
            f"{names[key]}, {method.name}: there are no images"
            for key, pairs in self.sets.items()
            for method in self.methods
            if not _has_any(method, pairs)
        ]
        missing = [*absent, *(line for results in found.values() for line in results.missing)]
        return Results(
            name=self.name,
            scale=self.scale,
            metrics=described(self.metrics),
            methods=tuple(methods),
            protocol=protocol.build(self.scale, self.metrics, self.methods, sets),
            missing=(*missing, *_not_numbers(methods)),
        )


def _has_any(method: Method, pairs: MeasuredPairs) -> bool:
    """Whether a method has an answer for any image of a set."""
    return method.finished is None or any(key in method.finished for key in pairs.keys)


def _not_numbers(methods: Sequence[MethodResults]) -> Iterator[str]:
    for method in methods:
        for name, images in method.values.items():
            for image, values in images.items():
                for metric in (metric for metric, value in values.items() if math.isnan(value)):
                    yield f"{name}, {image}, {method.name}: {metric} is no number (NaN)"


def _unique_names(sets: Mapping[str, MeasuredPairs]) -> dict[str, str]:
    """Name of each set in results: its own, or its key if several have this name."""
    names = [pairs.name for pairs in sets.values()]
    return {key: pairs.name if names.count(pairs.name) == 1 else key for key, pairs in sets.items()}


def report(results: Results, console: Console, folder: Path | None) -> None:
    """Print a table and what is missing, and write the results below a folder."""
    if results.metrics:
        console.print(summary_table(means(results), results.metrics))
        console.print(protocol_text.caption(results.protocol))
    if results.missing:
        console.print(f"partial results, {len(results.missing)} missing:\n  " + "\n  ".join(results.missing))
    if folder:
        write_results(folder, results)
        console.print(Note(f"values per image: {folder}/values.csv and {folder}/results.json"))
