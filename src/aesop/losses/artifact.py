"""The artifact loss of LDL (Liang et al., CVPR 2022, section 3)."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.losses.loss_term import DistanceOptions
from aesop.system.distributed import World


class ArtifactsOptions(DistanceOptions):
    log_name: ClassVar[str] = "artifacts"
    stages: ClassVar[tuple[str, ...]] = ("adversarial",)
    inputs: ClassVar[tuple[str, ...]] = ("sr", "gt", "sr_ema")

    type: Literal["L1Loss"] = "L1Loss"
    """The distance of the weighted images."""

    def build(self, scale: int, world: World) -> Callable[..., Tensor]:
        return partial(artifact_loss, reduction=self.reduction)


def local_variance(x: Tensor, ksize: int = 7) -> Tensor:
    """Unbiased variance in a ksize x ksize window around each pixel, with reflect padding. (N, 1, H, W) -> the same shape.

    Two box filters replace ksize**2 copies. Subtracting the image's mean first keeps float32's precision.
    """
    x = x - x.mean((1, 2, 3), keepdim=True).detach()
    padded = F.pad(x, (ksize // 2,) * 4, mode="reflect")
    mean = F.avg_pool2d(padded, ksize, 1)
    mean_of_squares = F.avg_pool2d(padded * padded, ksize, 1)
    return (mean_of_squares - mean * mean) * (ksize**2 / (ksize**2 - 1))


def artifact_map(hr: Tensor, sr: Tensor, sr_ema: Tensor, ksize: int = 7) -> Tensor:
    """Where the generator's output is more likely an artifact than texture. Images (N, 3, H, W) -> map (N, 1, H, W).

    The map is zero where the output is closer to HR than the EMA generator's output `sr_ema`. It is not detached: in the
    published loss the gradient flows through the map as well.
    """
    residual = (hr - sr).abs().sum(1, keepdim=True)
    residual_ema = (hr - sr_ema).abs().sum(1, keepdim=True)
    # The floor, far below any real variance, keeps the root's gradient finite where SR equals HR.
    patch_weight = residual.var((1, 2, 3), keepdim=True).clamp_min(1e-12) ** (1 / 5)
    weight = patch_weight * local_variance(residual, ksize)
    return torch.where(residual < residual_ema, torch.zeros_like(weight), weight)


def artifact_loss(sr: Tensor, hr: Tensor, sr_ema: Tensor, ksize: int = 7, reduction: str = "mean") -> Tensor:
    """`L1(w * SR, w * HR)` with w the artifact map; sr, hr, sr_ema (N, 3, H, W) in [0, 1] -> scalar."""
    weight = artifact_map(hr, sr, sr_ema, ksize)
    return F.l1_loss(weight * sr, weight * hr, reduction=reduction)
