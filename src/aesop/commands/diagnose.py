"""`aesop diagnose`: what is wrong with a training, or with an auto-encoder, and what to change."""

from pathlib import Path

from rich.console import Console

from aesop.diagnosis.balance import Balance, balance, described
from aesop.diagnosis.diagnosis_page import write_diagnosis_page
from aesop.diagnosis.run_record import read_run
from aesop.diagnosis.verdict import Verdict, diagnose
from aesop.evaluation.autoencoder_audit import Audit, audit
from aesop.system.terminal import Note

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt")


def run(folder: Path, console: Console, *, page: Path | None = None) -> Verdict:
    """Print the verdict, and write the page, by default diagnosis.html in the run folder."""
    record = read_run(folder)
    verdict = diagnose(record)
    console.print("\n".join(verdict.lines()))
    page = write_diagnosis_page(record, verdict, page or record.folder / "diagnosis.html")
    console.print(Note(f"page: {page}"))
    return verdict


def print_weights(folder: Path, console: Console) -> Balance:
    """Print what weights would give this run's losses the published recipe's shares of the gradient."""
    found = balance(read_run(folder))
    console.print("\n".join(described(found)))
    return found


def audit_autoencoder(file: Path, data: Path, console: Console) -> Audit:
    """Print whether an auto-encoder fits, by the HR images of `data`."""
    found = audit(file, data)
    console.print("\n".join(found.lines()))
    return found
