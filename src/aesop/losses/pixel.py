"""Pixel losses, and the weighted mean that the published code uses for all of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def weighted_reduce(loss: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Reduce a loss map (N, C, H, W); `weight` (N, 1 or C, H, W) multiplies it first.

    A weighted mean divides by the sum of the weights (BasicSR), not by the number of elements.
    """
    if weight is None:
        return loss.mean() if reduction == "mean" else loss.sum()
    weighted = (loss * weight).sum()
    return weighted / weight.expand_as(loss).sum() if reduction == "mean" else weighted


class PixelLoss(nn.Module):
    """L1, MSE or Charbonnier distance of two images (N, C, H, W).

    Args:
        criterion: `l1`, `l2` (mean squared error) or `charbonnier` (sqrt(d**2 + eps), as in LapSRN).
        reduction: `mean` or `sum`.
    """

    def __init__(self, criterion: str = "l1", reduction: str = "mean", eps: float = 1e-12):
        super().__init__()
        if criterion not in ("l1", "l2", "charbonnier"):
            raise ValueError(f"criterion must be l1, l2 or charbonnier, found {criterion!r}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be mean or sum, found {reduction!r}")
        self.criterion, self.reduction, self.eps = criterion, reduction, eps

    def distance(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The loss before reduction, same shape as the images."""
        if self.criterion == "l1":
            return (sr - hr).abs()
        if self.criterion == "l2":
            return F.mse_loss(sr, hr, reduction="none")
        return torch.sqrt((sr - hr) ** 2 + self.eps)

    def forward(self, sr: Tensor, hr: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted_reduce(self.distance(sr, hr), weight, self.reduction)


class LRLoss(PixelLoss):
    """The distance of two images (N, C, H, W) after bicubic interpolation to 1/scale (published `LRL1Loss`: l1, scale 4).

    Without antialiasing (a = -3/4), as published; sides are rounded down.

    Args:
        scale: how much smaller the images are made.
        criterion, reduction: as in PixelLoss. A weight has the size of the smaller images.
    """

    def __init__(self, scale: int = 4, criterion: str = "l1", reduction: str = "mean"):
        super().__init__(criterion, reduction)
        self.scale = scale

    def distance(self, sr: Tensor, hr: Tensor) -> Tensor:
        small = (F.interpolate(x, scale_factor=1 / self.scale, mode="bicubic", align_corners=False) for x in (sr, hr))
        return super().distance(*small)


class WeightedTVLoss(nn.Module):
    """Total variation: the distances of vertical and of horizontal neighbours in one image (N, C, H, W) (BasicSR).

    A pair of neighbours is weighted by the `weight` (N, 1 or C, H, W) at its upper or left pixel. `reduction`: mean or sum.
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.pixel = PixelLoss("l1", reduction)

    def forward(self, sr: Tensor, weight: Tensor) -> Tensor:
        vertical = self.pixel(sr[..., :-1, :], sr[..., 1:, :], weight[..., :-1, :])
        horizontal = self.pixel(sr[..., :-1], sr[..., 1:], weight[..., :-1])
        return vertical + horizontal
