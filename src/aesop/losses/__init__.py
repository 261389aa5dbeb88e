"""Every loss: distances of images `(sr, hr) -> scalar`. Weights and logging live with the caller (engine.stages)."""

from aesop.losses.aesop import AESOPLoss, BottleneckLoss, FrozenAutoEncoderLoss, LaplaceKLLoss, laplace_kl
from aesop.losses.artifact import ArtifactLoss, artifact_map
from aesop.losses.gan import GANLoss
from aesop.losses.perceptual import PerceptualLoss
from aesop.losses.pixel import LRLoss, PixelLoss, WeightedTVLoss

# The published option names of the pixel losses -> our criterion.
PIXEL_CRITERIA = {"L1Loss": "l1", "MSELoss": "l2", "CharbonnierLoss": "charbonnier"}
__all__ = [
    "PIXEL_CRITERIA",
    "AESOPLoss",
    "ArtifactLoss",
    "BottleneckLoss",
    "FrozenAutoEncoderLoss",
    "GANLoss",
    "LRLoss",
    "LaplaceKLLoss",
    "PerceptualLoss",
    "PixelLoss",
    "WeightedTVLoss",
    "artifact_map",
    "laplace_kl",
]
