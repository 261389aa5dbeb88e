"""Tables as LaTeX. They need the package booktabs, and nothing else."""

import unicodedata
from collections.abc import Iterator, Sequence

from aesop.evaluation.tables.table import Cell, Group, Table

ARROWS = {"max": r"$\uparrow$", "min": r"$\downarrow$"}
COLUMN, PAGE = 50, 100
"""Characters beyond which a table spans both columns of a page, and beyond which it is wider than the page."""
LINES, HEAD = 40, 4
"""Lines that a page holds below a caption, and those of them that the head of a table takes."""
SPECIAL = {
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "†": r"$\dagger$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "∞": r"$\infty$",
    "…": r"\dots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "µ": r"$\mu$",
    "²": "$^2$",
    "³": "$^3$",
}
GREEK = {
    letter: name.capitalize() if letter.isupper() else name
    for letter in "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"
    for name in [unicodedata.name(letter).split()[-1].lower().replace("lamda", "lambda")]
}
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
    "\u0328": "k",
}
DOTLESS = {"i": r"\i", "j": r"\j"}


def to_latex(table: Table) -> str:
    first, *others = _pages(_panels(table))
    environment = "table*" if len(first) > 1 or others or _width(table) > COLUMN else "table"
    lines = [r"% needs \usepackage{booktabs}", *_float(first, environment, " ".join(table.caption), table.name, table.notes)]
    for number, panels in enumerate(others, 2):
        caption = "Continuation of the table before, with its methods and conditions."
        lines += ["", *_float(panels, environment, caption, f"{table.name}-{number}")]
    return "\n".join(lines) + "\n"


def _float(panels: Sequence[Table], environment: str, caption: str, name: str, notes: Sequence[str] = ()) -> list[str]:
    lines = [
        rf"\begin{{{environment}}}",
        r"\centering",
        r"\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{name}}}",
        r"\setlength{\tabcolsep}{4pt}",
    ]
    for number, panel in enumerate(panels):
        lines += [r"\par\medskip"] * (number > 0) + _tabular(panel)
    return [*lines, *(rf"\par\footnotesize {escaped(note)}" for note in notes), rf"\end{{{environment}}}"]


def _pages(panels: Sequence[Table]) -> list[list[Table]]:
    """The panels that are set on a page together, which a float cannot be longer than."""
    pages: list[list[Table]] = [[]]
    for panel in panels:
        if pages[-1] and sum(len(each.rows) + HEAD for each in (*pages[-1], panel)) > LINES:
            pages.append([])
        pages[-1].append(panel)
    return pages


def _panels(table: Table) -> list[Table]:
    """The table, or if it is wider than a page, parts of its groups that are not, to be set one below the other."""
    panels, start = [], 0
    for end in range(1, len(table.groups) + 1):
        if end == len(table.groups) or _width(table.part(start, end + 1)) > PAGE:
            panels.append(table.part(start, end))
            start = end
    return panels if len(panels) > 1 else [table]


def _tabular(table: Table) -> list[str]:
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        _line("", *(_spanning(group, escaped(group.label)) for group in table.groups)),
        _line("", *(_spanning(group, rf"\scriptsize {escaped(group.detail)}") for group in table.groups)),
        " ".join(_rules(table.groups)),
        _line("", *(f"{escaped(column.label)} {ARROWS[column.best]}" for column in table.columns)),
        r"\midrule",
    ]
    kind = "method"
    for row in table.rows:
        if row.kind == "published" != kind:
            lines.append(r"\midrule")
        elif row.kind == "method" and kind == "detail":
            lines.append(r"\addlinespace[2pt]")
        kind = row.kind
        size, indent = (r"\scriptsize ", r"\quad ") if kind == "detail" else ("", "")
        lines.append(_line(indent + size + escaped(row.label), *(size + _cell(cell) for cell in row.cells)))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is, in ASCII. Characters without a command stay, for XeLaTeX and LuaLaTeX."""
    return "".join(map(_escaped, unicodedata.normalize("NFC", " ".join(text.split()))))


def _escaped(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character in GREEK:
        return rf"$\{GREEK[character]}$"
    base, *marks = unicodedata.normalize("NFD", character)
    if len(marks) == 1 and marks[0] in ACCENTS and base.isascii():
        return rf"\{ACCENTS[marks[0]]}{{{DOTLESS.get(base, base)}}}"
    return character


def _width(table: Table) -> float:
    """About the number of characters in a line; details are set smaller, and columns 4 pt apart on both sides."""
    sizes = [0.7 if row.kind == "detail" else 1 for row in table.rows]
    texts = zip(*([row.label, *(cell.text for cell in row.cells)] for row in table.rows), strict=True)
    widths = [max(size * len(text) for size, text in zip(sizes, column, strict=True)) for column in texts]
    return sum(widths) + 1.6 * len(widths)


def _spanning(group: Group, text: str) -> str:
    return rf"\multicolumn{{{len(group.columns)}}}{{c}}{{{text}}}"


def _rules(groups: Sequence[Group]) -> Iterator[str]:
    """A line below each group's label. The first column is that of the methods."""
    start = 2
    for group in groups:
        yield rf"\cmidrule(lr){{{start}-{start + len(group.columns) - 1}}}"
        start += len(group.columns)


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}", None: text}[cell.place]


def _line(*cells: str) -> str:
    text = " & ".join(cells)
    guard = "{}" if text.startswith(("[", "*")) else ""  # else an option of the line break before it
    return rf"{guard}{text} \\"
