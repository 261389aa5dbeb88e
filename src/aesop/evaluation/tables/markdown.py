"""Tables as GitHub-flavoured Markdown."""

import re
from collections.abc import Sequence

from aesop.evaluation.tables.table import Cell, Table

ARROWS = {"max": "↑", "min": "↓"}
MOST_COLUMNS = 8
"""Beyond which each test set has a table of its own."""


def to_markdown(table: Table) -> str:
    lines = []
    if len(table.columns) <= MOST_COLUMNS:
        names = [f"{escaped(group.label)} ({escaped(group.detail)})<br>" for group in table.groups for _ in group.columns]
        lines += _grid(table, names)
    else:
        for index, group in enumerate(table.groups):
            part = table.part(index, index + 1)
            lines += [
                f"**{escaped(group.label)}** ({escaped(group.detail)})",
                "",
                *_grid(part, [""] * len(part.columns)),
                "",
            ]
        lines.pop()
    lines += ["", escaped(" ".join(table.caption))]
    if table.notes:
        lines += ["", *(f"* {escaped(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _grid(table: Table, prefixes: Sequence[str]) -> list[str]:
    columns = zip(prefixes, table.columns, strict=True)
    header = [f"{prefix}{escaped(column.label)} {ARROWS[column.best]}" for prefix, column in columns]
    lines = [_line(["", *header]), _line(["---"] + ["---:"] * len(header))]
    for row in table.rows:
        label = escaped(row.label)
        lines.append(_line([f"*{label}*" if row.kind == "detail" else label, *map(_cell, row.cells)]))
    return lines


def escaped(text: str) -> str:
    """So that Markdown shows the text as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", " ".join(text.split()))


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    return {"best": f"**{text}**", "second": f"<u>{text}</u>", None: text}[cell.place]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
