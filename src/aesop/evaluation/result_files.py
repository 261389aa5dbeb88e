"""Results as files, and as a table in the terminal."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from aesop.evaluation.results import Metric, Results
from aesop.metrics.build import entry_info
from aesop.options.validation import MetricOptions
from aesop.system.files import replacing


def write_results(folder: Path, results: Results) -> None:
    """Write results.json and values.csv: a row per test set, method and image, a column per metric."""
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(results.to_json(), encoding="utf-8")
    with replacing(folder / "values.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "method", "image", *results.metrics])
        for method in results.methods:
            for name, images in method.values.items():
                for image, values in images.items():
                    writer.writerow([name, method.name, image, *(values.get(metric, "") for metric in results.metrics)])


def described(options: Mapping[str, MetricOptions]) -> dict[str, Metric]:
    """The columns of tables by entry of `val.metrics`. Entries of one metric are labelled with their own names."""
    infos = {name: entry_info(name, entry) for name, entry in options.items()}
    uses = Counter(info.label for info in infos.values())
    labels = {name: info.label if uses[info.label] == 1 else name for name, info in infos.items()}
    return {name: Metric(label=labels[name], best=info.best, format=info.format) for name, info in infos.items()}


def means(results: Results) -> Iterator[tuple[str, dict[str, float]]]:
    """For each test set and method a label and the means over the images that all methods have.

    The label says if these are not all. `aesop table` stops in this case, unless it is asked for these means.
    """
    for name in results.set_names:
        images, count = results.set_images(name).common, results.set_size(name)
        label = name if len(images) == count else f"{name} (PARTIAL: {len(images)} of {count} images)"
        for method in results.methods:
            if rows := [method.values[name][image] for image in images if method.values.get(name)]:
                values = {metric: float(np.mean([row[metric] for row in rows])) for metric in rows[0]}
                yield f"{label}, {method.name}" if len(results.methods) > 1 else label, values


def summary_table(rows: Iterable[tuple[str, Mapping[str, float]]], metrics: Mapping[str, Metric]) -> Table:
    """One line per test set or method, one column per metric; empty cells for metrics that were not measured."""
    table = Table("")
    for metric in metrics.values():
        table.add_column(f"{metric.label} {'↑' if metric.best == 'max' else '↓'}", justify="right")
    for label, row in rows:
        table.add_row(
            Text(label), *(format(row[name], metric.format) if name in row else "" for name, metric in metrics.items())
        )
    return table
