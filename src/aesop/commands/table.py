"""`aesop table`: tables from results.json."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from rich.console import Console

from aesop.evaluation.combine import combine, join_seeds, read_results, select
from aesop.evaluation.comparison import Comparison, compare
from aesop.evaluation.published import published_for
from aesop.evaluation.tables.build import Mark, differences_table, means_table
from aesop.evaluation.tables.cost import with_costs
from aesop.evaluation.tables.csv_rows import to_csv
from aesop.evaluation.tables.latex import to_latex
from aesop.evaluation.tables.markdown import to_markdown
from aesop.evaluation.tables.table import Table
from aesop.evaluation.tables.terminal import to_terminal
from aesop.system.files import replacing
from aesop.system.terminal import Note

Format = Literal["terminal", "markdown", "latex", "csv", "json"]
RENDERERS: dict[str, Callable[[Comparison, Sequence[Table]], str]] = {
    "markdown": lambda _, tables: "\n".join(map(to_markdown, tables)),
    "latex": lambda _, tables: "\n".join(map(to_latex, tables)),
    "csv": lambda comparison, _: to_csv(comparison),
    "json": lambda comparison, _: comparison.to_json(),
}
ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}


def run(
    files: Sequence[Path],
    console: Console,
    *,
    form: str | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    against: str | None = None,
    published: bool = False,
    mark: str = "significant",
    intervals: bool = True,
    common_images: bool = False,
    seeds: Sequence[str] = (),
    methods: Sequence[str] = (),
    sets: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Comparison:
    """Print the table, or write it to `output`; returns what it is made from.

    Warnings are in the table, and for a file also on stderr.

    `seeds`: as in `NAME=a,b,c`, the methods that are trainings of one with other seeds.
    """
    form = form or (ENDINGS.get(output.suffix.lower(), "") if output else "terminal")
    if form not in get_args(Format) or (output and form == "terminal"):
        ways = ", ".join(f"{ending} ({name})" for ending, name in ENDINGS.items())
        raise ValueError(f"--format {form}: give one of {', '.join(get_args(Format))}; for -o a file that ends in {ways}")
    if mark not in get_args(Mark):
        raise ValueError(f"--mark {mark}: give one of {', '.join(get_args(Mark))}")
    if output and output.exists() and (not overwrite or any(output.samefile(file) for file in files)):
        raise ValueError(f"{output} exists: choose another name" + ("" if overwrite else ", or replace it with --overwrite"))

    results, warnings = combine({str(file): read_results(file) for file in files})
    results = select(join_seeds(results, _seed_groups(seeds)), methods, sets, metrics)
    figures = published_for(results) if published else []
    if published and not figures:
        warnings.append("no published figures fit the scale, test sets, metrics, and protocol of these results")
    comparison = compare(results, against, common_images, warnings)
    tables = [with_costs(means_table(comparison, cast(Mark, mark), intervals, figures), comparison)]
    if against:
        tables.append(differences_table(comparison))
    if form == "terminal":
        for part in (part for table in tables for part in to_terminal(table)):
            console.print(part)
        return comparison

    for warning in (*comparison.missing, *comparison.warnings):
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"warning: {warning}")
    text = RENDERERS[form](comparison, tables)
    if output is None:
        sys.stdout.write(text)
    else:
        with replacing(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        console.print(Note(f"written: {output}"))
    return comparison


def _seed_groups(seeds: Sequence[str]) -> dict[str, list[str]]:
    groups = {}
    for text in seeds:
        name, equals, trainings = text.partition("=")
        if not (name and equals and trainings):
            raise ValueError(f"--seeds {text}: give NAME=METHOD,METHOD,..., the trainings of one method with other seeds")
        groups[name] = [training.strip() for training in trainings.split(",")]
    return groups
