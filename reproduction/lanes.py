"""Trainings in the background, over days: a queue of runs for each lane, where a lane is one thread at lowest priority.

    python reproduction/lanes.py start     # starts every lane that does not run; each continues where it was stopped
    python reproduction/lanes.py status    # of each run: step, seconds a step, time left, losses, figures, resumptions
    python reproduction/lanes.py pause     # while something is measured on this machine
    python reproduction/lanes.py resume
    python reproduction/lanes.py stop      # saves the states and ends

The queue is lanes.yml: lane -> runs, in the order they are trained. A run is an option file of `aesop pipeline` in this
folder, with changes (`set`). A lane that is through with its runs helps with the others'. Runs are in ROOT/<run>/, data and
weights where the option files say, both below the current folder. AESOP_WEIGHTS is set as for `aesop train`.

`start` may be called at any time and after any crash. A run that fails without making a step is tried again up to TRIES
times; the lane then continues with the next one. What happened is in ROOT/lanes.jsonl, one line an event: time, lane, run,
event, stage, step, hours. A run's own output is in ROOT/<run>/output.log.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import yaml

HERE = Path(__file__).resolve().parent
ROOT = Path("experiments/lanes")
STAGES = {"psnr": "1_psnr", "autoencoder": "2_autoencoder", "adversarial": "3_adversarial"}
TRIES = 3
LOOKS_EVERY = 10.0  # seconds
WAITS_AFTER_FAILURE = 60.0
# One thread, which leaves the processor to others when it waits.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
Event = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """An entry of the queue."""

    name: str
    file: Path
    changes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return ROOT / self.name

    def stages(self) -> Iterator[Path]:
        """Folders of the stages that have begun."""
        return (self.folder / name for name in STAGES.values() if (self.folder / name / "config.yml").is_file())

    def weights(self, stage: str) -> Path | None:
        """The finished stage's weights; None where it is not finished, or the option file names others."""
        return finished_weights(self.folder / STAGES[stage])

    @property
    def is_finished(self) -> bool:
        return self.weights("adversarial") is not None

    def command(self) -> list[str]:
        """Trains every stage that is not finished. Those that are do not depend on the option file any more."""
        given = {stage: self.weights(stage) for stage in ("psnr", "autoencoder")}
        return [
            *(sys.executable, "-m", "aesop", "pipeline", str(self.file)),
            *(f"name={self.name}", f"path.experiments_root={ROOT}", *self.changes),
            *(f"stages.{stage}.weights={path}" for stage, path in given.items() if path is not None),
        ]


def finished_weights(stage: Path) -> Path | None:
    """The weights of a stage's last iteration; None where it is not there yet."""
    config = stage / "config.yml"
    if not config.is_file():
        return None
    last = stage / "models" / f"net_g_{total_of(config):08d}.safetensors"
    return last if last.is_file() else None


def total_of(config: Path) -> int:
    return yaml.safe_load(config.read_text(encoding="utf-8"))["train"]["total_iter"]


def read_queue(file: Path) -> dict[str, list[Run]]:
    """Lane -> runs.

    Raises:
        ValueError: naming the entry that is wrong.
    """
    lanes = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(lanes, Mapping) or not all(isinstance(runs, list) for runs in lanes.values()):
        raise ValueError(f"{file}: it must hold lanes, each a list of runs")
    queue = {str(lane): [_run(entry, file) for entry in runs] for lane, runs in lanes.items()}
    names = [run.name for runs in queue.values() for run in runs]
    for run in (run for runs in queue.values() for run in runs):
        if names.count(run.name) > 1:
            raise ValueError(f"{file}: two runs are named {run.name}")
        if not run.file.is_file():
            raise ValueError(f"{file}: {run.name}: {run.file} does not exist")
    return queue


def _run(entry: Any, file: Path) -> Run:
    known = {"run", "file", "set"}
    if not isinstance(entry, Mapping) or not {"run", "file"} <= entry.keys() <= known:
        raise ValueError(f"{file}: an entry has run and file, and may have set; found {entry!r}")
    return Run(entry["run"], file.parent / entry["file"], tuple(entry.get("set", ())))


