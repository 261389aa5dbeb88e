"""The training loop: one function that reads from top to bottom, for every stage, on one process or many."""

import json
import logging
import math
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from aesop.config import Config
from aesop.data.degradations import usm_sharpen
from aesop.data.loader import batches, to_device
from aesop.data.pairs import MeasuredPairs, TrainingCrops
from aesop.data.realworld import Degrader, HRCrops
from aesop.engine.checkpoint import Progress, load_newest_state, load_state, save_model, save_state, set_newer_aside, states
from aesop.engine.distributed import World, agreed_signal, average_scalars, barrier, broadcast_state, joined
from aesop.engine.stages import DIVERGED, AdversarialStage, Stage, build_stage
from aesop.evaluate import averages, check_sizes, image_saver, is_better, make_metrics, measure, predict
from aesop.files import replacing
from aesop.interruption import Interrupted, Signals

log = logging.getLogger("aesop")


def final_model(config: Config) -> Path:
    """Where the finished run's weights are."""
    assert config.train is not None
    return config.run_folder / "models" / f"net_g_{config.train.total_iter:08d}.safetensors"


def train(config: Config, resume: bool = False, world: World | None = None) -> Path:
    """Run one stage to its end; returns the weight file for use.

    Writes into <experiments_root>/<name>: config.yml, train.log, scalars.jsonl (one line per print), models/, state/,
    visualization/ and tensorboard/.

    Args:
        resume: continue from the newest state there is; start when there is none.
        world: the processes that train together; default: those torchrun started, or this one alone.

    Raises:
        ValueError and its kinds: whatever is wrong with options, weights or images, before the first step where possible.
        FloatingPointError: when the training diverged; the last saved state is from before.
        Interrupted: after SIGINT, SIGTERM or SIGUSR1, with the state saved.
    """
    if world is None:
        with joined(config.device) as world:
            return train(config, resume, world)
    assert config.train is not None, "Config checks that a training file has a train section"
    assert config.datasets.train is not None
    options, folder = config.train, config.run_folder
    if not resume and states(folder / "state"):
        raise ValueError(
            f"{folder} already holds a run with checkpoints: add --resume to continue it, or choose another name"
        )
    with _logging_to(folder, world):
        stage = build_stage(config, world)
        validation = Validation(config, stage, world, folder)
        degrader = Degrader(config, world.rank) if config.degradation else None
        progress = _starting_point(config, stage, degrader, resume, world, folder)
        broadcast_state(world, stage.networks.values())
        first = progress.iteration + 1
        images = training_images(config)
        _announce(config, stage, world, len(images.pairs))

        def checkpoint() -> None:
            if degrader is not None:
                degrader.save(folder / "state")
            barrier(world)
            if world.is_main:
                stage.refuse_broken_weights(progress.iteration)
                save_model(
                    folder / "models" / f"net_g_{progress.iteration:08d}.safetensors", stage, config, progress.iteration
                )
                save_state(folder / "state", stage, config, progress, config.logger.keep_states, world.size)
            barrier(world)

        begun = time.perf_counter()
        on_cuda = world.device.type == "cuda"
        with (
            Outlet(config, world, folder, first) as outlet,
            Signals() as signals,
            batches(images, config.datasets.train, first, options.total_iter, world.rank, world.size, on_cuda) as source,
        ):
            for iteration, batch in enumerate(source, first):
                rate = stage.set_learning_rate(iteration)
                gt = to_device(batch["gt"], world.device)
                lq, gt = (to_device(batch["lq"], world.device), gt) if degrader is None else degrader(gt, iteration)
                # Dropout, where a network has it: drawn anew in each step, whatever came before.
                torch.manual_seed(step_seed(config.manual_seed, iteration, world.rank))
                scalars = stage.step(lq, gt, iteration, usm_sharpen(gt) if stage.wants_sharpened else None)
                progress.iteration = iteration
                last = iteration == options.total_iter

                if iteration % config.logger.print_freq == 0 or last or iteration == first:
                    values = average_scalars(world, scalars)
                    _refuse_nan(values, iteration)
                    outlet.write(iteration, rate, values, (time.perf_counter() - begun) / (iteration - first + 1))
                if validation.is_due(iteration):
                    outlet.write_figures(iteration, validation.run(iteration, progress))
                if iteration % config.logger.save_checkpoint_freq == 0 or last:
                    checkpoint()
                elif number := agreed_signal(world, signals.number, iteration):
                    checkpoint()
                    raise Interrupted(number, iteration)
        if world.is_main:
            log.info("finished %s: %s", config.name, final_model(config))
    return final_model(config)


def training_images(config: Config) -> TrainingCrops | HRCrops:
    """The samples of `datasets.train`."""
    crops = config.datasets.train
    assert crops is not None
    if config.degradation is not None:
        return HRCrops(crops, config.degradation.crop_pad_size, config.manual_seed)
    return TrainingCrops(crops, config.scale, config.manual_seed)


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """A seed of PyTorch's own random numbers for one step of one process."""
    return int(np.random.SeedSequence((seed, 3, iteration, rank)).generate_state(1, np.uint64)[0])


def _starting_point(
    config: Config, stage: Stage, degrader: Degrader | None, resume: bool, world: World, folder: Path
) -> Progress:
    """The newest state with --resume, else path.resume_state, else the beginning."""
    progress, source = Progress(), None
    if resume:
        progress, source, notes = load_newest_state(folder / "state", stage, config)
        for note in notes:
            log.warning(note)
    if source is None and config.path.resume_state:
        source = Path(config.path.resume_state)
        progress = load_state(source, stage, config)
    if source is not None and degrader is not None and (note := degrader.load(source, world.device)):
        log.warning(note)
    barrier(world)
    if world.is_main:
        set_newer_aside(folder / "state", progress.iteration)
    log.info("continuing from %s", source) if source else log.info("starting from the beginning")
    return progress


