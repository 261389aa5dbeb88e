"""The files of a run: `models/` for use and `state/` to continue from. Each is written under another name, then renamed.

models/net_g_00005000.safetensors   the network for use; its options and the whole configuration stand in the metadata
state/00005000/                     every trained network, the optimizers' moments, each process's pool of degraded pairs
                                    and, written last, state.json: the progress and the checksum of every other file
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import aesop
from aesop.data.degradation.degrader import Degrader
from aesop.options.config import TrainConfig
from aesop.options.read import recorded_config, with_former_behaviour
from aesop.system.distributed import World, agreed, barrier, largest
from aesop.system.files import replacing, sha256_of
from aesop.system.wording import readable
from aesop.training.full_disk import attempt, write_or_log
from aesop.training.optimizers import moments, restore_moments
from aesop.training.progress import Progress
from aesop.training.skipped_steps import Diverged, SkippedSteps
from aesop.training.stage import Stage
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_into
from aesop.weights.read import read_state_dict
from aesop.weights.save import save_weights

log = logging.getLogger("aesop")


class Checkpoints:
    """Saves and loads all that a run needs to continue; `progress` and the stage are filled in place."""

    def __init__(self, config: TrainConfig, world: World, stage: Stage, degrader: Degrader | None = None):
        self.config, self.world, self.stage, self.degrader = config, world, stage, degrader
        self.folder = config.run_folder
        self.progress = Progress()
        self.saved = 0
        """The iteration that was last saved or loaded."""

    def start(self, source: Path | None) -> Progress:
        """Load `source`, where there is one, and tidy the run's folder."""
        if source is not None:
            self.load(source)
        barrier(self.world)
        if self.world.is_main:
            clear_leftovers(self.folder)
            set_newer_aside(self.folder / "state", self.progress.iteration)
        log.info("continuing from %s", source) if source else log.info("starting from the beginning")
        return self.progress

    def load(self, source: Path) -> None:
        """Continue from a state folder; WeightsError if it is damaged or belongs to other options."""
        vars(self.progress).update(vars(load_state(source, self.stage, self.config)))
        self.saved = self.progress.iteration
        if self.degrader is None or self.degrader.pool is None:
            return
        file = source / _pool_name(self.world.rank)
        if not file.is_file():
            log.warning("%s has no pool of degraded pairs for process %d: it starts empty", source, self.world.rank)
        pairs = read_state_dict(file)[0] if file.is_file() else {}
        try:
            self.degrader.load_state_dict(pairs, self.world.device)
        except ValueError as error:
            raise WeightsError(f"{file}: {error}") from error

    def save(self, must: bool) -> None:
        """Write weights and state. Where that fails, the former state stays and the run goes on, unless it `must` succeed.

        Raises:
            Diverged: a network has NaN or infinite weights. Nothing is written.
            OSError: writing failed, and it must not or `logger.on_failed_save` is `stop`.
        """
        refuse_broken_weights(self.stage, self.progress.iteration)
        for write in (self._save_pool, self._save_weights_and_state):
            error = attempt(write)
            if largest(self.world, int(error is not None)):  # of all processes
                self._report_failure(error, must)
                return
        self.saved = self.progress.iteration

    def _report_failure(self, error: OSError | None, must: bool) -> None:
        existing, iteration = states(self.folder / "state"), self.progress.iteration
        text = (
            f"could not save iteration {iteration} in {self.folder} ({error or 'see the other processes'}; "
            f"{readable(shutil.disk_usage(self.folder).free)} free). "
            + (f"The newest state is that of iteration {int(existing[-1].name)}" if existing else "There is no state yet")
        )
        if must or self.config.logger.on_failed_save == "stop":
            raise OSError(f"{text}. Free some space and continue with --resume") from error
        if self.world.is_main:
            following = iteration + self.config.logger.save_checkpoint_freq
            log.error("%s. Training continues and saves again at iteration %d", text, following)

    def _save_pool(self) -> None:
        if self.degrader is not None and (pairs := self.degrader.state_dict()):
            save_weights(self.folder / "state" / _waiting_pool_name(self.world.rank), pairs, {})

    def _save_weights_and_state(self) -> None:
        """`models/net_g_<iteration>` and `state/<iteration>/`, including the pools that the processes wrote."""
        if not self.world.is_main:
            return
        config, stage, progress, folder = self.config, self.stage, self.progress, self.folder / "state"
        number = f"{progress.iteration:08d}"
        save_model(self.folder / "models" / f"net_g_{number}.safetensors", stage, config, progress.iteration)
        temporary = folder / f".{number}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            for name, net in stage.networks.items():
                described = metadata(config, progress.iteration) if name.startswith("net_g") else {}
                save_weights(temporary / f"{name}.safetensors", net.state_dict(), described)
            for name, optimizer in stage.optimizers.items():
                save_weights(temporary / f"{name}.safetensors", moments(optimizer), {})
            for rank in range(self.world.size):
                if (pool := folder / _waiting_pool_name(rank)).is_file():
                    pool.rename(temporary / _pool_name(rank))
            content = {
                "stage": config.stage,
                **asdict(progress),
                "files": {file.name: _flushed(file) for file in sorted(temporary.glob("*.safetensors"))},
            }
            with replacing(temporary / "state.json") as file:
                file.write_text(json.dumps({"sha256": _checksum_of(content), **content}, indent=1))
                _flushed(file)
            if (folder / number).exists():
                shutil.rmtree(folder / number)
            temporary.rename(folder / number)
            _flush_folder(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if not progress.in_a_row:  # else this state may not be a good one, and the older ones are needed
            older = [state for state in states(folder) if int(state.name) < progress.iteration]
            for old in older[: max(0, len(older) - (config.logger.keep_states - 1))]:
                write_or_log(f"{old} could not be removed", shutil.rmtree, old)

    @contextmanager
    def saved_on_error(self, skipped: SkippedSteps) -> Generator[None]:
        """If reading an image or a validation fails, save the steps made so far before the error is raised."""
        try:
            yield
        except Exception:
            # Other processes may be in the middle of a step: their steps since the last checkpoint are lost.
            if self.world.size == 1 and self.saved != self.progress.iteration:
                try:
                    skipped.check()
                    self.save(must=True)
                except (Diverged, OSError) as another:
                    log.error("%s", another)
            raise


def refuse_broken_weights(stage: Stage, iteration: int) -> None:
    """Raise Diverged if a network has NaN or infinite weights."""
    for name, net in stage.networks.items():
        if not all(torch.isfinite(p).all() for p in net.parameters()):
            raise Diverged(f"{name} has NaN or infinite weights at iteration {iteration}")


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
    """Write the network for use alone (the average, where there is one)."""
    save_weights(path, stage.network_for_use.state_dict(), metadata(config, iteration))


# Each process writes its pool next to the states; the main process then moves all of them into the new state.
def _pool_name(rank: int) -> str:
    return f"pool_{rank}.safetensors"


def _waiting_pool_name(rank: int) -> str:
    return f".pool_{rank}.waiting.safetensors"


def set_newer_aside(folder: Path, iteration: int) -> None:
    """Rename states that are newer than the one in use (unreadable or abandoned), so that none is taken for the newest."""
    for state in states(folder):
        if int(state.name) > iteration:
            state.rename(state.with_name(f"{state.name}.abandoned.{time.time_ns()}"))


def clear_leftovers(run_folder: Path) -> None:
    """Remove files that a killed process left incomplete."""
    for path in [*(run_folder / "state").glob(".*.tmp"), *(run_folder / "models").glob(".*.tmp.*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def states(folder: Path) -> list[Path]:
    """The state folders, oldest first."""
    found = (path for path in folder.glob("*") if path.is_dir() and path.name.isdigit())
    return sorted(found, key=lambda path: int(path.name))


def state_to_continue(config: TrainConfig, resume: bool, world: World) -> Path | None:
    """The state that a run starts from: with --resume the newest one, else `path.resume_state`, else none."""
    newest = state_to_use(config.run_folder, world) if resume else None
    return newest or (Path(config.path.resume_state) if config.path.resume_state else None)


def state_to_use(run_folder: Path, world: World, good: bool = False) -> Path | None:
    """The newest intact state that the main process finds; other machines may see a shared folder later."""
    source = None
    if world.is_main:
        source, notes = newest_state(run_folder / "state", good)
        for note in notes:
            log.warning(note)
    return agreed(world, source)


def as_begun(config: TrainConfig, source: Path | None) -> TrainConfig:
    """The configuration with the former behaviour of options that are newer than the run to continue."""
    if source is None:
        return config
    try:
        _, written = read_state_dict(source / "net_g.safetensors")
    except WeightsError:
        return config  # loading the state reports the damage
    return with_former_behaviour(config, recorded_config(written.get("config", ""), str(source)))


def load_state(folder: Path, stage: Stage, config: TrainConfig) -> Progress:
    """Fill the stage in place from a state folder.

    Raises:
        WeightsError: it is incomplete or damaged (one bit is enough), or belongs to another stage or network.
    """
    saved = _read_verified(folder)
    known = {"validated": saved["iteration"], **saved}
    progress = Progress(**{name: known[name] for name in Progress.__dataclass_fields__ if name in known})
    if saved["stage"] != config.stage:
        raise WeightsError(f"{folder} belongs to the stage {saved['stage']}, but this file trains {config.stage}")
    read = {name: read_state_dict(folder / f"{name}.safetensors")[0] for name in (*stage.networks, *stage.optimizers)}
    for name, net in stage.networks.items():
        load_into(net, read[name], str(folder / f"{name}.safetensors"))
    for name, optimizer in stage.optimizers.items():
        restore_moments(optimizer, read[name])
    return progress


def newest_state(folder: Path, good: bool = False) -> tuple[Path | None, list[str]]:
    """The newest intact state, or None, and a note on each newer one that was passed over.

    Args:
        good: pass over states that were saved while steps were skipped.

    Raises:
        WeightsError: there are states, and all of them are damaged.
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


def _read_verified(folder: Path) -> dict[str, Any]:
    """The content of state.json, after comparing the checksums of it and of every file it names."""
    try:
        saved = json.loads((folder / "state.json").read_text())
        if saved.pop("sha256") != _checksum_of(saved):
            raise ValueError("its checksum differs")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder} is not a complete state: state.json is missing or damaged ({error})") from error
    for name, checksum in saved["files"].items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise WeightsError(f"{file} cannot be read: no such file in this folder")
        try:
            found = sha256_of(file)
        except OSError as error:
            raise WeightsError(f"{file} cannot be read: {error}") from error
        if found != checksum:
            raise WeightsError(f"{file} is damaged: its checksum differs from the one in state.json")
    return saved


def _flushed(path: Path) -> str:
    """Flush a new file to the disk; returns its SHA-256."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return sha256_of(path)


def _flush_folder(path: Path) -> None:
    """Flush a folder's names to the disk, where the system supports that."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _checksum_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
