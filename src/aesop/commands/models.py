"""`aesop models`: the models that `aesop upscale -m` knows by name."""

from pathlib import Path

from aesop.inference.model_folders import user_folder
from aesop.inference.models import known_models, left_out_models
from aesop.inference.shipped_model import purpose_of
from aesop.weights.load import load_generator


def describe_models() -> list[str]:
    """A line for each model: name, scale, architecture, parameters, what it is for, and where it is; then one for each file
    that is left out.
    """
    lines = [*map(_describe, known_models()), *(f"left out: {line}" for line in left_out_models())]
    return [*lines, f"To add a model, put its file into {user_folder()} or a folder that AESOP_MODELS names."]


def _describe(file: Path) -> str:
    try:
        net, info = load_generator(file)
    except Exception as error:  # noqa: BLE001 - no file, however damaged, keeps the others from being listed
        return f"{file.stem}: cannot be used: {str(error) or type(error).__name__}"
    count = sum(parameter.numel() for parameter in net.parameters())
    shipped_for = purpose_of(file)
    purpose = shipped_for or info.metadata.get("purpose", "")
    where = "comes with aesop" if shipped_for else str(file)
    about = f": {purpose}" if purpose else ""
    return f"{file.stem}: x{info.scale}, {info.arch}, {count / 1e6:.2f} million parameters{about} ({where})"