def _refuse_nan(values: dict[str, float], iteration: int) -> None:
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise FloatingPointError(f"{', '.join(wrong)} became NaN or infinite by iteration {iteration}. {DIVERGED}")


def _announce(config: Config, stage: Stage, world: World, images: int) -> None:
    assert config.train is not None
    assert config.datasets.train is not None
    if world.is_main:
        parameters = ", ".join(
            f"{name} {sum(p.numel() for p in net.parameters()) / 1e6:.3f} M"
            for name, net in stage.networks.items()
            if name != "net_g_ema"
        )
        batch = config.datasets.train.batch_size_per_gpu * world.size
        log.info(
            "%s: stage %s on %s (%s), %d images, batch %d x %d px, %s parameters",
            config.name, config.stage, world.device, config.precision, images, batch,
            config.datasets.train.gt_size, parameters,
        )  # fmt: skip


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
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
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
        handler.close()
        log.setLevel(former)


class Outlet:
    """Where scalars go: the log's progress line, scalars.jsonl, TensorBoard, Weights & Biases."""

    def __init__(self, config: Config, world: World, folder: Path, first: int):
        self.config, self.world = config, world
        self.writer: Any = None
        self.wandb: Any = None
        if not world.is_main:
            return
        with replacing(folder / "config.yml") as temporary:
            temporary.write_text(config.to_yaml(), encoding="utf-8")
        self.lines = folder / "scalars.jsonl"
        _drop_lines_from(self.lines, first)
        if config.logger.use_tb_logger:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first)
        if config.logger.wandb and config.logger.wandb.project:
            self.wandb = _start_wandb(config, folder)

    def write(self, iteration: int, rate: float, values: dict[str, float], seconds: float) -> None:
        """`seconds`: per iteration, the mean since the start of this process."""
        if not self.world.is_main:
            return
        assert self.config.train is not None
        assert self.config.datasets.train is not None
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
        with open(self.lines, "a", encoding="utf-8") as file:
            file.write(json.dumps({"iter": iteration, **values}) + "\n")
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, iteration)
        if self.wandb is not None:
            self.wandb.log(values, step=iteration)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
        if self.wandb is not None:
            self.wandb.finish()


def _drop_lines_from(path: Path, first: int) -> None:
    """A resumed run repeats some iterations; their former lines go."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["iter"] < first]
        with replacing(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")


def _start_wandb(config: Config, folder: Path) -> Any:
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


def duration(seconds: float) -> str:
    """3725 -> 1:02:05."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


class Validation:
    """Measures the network for use on every `val` section, keeps the images and the best weights."""

    def __init__(self, config: Config, stage: Stage, world: World, folder: Path):
        self.config, self.stage, self.world, self.folder = config, stage, world, folder
        sections = config.datasets.measured("val") if config.val.val_freq else {}
        self.sets = {name: MeasuredPairs(data, name, config.scale) for name, data in sections.items()}
        self.best_metric = config.val.best_metric or next(iter(config.val.metrics), None)
        judge = None
        if isinstance(stage, AdversarialStage) and stage.aesop_loss is not None:
            judge = stage.aesop_loss.autoencoder
        check_sizes(config.val.metrics, self.sets.values(), config.scale, config.stage == "autoencoder")
        measures = bool(self.sets) and world.is_main
        self.metrics = make_metrics(config.val.metrics, config.scale, world.device, judge) if measures else {}

    def is_due(self, iteration: int) -> bool:
        val = self.config.val
        assert self.config.train is not None
        due = iteration % val.val_freq == 0 or iteration == self.config.train.total_iter if val.val_freq else False
        return bool(self.sets) and due and iteration >= val.val_start_iter

    def run(self, iteration: int, progress: Progress) -> dict[str, float]:
        """Figures named <section>/<metric>; the first section that has the metric decides which weights are the best."""
        barrier(self.world)
        figures: dict[str, float] = {}
        if self.world.is_main:
            net = self.stage.network_for_use.eval()
            for section, pairs in self.sets.items():
                saver = None
                if self.config.val.save_img:
                    saver = image_saver(self.folder / "visualization" / f"{iteration:08d}" / section, self.config.val.suffix)
                rows = measure(
                    lambda lq, gt: predict(
                        net, lq, gt, self.config.scale, self.world.device, self.config.precision, self.config.val.tile
                    ),
                    pairs,
                    self.metrics,
                    self.world.device,
                    saver,
                )
                mean = averages(rows)
                figures |= {f"{section}/{name}": value for name, value in mean.items()}
                log.info("validation %s: %s", pairs.name, "  ".join(f"{k} {v:.4f}" for k, v in mean.items()))
            decisive = [value for name, value in figures.items() if name.partition("/")[2] == self.best_metric]
            if decisive:
                self._keep_best(iteration, progress, decisive[0])
            if net is self.stage.net_g:
                net.train()
        barrier(self.world)
        return figures

    def _keep_best(self, iteration: int, progress: Progress, value: float) -> None:
        assert self.best_metric is not None
        if is_better(self.config.val.metrics, self.best_metric, value, progress.best.get(self.best_metric)):
            progress.best[self.best_metric] = value
            save_model(self.folder / "models" / "net_g_best.safetensors", self.stage, self.config, iteration)
            log.info("best %s so far: %.4f (models/net_g_best.safetensors)", self.best_metric, value)
