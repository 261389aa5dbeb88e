"""The exponential moving average of the generator's weights."""

import torch
from torch import Tensor, nn

from aesop.options.training import TrainOptions


def ema_decay(options: TrainOptions, iteration: int) -> float:
    """The decay after `iteration` (from 1): `ema_decay`, during warm-up at most (1 + i) / (10 + i).

    1 where the optimizer averages: then only the buffers are copied.
    """
    if options.optim_g.averages:
        return 1.0
    if not options.ema_warmup:
        return options.ema_decay
    return min(options.ema_decay, (1 + iteration) / (10 + iteration))


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Average the parameters; copy the buffers (some generators have BatchNorm statistics)."""
    averaged: list[Tensor] = list(average.parameters())
    torch._foreach_lerp_(averaged, list(net.parameters()), 1 - decay)
    for copied, buffer in zip(average.buffers(), net.buffers(), strict=True):
        copied.copy_(buffer)
