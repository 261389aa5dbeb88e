"""Tries mutations in a process of its own, which may crash, hang or swell without taking the tests with it.

An attempt fails when it raises, takes longer than SECONDS or more than MEMORY, ends the process, or runs hostile code (the
canary appears). Another process goes on behind a mutation that ends one.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS = 60
# More than the process has before the attempt. An image within the limit of 200 megapixels takes up to 20 bytes a pixel, a
# network within the limit of 500 million parameters half of it.
MEMORY = 4 << 30
NET = 16 << 30  # of address space: keeps a fault from taking the machine down


@dataclass
class Report:
    """How often each kind of mutation was accepted or cleanly refused, and (number, kind, what happened) of the failures."""

    counts: dict[str, Counter] = field(default_factory=dict)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    memory: int = 0
    """The most that an attempt took, in bytes."""
    seconds: float = 0
    """The longest that an attempt took."""

    def add(self, number: int, kind: str, outcome: str, text: str, memory: int = 0, seconds: float = 0) -> None:
        self.counts.setdefault(kind, Counter())[outcome] += 1
        self.memory, self.seconds = max(self.memory, memory), max(self.seconds, seconds)
        if outcome == "failed":
            self.failures.append((number, kind, text))

    @property
    def total(self) -> Counter:
        return sum(self.counts.values(), Counter())


def run(attempt: str, seed: int, count: int, first: int = 0) -> Report:
    """An attempt of attempts.py for the mutations `first` .. `first + count - 1`."""
    report, number = Report(), first
    places = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        while number < first + count:
            process = subprocess.run(
                [sys.executable, __file__, attempt, str(seed), str(number), str(first + count)],
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)},
                check=False,
            )
            for line in process.stdout.splitlines():
                report.add(*json.loads(line))
                number += 1
            if number < first + count:
                reason = "took too long" if process.returncode == -signal.SIGALRM else f"exit code {process.returncode}"
                report.add(number, _kind(attempt, seed, number), "failed", f"{reason}: {process.stderr[-2000:]}")
                number += 1
    return report


def _kind(attempt: str, seed: int, number: int) -> str:
    import mutations

    return getattr(mutations, attempt)(seed, number)[0]


def _memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) << 10


def _try_all(attempt: str, seed: int, first: int, end: int) -> None:
    from attempts import ATTEMPTS

    # What the attempts themselves print is no answer.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + NET, resource.RLIM_INFINITY))
    for number in range(first, end):
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
        before, text, begun = _memory("VmRSS"), "", time.perf_counter()
        signal.alarm(SECONDS)  # ends the process, in the midst of a library's code too
        try:
            outcome = ATTEMPTS[attempt](seed, number)
        except BaseException:  # noqa: BLE001
            outcome, text = "failed", traceback.format_exc()[-3000:]
        signal.alarm(0)
        seconds, grown = time.perf_counter() - begun, _memory("VmHWM") - before
        if grown > MEMORY:
            outcome, text = "failed", f"took {grown >> 20} MB of memory"
        canary = Path("canary")
        if canary.exists():
            outcome, text = "failed", "hostile code was run"
            canary.rmdir() if canary.is_dir() else canary.unlink()
        print(json.dumps([number, _kind(attempt, seed, number), outcome, text, grown, seconds]), file=out, flush=True)


if __name__ == "__main__":
    _try_all(sys.argv[1], *map(int, sys.argv[2:]))
