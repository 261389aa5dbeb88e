"""The generators that come with the package, and their faithful partners.

It imports no PyTorch, so that the shell can ask for names.
"""

from importlib import resources
from pathlib import Path

CLEAN, WEB = "clean", "web"
MODELS = {CLEAN: "aesop_compact_x4", WEB: "aesop_web_x4"}
"""Short name -> file name without extension."""
SCALE = 4
SHIPPED_FOR = {
    "aesop_compact_x4": "clean photographs, without noise and JPEG blocks",
    "aesop_compact_x4_psnr": "the same photographs, without added texture: its faithful partner",
    "aesop_web_x4": "compressed photographs, such as JPEG files from the web",
    "aesop_web_x4_psnr": "the same photographs, without added texture: its faithful partner",
}
"""What the shipped models are for."""
FAITHFUL = {"aesop_compact_x4": "aesop_compact_x4_psnr", "aesop_web_x4": "aesop_web_x4_psnr"}
"""Of shipped models: the PSNR network of one descent, for `--texture`."""


def shipped_model(name: str = CLEAN) -> Path:
    """The weight file by its short name. assets/models/README.md describes how it was trained and how good it is."""
    return _folder() / f"{MODELS[name]}.safetensors"


def short_name(model: Path) -> str | None:
    """What a shipped model is also called; None: it is another file."""
    names = {shipped_model(name): name for name in MODELS}
    return names.get(model)


def purpose_of(model: Path) -> str | None:
    """What a shipped model is for; None: it is no shipped model."""
    return SHIPPED_FOR.get(model.stem) if model.parent == _folder() else None


def faithful_partner(model: Path) -> Path | None:
    """The shipped PSNR network of one descent with a shipped model; None: the file is another, or has none."""
    if model.parent != _folder() or model.stem not in FAITHFUL:
        return None
    return _folder() / f"{FAITHFUL[model.stem]}.safetensors"


def _folder() -> Path:
    return Path(str(resources.files("aesop"))) / "assets" / "models"