# --- what is known of a run ----------------------------------------------------------------------------------------------


def step_of(run: Run) -> tuple[str, int]:
    """The stage that a run is in, and the newest iteration of it that a resumed training continues from."""
    stage = next(reversed(list(run.stages())), None)
    if stage is None:
        return next(iter(STAGES.values())), 0
    states = [int(path.name) for path in (stage / "state").glob("*") if path.name.isdigit()]
    return stage.name, max(states, default=0)


def rows_of(stage: Path) -> list[dict[str, float | None]]:
    """What a stage logged, oldest first: `iter` with losses, or with figures of a validation (`val/psnr`)."""
    file = stage / "scalars.jsonl"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def last_step(stage: Path | None) -> int:
    """The newest iteration that a stage logged."""
    rows = rows_of(stage) if stage is not None else []
    return int(rows[-1]["iter"] or 0) if rows else 0


def log_event(lane: str, run: str | None, event: str, at: float | None = None, **more: Any) -> None:
    """Append to ROOT/lanes.jsonl."""
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / "lanes.jsonl").open("a", encoding="utf-8") as file:
        line = {"time": moment.isoformat(timespec="seconds"), "lane": lane, "run": run, "event": event, **more}
        file.write(json.dumps(line) + "\n")


def events() -> list[Event]:
    file = ROOT / "lanes.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def hours_of(run: str, logged: list[Event], until: float) -> float:
    """How long a run was trained in all, without the pauses; one that still is trained until `until`."""
    total, begun, lane = 0.0, None, None
    for event in logged:
        at = datetime.fromisoformat(event["time"]).timestamp()
        if event["run"] == run and event["event"] in ("started", "resumed"):
            begun, lane = at, event["lane"]
        elif begun is not None and event["lane"] == lane:
            ends = event["run"] == run or event["event"] == "paused"
            if ends and event["event"] != "continued":
                total, begun = total + at - begun, None
        elif event["lane"] == lane and event["event"] == "continued":
            begun = at
    return (total + (until - begun if begun is not None else 0.0)) / 3600


# --- a lane --------------------------------------------------------------------------------------------------------------


@contextmanager
def locked(file: Path, wait: float = 0) -> Iterator[BinaryIO | None]:
    """The file, locked as long as it is open anywhere, in child processes too; None where somebody else has it.

    Args:
        wait: seconds to try again: who only looks whether it is locked has it for a moment.
    """

    def taken() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as lock:
        yield lock if _wait_for(taken, wait) else None


def lock_of(lane: str) -> Path:
    return ROOT / f"lane_{lane}.lock"


def group_of(lane: str) -> int | None:
    """The process group of a running lane: it exists as long as the lock is held, so its number belongs to nobody else."""
    if not lock_of(lane).is_file():
        return None
    with locked(lock_of(lane)) as lock:
        text = lock_of(lane).read_text()
        return int(text) if lock is None and text else None


