"""The files of a run: `models/` for use and `state/` to continue from. Each is written under another name, then renamed.

models/net_g_00005000.safetensors   the network for use; its options and the whole configuration stand in the metadata
models/front/                       the models of the front (front_files.py)
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
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import aesop
from aesop.data.degradation.degrader import Degrader
from aesop.options.changes import changes, described
from aesop.options.config import TrainConfig
from aesop.options.read import recorded_config, with_former_behaviour
from aesop.system.distributed import World, agreed, barrier, largest
from aesop.system.files import replacing, sha256_of
from aesop.system.wording import readable
from aesop.training.front_files import remove_unnamed, with_files
from aesop.training.full_disk import write_or_log
from aesop.training.optimizers import moments, restore_moments
from aesop.training.progress import Progress
from aesop.training.skipped_steps import Diverged, SkippedSteps
from aesop.training.stage import Stage
from aesop.weights.description import Description, modelspec
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_into
from aesop.weights.read import read_state_dict
from aesop.weights.save import save_weights

log = logging.getLogger("aesop")
STOPPED_EARLY = "stopped_early"
"""Key of a final model's metadata."""


class Checkpoints:
    """Saves and loads all that a run needs to continue; `progress` and the stage are filled in place."""

    def __init__(self, config: TrainConfig, world: World, stage: Stage, degrader: Degrader | None = None):
        self.config, self.world, self.stage, self.degrader = config, world, stage, degrader
        self.folder = config.run_folder
        self.progress = Progress()
        self.saved = 0  # the iteration that was last saved or loaded

    def start(self, source: Path | None) -> Progress:
        """Load `source`, where there is one, and remove what a killed process left incomplete."""
        if source is not None:
            self.load(source)
        barrier(self.world)
        if self.world.is_main:
            for pattern in ("state/.*.tmp", "models/.*.tmp.*", "models/front/.*.tmp.*"):
                for path in list(self.folder.glob(pattern)):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.drop_newer()
        log.info("continuing from %s", source) if source else log.info("starting at iteration 1")
        return self.progress

    def drop_newer(self) -> None:
        """Set states aside that are newer than the progress, and remove the front's models that no other one names."""
        set_newer_aside(self.folder / "state", self.progress.iteration)
        remove_unnamed(self.folder / "models", self.progress.front, states(self.folder / "state"))

    def load(self, source: Path) -> None:
        """Continue from a state folder; WeightsError if it is damaged or belongs to other options."""
        vars(self.progress).update(vars(load_state(source, self.stage, self.config)))
        self.progress.front = agreed(self.world, with_files(self.progress.front, self.folder / "models"))
        self.saved = self.progress.iteration
        if self.degrader is None or self.degrader.pool is None:
            return
        file = source / f"pool_{self.world.rank}.safetensors"
        if not file.is_file():
            log.warning("%s has no pool of degraded pairs for process %d: it starts empty", source, self.world.rank)
        pairs = read_state_dict(file)[0] if file.is_file() else {}
        try:
            self.degrader.load_state_dict(pairs, self.world.device)
        except ValueError as error:
            log.warning("%s: %s. The pool starts empty", file, error)

    def save(self, must: bool) -> None:
        """Write weights and state; Diverged if a network has NaN or infinite weights.

        Where writing fails, the former state stays, and the run continues except with `must` or `on_failed_save: stop`.
        """
        refuse_broken_weights(self.stage, self.progress.iteration)
        temporary = self.folder / "state" / f".{self.progress.iteration:08d}.tmp"
        error = None
        for write in (self._write_pool, self._write_weights_and_state):
            try:
                write(temporary)
            except OSError as raised:
                error = raised
            if largest(self.world, int(error is not None)):  # in any process
                if self.world.is_main:
                    shutil.rmtree(temporary, ignore_errors=True)
                self._report_failure(error, must)
                return
        self.saved = self.progress.iteration

    def save_final(self, reason: str) -> None:
        """Leave the final model of a training that ends before its last iteration; its metadata say so."""
        config, iteration, error = self.config, self.progress.iteration, None
        note = f"stopped early at iteration {iteration} of {config.train.total_iter}: {reason}"
        log.info("%s", note)
        described = metadata(config, iteration, self.world) | {STOPPED_EARLY: note}
        try:
            if self.world.is_main:
                save_weights(config.final_model, self.stage.network_for_use.state_dict(), described)
        except OSError as raised:
            error = raised
        if largest(self.world, int(error is not None)):
            raise OSError(f"could not write {config.final_model} ({error or 'see the other processes'})") from error

    def remove_early_final(self) -> None:
        """Remove the final model of an early stop, beyond which the training goes on."""
        final = self.config.final_model
        if self.world.is_main and (note := early_stop_note(final)):
            log.info("the training had %s. It goes on", note)
            final.unlink()

    def _report_failure(self, error: OSError | None, must: bool) -> None:
        logger, iteration = self.config.logger, self.progress.iteration
        newest = max((int(state.name) for state in states(self.folder / "state")), default=0)
        text = (
            f"could not save iteration {iteration} in {self.folder} ({error or 'see the other processes'}; "
            f"{readable(shutil.disk_usage(self.folder).free)} free). The newest state is that of iteration {newest}"
        )
        if must or logger.on_failed_save == "stop":
            raise OSError(f"{text}. Free some space and continue with --resume") from error
        if self.world.is_main:
            following = iteration + logger.save_checkpoint_freq
            log.error("%s. Training continues and saves again at iteration %d", text, following)

    def _write_pool(self, temporary: Path) -> None:
        if self.degrader is not None and (pairs := self.degrader.state_dict()):
            save_weights(temporary / f"pool_{self.world.rank}.safetensors", pairs, {})

    def _write_weights_and_state(self, temporary: Path) -> None:
        """`models/net_g_<iteration>` and `state/<iteration>/`, with the pools that the processes wrote."""
        if not self.world.is_main:
            return
        config, stage, progress, folder = self.config, self.stage, self.progress, self.folder / "state"
        number = f"{progress.iteration:08d}"
        save_model(self.folder / "models" / f"net_g_{number}.safetensors", stage, config, progress.iteration)
        for name, net in stage.networks.items():
            described = metadata(config, progress.iteration, self.world) if name.startswith("net_g") else {}
            save_weights(temporary / f"{name}.safetensors", net.state_dict(), described)
        for name, optimizer in stage.optimizers.items():
            save_weights(temporary / f"{name}.safetensors", moments(optimizer), {})
        files = sorted(temporary.iterdir())
        for file in files:
            flush(file)
        sums = {file.name: sha256_of(file) for file in files}
        content = {"stage": config.stage, **asdict(progress), "files": sums}
        with replacing(temporary / "state.json") as file:
            file.write_text(json.dumps({"sha256": _checksum_of(content), **content}, indent=1))
            flush(file)
        replaced = folder / f".{number}.replaced.tmp"  # the former state stays until the new one is in its place
        if (folder / number).exists():
            (folder / number).rename(replaced)
        temporary.rename(folder / number)
        if replaced.exists():
            write_or_log(f"{replaced} could not be removed", shutil.rmtree, replaced)
        with suppress(OSError):  # not every system can flush the names in a folder
            flush(folder)
        self._remove_old_models()
        if not progress.in_a_row:  # else this state may not be a good one, and the older ones are needed
            older = [state for state in states(folder) if int(state.name) < progress.iteration]
            for old in older[: max(0, len(older) - (config.logger.keep_states - 1))]:
                write_or_log(f"{old} could not be removed", shutil.rmtree, old)
        remove_unnamed(self.folder / "models", progress.front, states(folder))

    def _remove_old_models(self) -> None:
        if (count := self.config.logger.keep_models) is None:
            return
        numbered = [file for file in (self.folder / "models").glob("net_g_*.safetensors") if file.stem[6:].isdigit()]
        for file in sorted(numbered, key=lambda file: int(file.stem[6:]))[:-count]:
            write_or_log(f"{file} could not be removed", file.unlink)

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


