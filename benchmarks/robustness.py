"""Kill trainings, damage states, mutate input files, and count the outcomes for docs/evidence/robustness.md.

    python benchmarks/robustness.py --kills 100 --damages 2000 --options 10000 --images 2000 --checkpoints 1000 --record

`--record` replaces the sections in docs/evidence/robustness.md. Every mutation is drawn from (seed, number). The script
prints the numbers of the failures; `tests/hostile/mutations.py` reproduces their bytes.
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
Section = tuple[str, list[str], bool]  # title, lines, whether it passed


def hostile_input(arguments: argparse.Namespace) -> Section:
    lines = [
        'Mutated files are read in a separate process (`tests/hostile`). "Refused" means an `aesop` error that names',
        'the file, without a traceback. "Accepted" files remained readable after the mutation. A failure is anything',
        f"else: another exception, a crash, more than {sandbox.SECONDS} s or {sandbox.MEMORY >> 30} GB for one file,",
        f"or execution of hostile code. Seed {arguments.seed}.",
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
        "Real `aesop train` processes with loaders and validation (`tests/training/kills.py`) are killed during the",
        f"named activity and restarted with `--resume`, for {', '.join(kills.STAGES)} in turn. Each run must end with",
        "the tensors (weights, EMA, moments, pool, models of the front) and the log of an uninterrupted run, bit for bit.",
        f"No state may be unreadable, at most {kills.FREQUENCY} steps (the distance between checkpoints) may be lost, and",
        f"SIGTERM and SIGINT must leave a saved state and their exit codes. Seed {arguments.seed}.",
        "",
        f"| killed during | {' | '.join(number.name for number in kills.SIGNALS)} |",
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
        f"{sum(run.runs for run in found.values())} runs, all of which ended like the uninterrupted ones. "
        f"Steps lost per kill: {statistics.mean(lost):.1f} on average, {max(lost)} at most. "
        f"{sum(run.missed for run in found.values())} more signals arrived after the end of a run.",
    ]
    return "Killed trainings", lines, True


def damaged_states(arguments: argparse.Namespace) -> Section:
    with tempfile.TemporaryDirectory() as folder:
        tried = damage.damage_states(Path(folder), arguments.damages, arguments.seed, "realworld")
    lines = [
        "The newest state of a training is truncated at a byte, or one bit is flipped (`tests/training/damage.py`).",
        f"Each time the state must be refused and the previous one used. Seed {arguments.seed}.",
        "",
        "| file | cut | flipped bit |",
        "| --- | --- | --- |",
    ]
    for name in sorted({name for name, _ in tried}):
        lines.append(f"| {name} | {tried[name, 'cut']} | {tried[name, 'flipped bit']} |")
    return "Damaged states", [*lines, "", f"{tried.total()} damaged states, all detected."], True


SECTIONS: dict[str, Callable[[argparse.Namespace], Section]] = {
    "kills": killed_trainings,
    "damages": damaged_states,
    "hostile": hostile_input,
}


def record(path: Path, title: str, lines: list[str]) -> None:
    """Replace or add one section of the page."""
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
