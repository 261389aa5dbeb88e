"""Optimizers: built from options, saved and restored."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aesop.options.training import OptimizerOptions


def make_optimizer(options: OptimizerOptions, net: nn.Module) -> torch.optim.Optimizer:
    kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[options.type]
    return kind(net.parameters(), lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, fused=True)


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state as flat tensors `<parameter number>.<name>`."""
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}.{name}": torch.as_tensor(value) for number, entry in state.items() for name, value in entry.items()}


def restore_moments(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)]
        # In the parameter's memory format: a fused optimizer walks through both by address.
        same_layout = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(number), {})[name] = same_layout
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
