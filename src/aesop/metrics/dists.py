"""DISTS."""

from os import PathLike
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.metrics.lpips import vgg16_taps
from aesop.metrics.luma import as_batch, crop, quantise
from aesop.weights.pretrained import find_pretrained


class DISTS(nn.Module):
    """Deep image structure and texture similarity (Ding et al., 2020): (N, 3, H, W) twice -> (N,), 0 for equal images.

    Compares the means (texture) and the correlation (structure) of the channels of the image and of five VGG16 stages,
    weighted by the learnt alpha and beta. VGG16 has L2 pooling in place of max pooling. Images are not resized.
    Load weights before using it.
    """

    WIDTHS = (3, 64, 128, 256, 512, 512)

    def __init__(self):
        super().__init__()
        self.trunk = vgg16_taps(use_input_norm=True)
        for i, name in enumerate(self.trunk.names):
            if name.startswith("pool"):
                self.trunk.features[i] = L2Pool()
        self.alpha = nn.Parameter(torch.zeros(1, sum(self.WIDTHS), 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, sum(self.WIDTHS), 1, 1))
        self.eval().requires_grad_(False)

    @classmethod
    def from_weights(cls, trunk: str | PathLike | None = None, heads: str | PathLike | None = None) -> Self:
        """With the weights at the given paths, or else those `aesop.weights.find_pretrained` finds."""
        metric = cls()
        metric.load_weights(find_pretrained("vgg16", trunk), find_pretrained("dists", heads))
        return metric

    def load_weights(self, trunk: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
        """Take torchvision's VGG16 (`features.N.weight`) and the DISTS package's `alpha` and `beta`.

        Raises:
            ValueError: when one of them is something else.
        """
        self.trunk.load_trunk(trunk)
        for name, own in (("alpha", self.alpha), ("beta", self.beta)):
            if name not in heads or heads[name].shape != own.shape:
                raise ValueError(f"this is no DISTS weight file: {name} {tuple(own.shape)} is missing")
            own.copy_(heads[name])

    @torch.no_grad()
    def forward(self, sr: Tensor, hr: Tensor, crop_border: int = 0) -> Tensor:
        sr, hr = as_batch(sr, hr)
        x, y = (crop(quantise(image), crop_border) for image in (sr, hr))
        alpha, beta = (weight.flatten().cpu().double() for weight in (self.alpha, self.beta))
        total = alpha.sum() + beta.sum()
        similarity = torch.zeros(len(x), dtype=torch.float64)
        weights = zip(alpha.split(self.WIDTHS), beta.split(self.WIDTHS), strict=True)
        stages = zip([x, *self.trunk(x).values()], [y, *self.trunk(y).values()], weights, strict=True)
        for a, b, (w_texture, w_structure) in stages:
            mean_a, mean_b = a.mean(dim=(2, 3)), b.mean(dim=(2, 3))
            a, b = a - mean_a[..., None, None], b - mean_b[..., None, None]
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
            variances = a.square().mean(dim=(2, 3)) + b.square().mean(dim=(2, 3))
            structure = (2 * (a * b).mean(dim=(2, 3)) + 1e-6) / (variances + 1e-6)
            similarity += (w_texture * texture.cpu() + w_structure * structure.cpu()).sum(1)
        return 1 - similarity / total


class L2Pool(nn.Module):
    """Square root of the Hanning-weighted mean of 3x3 squares: (N, C, H, W) -> half the size (DISTS, section 3.1)."""

    window: Tensor

    def __init__(self):
        super().__init__()
        window = torch.outer(*[torch.tensor((0.5, 1.0, 0.5))] * 2)
        self.register_buffer("window", (window / window.sum()).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        window = self.window.expand(x.shape[1], -1, -1, -1)
        return torch.sqrt(F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12)
