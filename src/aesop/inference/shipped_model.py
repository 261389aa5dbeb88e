"""The generator that comes with the package."""

from importlib import resources
from pathlib import Path


def shipped_model() -> Path:
    """The generator that comes with the package; assets/models/README.md says what it is and how good."""
    return Path(str(resources.files("aesop"))) / "assets" / "models" / "aesop_compact_x4.safetensors"
