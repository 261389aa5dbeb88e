"""What goes wrong in a long training: steps of NaN, memory that runs out."""

import json
import logging
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from aesop.config import Config
from aesop.device import is_out_of_memory, memory_of
from aesop.engine.checkpoint import Progress
from aesop.engine.distributed import AGREE_EVERY, World, gathered
from aesop.engine.stages import Diverged, Stage

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


def append_line(file: Path, content: dict) -> None:
    """Add a line of JSON; what a full disk cuts off is taken back."""
    size = file.stat().st_size if file.exists() else 0
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(content) + "\n")
    except OSError:
        if file.exists():
            with file.open("rb+") as lines:
                lines.truncate(size)
        raise


@contextmanager
def memory_explained(config: Config, stage: Stage) -> Generator[None]:
    """A training step that runs out of memory names the options that need less.

    Raises:
        MemoryError: in place of PyTorch's own error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        device = stage.world.device
        assert config.train is not None
        assert config.datasets.train is not None
        fixed = sum(t.nbytes for net in stage.networks.values() for t in net.state_dict().values())
        # A gradient and Adam's two moments for each weight of the networks that are trained.
        fixed += 3 * sum(p.nbytes for name, net in stage.networks.items() if name != "net_g_ema" for p in net.parameters())
        images, side = config.datasets.train.batch_size_per_gpu // config.train.accumulate, config.datasets.train.gt_size
        total = memory_of(device)
        share = ""
        if total and total > fixed:
            share = f"; the images need more than {readable((total - fixed) / images)} each"
        size = f" ({readable(total)})" if total else ""
        raise MemoryError(
            f"out of memory on {device}{size} in a step of {images} images of {side} px. Networks, gradients and optimisers "
            f"take {readable(fixed)}{share}. Less is needed with {less_memory(config)}. `aesop doctor CONFIG` measures it"
        ) from error


def less_memory(config: Config) -> str:
    """The settings that reduce memory, those that change nothing else first."""
    assert config.train is not None
    assert config.datasets.train is not None
    batch, parts = config.datasets.train.batch_size_per_gpu, config.train.accumulate
    finer = next((n for n in range(parts + 1, batch + 1) if batch % n == 0), None)
    ways = ["cuda_graphs=false"] if config.cuda_graphs else []
    ways += [f"train.accumulate={finer}"] if finer else []
    if getattr(config.network_g, "use_checkpoint", None) is False:
        ways.append("network_g.use_checkpoint=true")
    if config.precision == "fp32" and config.device != "cpu" and torch.cuda.is_available():
        ways.append("precision=bf16")
    ways += [f"datasets.train.batch_size_per_gpu={batch // 2}"] if batch > 1 else []
    return ", ".join([*ways, "or a smaller datasets.train.gt_size"])


def readable(number: float) -> str:
    """Bytes in words."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
