"""Tables for the terminal: one for each test set, so that they fit into its width."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from aesop.evaluation.tables.table import Table

STYLES = {"best": "bold", "second": "underline", None: ""}
ARROWS = {"max": "↑", "min": "↓"}


def to_terminal(table: Table) -> Iterator[RenderableType]:
    for index, group in enumerate(table.groups):
        shown = RichTable(title=Text(f"{group.label} ({group.detail})"), title_justify="left")
        shown.add_column("")
        for column in group.columns:
            shown.add_column(Text(f"{column.label} {ARROWS[column.best]}"), justify="right")
        for row in table.part(index, index + 1).rows:
            label = Text(f"  {row.label}" if row.kind == "detail" else row.label)
            texts = [Text(cell.text, STYLES[cell.place]) for cell in row.cells]
            shown.add_row(label, *texts, style="dim" if row.kind == "detail" else "")
        yield shown
    yield Text(" ".join(table.caption))
    for note in table.notes:
        yield Text(f"note: {note}", "yellow")
