"""DISTS, the similarity of deep structure and texture, as a loss (Ding et al., 2020). The metric is metrics/dists.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.frozen import frozen, in_bf16
from aesop.archs.vgg import CONVS_PER_STAGE, VGGFeatureExtractor
from aesop.losses.loss_term import LossOptions
from aesop.system.distributed import World
from aesop.system.option_types import Weight
from aesop.weights.pretrained import find_pretrained


class DISTSOptions(LossOptions):
    log_name: ClassVar[str] = "dists"
    known_weights: ClassVar[tuple[str, ...]] = ("vgg16", "dists")

    type: Literal["DISTSLoss"] = "DISTSLoss"
    """The loss's name."""
    loss_weight: Weight = 1.0
    """Factor of this loss in the sum."""

    def build(self, scale: int, world: World) -> "DISTSLoss":
        return DISTSLoss.from_weights()


class DISTSLoss(nn.Module):
    """1 - similarity, averaged over the batch; sr, hr (N, 3, H, W) in [0, 1] -> scalar, 0 for equal images.

    Compares the means (texture) and the correlation (structure) of the channels of the image and of five VGG16 stages,
    weighted by the learnt alpha and beta. VGG16 has L2 pooling instead of max pooling. Images are not resized. No gradient
    reaches hr. Load weights before use.
    """

    WIDTHS = (3, 64, 128, 256, 512, 512)

    def __init__(self):
        super().__init__()
        last_relus = [f"relu{stage}_{count}" for stage, count in enumerate(CONVS_PER_STAGE["vgg16"], 1)]
        self.trunk = VGGFeatureExtractor(last_relus, "vgg16")
        for i, name in enumerate(self.trunk.names):
            if name.startswith("pool"):
                self.trunk.features[i] = L2Pool()
        self.alpha = nn.Parameter(torch.zeros(1, sum(self.WIDTHS), 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, sum(self.WIDTHS), 1, 1))
        frozen(self)

    @classmethod
    def from_weights(cls, trunk: Path | None = None, heads: Path | None = None) -> Self:
        """Load the given files, by default those that `find_pretrained` finds."""
        loss = cls()
        loss.load_weights(find_pretrained("vgg16", trunk), find_pretrained("dists", heads))
        return loss

    def load_weights(self, trunk: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
        """Take torchvision's VGG16 (`features.N.weight`) and the DISTS package's `alpha` and `beta`."""
        self.trunk.load_trunk(trunk)
        for name, own in (("alpha", self.alpha), ("beta", self.beta)):
            if name not in heads or heads[name].shape != own.shape:
                raise ValueError(f"this is no DISTS weight file: {name} {tuple(own.shape)} is missing")
            own.copy_(heads[name])

    def use_bf16(self) -> None:
        in_bf16(self.trunk)

    def similarities(self, sr: Tensor, hr: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Texture and structure similarity of the channels, both (N, C), for the image and for each stage."""
        with torch.no_grad():
            target = [hr.detach(), *self.trunk(hr).values()]
        for a, b in zip([sr, *self.trunk(sr).values()], target, strict=True):
            a, b = (x if x.dtype == torch.float64 else x.float() for x in (a, b))
            mean_a, mean_b = a.mean(dim=(2, 3)), b.mean(dim=(2, 3))
            a, b = a - mean_a[..., None, None], b - mean_b[..., None, None]
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
            variances = a.square().mean(dim=(2, 3)) + b.square().mean(dim=(2, 3))
            yield texture, (2 * (a * b).mean(dim=(2, 3)) + 1e-6) / (variances + 1e-6)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        texture, structure = (torch.cat(parts, 1) for parts in zip(*self.similarities(sr, hr), strict=True))
        similarity = (self.alpha.flatten() * texture + self.beta.flatten() * structure).sum(1)
        return (1 - similarity / (self.alpha.sum() + self.beta.sum())).mean()


class L2Pool(nn.Module):
    """Square root of the Hanning-weighted mean of 3x3 squares: (N, C, H, W) -> half the size (DISTS, section 3.1)."""

    def __init__(self):
        super().__init__()
        window = torch.outer(*[torch.tensor((0.5, 1.0, 0.5))] * 2)
        self.register_buffer("window", (window / window.sum()).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        window = self.get_buffer("window").expand(x.shape[1], -1, -1, -1)
        return torch.sqrt(F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12)
