"""Columns of a table that say what methods cost."""

from dataclasses import replace

from aesop.evaluation.comparison import Comparison
from aesop.evaluation.cost import cost_columns
from aesop.evaluation.tables.table import NONE, Cell, Column, Group, Row, Table


def with_costs(table: Table, comparison: Comparison) -> Table:
    """The table with a group of columns for the costs, if the results have any."""
    costs = [cost_columns(method.cost) if method.cost else {} for method in comparison.methods]
    labels = next((list(each) for each in costs if each), [])
    if not labels:
        return table
    # A table has one row of each method, in their order, and others between and below them.
    of_methods = iter(costs)

    def cells(row: Row) -> list[Cell]:
        texts = next(of_methods) if row.kind == "method" else None
        return [Cell("" if texts is None else texts.get(label, NONE)) for label in labels]

    how = comparison.protocol.get("cost")
    text = f"Cost for LR of {how['lr']} pixels, {how['device']}, {how['threads']} threads" if how else "Cost"
    group = Group("Cost", f"LR of {how['lr']}" if how else "networks", [Column(label, "min") for label in labels])
    return replace(
        table,
        caption=[*table.caption, f"{text}; MP: megapixels of output; MiB: memory beyond the weights."],
        groups=[*table.groups, group],
        rows=[replace(row, cells=[*row.cells, *cells(row)]) for row in table.rows],
    )
