"""Steps that were skipped because a loss or gradient was NaN or infinite."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from aesop.system.distributed import AGREE_EVERY, World, gathered
from aesop.system.files import append_line
from aesop.training.full_disk import write_or_log
from aesop.training.progress import Progress

log = logging.getLogger("aesop")


class Diverged(FloatingPointError):
    """Too many consecutive steps were skipped, or weights are NaN or infinite."""


class SkippedSteps:
    """Counts skipped steps. Each one becomes a line of faults.jsonl with its iteration, bad losses and images.

    It reads the device only every AGREE_EVERY iterations, so that the other steps need not wait for the device.

    Args:
        images: iteration -> the names of the images that this process loads for it.
        limit: number of consecutive skipped steps that raises Diverged.
        folder: of the run.
    """

    def __init__(self, world: World, progress: Progress, images: Callable[[int], list[str]], limit: int, folder: Path):
        self.world, self.progress, self.images, self.limit, self.folder = world, progress, images, limit, folder
        self.pending: list[tuple[int, Tensor, dict[str, Tensor]]] = []

    def add(self, iteration: int, skipped: Tensor, scalars: dict[str, Tensor]) -> None:
        self.pending.append((iteration, skipped, scalars))
        if iteration % AGREE_EVERY == 0:
            self.check()

    def check(self) -> None:
        """Count the skipped steps since the last check. All processes reach the same result.

        Raises:
            Diverged: `limit` consecutive steps were skipped.
        """
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        flags = torch.stack([skipped for _, skipped, _ in pending]).tolist()
        for (iteration, _, scalars), flag in zip(pending, flags, strict=True):
            self.progress.in_a_row = self.progress.in_a_row + 1 if flag else 0
            if flag:
                self.progress.skipped += 1
                fault = self._report(iteration, scalars)
                if self.progress.in_a_row >= self.limit:
                    raise Diverged(f"{self.limit} consecutive steps were skipped, the last one because {fault}")

    def _report(self, iteration: int, scalars: dict[str, Tensor]) -> str:
        bad = [name for name, value in scalars.items() if not math.isfinite(value.item())]
        found = gathered(self.world, [(bad, self.images(iteration))])
        losses = sorted({name for names, _ in found for name in names})
        # One process spoils the gradients of all: name the images of the processes with a bad loss.
        images = [name for names, seen in found for name in seen if names or not losses]
        fault = f"{', '.join(losses) or 'a gradient'} is NaN or infinite at iteration {iteration}, with {', '.join(images)}"
        if self.world.is_main:
            log.warning("%s: skipping the step (%d skipped so far)", fault, self.progress.skipped)
            report_fault(self.folder, {"iter": iteration, "skipped": losses or ["gradient"], "images": images})
        return fault


def report_fault(folder: Path, fault: dict) -> None:
    """Add a line to faults.jsonl."""
    write_or_log("faults.jsonl could not be written", append_line, folder / "faults.jsonl", fault)
