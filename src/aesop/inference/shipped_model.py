"""The generator that comes with the package, and the faithful one that it was trained from."""

from importlib import resources
from pathlib import Path

SHIPPED_FOR = "small clean photographs, without noise and JPEG blocks"
FAITHFUL: dict[str, str] = {}
"""Of shipped models that have one: file name -> file name of the shipped PSNR network that it was trained from."""


def shipped_model() -> Path:
    """Its weight file. assets/models/README.md describes how it was trained and how good it is."""
    return _folder() / "aesop_compact_x4.safetensors"


def faithful_partner(model: Path) -> Path | None:
    """The shipped PSNR network that a shipped model was trained from; None: the file is another, or has none."""
    if model.parent != _folder() or model.name not in FAITHFUL:
        return None
    return _folder() / FAITHFUL[model.name]


def _folder() -> Path:
    return Path(str(resources.files("aesop"))) / "assets" / "models"
