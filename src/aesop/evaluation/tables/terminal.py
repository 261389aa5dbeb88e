"""Tables for the terminal: one for each test set, so that they fit into its width."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from aesop.evaluation.tables.table import NONE, Table

STYLES = {"best": "bold", "second": "underline", None: ""}
ARROWS = {"max": "↑", "min": "↓"}


def to_terminal(table: Table) -> Iterator[RenderableType]:
    start = 0
    for group in table.groups:
        end = start + len(group.columns)
        shown = RichTable(title=Text(f"{group.label} ({group.detail})"), title_justify="left")
        shown.add_column("")
        for column in group.columns:
            shown.add_column(Text(f"{column.label} {ARROWS[column.best]}"), justify="right")
        for row in table.rows:
            cells = row.cells[start:end]
            if any(cell.text != NONE for cell in cells):
                label = Text(f"  {row.label}" if row.kind == "detail" else row.label)
                texts = [Text(cell.text, STYLES[cell.place]) for cell in cells]
                shown.add_row(label, *texts, style="dim" if row.kind == "detail" else "")
        yield shown
        start = end
    yield Text(" ".join(table.caption))
    for note in table.notes:
        yield Text(f"note: {note}", "yellow")
