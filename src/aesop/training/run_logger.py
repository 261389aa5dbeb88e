"""The logs of a run: train.log, scalars.jsonl, TensorBoard, Weights & Biases."""

import json
import logging
import math
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from aesop.conversion.portable import portability_advice
from aesop.diagnosis.run_record import read_run
from aesop.diagnosis.verdict import diagnose
from aesop.options.config import TrainConfig
from aesop.system.device import hint_of_threads
from aesop.system.distributed import World
from aesop.system.files import append_line, replacing
from aesop.system.signals import Interrupted
from aesop.system.wording import duration
from aesop.training.full_disk import write_or_log
from aesop.training.heartbeat import Heartbeat
from aesop.training.lr_schedule import schedule_mismatch
from aesop.training.stage import Stage

log = logging.getLogger("aesop")


@contextmanager
def log_to_file(folder: Path, world: World) -> Generator[None]:
    """Copy the log of the main process to train.log; the others log errors only."""
    former = log.level
    log.setLevel(min(former or logging.INFO, logging.INFO) if world.is_main else logging.ERROR)
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8") if world.is_main else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.handleError = lambda record: None  # a full disk costs lines of the file; the terminal shows them anyway
    log.addHandler(handler)
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        handler.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, str(stop) or "interrupted", (), None))
        raise
    except BaseException:
        # The traceback goes into the file only; the command line shows the message.
        handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "stopped by an error", (), sys.exc_info()))
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(former)
        write_or_log("the end of train.log could not be written", handler.close)


def describe_run(config: TrainConfig, stage: Stage, images: int) -> None:
    crops, networks = config.datasets.train, [(name, net) for name, net in stage.networks.items() if name != "net_g_ema"]
    sizes = ", ".join(f"{name} {sum(p.numel() for p in net.parameters()) / 1e6:.3f} M" for name, net in networks)
    log.info(
        f"{config.name}: stage {config.stage} on {stage.world.device} ({config.precision}), {images} images, batch "
        f"{crops.batch_size_per_gpu * stage.world.size} x {crops.gt_size} px, {sizes} parameters"
    )
    for hint in (schedule_mismatch(config.train), hint_of_threads(stage.world.device)):
        if hint:
            log.warning(hint)


def log_verdict(folder: Path) -> None:
    """The last lines of a training: what its readings say. A verdict that fails does not make the training fail."""
    try:
        lines = diagnose(read_run(folder)).short()
    except Exception as error:  # noqa: BLE001
        log.warning("no diagnosis: %s", error)
        return
    for line in [*lines, f"  details: aesop diagnose {folder}"]:
        log.info("%s", line)


def log_portability(config: TrainConfig) -> None:
    """Say it if other programs will not load the generator that a training made."""
    if config.stage != "autoencoder" and (advice := portability_advice(config.network_g.model_dump())):
        log.warning(advice)


class RunLogger:
    """Writes losses and figures to the log, scalars.jsonl, TensorBoard and Weights & Biases, from iteration `first` on."""

    def __init__(self, config: TrainConfig, world: World, first: int):
        self.config, self.world, self.folder = config, world, config.run_folder
        self.lines, self.heartbeat = self.folder / "scalars.jsonl", Heartbeat()
        self.tensorboard: Any = None
        self.wandb = _start_wandb(config) if world.is_main else None
        if world.is_main:
            with replacing(self.folder / "config.yml") as temporary:
                temporary.write_text(config.to_yaml(), encoding="utf-8")
            _drop_lines(self.folder / "faults.jsonl", first, having="skipped")
        self.restart(first)

    def restart(self, first: int) -> None:
        """Drop what was logged about iterations from `first` on. (Weights & Biases ignores repeated iterations.)"""
        self.first, self.begun = first, time.perf_counter()
        if self.world.is_main:
            self._close_tensorboard()
            write_or_log("scalars.jsonl could not be rewritten", _drop_lines, self.lines, first)
            if self.config.logger.use_tb_logger:
                write_or_log("TensorBoard could not be started", self._start_tensorboard)

    def write(self, iteration: int, rate: float, losses: Mapping[str, float]) -> None:
        """A line of progress, and the losses."""
        self._show(iteration, rate, losses)
        self.write_figures(iteration, {"lr": rate, **losses})

    def write_if_silent(self, iteration: int, rate: float, losses: Mapping[str, Tensor]) -> None:
        """A line of progress, with this process's losses, if there was none for a while."""
        if self.world.is_main and self.heartbeat.is_due():
            self._show(iteration, rate, {name: value.item() for name, value in losses.items()})

    def _show(self, iteration: int, rate: float, losses: Mapping[str, float]) -> None:
        self.heartbeat.beat()
        total, batch = self.config.train.total_iter, self.config.datasets.train.batch_size_per_gpu * self.world.size
        seconds = (time.perf_counter() - self.begun) / (iteration - self.first + 1)
        named = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        log.info(
            f"[{self.config.name}] {iteration}/{total}  {named}  lr {rate:.3g}  {batch / seconds:.1f} img/s  "
            f"{duration((total - iteration) * seconds)} left"
        )

    def write_figures(self, iteration: int, figures: Mapping[str, float]) -> None:
        if not (self.world.is_main and figures):
            return
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        failure = f"the figures of iteration {iteration} could not be written"
        write_or_log(failure, append_line, self.lines, {"iter": iteration, **finite})
        for name, value in figures.items() if self.tensorboard is not None else ():
            failure = "TensorBoard gets no more figures until --resume"
            if not write_or_log(failure, self.tensorboard.add_scalar, name, value, iteration):
                self._close_tensorboard()
                break
        if self.wandb is not None:
            self.wandb.log(dict(figures), step=iteration)

    def close(self) -> None:
        self._close_tensorboard()
        if self.wandb is not None:
            self.wandb.finish()

    def _start_tensorboard(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.tensorboard = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.first)

    def _close_tensorboard(self) -> None:
        writer, self.tensorboard = self.tensorboard, None
        if writer is not None:
            write_or_log("TensorBoard's last figures could not be written", writer.close)


def _drop_lines(path: Path, first: int, having: str = "iter") -> None:
    """Drop the lines about iterations from `first` on that have the key `having`, and incomplete lines."""
    if path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        kept = [line for line in lines if (row := json.loads(line))["iter"] < first or having not in row]
        with replacing(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")


def check_wandb(config: TrainConfig) -> None:
    """Raise ValueError if Weights & Biases is asked for and missing."""
    if config.logger.wandb is not None and config.logger.wandb.project and find_spec("wandb") is None:
        raise ValueError('logger.wandb: Weights & Biases is missing; pip install "aesop-sr[wandb]", or remove it')


def _start_wandb(config: TrainConfig) -> Any:
    if (options := config.logger.wandb) is None or not options.project:
        return None
    wandb = import_module("wandb")
    run = {"name": config.name, "dir": str(config.run_folder), "config": config.model_dump(mode="json")}
    return wandb.init(project=options.project, id=options.resume_id, resume="allow", **run)
