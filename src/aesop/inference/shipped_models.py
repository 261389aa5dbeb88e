"""The generators that come with the package, and their faithful partners.

It imports no PyTorch, so that the shell can ask for names.
"""

from importlib import resources
from pathlib import Path

CLEAN, WEB, X2 = "clean", "web", "x2"
MODELS = {CLEAN: "aesop_compact_x4", WEB: "aesop_web_x4", X2: "aesop_compact_x2"}
"""Short name -> file name without extension."""
SHIPPED_FOR = {
    "aesop_compact_x2": "clean photographs, without noise and JPEG blocks, enlarged by 2 or less",
    "aesop_compact_x2_psnr": "the same photographs, without added texture: its faithful partner",
    "aesop_compact_x4": "clean photographs, without noise and JPEG blocks",
    "aesop_compact_x4_psnr": "the same photographs, without added texture: its faithful partner",
    "aesop_web_x4": "compressed photographs, such as JPEG files from the web",
    "aesop_web_x4_psnr": "the same photographs, without added texture: its faithful partner",
}
"""What the shipped models are for."""
FAITHFUL = {model: f"{model}_psnr" for model in MODELS.values()}
"""Of shipped models: the PSNR network of one descent, for `--texture`."""


def shipped_model(name: str = CLEAN) -> Path:
    """The weight file by its short name. assets/models/README.md describes how it was trained and how good it is."""
    return _folder() / f"{MODELS[name]}.safetensors"


def clean_model(scale: float) -> str:
    """The short name of the model for clean pictures that become `scale` times as large."""
    return X2 if scale <= 2 else CLEAN


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