def metadata(config: TrainConfig, iteration: int, world: World) -> dict[str, str]:
    """What makes a weight file describe itself."""
    network, given = config.network_g.model_dump(exclude_none=True), config.model
    about = Description(
        given.title or config.name,
        given.author,
        given.license,
        tuple(given.tags),
        given.description,
        date=datetime.now(UTC).date().isoformat(),
    )
    return {
        **modelspec(about, network),
        "network": json.dumps(network),
        "config": config.to_yaml(),
        "total_iter": str(iteration),
        "processes": str(world.size),
        "stage": config.stage,
        "written_by": f"aesop {aesop.__version__}",
    }


def save_model(path: Path, stage: Stage, config: TrainConfig, iteration: int) -> None:
    """Write the network for use alone (the average, where there is one)."""
    save_weights(path, stage.network_for_use.state_dict(), metadata(config, iteration, stage.world))


def early_stop_note(final: Path) -> str:
    """How a training ended of which this is the final model: `stopped early at iteration ...`; "" if at its last one."""
    try:
        return read_state_dict(final)[1].get(STOPPED_EARLY, "") if final.is_file() else ""
    except WeightsError:
        return ""


def set_newer_aside(folder: Path, iteration: int) -> None:
    """Rename states that are newer than the one in use (unreadable or abandoned), so that none is taken for the newest."""
    for state in states(folder):
        if int(state.name) > iteration:
            state.rename(state.with_name(f"{state.name}.abandoned.{time.time_ns()}"))


