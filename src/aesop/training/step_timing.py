"""The time of each part of a training step, alone: the generator, every loss, the discriminator, the updates."""

import time
from collections.abc import Callable

from torch import Tensor

from aesop.system.device import synchronise
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.ema import update_ema
from aesop.training.stage import Mean, Stage, StepImages


def parts_of_step(stage: Stage, lq: Tensor, gt: Tensor) -> dict[str, Callable[[], Tensor | None]]:
    """The parts of a step on LR (N, 3, h, w) and HR (N, 3, H, W) images in [0, 1] on the device.

    Each returns the scalar to go backward from, if there is one. A loss includes the networks that it alone needs: the
    averaged generator, the discriminator.
    """
    batch = {"lq": lq, "gt": gt, "gt_usm": gt}
    images = StepImages(batch, stage.make_image)
    _ = images["sr"]
    made = {name: image.detach().requires_grad_(name not in batch) for name, image in images.items()}
    parts: dict[str, Callable[[], Tensor | None]] = {"net_g": lambda: StepImages(batch, stage.make_image)["sr"].mean()}
    for term in stage.terms.values():
        parts[term.name] = lambda term=term: stage.weighted_loss(term, StepImages(made, stage.make_image))
    if isinstance(stage, AdversarialStage):
        stage.net_d.requires_grad_(False)  # as in the generator's part of a step

        def discriminator() -> Tensor:
            stage.net_d.requires_grad_(True)
            return stage.discriminator_loss(made["sr"].detach(), gt, Mean(1))

        parts["net_d"] = discriminator

    def update() -> None:
        for optimizer in stage.optimizers.values():
            optimizer.step()
        if stage.net_g_ema is not None:
            update_ema(stage.net_g_ema, stage.net_g, decay=0.999)

    return parts | {"optimizers, EMA": update}


def time_parts(stage: Stage, lq: Tensor, gt: Tensor, seconds: float) -> dict[str, float]:
    """Seconds of each part, forward and backward: the fastest of the runs after the first, within about `seconds` in all."""
    parts, found = parts_of_step(stage, lq, gt), {}
    for name, part in parts.items():
        times: list[float] = []
        while len(times) < 2 or sum(times) < seconds / len(parts):
            synchronise(stage.world.device)
            begun = time.perf_counter()
            if (scalar := part()) is not None:
                scalar.backward()
            synchronise(stage.world.device)
            times.append(time.perf_counter() - begun)
        found[name] = min(times[1:])
    return found
