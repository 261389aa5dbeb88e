"""Where the models lie that have names. It imports no PyTorch, so that the shell can ask for names."""

import os
import sys
from pathlib import Path

from aesop.inference.shipped_models import shipped_model

EXTENSIONS = (".safetensors", ".pth", ".pt", ".ckpt")


def model_folders() -> list[Path]:
    """Those of AESOP_MODELS, the user's, and that of the package, as far as they exist; the first ones come first."""
    return [folder for folder in dict.fromkeys((*named_folders(), user_folder(), shipped_model().parent)) if folder.is_dir()]


def named_folders() -> list[Path]:
    """What AESOP_MODELS names, whether it exists or not."""
    return [Path(folder).expanduser() for folder in os.environ.get("AESOP_MODELS", "").split(os.pathsep) if folder]


def user_folder() -> Path:
    """Where a user's own models are, by the custom of the system."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "aesop" / "models"


def content(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def is_weight_file(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS and file.is_file()
