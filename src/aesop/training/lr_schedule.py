"""Learning rates and the EMA's decay as pure functions of the iteration, so that a resumed run needs no state for them."""

import math
from itertools import accumulate

from aesop.options.training import SchedulerOptions, TrainOptions


def learning_rate(options: SchedulerOptions, base_lr: float, iteration: int, warmup_iter: int = -1) -> float:
    """The rate in force during `iteration` (from 1), exactly as the published schedulers give it.

    A milestone M takes effect at iteration M + 1. With warm-up the rate climbs as base * i / warmup_iter; a multi-step
    schedule then goes on from the last warm-up value, (warmup_iter - 1) / warmup_iter of the base rate (published).
    """
    if iteration < warmup_iter:
        return base_lr / warmup_iter * iteration
    done = iteration - 1
    if options.type == "CosineAnnealingRestartLR":
        return _cosine(options, base_lr, done)
    start, factor = 0, 1.0
    if warmup_iter > 1:
        start, factor = warmup_iter - 2, (warmup_iter - 1) / warmup_iter
    for restart, weight in zip(options.restarts, options.restart_weights, strict=True):
        if start <= restart <= done and (restart > 0 or warmup_iter <= 1):
            start, factor = restart, weight
    drops = sum(start < milestone <= done for milestone in options.milestones)
    return base_lr * factor * options.gamma**drops


def _cosine(options: SchedulerOptions, base_lr: float, done: int) -> float:
    """SGDR (Loshchilov & Hutter, ICLR 2017, equation 5) with given periods; past the last one the rate stays put."""
    ends = list(accumulate(options.periods))
    done = min(done, ends[-1])
    k = next(i for i, end in enumerate(ends) if done <= end)
    progress = (done - (ends[k] - options.periods[k])) / options.periods[k]
    amplitude = options.restart_weights[k] * 0.5 * (base_lr - options.eta_min)
    return options.eta_min + amplitude * (1 + math.cos(math.pi * progress))


def ema_decay(options: TrainOptions, iteration: int) -> float:
    """The averaged generator's decay after `iteration` (from 1): `ema_decay`, with warm-up at most (1 + i) / (10 + i)."""
    if not options.ema_warmup:
        return options.ema_decay
    return min(options.ema_decay, (1 + iteration) / (10 + iteration))
