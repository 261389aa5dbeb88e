"""A step on a CUDA device that is not there (see fake_cuda.py): no waits, no copies, no second layout, no needless casts.

Only checked statically: no kernel ran. The functions above each test run in a process of their own.
"""

import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from cases import CASES
from fake_cuda import CUDA, DOUBLE, LAYOUTS, UNPINNED, WAIT, Device, elsewhere, reason_against
from judge import BLOCKING, MASK, MIXED, READ, STATE
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aesop.data.degradation.degrader import Degrader
from aesop.data.loader import to_device
from aesop.options.read import load_train_config

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(against := reason_against()), reason=str(against))]
RECIPE = Path(__file__).parents[2] / "configs" / "realworld_aesop.yml"
WAY = "bf16+channels_last"
# Where convolutions meet NCHW: PyTorch's pixel_shuffle returns it on CUDA, and so does the product in a Gram matrix.
KNOWN_COPIES = {"MSRResNet": 6, "SwinIR": 6, "DRCT": 6, "style": 2}


def faults_of_steps() -> dict[str, list]:
    found = {}
    for name, case in CASES.items():
        with Device(WAY) as device:
            try:
                step = case.build(WAY, CUDA)
                step(1)  # constants are sent once
                device.take()
                step(2)
            except Exception:  # noqa: BLE001
                device.seen.append(("error", traceback.format_exc(limit=-4)))
        found[name] = device.faults()
    return found


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> dict[str, list]:
    return elsewhere(tmp_path_factory.mktemp("steps"), faults_of_steps)


@pytest.mark.parametrize("name", CASES)
def test_a_step_has_no_fault(steps, name):
    copies = [fault for fault in steps[name] if fault[0] == LAYOUTS]
    assert [fault for fault in steps[name] if fault not in copies] == []
    assert len(copies) <= next((count for words, count in KNOWN_COPIES.items() if words in name), 0), copies


def nhwc(*shape: int) -> Tensor:
    return torch.rand(shape, device=CUDA).to(memory_format=torch.channels_last)


FAULTS: dict[str, tuple[str, Callable[[Tensor], object]]] = {
    "item": (READ, lambda x: x.mean().item()),
    "condition": (READ, lambda x: 1 if x.mean() > 0 else 0),
    "list": (READ, lambda x: x.flatten()[:2].tolist()),
    "cpu": (READ, lambda x: x.cpu()),
    "nonzero": (READ, lambda x: x.nonzero()),
    "mask": (MASK, lambda x: x[x > 0]),
    "synchronize": (WAIT, lambda x: torch.cuda.synchronize()),
    "constant": (BLOCKING, lambda x: x * torch.ones(8).to(x)),
    "copy": (BLOCKING, lambda x: x.copy_(torch.ones(8))),
    "unpinned": (UNPINNED, lambda x: torch.ones(8).to(CUDA, non_blocking=True)),
    "sum": (MIXED, lambda x: x + torch.ones(8)),
    "convolution": (MIXED, lambda x: torch.conv2d(x, torch.ones(4, 8, 3, 3))),
    "product": (MIXED, lambda x: x @ torch.ones(8, 8)),
    "index": (MIXED, lambda x: x[torch.tensor([0, 1])]),
    "double": (DOUBLE, lambda x: x.double()),
    "weight NHWC": (LAYOUTS, lambda x: torch.conv2d(x, nhwc(8, 8, 3, 3))),
    "input NHWC": (LAYOUTS, lambda x: torch.conv2d(nhwc(2, 8, 8, 8), x[:, :, :3, :3].contiguous())),
    "checkpointing": (STATE, lambda x: checkpoint(torch.sin, x.requires_grad_(), use_reentrant=False)),
    "nothing": ("", lambda x: x * torch.tensor(2.0) + torch.ones(8).pin_memory().to(CUDA, non_blocking=True)),
    "one layout": ("", lambda x: torch.conv2d(nhwc(2, 8, 8, 8), nhwc(8, 8, 3, 3)) + torch.rand_like(x).mean()),
}


def planted_faults() -> dict[str, list[str]]:
    found = {}
    for name, (_, fault) in FAULTS.items():
        with Device("channels_last") as device:
            x = torch.rand(2, 8, 8, 8, device=CUDA)
            with suppress(RuntimeError):  # fake tensors refuse some
                fault(x)
        found[name] = sorted({meaning for meaning, _ in device.faults()})
    return found


def test_planted_faults_are_found(tmp_path):
    assert elsewhere(tmp_path, planted_faults) == {name: [kind] if kind else [] for name, (kind, _) in FAULTS.items()}


def faults_of_degradation(per_sample: bool, queue_size: int) -> list[list]:
    small = ["gt_size=64", "batch_size_per_gpu=4"]
    options = [f"datasets.train.{option}" for option in small] + ["degradation.crop_pad_size=128"]
    pool = [f"degradation.per_sample={per_sample}".lower(), f"degradation.queue_size={queue_size}"]
    degrader = Degrader(load_train_config(RECIPE, [*options, *pool])[0], 0)
    hr = torch.zeros(4, 3, 128, 128, dtype=torch.uint8)
    with Device() as device:
        for iteration in range(1, 16):
            degrader(to_device(hr.pin_memory(), CUDA), iteration)
            if iteration == 1:
                device.take()  # constants are sent once
    return device.faults()


@pytest.mark.parametrize(("per_sample", "queue_size"), [(False, 8), (True, 0)])
def test_the_degradation_has_no_fault(tmp_path, per_sample, queue_size):
    assert elsewhere(tmp_path, faults_of_degradation, per_sample, queue_size) == []


def casts_of_a_step(name: str) -> dict[str, dict[str, int]]:
    """How often each weight is cast to bfloat16 in a step: of what is averaged or frozen, and of the generator."""
    with Device() as device:
        stage = CASES[name].stage(CUDA, "bf16")
        lq, gt = torch.rand(2, 3, 8, 8, device=CUDA), torch.rand(2, 3, 32, 32, device=CUDA)
        stage.step(lq, gt, 1)
        device.cast.clear()
        stage.step(lq, gt, 2)
        storages = [tensor.untyped_storage()._cdata for tensor in device.cast]

        def count(networks: dict[str, torch.nn.Module]) -> dict[str, int]:
            parameters = torch.nn.ModuleDict(networks).named_parameters()
            return {name: storages.count(parameter.untyped_storage()._cdata) for name, parameter in parameters}

        losses = {key: term.loss for key, term in stage.terms.items() if isinstance(term.loss, torch.nn.Module)}
        averages = {"average": stage.net_g_ema, "copy": stage.ema_in_bf16.copy}
        return {"not trained": count(losses | averages), "trained": count({"net_g": stage.net_g})}


def test_bf16_casts_the_weights_that_a_step_trains_once_and_no_others(tmp_path):
    casts = elsewhere(tmp_path, casts_of_a_step, "adversarial")
    parts = {name.partition(".")[0] for name in casts["not trained"]}
    assert parts == {"average", "copy", "aesop_opt", "perceptual_opt"}
    assert set(casts["not trained"].values()) == {0}
    # Outside the RRDBs, which are the body, the generator computes in float32.
    assert casts["trained"] == {name: int(name.startswith("net_g.body.")) for name in casts["trained"]}
    assert sum(casts["trained"].values()) == 30
