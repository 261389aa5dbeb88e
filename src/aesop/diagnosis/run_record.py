"""What a run wrote about itself: its options, readings, losses and skipped steps."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aesop.losses.loss_term import LossOptions
from aesop.options.config import TrainConfig
from aesop.options.error_messages import ConfigError
from aesop.options.read import recorded_config

PREFIX = "read/"
NAN = float("nan")
Points = tuple[NDArray[np.float64], NDArray[np.float64]]  # iterations and finite values
NONE: Points = (np.empty(0), np.empty(0))


@dataclass(frozen=True)
class RunRecord:
    """A run's options and values over its iterations. Values that were not finite are left out."""

    folder: Path
    config: TrainConfig
    values: Mapping[str, Points]
    iteration: int
    """The last iteration of which anything was logged."""
    skipped: int = 0
    rollbacks: int = 0
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, reading: str) -> Points:
        return self.values.get(PREFIX + reading, NONE)

    @cached_property
    def reading_iterations(self) -> list[int]:
        """The iterations of the readings, without the first one of the training, in which weights have hardly moved."""
        read = {int(k) for name, (at, _) in self.values.items() if name.startswith(PREFIX) for k in at}
        return sorted(read - {1})

    @cached_property
    def since(self) -> float:
        """The iteration after which the run counts as settled: half of it, and once the generator is trained."""
        return max(self.iteration / 2, self.config.train.net_d_init_iters + 1)

    def settled(self, reading: str) -> NDArray[np.float64]:
        """The values in the second half of the run."""
        at, values = self[reading]
        return values[(at >= self.since) & (at > 1)]

    def late(self, reading: str) -> float:
        """The median in the second half of the run; NaN without readings there."""
        values = self.settled(reading)
        return float(np.median(values)) if len(values) else NAN

    def typical(self, reading: str) -> float:
        """The median over the whole run, from its first iteration on."""
        values = self[reading][1]
        return float(np.median(values)) if len(values) else NAN

    def first(self, reading: str) -> float:
        values = self[reading][1]
        return float(values[0]) if len(values) else NAN

    @property
    def losses(self) -> dict[str, LossOptions]:
        """The losses of the generator, as readings name them."""
        return {options.log_name: options for options in self.config.train.losses().values()}

    def option_of(self, loss: str) -> str:
        """The option that weighs a loss, e.g. train.gan_opt.loss_weight."""
        name = next(name for name, options in self.config.train.losses().items() if options.log_name == loss)
        weight = "perceptual_weight" if loss == "percep" else "loss_weight"
        return f"train.{name}.{weight}"

    def weight_of(self, loss: str) -> float:
        options = self.losses[loss]
        return float(getattr(options, "perceptual_weight" if loss == "percep" else "loss_weight", 1.0))

    def shares(self, where: str = "weights", late: bool = True) -> dict[str, float]:
        """Each loss's part of the sum of the gradients' norms: in the generator's `weights` or at `sr`."""
        norms = {name: (self.late if late else self.typical)(f"{where}/{name}") for name in self.losses}
        norms = {name: norm for name, norm in norms.items() if norm == norm}
        total = sum(norms.values())
        return {name: norm / total for name, norm in norms.items()} if total > 0 else {}


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder of `aesop train`, also of a run in progress or of an earlier version.

    Raises:
        FileNotFoundError: there is no such folder, or no run in it. Names the nearest ones.
        ConfigError: its config.yml is damaged.
    """
    folder = Path(folder)
    if folder.is_file() and folder.name in ("config.yml", "scalars.jsonl", "train.log"):
        folder = folder.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist{_nearest(folder)}")
    options = folder / "config.yml"
    if not options.is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.yml"))
        hint = f"; it contains the runs {', '.join(inside[:8])}: name one of them" if inside else ""
        raise FileNotFoundError(f"{folder} is no run of `aesop train`: it has no config.yml{hint}")
    try:
        config = recorded_config(options.read_text(encoding="utf-8"), str(options))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{options} is damaged: {error}") from error
    notes: list[str] = []
    rows, damaged = _lines(folder / "scalars.jsonl")
    if damaged:
        notes.append(f"{damaged} damaged lines of scalars.jsonl were left out")
    values = _by_name(rows)
    faults, _ = _lines(folder / "faults.jsonl")
    iteration = max((int(at[-1]) for at, _ in values.values() if len(at)), default=0)
    skipped = sum("skipped" in row for row in faults)
    rollbacks = sum("went_back" in row for row in faults)
    return RunRecord(folder, config, values, iteration, skipped, rollbacks, notes)


def _lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a file of JSON lines, and the number of damaged ones; the last line may still be written."""
    if not file.is_file():
        return [], 0
    rows, damaged = [], 0
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("iter"), int):
                raise ValueError
            rows.append(row)
        except ValueError:
            damaged += bool(line.strip()) and number < len(lines) - 1
    return rows, damaged


def _by_name(rows: list[dict[str, Any]]) -> dict[str, Points]:
    points: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "iter" and isinstance(value, int | float) and np.isfinite(value):
                points.setdefault(name, {})[row["iter"]] = float(value)
    arrays = {}
    for name, by_iteration in points.items():
        at = sorted(by_iteration)
        arrays[name] = np.array(at, dtype=np.float64), np.array([by_iteration[k] for k in at])
    return arrays


def _nearest(folder: Path) -> str:
    """The runs with similar names beside a folder that does not exist."""
    parent = folder.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    here = [path.parent.name for path in parent.glob("*/config.yml")]
    below = [path.parent.name for path in (parent / "experiments").glob("*/config.yml")]
    near = difflib.get_close_matches(folder.name, here, 3, 0.4)
    if near:
        return f"; did you mean {', '.join(str(parent / name) for name in near)}?"
    if folder.name in below:
        return f"; did you mean {parent / 'experiments' / folder.name}?"
    found = here or [f"experiments/{name}" for name in below]
    return f"; {parent} contains the runs {', '.join(sorted(found)[:8])}" if found else ""
