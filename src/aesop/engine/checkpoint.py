"""What a run leaves on disk: `models/` to use, `state/` to continue from. Everything is written aside and renamed.

models/net_g_00005000.safetensors   the network for use, with its options and the whole configuration in the metadata
state/00005000/                     every network as trained, the optimisers' moments, and, written last, state.json with the
                                    progress and the checksum of every file beside it
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import aesop
from aesop.config import Config
from aesop.data.realworld import pool_name, waiting_name
from aesop.engine.stages import Stage
from aesop.files import replacing
from aesop.weights import WeightsError, load_into, read_state_dict, save_weights


@dataclass
class Progress:
    """All that a run remembers besides tensors; everything random follows from (seed, iteration)."""

    iteration: int = 0
    best: dict[str, float] = field(default_factory=dict)
    """Best figure so far, by metric name."""
    skipped: int = 0
    """Steps skipped so far, because something in them was NaN or infinite."""
    in_a_row: int = 0
    """How many of them up to this iteration, without a good one between."""
    rollbacks: int = 0
    """How often the run went back to a former state."""

    def seed(self, manual_seed: int) -> int:
        """The seed of samples and degradations: another one after each way back, or the same steps would fail again."""
        return (
            int(np.random.SeedSequence((manual_seed, 4, self.rollbacks)).generate_state(1)[0])
            if self.rollbacks
            else manual_seed
        )


def metadata(config: Config, iteration: int) -> dict[str, str]:
    """What makes a weight file describe itself."""
    return {
        "network": json.dumps(config.network_g.model_dump(exclude_none=True)),
        "config": config.to_yaml(),
        "total_iter": str(iteration),
        "stage": config.stage,
        "written_by": f"aesop {aesop.__version__}",
    }


def save_model(path: Path, stage: Stage, config: Config, iteration: int) -> None:
    """The network for use (EMA where there is one), alone."""
    save_weights(path, stage.network_for_use.state_dict(), metadata(config, iteration))


def save_state(folder: Path, stage: Stage, config: Config, progress: Progress, keep: int, processes: int = 1) -> Path:
    """Write `folder/<iteration>/`, with the pools that the processes left; of the older ones the newest `keep - 1` stay."""
    target = folder / f"{progress.iteration:08d}"
    aside = folder / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for name, net in stage.networks.items():
            described = metadata(config, progress.iteration) if name.startswith("net_g") else {}
            save_weights(aside / f"{name}.safetensors", net.state_dict(), described)
        for name, optimizer in stage.optimizers.items():
            save_weights(aside / f"{name}.safetensors", _moments(optimizer), {})
        for rank in range(processes):
            if (pool := folder / waiting_name(rank)).is_file():
                pool.rename(aside / pool_name(rank))
        content = {
            "stage": config.stage,
            **asdict(progress),
            "files": {file.name: _checksum(file) for file in sorted(aside.glob("*.safetensors"))},
        }
        with replacing(aside / "state.json") as temporary:
            temporary.write_text(json.dumps({"sha256": _checksum_of(content), **content}, indent=1))
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    older = [state for state in states(folder) if int(state.name) < progress.iteration]
    for old in older[: len(older) - (keep - 1)]:
        shutil.rmtree(old)
    return target


def set_newer_aside(folder: Path, iteration: int) -> None:
    """States beyond the one a run goes on from are unreadable or abandoned: they must not be taken for its newest."""
    for state in states(folder):
        if int(state.name) > iteration:
            state.rename(state.with_name(f"{state.name}.abandoned.{time.time_ns()}"))


def states(folder: Path) -> list[Path]:
    """The state folders there are, oldest first."""
    found = (path for path in folder.glob("*") if path.is_dir() and path.name.isdigit())
    return sorted(found, key=lambda path: int(path.name))


def load_state(folder: Path, stage: Stage, config: Config) -> Progress:
    """Fill the stage in place from a state folder.

    Raises:
        WeightsError: incomplete, damaged (a single bit suffices), or of another stage or network.
    """
    saved = _read_verified(folder)
    progress = Progress(**{name: saved[name] for name in Progress.__dataclass_fields__ if name in saved})
    if saved["stage"] != config.stage:
        raise WeightsError(f"{folder} is of the stage {saved['stage']}, this file trains {config.stage}")
    networks = {name: read_state_dict(folder / f"{name}.safetensors")[0] for name in stage.networks}
    moments = {name: read_state_dict(folder / f"{name}.safetensors")[0] for name in stage.optimizers}
    for name, net in stage.networks.items():
        load_into(net, networks[name], str(folder / f"{name}.safetensors"))
    for name, optimizer in stage.optimizers.items():
        _restore_moments(optimizer, moments[name])
    return progress


def _read_verified(folder: Path) -> dict[str, Any]:
    """state.json, once it and every file it names have their checksums: a flipped bit in a weight would go unnoticed."""
    try:
        saved = json.loads((folder / "state.json").read_text())
        if saved.pop("sha256") != _checksum_of(saved):
            raise ValueError("its checksum is another one")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder} is no complete state folder: state.json is missing or damaged ({error})") from error
    for name, checksum in saved["files"].items():
        if Path(name).name != name or not (folder / name).is_file():
            raise WeightsError(f"{folder / name} cannot be read: no such file in this folder")
        try:
            found = _checksum(folder / name)
        except OSError as error:
            raise WeightsError(f"{folder / name} cannot be read: {error}") from error
        if found != checksum:
            raise WeightsError(f"{folder / name} is damaged: it is not what was written (its checksum is another one)")
    return saved


def _checksum(path: Path) -> str:
    """SHA-256 of a file, which is on the disk from then on."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_newest_state(
    folder: Path, stage: Stage, config: Config, good: bool = False
) -> tuple[Progress, Path | None, list[str]]:
    """Continue from the newest readable state; a damaged one is named in the notes and the one before it is used.

    Args:
        good: pass over states that were saved while steps were skipped; there may be none.
    """
    notes = []
    for candidate in reversed(states(folder)):
        try:
            progress = load_state(candidate, stage, config)
        except WeightsError as error:
            notes.append(f"{candidate} cannot be used, trying the one before it: {error}")
            continue
        if not (good and progress.in_a_row):
            return progress, candidate, notes
        notes.append(f"{candidate} was saved while steps were skipped, trying the one before it")
    if notes and not good:
        raise WeightsError("no readable state to continue from:\n  " + "\n  ".join(notes))
    return Progress(), None, notes


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state as flat tensors `<parameter number>.<name>`."""
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}.{name}": torch.as_tensor(value) for number, entry in state.items() for name, value in entry.items()}


def _restore_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