class Lane:
    """Trains what is due, one run after the other, in a process of its own."""

    def __init__(self, name: str, queue: Mapping[str, list[Run]]):
        self.name = name
        self.runs = [*queue[name], *(run for other, runs in queue.items() if other != name for run in runs)]
        self.failures: Counter[str] = Counter()
        self.stopping = False

    def work(self) -> None:
        """Until nothing is due, or SIGTERM, which the training gets as well: it is sent to the process group."""
        with locked(lock_of(self.name), 5) as lock:
            if lock is None:
                return
            lock.truncate(0)
            lock.write(str(os.getpgrp()).encode())
            lock.flush()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            self._note_a_loss()
            while not self.stopping and self._train_next(lock):
                pass

    def _stop(self, *_: object) -> None:
        self.stopping = True

    @property
    def _pulse(self) -> Path:
        return ROOT / f"lane_{self.name}.json"

    def _note_a_loss(self) -> None:
        """A run that began and did not end was lost when the lane last gave a sign of life."""
        last = next((event for event in reversed(events()) if event["lane"] == self.name), None)
        if last is not None and last["run"] is None:  # a pause
            begun = [event for event in events() if event["lane"] == self.name and event["run"] is not None]
            last = begun[-1] if begun else last
        if last is not None and last["event"] in ("started", "resumed"):
            at = self._pulse.stat().st_mtime if self._pulse.is_file() else None
            log_event(self.name, last["run"], "lost", at)

    def _train_next(self, lane_lock: BinaryIO) -> bool:
        """Train the first run that is due and that no other lane trains; False where there is none."""
        for run in self.runs:
            if not run.is_finished and self.failures[run.name] < TRIES:
                with locked(run.folder / ".lock") as run_lock:
                    if run_lock is not None and not run.is_finished:
                        self._train(run, (lane_lock, run_lock))
                        return True
        return False

    def _train(self, run: Run, locks: tuple[BinaryIO, BinaryIO]) -> None:
        stage, step = step_of(run)
        known = any(event["run"] == run.name for event in events())
        log_event(self.name, run.name, "resumed" if known else "started", stage=stage, step=step)
        begun = time.time()
        with (run.folder / "output.log").open("ab") as output:
            process = subprocess.Popen(
                run.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno() for lock in locks],
                env={**os.environ, **ENVIRONMENT},
            )
            with suppress(OSError):  # a full disk: the training says so itself
                self._watch(run, process)
            code = process.wait()
        reached = step_of(run)
        ended = "finished" if code == 0 and run.is_finished else "stopped" if self.stopping else "failed"
        hours = round(hours_of(run.name, events(), time.time()), 2)
        log_event(self.name, run.name, ended, stage=reached[0], step=reached[1], code=code, hours=hours)
        if ended == "failed":
            self.failures[run.name] = self.failures[run.name] + 1 if reached == (stage, step) else 1
            while not self.stopping and time.time() < begun + WAITS_AFTER_FAILURE:
                time.sleep(0.2)

    def _watch(self, run: Run, process: subprocess.Popen) -> None:
        """A sign of life with the times of the last steps, until the training ends."""
        seen: list[tuple[float, int]] = []
        stage = next(reversed(list(run.stages())), None)
        last = last_step(stage)
        while process.poll() is None:
            if (current := next(reversed(list(run.stages())), None)) != stage:
                stage, seen = current, []
            if (step := last_step(stage)) != last:
                last, seen = step, [*seen[-20:], (time.time(), step)]
            aside = self._pulse.with_suffix(".tmp")
            aside.write_text(json.dumps({"run": run.name, "stage": stage.name if stage else None, "seen": seen}))
            aside.replace(self._pulse)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOKS_EVERY)


# --- the verbs -----------------------------------------------------------------------------------------------------------


def start(queue_file: Path, lanes: list[str]) -> None:
    for lane in lanes:
        if group_of(lane) is not None:
            print(f"lane {lane} runs already")
            continue
        command = [sys.executable, __file__, "--queue", str(queue_file), "--lane", lane, "work"]
        detached = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
        ROOT.mkdir(parents=True, exist_ok=True)
        with (ROOT / "lanes.err").open("ab") as errors:
            process = subprocess.Popen(command, stderr=errors, **detached)
        _wait_for(lambda lane=lane, process=process: group_of(lane) is not None or process.poll() is not None, 30)
        print(f"lane {lane} {'started' if group_of(lane) is not None else 'has nothing to do'}")


def work(queue_file: Path, lane: str) -> None:
    os.nice(19)
    with suppress(OSError):  # on Linux a session competes with other sessions by a priority of its own
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")
    Lane(lane, read_queue(queue_file)).work()


def pause(lanes: list[str]) -> None:
    for lane in _running(lanes):
        os.killpg(lane.group, signal.SIGSTOP)
        log_event(lane.name, None, "paused")
        print(f"lane {lane.name} paused")


def resume(lanes: list[str]) -> None:
    for lane in _running(lanes):
        os.killpg(lane.group, signal.SIGCONT)
        log_event(lane.name, None, "continued")
        print(f"lane {lane.name} continues")


