"""LPIPS."""

import torch
from torch import Tensor

from aesop.losses.lpips import LPIPSLoss
from aesop.metrics.luma import as_batch, crop, quantise


class LPIPS(LPIPSLoss):
    """The loss as a metric: (N, 3, H, W) twice -> (N,), of images rounded to 8 bit and summed in float64."""

    @torch.no_grad()
    def forward(self, sr: Tensor, hr: Tensor, crop_border: int = 0) -> Tensor:
        x, y = (crop(quantise(image), crop_border) for image in as_batch(sr, hr))
        distance = torch.zeros(len(x), dtype=torch.float64)
        for layer in self.distances(x, y):
            distance += layer.cpu()
        return distance
