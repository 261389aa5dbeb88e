"""`aesop models`: the models that `aesop upscale -m` knows by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from aesop.inference.model_folders import user_folder
from aesop.inference.models import known_models, left_out_models
from aesop.inference.shipped_models import purpose_of, short_name
from aesop.weights.load import load_generator


@dataclass(frozen=True)
class Listed:
    """A model that has a name, or why it cannot be used."""

    name: str
    file: Path
    shipped: bool
    network: Mapping[str, Any] | None = None
    scale: int | None = None
    parameters: int | None = None
    purpose: str = ""
    fault: str | None = None

    def __str__(self) -> str:
        if self.network is None or self.parameters is None:
            return f"{self.name}: cannot be used: {self.fault}"
        short = f", also called {name}" if (name := short_name(self.file)) else ""
        where = f"comes with aesop{short}" if self.shipped else str(self.file)
        about = f": {self.purpose}" if self.purpose else ""
        size = f"{self.parameters / 1e6:.2f} million parameters"
        return f"{self.name}: x{self.scale}, {self.network['type']}, {size}{about} ({where})"


def describe_models(console: Console) -> dict[str, Any]:
    """Print a line for each model: name, scale, architecture, parameters, what it is for, and where it is; then one for each
    file that is left out. Returns the same."""
    listed, left_out, folder = [*map(_describe, known_models())], left_out_models(), user_folder()
    lines = [*map(str, listed), *(f"left out: {line}" for line in left_out)]
    console.print("\n".join(lines))
    console.print(f"To add a model, put its file into {folder} or a folder that AESOP_MODELS names.")
    return {"models": listed, "left_out": left_out, "folder": folder}


def _describe(file: Path) -> Listed:
    shipped_for = purpose_of(file)
    try:
        net, info = load_generator(file)
    except Exception as error:  # noqa: BLE001 - no file, however damaged, keeps the others from being listed
        return Listed(file.stem, file, bool(shipped_for), fault=str(error) or type(error).__name__)
    count = sum(parameter.numel() for parameter in net.parameters())
    purpose = shipped_for or info.metadata.get("purpose", "")
    return Listed(file.stem, file, bool(shipped_for), info.options, info.scale, count, purpose)