def stop(lanes: list[str]) -> None:
    running = list(_running(lanes))
    for lane in running:
        os.killpg(lane.group, signal.SIGTERM)
        os.killpg(lane.group, signal.SIGCONT)  # where it was paused
    for lane in running:
        stopped = _wait_for(lambda lane=lane: group_of(lane.name) is None, 300)
        print(f"lane {lane.name} {'stopped' if stopped else 'is still saving its state'}")


@dataclass(frozen=True)
class Running:
    name: str
    group: int


def _running(lanes: list[str]) -> Iterator[Running]:
    for lane in lanes:
        if (group := group_of(lane)) is None:
            print(f"lane {lane} does not run")
        else:
            yield Running(lane, group)


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.2)
    return met


def status(queue: Mapping[str, list[Run]]) -> None:
    logged, now = events(), time.time()
    trained = {}
    for lane in queue:
        mine = [event["event"] for event in logged if event["lane"] == lane]
        state = "stopped"
        if group_of(lane) is not None:
            pulse = ROOT / f"lane_{lane}.json"
            about = json.loads(pulse.read_text()) if pulse.is_file() else {}
            trained[about.get("run")] = about
            state = "paused" if mine[-1:] == ["paused"] else "running"
        print(f"lane {lane}: {state}")
    for lane, runs in queue.items():
        for run in runs:
            print("\n".join(described(run, lane, trained.get(run.name), logged, now)))


def described(run: Run, lane: str, pulse: Mapping[str, Any] | None, logged: list[Event], now: float) -> Iterator[str]:
    """Lines on a run; `pulse` is its lane's last sign of life while it is trained."""
    begun = list(run.stages())
    resumed = sum(event["run"] == run.name and event["event"] == "resumed" for event in logged)
    ended = [event for event in logged if event["run"] == run.name and event["event"] in ("failed", "lost")]
    state = "finished" if run.is_finished else "running" if pulse else "begun" if begun else "due"
    if state == "begun" and ended and ended[-1] is [event for event in logged if event["run"] == run.name][-1]:
        state = ended[-1]["event"]
    yield f"[{lane}] {run.name}: {state}, {hours_of(run.name, logged, now):.2f} h, {resumed} resumptions"
    for stage in begun:
        total, rows, step = total_of(stage / "config.yml"), rows_of(stage), last_step(stage)
        line = f"    {stage.name} {step}/{total}"
        seen = pulse["seen"] if pulse and pulse["stage"] == stage.name else []
        if len(seen) > 1:
            rate = median((t2 - t1) / (n2 - n1) for (t1, n1), (t2, n2) in pairwise(seen) if n2 > n1)
            line += f", {rate:.2f} s/step, {(total - step) * rate / 3600:.1f} h left"
        yield line
        figures = [row for row in rows if any("/" in name for name in row)]
        losses = [row for row in rows if row not in figures]
        for last in (losses[-1:], figures[-1:]):
            yield from (f"        {_values(row)}" for row in last)


def _values(row: Mapping[str, float | None]) -> str:
    return f"at {row['iter']}: " + "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "iter" and v is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["start", "status", "pause", "resume", "stop", "work"])
    parser.add_argument("--queue", type=Path, default=HERE / "lanes.yml", metavar="FILE")
    parser.add_argument("--lane", metavar="NAME", help="this lane only; `work` is how `start` calls itself for one")
    arguments = parser.parse_args()
    try:
        queue = read_queue(arguments.queue)
        if arguments.lane is not None and arguments.lane not in queue:
            raise ValueError(f"--lane {arguments.lane}: the lanes are {', '.join(queue)}")
        chosen = [arguments.lane] if arguments.lane is not None else list(queue)
        match arguments.verb:
            case "start":
                start(arguments.queue, chosen)
            case "status":
                status(queue)
            case "work":
                work(arguments.queue, chosen[0])
            case verb:
                {"pause": pause, "resume": resume, "stop": stop}[verb](chosen)
    except (ValueError, OSError, yaml.YAMLError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
