"""AESOP: perceptual image super-resolution with an auto-encoded loss (Lee et al., CVPR 2025)."""

from aesop.archs import AutoEncoder, RRDBNet
from aesop.losses.aesop import AESOPLoss

__version__ = "0.1.0"
__all__ = ["AESOPLoss", "AutoEncoder", "RRDBNet", "__version__"]
