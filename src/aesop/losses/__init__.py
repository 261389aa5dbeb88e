"""Every loss: distances of images `(sr, hr) -> scalar`. Weights and logging live with the caller (engine.stages)."""

from aesop.losses.aesop import AESOPLoss
from aesop.losses.artifact import ArtifactLoss, artifact_map
from aesop.losses.gan import GANLoss
from aesop.losses.perceptual import PerceptualLoss
from aesop.losses.pixel import PixelLoss

# The published option names of the pixel losses -> our criterion.
PIXEL_CRITERIA = {"L1Loss": "l1", "MSELoss": "l2", "CharbonnierLoss": "charbonnier"}

__all__ = ["PIXEL_CRITERIA", "AESOPLoss", "ArtifactLoss", "GANLoss", "PerceptualLoss", "PixelLoss", "artifact_map"]
