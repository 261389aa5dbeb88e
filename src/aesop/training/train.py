"""The training loop of every stage, on one process or several."""

import logging
from collections import Counter
from contextlib import closing
from pathlib import Path

import torch

from aesop.data.degradation.degrader import Degrader
from aesop.data.loader import batches, to_device
from aesop.data.training_crops import training_crops
from aesop.data.wrong_pairs import warn_of_wrong_pairs
from aesop.options.config import TrainConfig
from aesop.system.device import algorithms
from aesop.system.distributed import World, agreed_signal, average_scalars, broadcast_state, init_distributed
from aesop.system.signals import Interrupted, Signals
from aesop.training.acceleration import accelerate
from aesop.training.build_stage import build_stage
from aesop.training.checkpoint import Checkpoints, as_begun, newest_state, states
from aesop.training.out_of_memory import memory_explained
from aesop.training.progress import step_seed
from aesop.training.readings import Readings
from aesop.training.rollback import roll_back
from aesop.training.run_logger import RunLogger, check_wandb, describe_run, log_portability, log_to_file, log_verdict
from aesop.training.skipped_steps import Diverged, SkippedSteps
from aesop.training.validation import Validation

log = logging.getLogger("aesop")


def train(config: TrainConfig, resume: bool = False, world: World | None = None) -> Path:
    """Run one stage to its end; returns the weight file for use.

    With `val.early_stop` it may end before `train.total_iter`: the weight file then holds the weights of that iteration.

    Writes config.yml, train.log, scalars.jsonl (a line per print), models/, state/, visualization/ and tensorboard/ into
    <experiments_root>/<name>. With `resume` it continues from the newest state, or from the beginning where there is none.
    By default the processes that torchrun started train together, or this one alone.

    Raises:
        ValueError: wrong options, weights or images; before the first step where possible.
        FloatingPointError: the training diverged, and did so again after rollbacks. The newest state is good.
        OSError: the last checkpoint cannot be written, or the system kills loader processes repeatedly.
        MemoryError: a step does not fit into memory.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 arrived. The state is saved.
    """
    if world is None:
        with init_distributed(config.device) as world:
            return train(config, resume, world)
    total, folder, crops = config.train.total_iter, config.run_folder, config.datasets.train
    if not resume and states(folder / "state"):
        raise ValueError(
            f"{folder} already holds a run with checkpoints: add --resume to continue it, or choose another name"
        )
    check_wandb(config)
    with log_to_file(folder, world), algorithms(config.deterministic):
        # Load: networks, losses and optimizers, the state to continue from, images.
        source = newest_state(folder / "state", world) if resume else None
        if source is None and config.path.resume_state:
            source = Path(config.path.resume_state)
        config = as_begun(config, source)
        stage = build_stage(config, world, resuming=source is not None)
        step = accelerate(stage, config.channels_last, config.compile, config.cuda_graphs)
        validation = Validation(config, stage, world)
        readings = Readings(config, stage)
        degrader = Degrader(config, world.rank) if config.degradation else None
        checkpoints = Checkpoints(config, world, stage, degrader)
        progress = checkpoints.start(source)
        broadcast_state(world, stage.networks.values())
        images = training_crops(config)
        if world.is_main and config.datasets.train.dataroot_lq is not None:
            warn_of_wrong_pairs(images.pairs, config.scale)
        describe_run(config, stage, len(images.pairs))
        with closing(RunLogger(config, world, progress.iteration + 1)) as logger, Signals() as signals:
            logger.write_figures(progress.iteration, validation.run_if_due(progress))  # if it failed before --resume
            if not world.is_main:
                log.setLevel(logging.WARNING)  # each process warns about its own images and loaders
            rollbacks = Counter[int]()
            if progress.iteration < total and not validation.stop_reason(progress):
                checkpoints.remove_early_final()
            while progress.iteration < total and not validation.stop_reason(progress):  # again after each rollback
                first = progress.iteration + 1
                seed = images.seed = progress.seed(config.manual_seed)
                if degrader is not None:
                    degrader.seed = seed
                skipped = SkippedSteps(config, world, progress, images)
                try:
                    with batches(images, crops, first, total, world.rank, world.size, world.device.type == "cuda") as loader:
                        for iteration in range(first, total + 1):
                            last = iteration == total
                            with checkpoints.saved_on_error(skipped):
                                batch = next(loader)

                            # Step.
                            rate = stage.set_learning_rate(iteration)
                            with memory_explained(config, world.device):
                                gt = to_device(batch["gt"], world.device)
                                lq, gt = degrader(gt, iteration) if degrader else (to_device(batch["lq"], world.device), gt)
                                torch.manual_seed(step_seed(seed, iteration, world.rank))
                                readings.before(iteration)
                                scalars = step(lq, gt, iteration)
                            progress.iteration = iteration
                            skipped.add(iteration, stage.skipped, scalars)

                            # Log.
                            if iteration % config.logger.print_freq == 0 or last or iteration == 1:
                                logger.write(iteration, rate, average_scalars(world, scalars))
                            else:
                                logger.write_if_silent(iteration, rate, scalars)
                            logger.write_figures(iteration, readings.after(iteration, lq, gt))

                            # Validate.
                            with checkpoints.saved_on_error(skipped):
                                logger.write_figures(iteration, validation.run_if_due(progress))

                            # Save.
                            if iteration % config.logger.save_checkpoint_freq == 0 or last:
                                skipped.check()
                                if not progress.in_a_row:
                                    checkpoints.save(must=last)
                                elif last:
                                    raise Diverged(f"the last {progress.in_a_row} steps were skipped")
                                elif world.is_main:
                                    log.warning("not saving iteration %d, because the last steps were skipped", iteration)

                            # Stop early.
                            if not last and validation.stop_reason(progress):
                                skipped.check()
                                if validation.stop_reason(progress):
                                    if checkpoints.saved != iteration:
                                        checkpoints.save(must=True)
                                    break

                            # Stop after a signal.
                            if (number := agreed_signal(world, signals.number, iteration)) and not last:
                                skipped.check()
                                if checkpoints.saved != iteration:
                                    checkpoints.save(must=True)
                                raise Interrupted(number, iteration, resume)
                except Diverged as fault:
                    roll_back(fault, checkpoints, logger, rollbacks)
            if progress.iteration < total:
                checkpoints.save_final(validation.stop_reason(progress))
        log.info("finished %s: %s", config.name, config.final_model)
        if world.is_main:
            log_portability(config)
        if readings.every:
            log_verdict(config.run_folder)
    return config.final_model
