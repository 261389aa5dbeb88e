"""The generator that comes with the package."""

from importlib import resources
from pathlib import Path

SHIPPED_FOR = "small clean photographs, without noise and JPEG blocks"


def shipped_model() -> Path:
    """Its weight file. assets/models/README.md describes how it was trained and how good it is."""
    return Path(str(resources.files("aesop"))) / "assets" / "models" / "aesop_compact_x4.safetensors"
