"""The training loop: one function that reads from top to bottom, for every stage, on one process or many."""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from aesop.data.degradation.operations import usm_sharpen
from aesop.data.loader import batches, to_device
from aesop.data.realworld import Degrader, HRCrops
from aesop.data.sampler import StepSampler, image_number
from aesop.data.training_crops import TrainingCrops
from aesop.options.config import Config
from aesop.system.device import algorithms
from aesop.system.distributed import (
    World,
    agreed,
    agreed_signal,
    any_of,
    average_scalars,
    barrier,
    broadcast_state,
    init_distributed,
)
from aesop.system.signals import Interrupted, Signals
from aesop.system.wording import readable
from aesop.training.acceleration import accelerate
from aesop.training.checkpoint import (
    Progress,
    clear_leftovers,
    load_state,
    newest_state,
    save_model,
    save_state,
    set_newer_aside,
    sets_ema_warmup,
    states,
)
from aesop.training.out_of_memory import memory_explained
from aesop.training.run_logger import Outlet, _logging_to
from aesop.training.skipped_steps import Watch, report
from aesop.training.stages import Diverged, Stage, build_stage
from aesop.training.validation import Validation
from aesop.weights.errors import WeightsError
from aesop.weights.read import read_state_dict

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
        FloatingPointError: when the training diverged, and did so again after going back; the newest state is from before.
        OSError: when the last checkpoint cannot be written, or loader processes are ended by the system again and again.
        MemoryError: when a step does not fit.
        Interrupted: after SIGINT, SIGTERM or SIGUSR1, with the state saved.
    """
    if world is None:
        with init_distributed(config.device) as world:
            return train(config, resume, world)
    assert config.train is not None, "Config checks that a training file has a train section"
    assert config.datasets.train is not None
    options, folder = config.train, config.run_folder
    if not resume and states(folder / "state"):
        raise ValueError(
            f"{folder} already holds a run with checkpoints: add --resume to continue it, or choose another name"
        )
    with _logging_to(folder, world), algorithms(config.deterministic):
        source = _source(config, resume, world, folder)
        if source is not None:
            config = _as_begun(config, source)
        stage = build_stage(config, world)
        accelerate(stage, config.channels_last, config.compile, config.cuda_graphs)
        validation = Validation(config, stage, world, folder)
        degrader = Degrader(config, world.rank) if config.degradation else None
        progress = _starting_point(config, stage, degrader, source, world, folder)
        broadcast_state(world, stage.networks.values())
        images = training_images(config)
        _announce(config, stage, world, len(images.pairs))
        with Outlet(config, world, folder, progress.iteration + 1) as outlet, Signals() as signals:
            training = Training(
                config, world, folder, stage, images, degrader, validation, outlet, signals, progress, progress.iteration
            )
            training.validate_if_due()  # it failed, and the run was resumed
            while progress.iteration < options.total_iter:
                try:
                    training.go_on()
                except Diverged as fault:
                    training.go_back(fault)
        if world.is_main:
            log.info("finished %s: %s", config.name, final_model(config))
    return final_model(config)


@dataclass
class Training:
    """The loop over the iterations, what it saves, and its way back."""

    config: Config
    world: World
    folder: Path
    stage: Stage
    images: TrainingCrops | HRCrops
    degrader: Degrader | None
    validation: "Validation"
    outlet: "Outlet"
    signals: Signals
    progress: Progress
    saved: int
    """The iteration last saved."""
    returns: Counter[int] = field(default_factory=Counter)
    """How often each state, by its iteration, was gone back to."""

    def go_on(self) -> None:
        """Iterations from the current one to the last.

        Raises:
            Diverged: after too many skipped steps in a row.
            Interrupted: after a signal, with the state saved.
            OSError, ValueError, MemoryError: see `train`.
        """
        config, world, stage, progress, degrader = self.config, self.world, self.stage, self.progress, self.degrader
        assert config.train is not None
        assert config.datasets.train is not None
        first, total = progress.iteration + 1, config.train.total_iter
        seed = self.images.seed = progress.seed(config.manual_seed)
        if degrader is not None:
            degrader.seed = seed
        if not world.is_main:
            log.setLevel(logging.WARNING)  # what happens to its own images and loaders
        watch = Watch(world, progress, self._images_of, config.train.max_skipped, self.folder)
        on_cuda = world.device.type == "cuda"
        begun = time.perf_counter()
        with batches(self.images, config.datasets.train, first, total, world.rank, world.size, on_cuda) as source:
            for iteration in range(first, total + 1):
                with self._saving_first(watch):
                    batch = next(source)
                rate = stage.set_learning_rate(iteration)
                with memory_explained(config, stage):
                    gt = to_device(batch["gt"], world.device)
                    lq, gt = (to_device(batch["lq"], world.device), gt) if degrader is None else degrader(gt, iteration)
                    # Dropout, where a network has it: drawn anew in each step, whatever came before.
                    torch.manual_seed(step_seed(seed, iteration, world.rank))
                    scalars = stage.step(lq, gt, iteration, usm_sharpen(gt) if stage.wants_sharpened else None)
                progress.iteration = iteration
                watch.add(iteration, stage.skipped, scalars)
                last = iteration == total

                if iteration % config.logger.print_freq == 0 or last or iteration == 1:
                    values = average_scalars(world, scalars)
                    self.outlet.write(iteration, rate, values, (time.perf_counter() - begun) / (iteration - first + 1))
                with self._saving_first(watch):
                    self.validate_if_due()
                if iteration % config.logger.save_checkpoint_freq == 0 or last:
                    watch.look()
                    if not progress.in_a_row:
                        self.checkpoint(must=last)
                    elif last:
                        raise Diverged(f"the last {progress.in_a_row} steps were skipped")
                    elif world.is_main:
                        log.warning("iteration %d is not saved: the steps before it were skipped", iteration)
                if (number := agreed_signal(world, self.signals.number, iteration)) and not last:
                    watch.look()
                    if self.saved != iteration:
                        self.checkpoint(must=True)
                    raise Interrupted(number, iteration)

    @contextmanager
    def _saving_first(self, watch: Watch) -> Generator[None]:
        """What fails between steps (an image that cannot be read) costs none: they are saved before the error goes on."""
        try:
            yield
        except Exception:
            # Other processes may be in the middle of a step: what they did since the last checkpoint is lost.
            if self.world.size == 1 and self.saved != self.progress.iteration:
                try:
                    watch.look()
                    self.checkpoint(must=True)
                except (Diverged, OSError) as another:
                    log.error("%s", another)
            raise

    def validate_if_due(self) -> None:
        """The validation of the current iteration, unless it was done."""
        iteration = self.progress.iteration
        if self.validation.is_due(iteration) and self.progress.validated < iteration:
            self.outlet.write_figures(iteration, self.validation.run(iteration, self.progress))
            self.progress.validated = iteration

    def checkpoint(self, must: bool) -> None:
        """Weights and state. When they cannot be written the former state stays, and the run goes on unless it `must`.

        Raises:
            Diverged: when a network has NaN in it, before anything is written.
            OSError: when they cannot be written and it must, or `logger.on_failed_save: stop`.
        """
        iteration, config = self.progress.iteration, self.config
        self.stage.refuse_broken_weights(iteration)
        error: OSError | None = None
        failed = False
        for write in (self._save_pool, self._save):
            try:
                if not failed:
                    write()
            except OSError as reason:
                error = reason
            failed = any_of(self.world, error is not None)
        if not failed:
            self.saved = iteration
            return
        there = [state.name for state in states(self.folder / "state")]
        text = (
            f"iteration {iteration} could not be saved in {self.folder} ({error or 'as another process found'}; "
            f"{readable(shutil.disk_usage(self.folder).free)} free); "
            + (f"the newest state is that of iteration {int(there[-1])}" if there else "there is no state yet")
        )
        if must or config.logger.on_failed_save == "stop":
            raise OSError(f"{text}: make room and continue with --resume") from error
        frequency = config.logger.save_checkpoint_freq
        if self.world.is_main:
            log.error("%s; training goes on, and tries again at iteration %d", text, iteration + frequency)

    def _save_pool(self) -> None:
        if self.degrader is not None:
            self.degrader.save(self.folder / "state")

    def _save(self) -> None:
        if self.world.is_main:
            name = f"net_g_{self.progress.iteration:08d}.safetensors"
            save_model(self.folder / "models" / name, self.stage, self.config, self.progress.iteration)
            keep = self.config.logger.keep_states
            save_state(self.folder / "state", self.stage, self.config, self.progress, keep, self.world.size)

    def go_back(self, fault: Diverged) -> None:
        """To the newest state, and on from there with other samples.

        Raises:
            FloatingPointError: when there is none, or it was gone back to `train.max_rollbacks` times.
        """
        assert self.config.train is not None
        most, rollbacks = self.config.train.max_rollbacks, self.progress.rollbacks + 1
        advice = "Lower train.optim_g.lr" + (", or set precision: fp32" if self.config.precision == "bf16" else "")
        source = _chosen_state(self.world, self.folder, good=True)
        if source is None:
            if self.progress.iteration == self.config.train.total_iter:
                self.checkpoint(must=True)  # a run that long is not thrown away for its last steps
            raise FloatingPointError(f"{fault}; there is no good state to go back to. {advice}") from fault
        former = _load(source, self.stage, self.degrader, self.config, self.world)
        if self.returns[former.iteration] == most:
            raise FloatingPointError(
                f"{fault}; the run went back to iteration {former.iteration} {most} times already. {advice}, then --resume"
            ) from fault
        self.returns[former.iteration] += 1
        self.saved = former.iteration
        vars(self.progress).update(vars(former), rollbacks=rollbacks)
        self.outlet.go_back(former.iteration + 1)
        barrier(self.world)  # everybody has read the state
        if self.world.is_main:
            set_newer_aside(self.folder / "state", former.iteration)
            log.warning("%s; going back to iteration %d, and on from there with other samples", fault, former.iteration)
            report(self.folder, {"iter": former.iteration, "went_back": str(fault)})

    def _images_of(self, iteration: int) -> list[str]:
        """Names of the images that this process loads for an iteration."""
        crops = self.config.datasets.train
        assert crops is not None
        (samples,) = StepSampler(iteration, iteration, crops.batch_size_per_gpu, self.world.rank, self.world.size)
        pairs = self.images.pairs
        return [pairs[image_number(self.images.seed, k, len(pairs))].name for k in samples]


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


def _source(config: Config, resume: bool, world: World, folder: Path) -> Path | None:
    """The state to continue from: the newest one with --resume, else path.resume_state, else none."""
    source = _chosen_state(world, folder) if resume else None
    if source is None and config.path.resume_state:
        source = Path(config.path.resume_state)
    return source


def _as_begun(config: Config, source: Path) -> Config:
    """The configuration without EMA warm-up where the run to continue began before there was one: it stays the same run."""
    assert config.train is not None
    try:
        _, metadata = read_state_dict(source / "net_g.safetensors")
    except WeightsError:
        return config  # loading the state says what is wrong with it
    if sets_ema_warmup(metadata.get("config", "").splitlines()):
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"ema_warmup": None})})


def _starting_point(
    config: Config, stage: Stage, degrader: Degrader | None, source: Path | None, world: World, folder: Path
) -> Progress:
    """The state's progress, and the stage filled from it; without a state the beginning."""
    progress = Progress() if source is None else _load(source, stage, degrader, config, world)
    barrier(world)
    if world.is_main:
        clear_leftovers(folder)
        set_newer_aside(folder / "state", progress.iteration)
    log.info("continuing from %s", source) if source else log.info("starting from the beginning")
    return progress


def _chosen_state(world: World, folder: Path, good: bool = False) -> Path | None:
    """The newest whole state as the main process finds it: other machines may see the folder a moment later."""
    source = None
    if world.is_main:
        source, notes = newest_state(folder / "state", good)
        for note in notes:
            log.warning(note)
    return agreed(world, source)


def _load(source: Path, stage: Stage, degrader: Degrader | None, config: Config, world: World) -> Progress:
    progress = load_state(source, stage, config)
    if degrader is not None and (note := degrader.load(source, world.device)):
        log.warning(note)
    return progress


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
