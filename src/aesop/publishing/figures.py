"""The figures of a card: a table of measured values, never typed ones."""

from collections.abc import Sequence
from pathlib import Path

from aesop.evaluation.combine import combine, read_results
from aesop.evaluation.comparison import compare
from aesop.evaluation.tables.build import means_table
from aesop.evaluation.tables.markdown import to_markdown
from aesop.system.wording import first_few


def measured_table(files: Sequence[Path], sha256: str, title: str) -> str:
    """Results of `aesop test` or `aesop measure` as Markdown, with the model under its title.

    Raises:
        ValueError: no method of the results has the weight file with this sum.
    """
    results, warnings = combine({str(file): read_results(file) for file in files})
    own = [method.name for method in results.methods if method.sha256 == sha256]
    if not own:
        there = first_few([method.name for method in results.methods], most=10, separator=", ")
        raise ValueError(
            f"--results {first_few(files, separator=', ')}: no method was measured with this weight file (SHA-256 "
            f"{sha256[:12]}...), only {there}: measure it with aesop measure MODEL --hr FOLDER"
        )
    renamed = [m.model_copy(update={"name": title}) if m.name == own[0] else m for m in results.methods]
    comparison = compare(results.model_copy(update={"methods": tuple(renamed)}), warnings=warnings)
    return to_markdown(means_table(comparison, intervals=False))
