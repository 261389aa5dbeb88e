"""A step whose losses or gradients are NaN or infinite is skipped, counted and reported."""

import logging
import math

import torch
from torch import Tensor

from aesop.data.loader import sample_numbers
from aesop.data.training_crops import HRCrops, TrainingCrops
from aesop.options.config import TrainConfig
from aesop.system.distributed import AGREE_EVERY, World, gathered
from aesop.system.files import append_line
from aesop.training.full_disk import write_or_log
from aesop.training.progress import Progress

log = logging.getLogger("aesop")


class Diverged(FloatingPointError):
    """Too many consecutive steps were skipped, or weights are NaN or infinite."""


def step_unless_broken(
    optimizer: torch.optim.Optimizer, gradients: list[Tensor], clip_norm: float | None = None
) -> tuple[Tensor, Tensor]:
    """Make the optimizer's step only if all gradients are finite, scaled down to `clip_norm` if their norm is larger.

    Returns 1 where the step was skipped, else 0, and the norm before clipping, both on the device.
    """
    norm = torch.nn.utils.get_total_norm(gradients)
    broken = torch.isfinite(norm).logical_not().float()
    if clip_norm is not None:
        torch._foreach_mul_(gradients, (clip_norm / (norm + 1e-6)).clamp(max=1))
    # `torch.amp.GradScaler` skips steps in the same way. Fused optimizers for MPS ignore `found_inf`.
    optimizer.found_inf = broken  # ty: ignore[missing-attribute]
    if broken.device.type != "mps" or not broken.item():
        optimizer.step()
    return broken, norm


class SkippedSteps:
    """Counts skipped steps. Each one becomes a line of faults.jsonl with its iteration, bad losses and images.

    It reads the device only every AGREE_EVERY iterations, so that the other steps need not wait for the device.
    """

    def __init__(self, config: TrainConfig, world: World, progress: Progress, images: TrainingCrops | HRCrops):
        self.config, self.world, self.progress, self.images = config, world, progress, images
        self.pending: list[tuple[int, Tensor, dict[str, Tensor]]] = []

    def add(self, iteration: int, skipped: Tensor, scalars: dict[str, Tensor]) -> None:
        self.pending.append((iteration, skipped, scalars))
        if iteration % AGREE_EVERY == 0:
            self.check()

    def check(self) -> None:
        """Count the skipped steps since the last check, the same in all processes; Diverged if there are too many."""
        pending, self.pending = self.pending, []
        for iteration, skipped, scalars in pending:
            if not skipped:
                self.progress.in_a_row = 0
                continue
            self.progress.in_a_row += 1
            self.progress.skipped += 1
            fault = self._report(iteration, scalars)
            if self.progress.in_a_row >= self.config.train.max_skipped:
                raise Diverged(f"{self.progress.in_a_row} consecutive steps were skipped, the last one because {fault}")

    def _report(self, iteration: int, scalars: dict[str, Tensor]) -> str:
        losses = ((name, value) for name, value in scalars.items() if not name.startswith("norm_"))
        bad = [name for name, value in losses if not math.isfinite(value.item())]
        batch = self.config.datasets.train.batch_size_per_gpu
        (samples,) = sample_numbers(iteration, iteration, batch, self.world.rank, self.world.size)
        loaded = [self.images.pairs[self.images.number_of(sample)].name for sample in samples]
        found = gathered(self.world, [(bad, loaded)])
        losses = sorted({name for names, _ in found for name in names})
        # One process spoils the gradients of all: name the images of the processes with a bad loss.
        images = [name for names, seen in found for name in seen if names or not losses]
        fault = f"{', '.join(losses) or 'a gradient'} is NaN or infinite at iteration {iteration}, with {', '.join(images)}"
        if self.world.is_main:
            log.warning("%s: skipping the step (%d skipped so far)", fault, self.progress.skipped)
            row = {"iter": iteration, "skipped": losses or ["gradient"], "images": images}
            write_or_log("faults.jsonl could not be written", append_line, self.config.run_folder / "faults.jsonl", row)
        return fault
