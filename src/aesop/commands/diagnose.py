"""`aesop diagnose`: what is wrong with a training, or with an auto-encoder, and what to change."""

import json
from pathlib import Path

from rich.console import Console

from aesop.diagnosis.balance import balance, described
from aesop.diagnosis.diagnosis_page import write_diagnosis_page
from aesop.diagnosis.run_record import read_run
from aesop.diagnosis.verdict import Verdict, diagnose
from aesop.evaluation.autoencoder_audit import Audit, audit
from aesop.system.files import replacing

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt")


def run(folder: Path, console: Console, *, page: Path | None = None, json_file: Path | None = None) -> Verdict:
    """Print the verdict; write the page, by default diagnosis.html in the run folder, and the JSON file."""
    record = read_run(folder)
    verdict = diagnose(record)
    _report(verdict, console, json_file)
    console.print(f"page: {write_diagnosis_page(record, verdict, page or record.folder / 'diagnosis.html')}")
    return verdict


def print_weights(folder: Path, console: Console) -> None:
    """Print what weights would give this run's losses the published recipe's shares of the gradient."""
    record = read_run(folder)
    console.print("\n".join(described(balance(record))))


def audit_autoencoder(file: Path, data: Path, console: Console, json_file: Path | None = None) -> Audit:
    """Print whether an auto-encoder fits, by the HR images of `data`; write the JSON file."""
    found = audit(file, data)
    _report(found, console, json_file)
    return found


def _report(found: Verdict | Audit, console: Console, json_file: Path | None) -> None:
    console.print("\n".join(found.lines()))
    if json_file is not None:
        with replacing(json_file) as temporary:
            temporary.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
