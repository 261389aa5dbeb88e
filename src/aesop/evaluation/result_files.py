"""Results as CSV, JSON and a table in the terminal."""

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from aesop.evaluation.measure import Row, SetResults, averages
from aesop.evaluation.methods import Method
from aesop.metrics.build import entry_info
from aesop.options.validation import MetricOptions
from aesop.system.files import replacing
from aesop.web.page import Best


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per image, then the average."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        writer.writerow({"image": "average", **averages(rows)})


def write_json(path: Path, name: str, methods: Sequence[Method], results: Mapping[str, SetResults]) -> None:
    """The tested network's results by section; those of the other methods below `compared_with`."""
    sets = {
        method.name: {section: describe_set(each.name, each.rows[method.name]) for section, each in results.items()}
        for method in methods
    }
    *others, tested = methods
    content: dict[str, Any] = {"name": name, "sets": sets[tested.name]}
    if others:
        content["compared_with"] = {m.name: {"weights": m.weights, "sets": sets[m.name]} for m in others}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))


def describe_set(dataset: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Average and rows for JSON, which has no NaN: null."""
    average, *images = (
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in (averages(rows), *rows)
    )
    return {"dataset": dataset, "average": average, "images": images}


def metric_columns(options: Mapping[str, MetricOptions]) -> dict[str, tuple[str, Best]]:
    """For each entry of `val.metrics` (label of its column, whether its largest or smallest value is the best).

    Entries that measure the same metric are labelled with their own names.
    """
    infos = {name: entry_info(name, entry) for name, entry in options.items()}
    uses = Counter(info.label for info in infos.values())
    return {name: (info.label if uses[info.label] == 1 else name, info.best) for name, info in infos.items()}


def summary_table(means: Mapping[str, Mapping[str, float]], options: Mapping[str, MetricOptions]) -> Table:
    """One line per test set or method, one column per metric; empty cells for metrics that were not measured."""
    table = Table("")
    for label, best in metric_columns(options).values():
        table.add_column(f"{label} {'↑' if best == 'max' else '↓'}", justify="right")
    formats = {name: entry_info(name, entry).format for name, entry in options.items()}
    for label, row in means.items():
        table.add_row(Text(label), *(format(row[name], formats[name]) if name in row else "" for name in options))
    return table
