"""AESOP: perceptual image super-resolution with an auto-encoded loss (Lee et al., CVPR 2025)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["AESOPLoss", "AutoEncoder", "RRDBNet", "Upscaler", "__version__"]

if TYPE_CHECKING:
    from aesop.archs.autoencoder import AutoEncoder
    from aesop.archs.rrdbnet import RRDBNet
    from aesop.inference.upscaler import Upscaler
    from aesop.losses.aesop import AESOPLoss
else:
    # Importing these imports PyTorch, which takes seconds: `aesop --version` and shell completion must not wait for it.
    _DEFINED_IN = {
        "AESOPLoss": "aesop.losses.aesop",
        "AutoEncoder": "aesop.archs.autoencoder",
        "RRDBNet": "aesop.archs.rrdbnet",
        "Upscaler": "aesop.inference.upscaler",
    }

    def __getattr__(name: str) -> Any:
        """Import a public class when it is first used (PEP 562)."""
        if name not in _DEFINED_IN:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_DEFINED_IN[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
