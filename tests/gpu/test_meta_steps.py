"""A step of every stage, recipe and option leaves the host free: nothing waits, and no two devices meet."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from cases import CASES, WAYS
from judge import BLOCKING, MASK, META, MIXED, READ, STATE, Judge, as_device
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_a_step_never_waits(name, way):
    judge = Judge()
    with as_device(judge):
        step = CASES[name].build(way, META)
        step(1)  # constants are sent once
        with judge:
            step(2)
    assert judge.faults() == []


FAULTS: dict[str, tuple[str, Callable[[Tensor], object]]] = {
    "item": (READ, lambda x: x.mean().item()),
    "condition": (READ, lambda x: 1 if x.mean() > 0 else 0),
    "all": (READ, lambda x: bool((x > 0).all())),
    "cpu": (READ, lambda x: x.cpu()),
    "nonzero": (READ, lambda x: x.nonzero()),
    "mask": (MASK, lambda x: x[x > 0]),
    "constant": (BLOCKING, lambda x: x * torch.ones(8).to(x)),
    "copy": (BLOCKING, lambda x: x.copy_(torch.ones(8))),
    "sum": (MIXED, lambda x: x + torch.ones(8)),
    "convolution": (MIXED, lambda x: torch.conv2d(x, torch.ones(4, 3, 3, 3))),
    "product": (MIXED, lambda x: x @ torch.ones(8, 8)),
    "index": (MIXED, lambda x: x[torch.tensor([0, 1])]),
    "checkpointing": (STATE, lambda x: checkpoint(torch.sin, x.requires_grad_(), use_reentrant=False)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name):
    expected, fault = FAULTS[name]
    judge, x = Judge(), torch.rand(2, 3, 8, 8, device=META)
    with as_device(judge), judge, suppress(RuntimeError, NotImplementedError):  # the meta device refuses some
        fault(x)
    assert expected in [meaning for meaning, _ in judge.faults()]


def test_what_is_allowed_is_no_fault():
    judge, x = Judge(), torch.rand(2, 3, 8, 8, device=META)
    with as_device(judge), judge:
        _ = x * torch.tensor(2.0) + torch.rand_like(x)
        _ = torch.ones(8).to(META, non_blocking=True) + x
        _ = checkpoint(torch.sin, x.requires_grad_(), use_reentrant=False, preserve_rng_state=False)
    assert judge.faults() == []
