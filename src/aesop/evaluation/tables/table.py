"""A table without a format: test sets are groups of columns, metrics are columns, methods are rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

Place = Literal["best", "second"]
RowKind = Literal["method", "detail", "published"]
NONE = "–"
"""The text of a cell without a value."""


@dataclass(frozen=True)
class Cell:
    text: str = ""
    place: Place | None = None


@dataclass(frozen=True)
class Column:
    label: str
    best: Literal["max", "min"]


@dataclass(frozen=True)
class Group:
    """The columns of one test set."""

    label: str
    detail: str
    """Its number of images, and what is known of intervals on it."""
    columns: Sequence[Column]


@dataclass(frozen=True)
class Row:
    label: str
    cells: Sequence[Cell]
    """For all columns of all groups."""
    kind: RowKind = "method"
    """A detail belongs to the method above it."""


@dataclass(frozen=True)
class Table:
    name: str
    """Letters, digits, and hyphens."""
    caption: Sequence[str]
    """Sentences."""
    groups: Sequence[Group]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    """What a reader must know before trusting the table: warnings, sources of published figures."""

    @property
    def columns(self) -> list[Column]:
        return [column for group in self.groups for column in group.columns]

    def part(self, start: int, end: int) -> Self:
        """The table with the groups from `start` to before `end`, without rows that have nothing in them."""
        first, last = (sum(len(group.columns) for group in self.groups[:index]) for index in (start, end))
        rows = [replace(row, cells=row.cells[first:last]) for row in self.rows]
        told = [row for row in rows if any(cell.text not in (NONE, "") for cell in row.cells)]
        return replace(self, groups=self.groups[start:end], rows=told)
