"""DISTS."""

import torch
from torch import Tensor

from aesop.losses.dists import DISTSLoss
from aesop.metrics.luma import as_batch, crop, quantise


class DISTS(DISTSLoss):
    """The loss as a metric: (N, 3, H, W) twice -> (N,), of images rounded to 8 bit and summed in float64."""

    @torch.no_grad()
    def forward(self, sr: Tensor, hr: Tensor, crop_border: int = 0) -> Tensor:
        x, y = (crop(quantise(image), crop_border) for image in as_batch(sr, hr))
        alpha, beta = (weight.flatten().cpu().double() for weight in (self.alpha, self.beta))
        similarity = torch.zeros(len(x), dtype=torch.float64)
        weights = zip(alpha.split(self.WIDTHS), beta.split(self.WIDTHS), strict=True)
        for (texture, structure), (w_texture, w_structure) in zip(self.similarities(x, y), weights, strict=True):
            similarity += (w_texture * texture.cpu() + w_structure * structure.cpu()).sum(1)
        return 1 - similarity / (alpha.sum() + beta.sum())
