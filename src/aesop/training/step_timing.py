"""The time of each part of a training step, alone: the generator, every loss, the discriminator, the updates."""

import time
from collections.abc import Callable

from torch import Tensor

from aesop.system.device import synchronise
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.ema import update_ema
from aesop.training.stage import Mean, Stage, StepImages

Part = Callable[[], Tensor | None]
"""Computes a part; returns the scalar to go backward from, if there is one."""


def parts_of_step(stage: Stage, lq: Tensor, gt: Tensor) -> dict[str, Part]:
    """The parts of a step on LR (N, 3, h, w) and HR (N, 3, H, W) images in [0, 1] on the device.

    A loss includes the networks that it alone needs: the averaged generator, the discriminator.
    """
    batch = {"lq": lq, "gt": gt, "gt_usm": gt}
    images = StepImages(batch, stage.make_image)
    _ = images["sr"]
    made = {name: image.detach().requires_grad_(name not in batch) for name, image in images.items()}
    if isinstance(stage, AdversarialStage):
        stage.net_d.requires_grad_(False)  # as in the generator's part of a step
    found: dict[str, Part] = {"net_g": lambda: StepImages(batch, stage.make_image)["sr"].mean()}
    for term in stage.terms.values():
        found[term.name] = lambda term=term: stage.weighted_loss(term, StepImages(made, stage.make_image))
    if isinstance(stage, AdversarialStage):
        found["net_d"] = lambda: _discriminator_loss(stage, made["sr"].detach(), gt)
    return found | {"optimizers, EMA": lambda: _update(stage)}


def _discriminator_loss(stage: AdversarialStage, sr: Tensor, gt: Tensor) -> Tensor:
    stage.net_d.requires_grad_(True)
    return stage.discriminator_loss(sr, gt, Mean(1))


def _update(stage: Stage) -> None:
    for optimizer in stage.optimizers.values():
        optimizer.step()
    if stage.net_g_ema is not None:
        update_ema(stage.net_g_ema, stage.net_g, decay=0.999)


def time_parts(stage: Stage, lq: Tensor, gt: Tensor, seconds: float) -> dict[str, float]:
    """Seconds of each part, forward and backward: the fastest of at least two runs within about `seconds` in all."""
    parts, device = parts_of_step(stage, lq, gt), stage.world.device
    found = {}
    for name, part in parts.items():
        times: list[float] = []
        while len(times) < 3 or sum(times) < seconds / len(parts):
            synchronise(device)
            begun = time.perf_counter()
            scalar = part()
            if scalar is not None:
                scalar.backward()
            synchronise(device)
            times.append(time.perf_counter() - begun)
            if sum(times) > seconds and len(times) > 1:
                break
        found[name] = min(times[1:])
    return found
