"""Rollback of a diverged run to its newest good state."""

import logging
from collections import Counter

from aesop.system.distributed import barrier
from aesop.system.files import append_line
from aesop.training.checkpoint import Checkpoints, newest_state
from aesop.training.full_disk import write_or_log
from aesop.training.run_logger import RunLogger
from aesop.training.skipped_steps import Diverged

log = logging.getLogger("aesop")


def roll_back(fault: Diverged, checkpoints: Checkpoints, logger: RunLogger, rollbacks: Counter[int]) -> None:
    """Load the newest good state. Other samples follow from `Progress.rollbacks`.

    `rollbacks` counts them by the iteration of the state; more than `train.max_rollbacks` raise FloatingPointError.
    """
    config, world, progress, folder = checkpoints.config, checkpoints.world, checkpoints.progress, checkpoints.folder
    count = progress.rollbacks + 1
    advice = "Lower train.optim_g.lr" + (", or set precision: fp32" if config.precision == "bf16" else "")
    source = newest_state(folder / "state", world, good=True)
    if source is None:
        if progress.iteration == config.train.total_iter:
            checkpoints.save(must=True)  # do not lose a whole run for its last steps
        raise FloatingPointError(f"{fault}; there is no good state to roll back to. {advice}") from fault
    iteration = int(source.name)
    if rollbacks[iteration] == config.train.max_rollbacks:
        often = f"the run already rolled back to iteration {iteration} {rollbacks[iteration]} times"
        raise FloatingPointError(f"{fault}; {often}. {advice}, then --resume") from fault
    rollbacks[iteration] += 1
    checkpoints.load(source)
    progress.rollbacks = count
    logger.restart(iteration + 1)
    barrier(world)  # before states move, every process has read this one
    if world.is_main:
        checkpoints.drop_newer()
        log.warning("%s; rolling back to iteration %d and continuing with other samples", fault, iteration)
        row = {"iter": iteration, "went_back": str(fault)}
        write_or_log("faults.jsonl could not be written", append_line, folder / "faults.jsonl", row)
