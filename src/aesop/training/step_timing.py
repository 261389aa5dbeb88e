"""What a training step consists of, each part timed alone: every network, every loss, the updates."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from aesop.system.device import autocast, synchronise
from aesop.training.stages import AdversarialStage, AutoEncoderStage, Mean, Stage

Part = Callable[[], Tensor | None]
"""Makes a part; returns a scalar to go backward from, or None where nothing goes backward."""


def parts(stage: Stage, lq: Tensor, gt: Tensor) -> dict[str, Part]:
    """The parts of a step on LR (N, 3, h, w) and HR (N, 3, H, W) images in [0, 1] on the device."""
    if isinstance(stage, AutoEncoderStage):
        found: dict[str, Part] = {"net_g": lambda: stage.run(stage.net_g, gt).mean()}
    else:
        found = {"net_g": lambda: stage.enlarge(lq, gt).mean()}
    if isinstance(stage, AdversarialStage):
        found |= _adversarial(stage, lq, gt)
    found["optimisers, EMA"] = lambda: _update(stage)
    return found


def _adversarial(stage: AdversarialStage, lq: Tensor, gt: Tensor) -> dict[str, Part]:
    train, found = stage.options, {}
    with torch.no_grad():
        made = stage.enlarge(lq, gt)
    sr = made.clone().requires_grad_()

    def loss(compute: Callable[[], Tensor]) -> Part:
        def part() -> Tensor:
            with autocast(stage.world.device, stage.precision):
                return compute()

        return part

    if (pixel := stage.pixel_loss) is not None:
        found["l_g_pix"] = loss(lambda: pixel(sr, gt))
    if (aesop := stage.aesop_loss) is not None:
        found["l_g_aesop"] = loss(lambda: aesop(sr, gt))
    if (perceptual := stage.perceptual_loss) is not None:
        found["l_g_percep"] = loss(lambda: perceptual(sr, gt))
    if (artifact := stage.artifact_loss) is not None and stage.net_g_ema is not None:
        ema = stage.net_g_ema

        def average() -> None:
            with torch.no_grad():
                stage.run(ema, lq)

        found["net_g_ema"] = average
        found["l_g_artifacts"] = lambda: artifact(sr, gt, made)

    def adversarial() -> Tensor:
        stage.net_d.requires_grad_(False)
        real = None
        if stage.gan.relativistic:
            with torch.no_grad():
                real = stage.run(stage.net_d, gt)
        return stage.gan_loss.generator(stage.run(stage.net_d, sr), real)

    def discriminator() -> Tensor:
        stage.net_d.requires_grad_(True)
        return stage.discriminator_loss(made, gt, Mean(train.accumulate))

    return found | {"l_g_gan": adversarial, "net_d": discriminator}


def _update(stage: Stage) -> None:
    for optimizer in stage.optimizers.values():
        optimizer.step()
    stage.update_ema(iteration=1)


def time_parts(stage: Stage, lq: Tensor, gt: Tensor, seconds: float) -> dict[str, float]:
    """Seconds of each part, forward and backward: the fastest of at least two runs, and of `seconds` in all of them."""
    chosen, device = parts(stage, lq, gt), stage.world.device
    found = {}
    for name, part in chosen.items():
        times: list[float] = []
        while len(times) < 3 or sum(times) < seconds / len(chosen):
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
