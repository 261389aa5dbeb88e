"""`aesop diagnose RUN`: what is wrong with a training, and what to change."""

import json
from pathlib import Path

from rich.console import Console

from aesop.diagnosis.balance import balance, described
from aesop.diagnosis.diagnosis_page import write_diagnosis_page
from aesop.diagnosis.run_record import read_run
from aesop.diagnosis.verdict import Verdict, diagnose
from aesop.system.files import replacing


def run(folder: Path, console: Console, *, page: Path | None = None, json_file: Path | None = None) -> Verdict:
    """Print the verdict; write the page, by default diagnosis.html in the run folder, and the JSON file."""
    record = read_run(folder)
    verdict = diagnose(record)
    console.print("\n".join(verdict.lines()))
    if json_file is not None:
        with replacing(json_file) as temporary:
            temporary.write_text(json.dumps(verdict.to_json(), indent=1) + "\n", encoding="utf-8")
    console.print(f"page: {write_diagnosis_page(record, verdict, page or record.folder / 'diagnosis.html')}")
    return verdict


def print_weights(folder: Path, console: Console) -> None:
    """Print what weights would give this run's losses the published recipe's shares of the gradient."""
    record = read_run(folder)
    console.print("\n".join(described(balance(record))))
