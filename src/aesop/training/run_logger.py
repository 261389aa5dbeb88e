"""Where a run writes what it tells: train.log, scalars.jsonl, TensorBoard, Weights & Biases."""

import json
import logging
import math
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from aesop.options.config import TrainConfig
from aesop.system.distributed import World
from aesop.system.files import append_line, replacing
from aesop.system.wording import duration

log = logging.getLogger("aesop")


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not fill the terminal with tracebacks: what is said appears there anyway."""


@contextmanager
def _logging_to(folder: Path, world: World) -> Generator[None]:
    """Everything said also goes to train.log; only the main process says anything."""
    former = log.level
    log.setLevel(logging.INFO if world.is_main else logging.ERROR)
    if not world.is_main:
        try:
            yield
        finally:
            log.setLevel(former)
        return
    folder.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except BaseException:
        # With its traceback into the file only; the command line shows the message.
        record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "stopped by an error", (), sys.exc_info())
        handler.handle(record)
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(former)
        with suppress(OSError):  # it writes what it still holds
            handler.close()


class Outlet:
    """Where scalars go: the log's progress line, scalars.jsonl, TensorBoard, Weights & Biases."""

    def __init__(self, config: TrainConfig, world: World, folder: Path, first: int):
        self.config, self.world = config, world
        self.writer: Any = None
        self.wandb: Any = None
        if not world.is_main:
            return
        with replacing(folder / "config.yml") as temporary:
            temporary.write_text(config.to_yaml(), encoding="utf-8")
        self.lines = folder / "scalars.jsonl"
        self.go_back(first)
        _drop_lines_from(folder / "faults.jsonl", first, only="skipped")
        if config.logger.wandb and config.logger.wandb.project:
            self.wandb = _start_wandb(config, folder)

    def go_back(self, first: int) -> None:
        """Forget what was written about iterations from `first` on. (Weights & Biases cannot: it ignores the repetition.)"""
        if not self.world.is_main:
            return
        self._close_writer()
        try:
            _drop_lines_from(self.lines, first)
            if self.config.logger.use_tb_logger:
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(self.lines.parent / "tensorboard"), purge_step=first)
        except OSError as error:
            log.error("the figures of the iterations to come cannot be written: %s", error)

    def write(self, iteration: int, rate: float, values: dict[str, float], seconds: float) -> None:
        """`seconds`: per iteration, the mean since the start of this process."""
        if not self.world.is_main:
            return
        total = self.config.train.total_iter
        speed = self.config.datasets.train.batch_size_per_gpu * self.world.size / seconds
        losses = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info(
            "[%s] %d/%d  %s  lr %.3g  %.1f img/s  %s left",
            self.config.name, iteration, total, losses, rate, speed, duration((total - iteration) * seconds),
        )  # fmt: skip
        self._record(iteration, {"lr": rate, **values})

    def write_figures(self, iteration: int, figures: dict[str, float]) -> None:
        if self.world.is_main:
            self._record(iteration, figures)

    def _record(self, iteration: int, values: dict[str, float]) -> None:
        try:
            append_line(self.lines, {"iter": iteration, **{k: v if math.isfinite(v) else None for k, v in values.items()}})
        except OSError as error:  # a full disk: no reason to lose a training
            log.error("figures of iteration %d could not be written: %s", iteration, error)
        if self.writer is not None:
            try:
                for name, value in values.items():
                    self.writer.add_scalar(name, value, iteration)
            except OSError as error:
                log.error("TensorBoard gets no more figures until --resume: %s", error)
                self._close_writer()
        if self.wandb is not None:
            self.wandb.log(values, step=iteration)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_writer()
        if self.wandb is not None:
            self.wandb.finish()

    def _close_writer(self) -> None:
        if self.writer is not None:
            with suppress(OSError):  # said when it happened, in the thread that writes
                self.writer.close()
            self.writer = None


def _drop_lines_from(path: Path, first: int, only: str | None = None) -> None:
    """A resumed run repeats some iterations; their former lines go, or those of them that have the key `only`."""
    if path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        rows = [json.loads(line) for line in lines]
        kept = [line for line, row in zip(lines, rows, strict=True) if row["iter"] < first or (only and only not in row)]
        with replacing(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")


def _start_wandb(config: TrainConfig, folder: Path) -> Any:
    try:
        import wandb  # ty: ignore[import-not-found]
    except ImportError:
        raise ValueError(
            'logger.wandb: Weights & Biases is not installed; pip install "aesop-sr[wandb]", or remove logger.wandb'
        ) from None
    assert config.logger.wandb is not None
    return wandb.init(
        project=config.logger.wandb.project,
        id=config.logger.wandb.resume_id,
        resume="allow",
        name=config.name,
        dir=str(folder),
        config=config.model_dump(mode="json"),
    )
