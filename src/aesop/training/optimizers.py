"""Optimizers: built from options, saved and restored. All of them skip a step of NaN without waiting for the device.

A step is skipped where `optimizer.found_inf` is 1, which stays on the device (see `training.skipped_steps`). PyTorch's fused
Adam knows that, but no package's Adan or schedule-free AdamW does (docs/decisions.md), so these are our own.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from aesop.options.training import OptimizerOptions

log = logging.getLogger("aesop")


def make_optimizer(options: OptimizerOptions, net: nn.Module, average: nn.Module | None = None) -> torch.optim.Optimizer:
    """The optimizer of a network. `average` is a copy of it, which an AdamWScheduleFree keeps up to date."""
    lr, betas, decay = options.lr, options.betas, options.weight_decay
    if options.type == "Adan":
        return Adan(net, lr, betas, decay)
    if options.type == "AdamWScheduleFree":
        assert average is not None
        return AdamWScheduleFree(net, average, lr, betas, decay)
    kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[options.type]
    return kind(net.parameters(), lr=lr, betas=betas[:2], weight_decay=decay, fused=True)


class AdamWScheduleFree(torch.optim.Adam):
    """Schedule-free AdamW (Defazio et al., The Road Less Scheduled, NeurIPS 2024, algorithm 1).

    The network holds y, where gradients are taken, and `average` holds x, the weights for use. Here z is a moment. Adam
    itself makes the step of z, with a first decay rate of 0:

        z <- z - lr g / (sqrt(v) + eps) - lr weight_decay y
        x <- (1 - c) x + c z,  c = lr_max^2 / (the sum of lr_max^2 over all steps)
        y <- (1 - betas[0]) z + betas[0] x
    """

    def __init__(self, net: nn.Module, average: nn.Module, lr: float, betas: Sequence[float], weight_decay: float):
        super().__init__(net.parameters(), lr=lr, betas=(0.0, betas[1]), fused=True)
        self.momentum, self.decay = betas[0], weight_decay
        self.x = dict(zip(net.parameters(), average.parameters(), strict=True))
        zero = torch.zeros((), device=next(net.parameters()).device)
        self.param_groups[0] |= {"lr_max": zero, "weight_sum": zero}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # ty: ignore[incompatible-method-override]
        group, goes_on = self.param_groups[0], _goes_on(self)
        y: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
        x: list[Tensor] = [self.x[cast("nn.Parameter", parameter)] for parameter in y]
        z: list[Tensor] = [self.state[p]["z"] if "z" in self.state[p] else p.clone() for p in y]
        decayed = torch._foreach_mul(y, group["lr"] * self.decay * goes_on) if self.decay else []
        torch._foreach_copy_(y, z)
        super().step(closure)
        torch._foreach_copy_(z, y)
        if decayed:
            torch._foreach_sub_(z, decayed)

        group["lr_max"] = torch.clamp(group["lr_max"], min=group["lr"])
        weight = goes_on * group["lr_max"] ** 2
        group["weight_sum"] = group["weight_sum"] + weight
        difference = torch._foreach_sub(z, x)
        torch._foreach_mul_(difference, weight / group["weight_sum"].clamp(min=torch.finfo(weight.dtype).tiny))
        torch._foreach_add_(x, difference)
        torch._foreach_copy_(y, torch._foreach_lerp(z, x, self.momentum))
        for parameter, moment in zip(y, z, strict=True):
            self.state[parameter]["z"] = moment


class Adan(torch.optim.Optimizer):
    """Adan (Xie et al., TPAMI 2024, algorithm 1), with the authors' bias corrections.

    `betas` are their decay rates of g, of d, the difference to the former gradient, and of squares: 1 - beta of the paper.

        h <- g + betas[1] d
        theta <- (theta - lr (mean of g + betas[1] mean of d) / (sqrt(mean of h^2) + eps)) / (1 + lr weight_decay)
    """

    def __init__(self, net: nn.Module, lr: float, betas: Sequence[float], weight_decay: float, eps: float = 1e-8):
        super().__init__(net.parameters(), {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps})
        self.param_groups[0]["step"] = torch.zeros((), device=next(net.parameters()).device)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # ty: ignore[incompatible-method-override]
        group, goes_on = self.param_groups[0], _goes_on(self)
        names = ("exp_avg", "exp_avg_diff", "exp_avg_sq", "previous")
        begun = (group["step"] > 0) * goes_on
        step = group["step"] = group["step"] + goes_on
        corrections = [1 - torch.pow(beta, step.clamp(min=1)) for beta in group["betas"]]
        trained: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
        gradients = [cast("Tensor", parameter.grad) for parameter in trained]
        for parameter, gradient in zip(trained, gradients, strict=True):
            gradient.masked_fill_(goes_on == 0, 0)  # NaN times 0 would be NaN
            if not self.state[parameter]:
                self.state[parameter] = {name: torch.zeros_like(parameter) for name in names}
        means, differences, squares, previous = ([self.state[p][name] for p in trained] for name in names)

        difference = torch._foreach_sub(gradients, previous)
        torch._foreach_mul_(difference, begun)
        looking_ahead = torch._foreach_mul(difference, group["betas"][1])
        torch._foreach_add_(looking_ahead, gradients)
        torch._foreach_mul_(looking_ahead, looking_ahead)
        new_values = (gradients, difference, looking_ahead)
        for moment, new, beta in zip((means, differences, squares), new_values, group["betas"], strict=True):
            torch._foreach_mul_(moment, 1 - (1 - beta) * goes_on)
            torch._foreach_add_(moment, new, alpha=1 - beta)
        torch._foreach_mul_(previous, 1 - goes_on)
        torch._foreach_add_(previous, gradients)

        denominator = torch._foreach_div(squares, corrections[2])
        torch._foreach_sqrt_(denominator)
        torch._foreach_add_(denominator, group["eps"])
        update = torch._foreach_mul(differences, group["betas"][1] / corrections[1])
        torch._foreach_add_(update, torch._foreach_div(means, corrections[0]))
        torch._foreach_mul_(update, group["lr"] * goes_on)
        torch._foreach_div_(update, denominator)
        torch._foreach_sub_(trained, update)
        if group["weight_decay"]:
            torch._foreach_div_(trained, 1 + group["lr"] * group["weight_decay"] * goes_on)


def _goes_on(optimizer: torch.optim.Optimizer) -> Tensor:
    """1, or 0 where the step is to be skipped."""
    device = optimizer.param_groups[0]["params"][0].device
    return 1 - getattr(optimizer, "found_inf", torch.zeros((), device=device))


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state as flat tensors: `<parameter number>.<name>`, and `all.<name>` of what is one for all parameters."""
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    own = {f"{number}.{name}": torch.as_tensor(value) for number, entry in state.items() for name, value in entry.items()}
    return own | {f"all.{name}": value for name, value in optimizer.param_groups[0].items() if isinstance(value, Tensor)}


_NAMES: dict[type, set[str]] = {  # of the moments
    torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    AdamWScheduleFree: {"step", "exp_avg", "exp_avg_sq", "z", "all.lr_max", "all.weight_sum"},
    Adan: {"all.step", "exp_avg", "exp_avg_diff", "exp_avg_sq", "previous"},
}


def restore_moments(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor], source: str = "") -> None:
    """Fill in what `moments` returned. Those of another kind of optimizer are left out, with a line that names `source`."""
    if {key.lstrip("0123456789").lstrip(".") for key in saved} - _NAMES[type(optimizer)]:
        log.warning("%s holds the moments of another optimizer: those of %s begin at 0", source, type(optimizer).__name__)
        return
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        number, _, name = key.partition(".")
        if number == "all":
            groups[0][name] = value.to(parameters[0].device)
            continue
        like = parameters[int(number)]
        # In the parameter's memory format: a fused optimizer walks through both by address.
        same_layout = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(number), {})[name] = same_layout
    optimizer.load_state_dict({"state": state, "param_groups": groups})
