"""Figures as CSV, JSON and a table for the terminal."""

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from aesop.evaluation.measure import Row, averages
from aesop.evaluation.methods import Best, Method
from aesop.metrics.build import entry_info
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.system.files import replacing


def write_json(
    path: Path,
    name: str,
    sections: Mapping[str, PairedDataset],
    methods: Sequence[Method],
    results: Mapping[str, Mapping[str, list[Row]]],
) -> None:
    """results.json: the tested network's figures by section; those of the others, if any, below `compared_with`."""

    def described(method: Method) -> dict:
        return {section: describe(sections[section], section, rows[method.name]) for section, rows in results.items()}

    *others, tested = methods
    content: dict[str, Any] = {"name": name, "sets": described(tested)}
    if others:
        content["compared_with"] = {m.name: {"weights": m.weights, "sets": described(m)} for m in others}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))


def describe(data: PairedDataset, section: str, rows: list[Row]) -> dict:
    """A set's figures for results.json, which has no NaN: null."""

    def plain(figures: Mapping[str, str | float]) -> dict[str, str | float | None]:
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}

    return {"dataset": data.name or section, "average": plain(averages(rows)), "images": [plain(row) for row in rows]}


def write_rows(path: Path, rows: list[Row]) -> None:
    """One CSV line per image, and the average at the end."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        writer.writerow({"image": "average", **averages(rows)})


def columns(options: Mapping[str, MetricOptions]) -> dict[str, tuple[str, Best]]:
    """Entry of `val.metrics` -> (the column's label, whether the largest or smallest figure is the best)."""
    infos = {name: entry_info(name, entry) for name, entry in options.items()}
    shared = Counter(info.label for info in infos.values())
    return {name: (info.label if shared[info.label] == 1 else name, info.best) for name, info in infos.items()}


def summary_table(figures: Mapping[str, Mapping[str, float]], options: Mapping[str, MetricOptions]) -> Table:
    """One line per test set (or method), one column per metric; empty where a metric was not measured."""
    table = Table()
    table.add_column("")
    for label, best in columns(options).values():
        table.add_column(f"{label} {'↑' if best == 'max' else '↓'}", justify="right")
    formats = {name: entry_info(name, entry).format for name, entry in options.items()}
    for label, row in figures.items():
        table.add_row(escape(label), *(format(row[name], formats[name]) if name in row else "" for name in options))
    return table
