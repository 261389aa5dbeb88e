"""The generator that comes with the package, and its faithful partner."""

from importlib import resources
from pathlib import Path

SHIPPED_FOR = {
    "aesop_compact_x4.safetensors": "small clean photographs, without noise and JPEG blocks",
    "aesop_compact_x4_psnr.safetensors": "the same photographs, without added texture: its faithful partner",
}
"""What the shipped models are for, by their file names."""
FAITHFUL = {"aesop_compact_x4.safetensors": "aesop_compact_x4_psnr.safetensors"}
"""Of shipped models: file name -> file name of the PSNR network of one descent, for `--texture`."""


def shipped_model() -> Path:
    """Its weight file. assets/models/README.md describes how it was trained and how good it is."""
    return _folder() / "aesop_compact_x4.safetensors"


def purpose_of(model: Path) -> str | None:
    """What a shipped model is for; None: it is no shipped model."""
    return SHIPPED_FOR.get(model.name) if model.parent == _folder() else None


def faithful_partner(model: Path) -> Path | None:
    """The shipped PSNR network of one descent with a shipped model; None: the file is another, or has none."""
    if model.parent != _folder() or model.name not in FAITHFUL:
        return None
    return _folder() / FAITHFUL[model.name]


def _folder() -> Path:
    return Path(str(resources.files("aesop"))) / "assets" / "models"
