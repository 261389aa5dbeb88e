"""What the program makes of hostile input, counted: markdown tables, one a section of docs/robustness.md.

    python benchmarks/robustness.py --seed 0 --options 10000 --images 2000 --checkpoints 1000 --record

`--record` replaces this script's sections in docs/robustness.md. Every mutation is drawn from (seed, number): the numbers of
failures are printed, and `tests/hostile/mutations.py` makes the same bytes again.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hostile"))

import sandbox

REPO = Path(__file__).resolve().parents[1]
Section = tuple[str, list[str], bool]  # title, lines, whether all is well


def hostile_input(arguments: argparse.Namespace) -> Section:
    lines = [
        "Mutated files through the code that reads them, in a process of its own (`tests/hostile`). Refused: an error of",
        "ours that names the file, without a traceback. A failure is anything else: another exception, a crash, more than",
        f"{sandbox.SECONDS} s or {sandbox.MEMORY >> 30} GB for one file, or hostile code that ran. Accepted are files that",
        f"the mutation left readable. Seed {arguments.seed}.",
    ]
    well = True
    for title, attempt, count in (
        ("Option files", "option_file", arguments.options),
        ("Images", "image", arguments.images),
        ("Weight files", "weight_file", arguments.checkpoints),
    ):
        report = sandbox.run(attempt, arguments.seed, count)
        lines += ["", f"| {title.lower()}: mutation | tried | accepted | refused cleanly | failures |", "| --- " * 5 + "|"]
        for kind, counts in [*sorted(report.counts.items()), ("all", report.total)]:
            figures = (counts.total(), counts["accepted"], counts["refused"], counts["failed"])
            lines.append(f"| {kind} | {' | '.join(map(str, figures))} |")
        lines += ["", f"{title}: at most {report.memory / 1e6:.0f} MB and {report.seconds:.1f} s for one file."]
        for number, kind, text in report.failures:
            print(f"{attempt} {number} ({kind}): {text}\n", file=sys.stderr)
        well = well and not report.failures
    return "Hostile input", lines, well


SECTIONS: list[Callable[[argparse.Namespace], Section]] = [hostile_input]


def record(path: Path, title: str, lines: list[str]) -> None:
    """Replace a section of the page, or add it; the others stay."""
    page = path.read_text(encoding="utf-8") if path.exists() else "# Robustness\n"
    head, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    kept = {section.partition("\n")[0]: section.partition("\n")[2] for section in sections}
    kept[title] = "\n" + "\n".join(lines) + "\n"
    texts = [head.strip(), *(f"## {name}\n\n{text.strip()}" for name, text in kept.items())]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", type=int, default=1000)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--checkpoints", type=int, default=300)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    well = True
    for section in SECTIONS:
        title, lines, fine = section(arguments)
        print(f"## {title}\n\n" + "\n".join(lines))
        if arguments.record:
            record(REPO / "docs" / "robustness.md", title, lines)
        well = well and fine
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
