"""Write records to results/, each with date, machine, versions, and commit."""

import json
import platform
import shutil
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch

import aesop
from aesop.system.device import device_name
from aesop.system.files import replacing

RESULTS = Path(__file__).parent / "results"


def write(name: str, record: dict[str, Any]) -> None:
    """Write results/<name>_<date>_<device>.json."""
    path = RESULTS / f"{name}_{record['date']}_{record['device']}.json"
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nrecorded: {path.relative_to(RESULTS.parent)}")


def described(device: torch.device) -> dict[str, Any]:
    """Return date, machine, versions, and commit."""
    cpu = device_name(torch.device("cpu"))
    return {
        "date": date.today().isoformat(),
        "machine": f"{cpu} ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads"
        + (f", {device_name(device)}" if device.type == "cuda" else ""),
        "device": device.type,
        "versions": {"aesop": aesop.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "commit": commit(),
    }


def commit() -> str | None:
    if shutil.which("git") is None:
        return None
    command = ["git", "rev-parse", "HEAD"]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
