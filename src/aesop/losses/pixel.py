"""Pixel losses, and the weighted mean that the published code uses for all of them."""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aesop.losses.loss_term import DistanceOptions
from aesop.system.distributed import World

# The published option names of the pixel losses -> our criterion.
PIXEL_CRITERIA = {"L1Loss": "l1", "MSELoss": "l2", "CharbonnierLoss": "charbonnier"}


class PixelOptions(DistanceOptions):
    log_name: ClassVar[str] = "pix"
    stages: ClassVar[tuple[str, ...]] = ("psnr", "autoencoder", "adversarial")
    sharpened_by: ClassVar[str | None] = "l1_gt_usm"

    type: Literal["L1Loss", "MSELoss", "CharbonnierLoss", "LRL1Loss"] = "L1Loss"
    """The distance. CharbonnierLoss is L1 smoothed at zero; LRL1Loss is L1 after downscaling both images."""
    scale: Annotated[int, Field(ge=2)] | None = None
    """LRL1Loss: the factor by which the images are downscaled; default: the file's `scale`."""

    def build(self, scale: int, world: World) -> "PixelLoss":
        if self.type == "LRL1Loss":
            return LRLoss(self.scale or scale, "l1", self.reduction)
        return PixelLoss(PIXEL_CRITERIA[self.type], self.reduction)


class PixelAtLROptions(PixelOptions):
    log_name: ClassVar[str] = "pix_at_LR"
    stages: ClassVar[tuple[str, ...]] = ("autoencoder",)
    inputs: ClassVar[tuple[str, ...]] = ("bottleneck", "lq")


class SigmaBranchOptions(PixelOptions):
    log_name: ClassVar[str] = "sigmabranch"
    stages: ClassVar[tuple[str, ...]] = ("autoencoder",)
    inputs: ClassVar[tuple[str, ...]] = ("sigma", "residual")


def weighted_reduce(loss: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Reduce a loss map (N, C, H, W) times `weight` (N, 1 or C, H, W), by whose sum a mean is divided, as BasicSR does."""
    if weight is None:
        return loss.mean() if reduction == "mean" else loss.sum()
    weighted = (loss * weight).sum()
    return weighted / weight.expand_as(loss).sum() if reduction == "mean" else weighted


class PixelLoss(nn.Module):
    """Distance of two images (N, C, H, W): l1, l2 (squared) or charbonnier (sqrt(d**2 + eps), as in LapSRN); mean or sum."""

    def __init__(self, criterion: str = "l1", reduction: str = "mean", eps: float = 1e-12):
        super().__init__()
        if criterion not in ("l1", "l2", "charbonnier"):
            raise ValueError(f"criterion must be l1, l2 or charbonnier, found {criterion!r}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be mean or sum, found {reduction!r}")
        self.criterion, self.reduction, self.eps = criterion, reduction, eps

    def distance(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The loss before reduction, in the images' shape."""
        if self.criterion == "l1":
            return (sr - hr).abs()
        if self.criterion == "l2":
            return F.mse_loss(sr, hr, reduction="none")
        return torch.sqrt((sr - hr) ** 2 + self.eps)

    def forward(self, sr: Tensor, hr: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted_reduce(self.distance(sr, hr), weight, self.reduction)


class LRLoss(PixelLoss):
    """PixelLoss after bicubic downscaling, as published without antialiasing (a = -3/4) and with sides rounded down."""

    def __init__(self, scale: int = 4, criterion: str = "l1", reduction: str = "mean"):
        super().__init__(criterion, reduction)
        self.scale = scale

    def distance(self, sr: Tensor, hr: Tensor) -> Tensor:
        small = (F.interpolate(x, scale_factor=1 / self.scale, mode="bicubic", align_corners=False) for x in (sr, hr))
        return super().distance(*small)


def weighted_tv_loss(sr: Tensor, weight: Tensor, reduction: str = "mean") -> Tensor:
    """Distances of neighbours in an image (N, C, H, W), weighted at the upper or left pixel of each pair (BasicSR)."""
    pixel = PixelLoss("l1", reduction)
    vertical = pixel(sr[..., :-1, :], sr[..., 1:, :], weight[..., :-1, :])
    return vertical + pixel(sr[..., :-1], sr[..., 1:], weight[..., :-1])
