"""The pool that mixes the degraded pairs of several batches (Real-ESRGAN, section 4.1)."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor


class TrainingPool:
    """Holds `queue_size` earlier pairs, so that a batch mixes the degradations of several batches.

    Until the pool is full, batches are stored and returned unchanged. Then each batch is exchanged for pairs at random
    places, which is Real-ESRGAN's shuffling without moving the rest. Pairs are kept as uint8 on their device. LR images are
    8-bit values, and HR images must be too: sharpen them after the pool, as Real-ESRGAN does.
    """

    def __init__(self, queue_size: int, batch_size_per_gpu: int):
        assert queue_size > 0 == queue_size % batch_size_per_gpu
        self.queue_size, self.batch_size = queue_size, batch_size_per_gpu
        self.images: dict[str, Tensor] = {}
        """The pairs, uint8: {lq, gt}, (len, 3, h, w) and (len, 3, H, W), or {} if the pool is empty."""

    def __len__(self) -> int:
        return len(self.images["lq"]) if self.images else 0

    def draw_places(self, generator: Generator) -> Tensor:
        """Draw (N,) places for `exchange`, which looks at them once the pool is full."""
        return torch.randperm(self.queue_size, generator=generator)[: self.batch_size]

    def exchange(self, lq: Tensor, gt: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Store a batch, (N, 3, h, w) and (N, 3, H, W) in [0, 1], and return one of the same shapes."""
        assert len(lq) == len(gt) == self.batch_size, "the pool takes whole batches"
        new = {name: (images * 255).round().to(torch.uint8) for name, images in (("lq", lq), ("gt", gt))}
        if len(self) < self.queue_size:
            held = self.images or {name: images[:0] for name, images in new.items()}
            self.images = {name: torch.cat([held[name], images]) for name, images in new.items()}
            return lq, gt
        places = places.long()
        taken = {name: images[places].to(lq.dtype).div_(255) for name, images in self.images.items()}
        for name, images in new.items():
            self.images[name][places] = images
        return taken["lq"], taken["gt"]

    def load(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Continue with the saved `images`."""
        held = len(state["lq"]) if state else 0
        if held > self.queue_size or held % self.batch_size:
            fit = f"queue_size {self.queue_size} and batch_size_per_gpu {self.batch_size}"
            raise ValueError(f"the saved pool holds {held} pairs, which do not fit {fit}")
        self.images = {name: images.to(device, copy=True) for name, images in state.items()}
