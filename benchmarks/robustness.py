"""What was tried to break a training or the program, counted: one section each of docs/evidence/robustness.md.

    python benchmarks/robustness.py --kills 100 --damages 2000 --options 10000 --images 2000 --checkpoints 1000 --record

Trainings killed at random moments, states damaged at random bytes, mutated option files, images and weight files.
`--record` replaces the sections in docs/evidence/robustness.md. Every mutation is drawn from (seed, number): the numbers of failures
are printed, and `tests/hostile/mutations.py` makes the same bytes again.
"""

import argparse
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hostile"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "training"))

import damage
import kills
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


def killed_trainings(arguments: argparse.Namespace) -> Section:
    lines = [
        "Real `aesop train` processes with loaders and validation (`tests/training/kills.py`), killed in the middle of what",
        f"is named, and started again with `--resume`, for {', '.join(kills.STAGES)} in turn. Each run had to end with the",
        "tensors (weights, EMA, moments, pool) and the log of one that was left alone, bit for bit; no state might be",
        f"unreadable, at most {kills.FREQUENCY} steps, the distance between checkpoints, might be lost, and SIGTERM and",
        f"SIGINT had to leave a saved state and their exit codes. Seed {arguments.seed}.",
        "",
        f"| killed in | {' | '.join(number.name for number in kills.SIGNALS)} |",
        "| --- " * (1 + len(kills.SIGNALS)) + "|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        found = kills.kill_runs(Path(folder), arguments.kills, arguments.seed)
    by = sum((run.kills for run in found.values()), Counter())
    for moment in kills.MOMENTS:
        lines.append(f"| {moment} | {' | '.join(str(by[moment, number.name]) for number in kills.SIGNALS)} |")
    lost = [steps for run in found.values() for steps in run.repeated]
    lines += [
        "",
        f"{by.total()} kills, {sum(run.starts for run in found.values())} starts, "
        f"{sum(run.runs for run in found.values())} runs, which all ended as the undisturbed ones. "
        f"Steps lost by a kill: {statistics.mean(lost):.1f} in the mean, {max(lost)} at most. "
        f"{sum(run.missed for run in found.values())} more signals came after the run had ended.",
    ]
    return "Killed trainings", lines, True


def damaged_states(arguments: argparse.Namespace) -> Section:
    with tempfile.TemporaryDirectory() as folder:
        tried = damage.damage_states(Path(folder), arguments.damages, arguments.seed, "realworld")
    lines = [
        "The newest state of a training, cut at a byte or with one bit flipped (`tests/training/damage.py`): refused each",
        f"time, and the state before it was used. Seed {arguments.seed}.",
        "",
        "| file | cut | flipped bit |",
        "| --- | --- | --- |",
    ]
    for name in sorted({name for name, _ in tried}):
        lines.append(f"| {name} | {tried[name, 'cut']} | {tried[name, 'flipped bit']} |")
    return "Damaged states", [*lines, "", f"{tried.total()} damages, none unnoticed."], True


SECTIONS: dict[str, Callable[[argparse.Namespace], Section]] = {
    "kills": killed_trainings,
    "damages": damaged_states,
    "hostile": hostile_input,
}


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
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--damages", type=int, default=300)
    parser.add_argument("--sections", nargs="*", default=list(SECTIONS), choices=SECTIONS, help="default: all")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    well = True
    for name in arguments.sections:
        title, lines, fine = SECTIONS[name](arguments)
        print(f"## {title}\n\n" + "\n".join(lines))
        if arguments.record:
            record(REPO / "docs" / "evidence" / "robustness.md", title, lines)
        well = well and fine
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
