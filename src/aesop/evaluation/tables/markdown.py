"""Tables as GitHub-flavoured Markdown."""

import re

from aesop.evaluation.tables.table import Cell, Table

ARROWS = {"max": "↑", "min": "↓"}


def to_markdown(table: Table) -> str:
    header = [
        f"{escaped(group.label)} ({escaped(group.detail)})<br>{escaped(column.label)} {ARROWS[column.best]}"
        for group in table.groups
        for column in group.columns
    ]
    lines = [_line(["", *header]), _line(["---"] + ["---:"] * len(header))]
    for row in table.rows:
        label = escaped(row.label)
        lines.append(_line([f"*{label}*" if row.kind == "detail" else label, *map(_cell, row.cells)]))
    lines += ["", escaped(" ".join(table.caption))]
    if table.notes:
        lines += ["", *(f"* {escaped(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """So that Markdown shows the text as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", " ".join(text.split()))


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    return {"best": f"**{text}**", "second": f"<u>{text}</u>", None: text}[cell.place]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
