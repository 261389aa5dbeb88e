"""LPIPS, the learned perceptual distance (Zhang et al., 2018), as a loss. The metric is metrics/lpips.py."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from aesop.archs.vgg import VGGFeatureExtractor
from aesop.losses.loss_term import LossOptions
from aesop.system.distributed import World
from aesop.system.option_types import Weight
from aesop.weights.pretrained import find_pretrained

Net = Literal["alex", "vgg"]
LAST_RELUS = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]  # of VGG16's stages


class LPIPSOptions(LossOptions):
    log_name: ClassVar[str] = "lpips"

    type: Literal["LPIPSLoss"] = "LPIPSLoss"
    """The loss's name."""
    loss_weight: Weight = 1.0
    """Factor of this loss in the sum."""
    net: Net = "vgg"
    """Whose features are compared. Choose another one than the metric's (alex), which would judge its own training."""

    @property
    def known_weights(self) -> tuple[str, ...]:  # ty: ignore[incompatible-property-override]
        return ("alexnet" if self.net == "alex" else "vgg16", f"lpips_{self.net}")

    def build(self, scale: int, world: World) -> "LPIPSLoss":
        return LPIPSLoss.from_weights(self.net)


class LPIPSLoss(nn.Module):
    """Version 0.1, averaged over the batch; sr, hr (N, 3, H, W) in [0, 1] -> scalar, 0 for equal images.

    Sums over five layers the squared differences of the features, normalised to length 1 at each pixel, weighted per channel
    by the learned heads and averaged over the pixels. No gradient reaches hr. Load weights before use.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net = "alex"):
        super().__init__()
        self.net = net
        self.trunk = AlexNetFeatures() if net == "alex" else VGGFeatureExtractor(LAST_RELUS, "vgg16", use_input_norm=False)
        widths = (64, 192, 384, 256, 256) if net == "alex" else (64, 128, 256, 512, 512)
        self.heads = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in widths)
        # Mean and standard deviation of ImageNet, on the scale -1..1.
        self.register_buffer("shift", torch.tensor((-0.030, -0.088, -0.188)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor((0.458, 0.448, 0.450)).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def from_weights(cls, net: Net = "alex", trunk: Path | None = None, heads: Path | None = None) -> Self:
        """Load the weights at the given paths, by default those that `find_pretrained` finds."""
        metric, trunk_name = cls(net), "alexnet" if net == "alex" else "vgg16"
        metric.load_weights(find_pretrained(trunk_name, trunk), find_pretrained(f"lpips_{net}", heads))
        return metric

    def load_weights(self, trunk: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
        """Load torchvision's trunk (`features.N.weight`) and the lpips package's heads (`linK.model.1.weight`)."""
        try:
            self.trunk.load_state_dict({name: trunk[name].float() for name in self.trunk.state_dict()})
        except KeyError as missing:
            raise ValueError(f"not a torchvision file of {self.net!r}: {missing} is missing") from None
        for k, head in enumerate(self.heads):
            name = f"lin{k}.model.1.weight"
            if name not in heads or heads[name].shape != head.shape:
                raise ValueError(f"not an LPIPS head file for {self.net!r}: {name} {tuple(head.shape)} is missing")
            head.copy_(heads[name])

    def distances(self, sr: Tensor, hr: Tensor) -> Iterator[Tensor]:
        """The distance at each of the five layers, (N,)."""
        x, y = ((image * 2 - 1 - self.shift) / self.scale for image in (sr, hr.detach()))
        with torch.no_grad():
            target = self.trunk(y)
        for a, b, head in zip(self.trunk(x).values(), target.values(), self.heads, strict=True):
            a, b = (features if features.dtype == torch.float64 else features.float() for features in (a, b))
            # Not the root of a sum: its gradient is NaN where all features are 0.
            a, b = (features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10) for features in (a, b))
            yield (head * (a - b).square()).sum(1).mean(dim=(1, 2))

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return torch.stack([*self.distances(sr, hr)]).sum(0).mean()


class AlexNetFeatures(nn.Module):
    """AlexNet's convolutions (torchvision's layout and names): normalised RGB -> {name: features after each ReLU}."""

    def __init__(self):
        super().__init__()
        convs = [(3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
        conv1, conv2, *others = ((nn.Conv2d(*arguments), nn.ReLU()) for arguments in convs)
        self.features = nn.Sequential(*conv1, nn.MaxPool2d(3, 2), *conv2, nn.MaxPool2d(3, 2), *itertools.chain(*others))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        taps = {}
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                taps[f"relu{len(taps) + 1}"] = x
        return taps
