"""The learning rate as a pure function of the iteration, so that a resumed run needs no scheduler state."""

import math
from itertools import accumulate

from aesop.options.training import SchedulerOptions, TrainOptions


def learning_rate(options: SchedulerOptions, base_lr: float, iteration: int, warmup_iter: int = -1) -> float:
    """The rate of `iteration` (from 1), exactly as the published schedulers compute it.

    A milestone M takes effect at iteration M + 1. During warm-up the rate is base * i / warmup_iter. As published, a
    multi-step schedule then continues from the last warm-up value, (warmup_iter - 1) / warmup_iter of the base rate.
    """
    if iteration < warmup_iter:
        return base_lr / warmup_iter * iteration
    done = iteration - 1
    if options.type == "CosineAnnealingRestartLR":
        return _cosine(options, base_lr, done)
    if options.type == "CosineAnnealingLR":
        assert options.T_max is not None
        return options.eta_min + 0.5 * (base_lr - options.eta_min) * (1 + math.cos(math.pi * done / options.T_max))
    start, factor = 0, 1.0
    if warmup_iter > 1:
        start, factor = warmup_iter - 2, (warmup_iter - 1) / warmup_iter
    for restart, weight in zip(options.restarts, options.restart_weights, strict=True):
        if start <= restart <= done and (restart > 0 or warmup_iter <= 1):
            start, factor = restart, weight
    drops = sum(start < milestone <= done for milestone in options.milestones)
    return base_lr * factor * options.gamma**drops


def _cosine(options: SchedulerOptions, base_lr: float, done: int) -> float:
    """SGDR (Loshchilov & Hutter, ICLR 2017, equation 5) with given periods; after the last one the rate is constant."""
    ends = list(accumulate(options.periods))
    done = min(done, ends[-1])
    k = next(i for i, end in enumerate(ends) if done <= end)
    progress = (done - (ends[k] - options.periods[k])) / options.periods[k]
    amplitude = options.restart_weights[k] * 0.5 * (base_lr - options.eta_min)
    return options.eta_min + amplitude * (1 + math.cos(math.pi * progress))


def schedule_mismatch(train: TrainOptions) -> str | None:
    """Say how a schedule does not fit the length of the training, if so."""
    schedule, total = train.scheduler, train.total_iter
    if schedule.type == "CosineAnnealingRestartLR" and (end := sum(schedule.periods)) != total:
        effect = "the rate does not reach its end" if end > total else "the rate stays at its end from there on"
        return f"train.scheduler.periods end at iteration {end}, the training at {total}: {effect}"
    if schedule.type == "CosineAnnealingLR" and schedule.T_max != total:
        return f"train.scheduler.T_max is {schedule.T_max}, the training ends at {total}"
    if late := [milestone for milestone in schedule.milestones if milestone >= total]:
        return f"train.scheduler.milestones: {', '.join(map(str, late))} lie beyond the training's end at {total}"
    return None
