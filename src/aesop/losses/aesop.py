"""AESOP: the pixel distance measured after a frozen auto-encoder (Lee et al., CVPR 2025, the definition of L_AESOP)."""

from os import PathLike
from typing import Self

import torch
from torch import Tensor, nn

from aesop.losses.pixel import PixelLoss, weighted_reduce
from aesop.weights import load_autoencoder


class AESOPLoss(nn.Module):
    """`mean |AE(SR) - AE(HR)|` with AE frozen. No gradient reaches HR or the AE's weights.

    Use it in place of the pixel loss of any GAN-based recipe; multiply by your weight (published: 1.0).

    Args:
        autoencoder: maps images (N, 3, H, W) in [0, 1] to images of the same shape. It is frozen here.
        criterion: `l1` (published) or `l2`.
        reduction: `mean` or `sum`.
        as_loss_map: use |AE(SR) - AE(HR)| as the weight of the pixel loss between SR and HR instead.
        range_guard: what the AE, which has only seen [0, 1], gets from an SR that leaves that range.
            `none`: the raw SR (published). `clamp`: the clamped SR, and the part cut off is charged by its own plain
            distance, so that such pixels are still pulled back. `normalize`: SR and HR are mapped by the same affine map,
            per image, into [0, 1], and the distance is mapped back.

    Shapes: `loss(sr, hr) -> scalar` for sr, hr (N, 3, H, W), H and W multiples of the AE's scale.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        criterion: str = "l1",
        reduction: str = "mean",
        as_loss_map: bool = False,
        range_guard: str = "none",
    ):
        super().__init__()
        if criterion not in ("l1", "l2"):
            raise ValueError(f"AESOPLoss: criterion must be l1 or l2, found {criterion!r}")
        if range_guard not in ("none", "clamp", "normalize"):
            raise ValueError(f"AESOPLoss: range_guard must be none, clamp or normalize, found {range_guard!r}")
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.pixel = PixelLoss(criterion, reduction)
        self.as_loss_map = as_loss_map
        self.range_guard = range_guard

    @classmethod
    def from_pretrained(cls, path: str | PathLike, **options) -> Self:
        """The loss around the auto-encoder of a weight file: ours, or a published `.pth`.

        Raises:
            ValueError: when the file cannot be read safely or holds no auto-encoder.
        """
        return cls(load_autoencoder(path), **options)

    def train(self, mode: bool = True) -> Self:
        """The auto-encoder stays in eval mode whatever mode the loss is put into."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def forward(self, sr: Tensor, hr: Tensor, weight: Tensor | None = None) -> Tensor:
        hr = hr.detach()
        excess = offset = 0.0
        span: float | Tensor = 1.0
        ae_sr, ae_hr = sr, hr
        if self.range_guard == "clamp":
            # Not sr.clamp(0, 1): from some PyTorch version on its gradient at exactly 0 and 1 is zero.
            ae_sr = torch.where((sr < 0) | (sr > 1), sr.detach().clamp(0, 1), sr)
            excess = (sr - ae_sr).abs()
        elif self.range_guard == "normalize":
            offset, top = (bound.detach().view(-1, 1, 1, 1) for bound in _bounds(sr))
            span = top - offset
            ae_sr, ae_hr = (sr - offset) / span, (hr - offset) / span
        with torch.no_grad():
            target = self.autoencoder(ae_hr).float()
        estimate = self.autoencoder(ae_sr).float()
        if self.as_loss_map:
            loss_map = (estimate - target).abs() * span + excess
            return self.pixel(sr, hr, loss_map if weight is None else loss_map * weight)
        distance = self.pixel.distance(estimate * span, target * span) + excess
        return weighted_reduce(distance, weight, self.pixel.reduction)


def _bounds(images: Tensor) -> tuple[Tensor, Tensor]:
    """Per image, the smallest interval that holds it and [0, 1]."""
    flat = images.flatten(1)
    return flat.amin(1).clamp(max=0), flat.amax(1).clamp(min=1)
