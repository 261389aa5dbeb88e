"""Run the golden tests and write docs/evidence/parity.md: the worst deviation of every case, and the skipped cases.

python benchmarks/parity_table.py            (golden vectors: AESOP_GOLDEN, default ../shared/golden)
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
        "Deviations from the values of the published code, case by case (`python benchmarks/parity_table.py`). Each",
        "row shows the value closest to its limit among all values compared in that case. The limits are those",
        "suggested by the README of the golden vectors.",
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
        *(["## Skipped", ""] if skipped else ["No case is skipped."]),
        *(f"* {reason}" for reason in skipped),
        "",
    ]
    (REPO / "docs" / "evidence" / "parity.md").write_text("\n".join(lines))
    print(closing)
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()
