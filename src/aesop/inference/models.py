"""Finding models by file or by name."""

import difflib
import os
from pathlib import Path

from aesop.inference.hub import HUB_PREFIX, download, is_repository
from aesop.inference.model_folders import EXTENSIONS, content, is_weight_file, model_folders, named_folders, user_folder
from aesop.inference.shipped_models import MODELS, faithful_partner, shipped_model
from aesop.weights.errors import WeightsError
from aesop.weights.read import foreign_format

_NO_MODELS = ("", ".md", ".txt", ".json", ".yml", ".yaml", ".html")
"""Extensions of what lies next to models."""


def find_model(model: str | os.PathLike | None) -> Path:
    """Return the weight file that `model` names: a path, the name, with or without extension, of a known model, or
    `hf:owner/name` or `hf:owner/name/file`, which is downloaded from the Hugging Face hub.

    Known are the weight files in the folders of AESOP_MODELS, in the user's data folder, and in the package, whose
    models are also called `clean`, which None means, `web`, and `x2`. WeightsError names similar ones.
    """
    if model is None:
        return shipped_model()
    name = os.fspath(model)
    if name.startswith(HUB_PREFIX):
        return download(name, EXTENSIONS)
    path = Path(model).expanduser()
    if path.exists() and not (name in MODELS and path.is_dir()):
        return path
    known = known_models()
    found = [file for file in known if name in (file.name, file.stem)]
    if found:
        return found[0]
    if name in MODELS:
        return shipped_model(name)
    names = {name.casefold(): name for name in (*(file.stem for file in known), *MODELS)}
    stem = path.stem.casefold()
    near = difflib.get_close_matches(stem, names, 3, 0.5)
    near += [key for key in names if key not in (*near, *MODELS) and (key in stem or stem in key)]
    hint = f"; did you mean {' or '.join(names[key] for key in near)}?" if near else ""
    others = f" Known models: {', '.join(sorted(names.values()))}." if names and not near else ""
    may_be_on_hub = is_repository(name) and path.suffix not in EXTENSIONS
    from_hub = f"; {HUB_PREFIX}{name} downloads it, if it is a model of the Hugging Face hub" if may_be_on_hub else ""
    raise WeightsError(
        f"weight file {name} does not exist, and no known model has this name{hint}{'' if hint else '.'}{others} "
        f"Give the path of a weight file (.safetensors, .pth), or put it into {user_folder()} or a folder that AESOP_MODELS "
        f"names{from_hub}"
    )


def find_faithful(faithful: str | os.PathLike | None, model: Path) -> Path:
    """Return the weight file of a model's faithful network: the named one (see `find_model`), or that of a shipped model."""
    found = faithful_partner(model) if faithful is None else find_model(faithful)
    if found is None:
        raise WeightsError(
            f"{model.name} has no faithful network that is known: give the PSNR network that it was trained from "
            "(--faithful-model FILE)"
        )
    return found


def known_models() -> list[Path]:
    """List the weight files that have names: in the folders of AESOP_MODELS, the user's data folder, and aesop's own."""
    files = [file for folder in model_folders() for file in content(folder) if is_weight_file(file)]
    return list({file.stem: file for file in reversed(files)}.values())[::-1]


def left_out_models() -> list[str]:
    """Name the folders of AESOP_MODELS that cannot be read, and the files in known folders that look like models but have
    no name, with the reason.
    """
    known = known_models()
    lines = [
        f"{folder}: AESOP_MODELS names it, but there is no such folder" for folder in named_folders() if not folder.is_dir()
    ]
    for folder in model_folders():
        if not os.access(folder, os.R_OK | os.X_OK):
            lines.append(f"{folder}: no permission to read it")
        for file in content(folder):
            if file in known or file.name.startswith(".") or file.suffix.lower() in _NO_MODELS:
                continue
            if reason := foreign_format(file):
                lines.append(f"{file} is {reason}")
            elif not file.is_file():
                continue
            elif file.suffix.lower() in EXTENSIONS:
                first = next(other for other in known if other.stem == file.stem)
                lines.append(f"{file}: {first} comes first and has the same name; give its path, or rename it")
            else:
                lines.append(f"{file}: no {' '.join(EXTENSIONS)} file; if it holds weights of PyTorch, rename it")
    return lines
