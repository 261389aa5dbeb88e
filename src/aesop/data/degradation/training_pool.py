"""The pool that mixes pairs of several batches."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor


class TrainingPool:
    """Pairs of former batches, so that a batch mixes several degradations (Real-ESRGAN, section 4.1: training pair pool).

    Until `queue_size` pairs are there, batches are stored and passed through. Then every batch is exchanged for as many
    pairs from random places, which is the published shuffling without moving the rest. Images are kept as uint8 on their
    device: LR images are 8-bit values, and so must HR images be (sharpen after the pool, as published).

    Raises:
        ValueError: a queue_size that is no positive multiple of the batch.
    """

    def __init__(self, queue_size: int, batch_size_per_gpu: int):
        if queue_size < batch_size_per_gpu or queue_size % batch_size_per_gpu:
            nearest = max(1, round(queue_size / batch_size_per_gpu)) * batch_size_per_gpu
            raise ValueError(
                f"queue_size {queue_size} must be a positive multiple of batch_size_per_gpu {batch_size_per_gpu}, "
                f"such as {nearest}"
            )
        self.queue_size, self.batch_size = queue_size, batch_size_per_gpu
        self._images: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Pairs held."""
        return len(self._images["lq"]) if self._images else 0

    def exchange(self, lq: Tensor, gt: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Put a batch in and take one out: (N, 3, h, w) and (N, 3, H, W) in [0, 1] -> the same shapes."""
        assert len(lq) == len(gt) == self.batch_size, "the pool takes whole batches"
        new = {name: (images * 255).round().to(torch.uint8) for name, images in (("lq", lq), ("gt", gt))}
        if len(self) < self.queue_size:
            held = self._images or {name: images[:0] for name, images in new.items()}
            self._images = {name: torch.cat([held[name], images]) for name, images in new.items()}
            return lq, gt
        places = torch.randperm(self.queue_size, generator=generator)[: len(lq)].to(lq.device)
        taken = {name: images[places].to(lq.dtype).div_(255) for name, images in self._images.items()}
        for name, images in new.items():
            self._images[name][places] = images
        return taken["lq"], taken["gt"]

    def state_dict(self) -> dict[str, Tensor]:
        """The pairs held, uint8: {lq, gt}, (len, 3, h, w) and (len, 3, H, W); nothing while the pool is empty."""
        return {name: images.clone() for name, images in self._images.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Continue with the pairs of `state_dict`, on the device of the training.

        Raises:
            ValueError: more pairs than queue_size, or no multiple of the batch.
        """
        held = len(state["lq"]) if state else 0
        if held > self.queue_size or held % self.batch_size:
            raise ValueError(
                f"the saved pool holds {held} pairs, which do not fit queue_size {self.queue_size} and batch_size_per_gpu "
                f"{self.batch_size}: resume with the options it was saved with"
            )
        self._images = {name: images.to(device, copy=True) for name, images in state.items()}
