"""Run the golden tests and write docs/evidence/parity.md: every case with its worst measured deviation, and what is skipped.

python benchmarks/parity_table.py            (reads the folder in AESOP_GOLDEN, default ../shared/golden)
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        environment = {**os.environ, "AESOP_GOLDEN_REPORT": str(report), "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/golden", "-q", "-rs", "--no-header", "-p", "no:cacheprovider"],
            cwd=REPO, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        rows = [json.loads(line) for line in report.read_text().splitlines()]
    closing = result.stdout.strip().splitlines()[-1]
    skipped = sorted({line.partition(": ")[2] for line in result.stdout.splitlines() if line.startswith("SKIPPED")})
    worst: dict[str, dict] = {}
    for row in rows:
        former = worst.get(row["case"])
        if former is None or row["deviation"] / row["limit"] > former["deviation"] / former["limit"]:
            worst[row["case"]] = row
    count = {case: sum(row["case"] == case for row in rows) for case in worst}
    lines = [
        "# Golden parity",
        "",
        "Measured against the numbers of the published code, case by case (`python benchmarks/parity_table.py`). For each",
        "case the figure closest to its limit is shown, of as many as were compared. The limits are those that the golden",
        "vectors' README suggests.",
        "",
        f"{closing}. torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, CPU, one thread.",
        "",
        "| case | compared | closest to its limit | deviation | limit |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {case} | {count[case]} | {row['what']} | {row['deviation']:.1e} | {row['limit']:.0e} |"
            for case, row in sorted(worst.items())
        ),
        "",
        *(["## Skipped, by name", ""] if skipped else ["No case is skipped."]),
        *(f"* {reason}" for reason in skipped),
        "",
    ]
    (REPO / "docs" / "evidence" / "parity.md").write_text("\n".join(lines))
    print(closing)
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()
