"""Columns of a table that say what methods cost."""

from dataclasses import replace

import rich.table
from rich.text import Text

from aesop.evaluation.comparison import Comparison
from aesop.evaluation.results import Cost, Results
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

    runs = list(dict.fromkeys(method.cost.run for method in comparison.methods if method.cost))
    text = "; ".join(f"LR of {run.lr} pixels, {run.machine}" for run in runs)
    detail = f"LR of {runs[0].lr}" if len(runs) == 1 else f"{len(runs)} runs"
    group = Group("Cost", detail, [Column(label, "min") for label in labels])
    return replace(
        table,
        caption=[*table.caption, f"Cost: {text}; MP: megapixels of output; MiB: memory beyond the weights."],
        groups=[*table.groups, group],
        rows=[replace(row, cells=[*row.cells, *cells(row)]) for row in table.rows],
    )


def cost_columns(cost: Cost) -> dict[str, str]:
    """Label -> text of each column of a table."""
    return {
        "parameters (M)": f"{cost.parameters / 1e6:.2f}",
        "GFLOPs/MP": f"{cost.gflops:.0f}",
        "s/MP": f"{cost.seconds:.2f}",
        "MiB": f"{cost.peak_mib:.0f}",
    }


def cost_table(results: Results) -> rich.table.Table:
    """One line for each method that has a cost."""
    costs = {method.name: cost_columns(method.cost) for method in results.methods if method.cost}
    table = rich.table.Table("", caption="MP: megapixels of output. MiB: memory beyond the weights, of the largest image.")
    for label in next(iter(costs.values())):
        table.add_column(label, justify="right")
    for name, texts in costs.items():
        table.add_row(Text(name), *texts.values())
    return table
