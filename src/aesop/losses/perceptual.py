"""Perceptual and style loss on VGG features before the ReLUs (Johnson et al., ECCV 2016; ESRGAN, section 3.3)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.frozen import in_bf16
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.losses.loss_term import LossOptions
from aesop.system.distributed import World
from aesop.system.option_types import Weight
from aesop.weights.pretrained import find_pretrained

PUBLISHED_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


def l1(a: Tensor, b: Tensor) -> Tensor:
    """As `F.l1_loss`, bit for bit, but the gradient keeps channels_last: that of a mean fills a plain tensor first."""
    return (a - b).abs().sum() / a.numel()


DISTANCES = {"l1": l1, "l2": F.mse_loss, "fro": lambda a, b: torch.linalg.vector_norm(a - b)}


class PerceptualOptions(LossOptions):
    log_name: ClassVar[str] = "percep"
    sharpened_by: ClassVar[str | None] = "percep_gt_usm"

    type: Literal["PerceptualLoss"] = "PerceptualLoss"
    """The loss's published name."""
    layer_weights: dict[str, Weight] = PUBLISHED_LAYERS
    """VGG layer (before its ReLU) -> weight."""
    vgg_type: Literal["vgg19", "vgg16"] = "vgg19"
    """Whose features are compared."""
    vgg_path: str | None = None
    """The VGG's weight file; default: torchvision's cache or the folders in AESOP_WEIGHTS."""
    use_input_norm: bool = True
    """Normalise images with ImageNet's mean and standard deviation."""
    range_norm: bool = False
    """The images are in [-1, 1] (here they are in [0, 1])."""
    perceptual_weight: Weight = 1.0
    """Factor of the feature distance in the sum."""
    style_weight: Weight = 0.0
    """Factor of the distance of the features' Gram matrices; 0: without."""
    criterion: Literal["l1", "l2", "fro"] = "l1"
    """Distance of features: absolute, squared, or the Frobenius norm."""

    @property
    def known_weights(self) -> tuple[str, ...]:  # ty: ignore[incompatible-property-override]
        return () if self.vgg_path else (self.vgg_type,)

    def build(self, scale: int, world: World) -> "PerceptualLoss":
        loss = PerceptualLoss(**self.model_dump())
        loss.vgg.load_trunk(find_pretrained(self.vgg_type, self.vgg_path))
        return loss


def gram_matrix(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, C), divided by C*H*W; in the features' own precision, under autocast too."""
    flat = features.flatten(2)
    with torch.autocast(features.device.type, enabled=False):
        return flat @ flat.transpose(1, 2) / features[0].numel()


class PerceptualLoss(nn.Module):
    """PerceptualOptions' distance; sr, hr (N, 3, H, W) in [0, 1] -> scalar. No gradient reaches HR."""

    def __init__(self, layer_weights: Mapping[str, float], **others: Any):
        super().__init__()
        options = self.options = PerceptualOptions(layer_weights=dict(layer_weights), **others)
        self.vgg = VGGFeatureExtractor(list(layer_weights), options.vgg_type, options.use_input_norm, options.range_norm)

    def use_bf16(self) -> None:
        in_bf16(self.vgg)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        with torch.no_grad():
            target = {name: tap.float() for name, tap in self.vgg(hr).items()}
        total, distance = sr.new_zeros((), dtype=torch.float32), DISTANCES[self.options.criterion]
        for name, tap in self.vgg(sr).items():
            tap, weight = tap.float(), self.options.layer_weights[name]
            if self.options.perceptual_weight > 0:
                total = total + self.options.perceptual_weight * weight * distance(tap, target[name])
            if self.options.style_weight > 0:
                total = total + self.options.style_weight * weight * distance(gram_matrix(tap), gram_matrix(target[name]))
        return total
