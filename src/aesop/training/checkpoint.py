"""What a run leaves on disk: `models/` to use, `state/` to continue from. Everything is written aside and renamed.

models/net_g_00005000.safetensors   the network for use, with its options and the whole configuration in the metadata
state/00005000/                     every network as trained, the optimisers' moments, and, written last, state.json with the
                                    progress and the checksum of every file beside it
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import aesop
from aesop.data.degradation.degrader import pool_name, waiting_name
from aesop.options.config import TrainConfig
from aesop.system.files import replacing, sha256_of
from aesop.training.stages import Stage
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_into
from aesop.weights.read import read_state_dict
from aesop.weights.save import save_weights

log = logging.getLogger("aesop")


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
    validated: int = 0
    """The last iteration whose validation was done."""

    def seed(self, manual_seed: int) -> int:
        """The seed of samples and degradations: another one after each way back, or the same steps would fail again."""
        return (
            int(np.random.SeedSequence((manual_seed, 4, self.rollbacks)).generate_state(1)[0])
            if self.rollbacks
            else manual_seed
        )


def metadata(config: TrainConfig, iteration: int) -> dict[str, str]:
    """What makes a weight file describe itself."""
    return {
        "network": json.dumps(config.network_g.model_dump(exclude_none=True)),
        "config": config.to_yaml(),
        "total_iter": str(iteration),
        "stage": config.stage,
        "written_by": f"aesop {aesop.__version__}",
    }


def save_model(path: Path, stage: Stage, config: TrainConfig, iteration: int) -> None:
    """The network for use (EMA where there is one), alone."""
    save_weights(path, stage.network_for_use.state_dict(), metadata(config, iteration))


def save_state(folder: Path, stage: Stage, config: TrainConfig, progress: Progress, keep: int, processes: int = 1) -> Path:
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
            "files": {file.name: _flushed(file) for file in sorted(aside.glob("*.safetensors"))},
        }
        with replacing(aside / "state.json") as temporary:
            temporary.write_text(json.dumps({"sha256": _checksum_of(content), **content}, indent=1))
            _flushed(temporary)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _flush_folder(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if not progress.in_a_row:  # else this state may be no good one, and those before it are needed
        older = [state for state in states(folder) if int(state.name) < progress.iteration]
        for old in older[: max(0, len(older) - (keep - 1))]:
            try:
                shutil.rmtree(old)
            except OSError as error:
                log.warning("%s could not be removed: %s", old, error)
    return target


def set_newer_aside(folder: Path, iteration: int) -> None:
    """States beyond the one a run goes on from are unreadable or abandoned: they must not be taken for its newest."""
    for state in states(folder):
        if int(state.name) > iteration:
            state.rename(state.with_name(f"{state.name}.abandoned.{time.time_ns()}"))


def clear_leftovers(run_folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for path in [*(run_folder / "state").glob(".*.tmp"), *(run_folder / "models").glob(".*.tmp.*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def states(folder: Path) -> list[Path]:
    """The state folders there are, oldest first."""
    found = (path for path in folder.glob("*") if path.is_dir() and path.name.isdigit())
    return sorted(found, key=lambda path: int(path.name))


def load_state(folder: Path, stage: Stage, config: TrainConfig) -> Progress:
    """Fill the stage in place from a state folder.

    Raises:
        WeightsError: incomplete, damaged (a single bit suffices), or of another stage or network.
    """
    saved = _read_verified(folder)
    known = {"validated": saved["iteration"], **saved}
    progress = Progress(**{name: known[name] for name in Progress.__dataclass_fields__ if name in known})
    if saved["stage"] != config.stage:
        raise WeightsError(f"{folder} is of the stage {saved['stage']}, this file trains {config.stage}")
    networks = {name: read_state_dict(folder / f"{name}.safetensors")[0] for name in stage.networks}
    moments = {name: read_state_dict(folder / f"{name}.safetensors")[0] for name in stage.optimizers}
    for name, net in stage.networks.items():
        load_into(net, networks[name], str(folder / f"{name}.safetensors"))
    for name, optimizer in stage.optimizers.items():
        _restore_moments(optimizer, moments[name])
    if stage.replayed is not None:
        stage.replayed.forget()
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
            found = sha256_of(folder / name)
        except OSError as error:
            raise WeightsError(f"{folder / name} cannot be read: {error}") from error
        if found != checksum:
            raise WeightsError(f"{folder / name} is damaged: it is not what was written (its checksum is another one)")
    return saved


def _flushed(path: Path) -> str:
    """SHA-256 of a file that was just written, which is on the disk from then on."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return sha256_of(path)


def _flush_folder(path: Path) -> None:
    """The names in it are on the disk from then on, where the system can do that."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _checksum_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def newest_state(folder: Path, good: bool = False) -> tuple[Path | None, list[str]]:
    """The newest whole state, and what to tell the user about those passed over; None where there is none.

    Args:
        good: pass over states that were saved while steps were skipped.

    Raises:
        WeightsError: when there are states, and all are damaged.
    """
    notes, damaged = [], False
    for candidate in reversed(states(folder)):
        try:
            saved = _read_verified(candidate)
        except WeightsError as error:
            damaged = True
            notes.append(f"{candidate} cannot be used, trying the one before it: {error}")
            continue
        if not (good and saved.get("in_a_row")):
            return candidate, notes
        notes.append(f"{candidate} was saved while steps were skipped, trying the one before it")
    if damaged and not good:
        raise WeightsError("no readable state to continue from:\n  " + "\n  ".join(notes))
    return None, notes


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state as flat tensors `<parameter number>.<name>`."""
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}.{name}": torch.as_tensor(value) for number, entry in state.items() for name, value in entry.items()}


def _restore_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)]
        # In the parameter's memory format: a fused optimiser walks through both by address.
        same_layout = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(number), {})[name] = same_layout
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
