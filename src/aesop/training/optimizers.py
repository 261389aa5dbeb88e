"""Optimizers from their options, and a step that skips NaN and infinite gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from aesop.options.training import OptimizerOptions


def make_optimizer(options: OptimizerOptions, net: nn.Module) -> torch.optim.Optimizer:
    kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[options.type]
    return kind(net.parameters(), lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, fused=True)


def step_unless_broken(optimizer: torch.optim.Optimizer, gradients: Iterable[Tensor]) -> Tensor:
    """Make the optimizer's step only if all gradients are finite; returns 1 where it was skipped, else 0, on the device."""
    broken = torch.isfinite(torch.nn.utils.get_total_norm(gradients)).logical_not().float()
    # `torch.amp.GradScaler` skips steps in the same way. Fused optimizers for MPS ignore `found_inf`.
    optimizer.found_inf = broken  # ty: ignore[missing-attribute]
    if broken.device.type != "mps" or not broken.item():
        optimizer.step()
    return broken
