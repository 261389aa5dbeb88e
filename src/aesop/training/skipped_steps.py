"""What goes wrong in a long training: steps of NaN, memory that runs out."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from aesop.system.distributed import AGREE_EVERY, World, gathered
from aesop.system.files import append_line
from aesop.training.checkpoint import Progress
from aesop.training.stages import Diverged

log = logging.getLogger("aesop")


class Watch:
    """Counts the steps that were skipped for NaN or infinite losses or gradients, and says which and on what images.

    The device is asked every AGREE_EVERY iterations, so that it need not be waited for in each. Every skipped step is a line
    of faults.jsonl: its iteration, the losses that were not finite, the images.

    Args:
        images: iteration -> the names of this process's images in it.
        limit: so many skipped steps in a row raise Diverged.
    """

    def __init__(self, world: World, progress: Progress, images: Callable[[int], list[str]], limit: int, folder: Path):
        self.world, self.progress, self.images, self.limit, self.folder = world, progress, images, limit, folder
        self.pending: list[tuple[int, Tensor, dict[str, Tensor]]] = []

    def add(self, iteration: int, skipped: Tensor, scalars: dict[str, Tensor]) -> None:
        self.pending.append((iteration, skipped, scalars))
        if iteration % AGREE_EVERY == 0:
            self.look()

    def look(self) -> None:
        """Ask the device about the steps since the last look. All processes get the same answer."""
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        flags = torch.stack([skipped for _, skipped, _ in pending]).tolist()
        for (iteration, _, scalars), flag in zip(pending, flags, strict=True):
            self.progress.in_a_row = self.progress.in_a_row + 1 if flag else 0
            if flag:
                self.progress.skipped += 1
                text = self._report(iteration, scalars)
                if self.progress.in_a_row >= self.limit:
                    raise Diverged(f"{self.limit} steps in a row were skipped, the last because {text}")

    def _report(self, iteration: int, scalars: dict[str, Tensor]) -> str:
        wrong = [name for name, value in scalars.items() if not math.isfinite(value.item())]
        found = gathered(self.world, [(wrong, self.images(iteration))])
        losses = sorted({name for names, _ in found for name in names})
        # The gradients of all are spoilt by one process: the images that matter are those of processes with a wrong loss.
        images = [name for names, seen in found for name in seen if names or not losses]
        text = f"{', '.join(losses) or 'a gradient'} is NaN or infinite at iteration {iteration}, with {', '.join(images)}"
        if self.world.is_main:
            log.warning("%s: the step is skipped (%d so far)", text, self.progress.skipped)
            report(self.folder, {"iter": iteration, "skipped": losses or ["gradient"], "images": images})
        return text


def report(folder: Path, fault: dict) -> None:
    """Add a line to faults.jsonl."""
    try:
        append_line(folder / "faults.jsonl", fault)
    except OSError as error:  # it was logged as well
        log.error("faults.jsonl could not be written: %s", error)