def states(folder: Path) -> list[Path]:
    """The state folders, oldest first."""
    found = (path for path in folder.glob("*") if path.is_dir() and path.name.isdigit())
    return sorted(found, key=lambda path: int(path.name))


def newest_state(folder: Path, world: World, good: bool = False) -> Path | None:
    """The newest intact state that the main process finds, or None; WeightsError if there are only damaged ones.

    `good` passes over states that were saved while steps were skipped, and raises no error.
    """
    found, damaged = None, []
    if world.is_main:
        _finish_replacements(folder)
    for candidate in reversed(states(folder)) if world.is_main else ():
        try:
            if not (_read_verified(candidate).get("in_a_row") and good):
                found = candidate
                break
            log.warning("%s was saved while steps were skipped, trying the one before it", candidate)
        except WeightsError as error:
            log.warning("%s cannot be used, trying the one before it: %s", candidate, error)
            damaged.append(str(error))
    if damaged and not found and not good:
        raise WeightsError("no readable state to continue from:\n  " + "\n  ".join(damaged))
    return agreed(world, found)  # other machines may see a shared folder later


def _finish_replacements(folder: Path) -> None:
    """Put a state back that `save` had moved aside when the process was killed."""
    for replaced in folder.glob(".*.replaced.tmp"):
        former = replaced.with_name(replaced.name.split(".")[1])
        if not former.exists():
            replaced.rename(former)


def as_begun(config: TrainConfig, source: Path | None) -> TrainConfig:
    """The configuration with the former behaviour of options that are newer than the run to continue.

    Says which other options differ from those of the state.
    """
    if source is None:
        return config
    try:
        _, written = read_state_dict(source / "net_g.safetensors")
    except WeightsError:
        return config  # loading the state reports what is wrong with it
    recorded = recorded_config(written.get("config", ""), str(source))
    resumed = with_former_behaviour(config, recorded)
    if config.train.ema_warmup and resumed.train.ema_warmup is None:
        log.info("without train.ema_warmup, as the run began before there was this option")
    if changed := changes(recorded, resumed):
        log.info("other options than those of %s: %s", source, described(changed))
    return resumed


def load_state(folder: Path, stage: Stage, config: TrainConfig) -> Progress:
    """Fill the stage in place from a state folder; WeightsError if one bit is wrong or it is another stage or network's."""
    saved = _read_verified(folder)
    if saved["stage"] != config.stage:
        raise WeightsError(f"{folder} belongs to the stage {saved['stage']}, but this file trains {config.stage}")
    if saved["iteration"] > config.train.total_iter:
        raise WeightsError(
            f"{folder} is a state of iteration {saved['iteration']}, but this training ends at {config.train.total_iter}: "
            "raise train.total_iter, or give the training another name"
        )
    files = {name: folder / f"{name}.safetensors" for name in (*stage.networks, *stage.optimizers)}
    if "net_g_ema" in files and "net_g_ema.safetensors" not in saved["files"]:
        log.info("%s has no averaged generator (train.ema_decay was 0): the average starts from net_g", folder)
        files["net_g_ema"] = files["net_g"]
    elif "net_g_ema" not in files and "net_g_ema.safetensors" in saved["files"]:
        log.info("%s has an averaged generator, which ends here: train.ema_decay is 0", folder)
    read = {name: read_state_dict(file)[0] for name, file in files.items()}
    for name, net in stage.networks.items():
        load_into(net, read[name], str(files[name]))
    for name, optimizer in stage.optimizers.items():
        restore_moments(optimizer, read[name], str(files[name]))
    saved.setdefault("validated", saved["iteration"])  # states of earlier versions lack it
    return Progress(**{field.name: saved[field.name] for field in fields(Progress) if field.name in saved})


def _read_verified(folder: Path) -> dict[str, Any]:
    """The content of state.json, after comparing the checksums of it and of every file it names."""
    if folder.is_file():
        what = "BasicSR's training state, a pickle" if folder.suffix == ".state" else "a file"
        raise WeightsError(
            f"{folder} is {what}: path.resume_state continues from a state folder of aesop. To start from the weights saved "
            "beside a BasicSR state, set path.pretrain_network_g (and path.pretrain_network_d) to its models/net_*.pth"
        )
    try:
        saved = json.loads((folder / "state.json").read_text())
        if saved.pop("sha256") != _checksum_of(saved):
            raise ValueError("state.json is damaged: its checksum differs")
        for name, checksum in saved["files"].items():
            if Path(name).name != name or not (folder / name).is_file():
                raise ValueError(f"{name} cannot be read: no such file")
            if sha256_of(folder / name) != checksum:
                raise ValueError(f"{name} is damaged: its checksum differs from the one in state.json")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder} is not a complete state, with state.json and the files it names: {error}") from error
    return saved


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _checksum_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
