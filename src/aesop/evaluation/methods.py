"""The methods that a test compares: the tested network, other weights, bicubic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from aesop.archs import AutoEncoderOptions
from aesop.images.resize import imresize
from aesop.inference.tiling import upscale_image
from aesop.options.config import Config
from aesop.weights.errors import option_context
from aesop.weights.load import load_generator

# (LR image, HR image or None) -> SR image, all uint8 (H, W, 3).
Answer = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
Best = Literal["max", "min"]
BICUBIC = "Bicubic"
# What the page calls the images that are no method's; a weight file of such a name gets another.
_TAKEN = ("LR", "Input", BICUBIC, "HR")


@dataclass(frozen=True)
class Method:
    """One row of the comparison; `weights` is its file as given, None for bicubic."""

    name: str
    answer: Answer
    weights: str | None = None
    tested: bool = False

    def place(self, section: str) -> str:
        """What its table and its folder of images are called; the tested network's bear the section's name alone."""
        return section if self.tested else f"{section}_{self.name}"


def load_methods(config: Config, tested: Answer, device: torch.device) -> list[Method]:
    """Bicubic and the models of `path.compare_with`, where they are asked for; the tested network last.

    Raises:
        ValueError: naming the option and the file that is no generator or has another scale.
    """
    given = config.path.compare_with or []
    others = [given] if isinstance(given, str) else given
    is_generator = not isinstance(config.network_g, AutoEncoderOptions)
    if others and not is_generator:
        raise ValueError("path.compare_with: network_g is an auto-encoder, which sees HR; only generators are compared")
    assert config.path.pretrain_network_g is not None
    name, *names = method_names([config.path.pretrain_network_g, *others])
    methods = [Method(name, tested, config.path.pretrain_network_g, tested=True)]
    if is_generator and (others or config.val.page):
        models = [Method(n, _load_model(file, config, device), file) for n, file in zip(names, others, strict=True)]
        methods = [Method(BICUBIC, lambda lq, _: imresize(lq, config.scale)), *models, *methods]
    return methods


def _load_model(file: str, config: Config, device: torch.device) -> Answer:
    with option_context("path.compare_with"):
        model, info = load_generator(Path(file).expanduser())
    if info.scale != config.scale:
        raise ValueError(
            f"path.compare_with: {file} enlarges {info.scale} times and the tested network {config.scale} times: "
            "only models of one scale can be compared"
        )
    model.requires_grad_(False).to(device)
    return lambda lq, _: upscale_image(
        model, lq, config.scale, tile=config.val.tile, device=device, precision=config.precision
    )


def method_names(files: Sequence[str]) -> list[str]:
    """One name per weight file: its stem. Before equal stems stands the nearest folder that tells them apart, else a
    number behind; they differ in more than case, since files are named by them."""
    paths = [Path(file).expanduser().absolute() for file in files]
    names: list[str] = []
    for index, path in enumerate(paths):
        namesakes = [p for k, p in enumerate(paths) if k != index and p.stem.casefold() == path.stem.casefold()]
        folders = zip(path.parents, *(other.parents for other in namesakes), strict=False)
        apart = (own.name for own, *theirs in folders if own.name not in {"", *(folder.name for folder in theirs)})
        folder = next(apart, None) if namesakes else None
        name = first = f"{folder}-{path.stem}" if folder else path.stem
        number = 2
        while name.casefold() in {taken.casefold() for taken in (*_TAKEN, *names)}:
            name, number = f"{first}-{number}", number + 1
        names.append(name)
    return names


def check_places(sections: Sequence[str], methods: Sequence[Method]) -> None:
    """Raise ValueError when another method's results would be called as some others are."""
    places = [method.place(section).casefold() for section in sections for method in methods]
    if len(methods) > 1 and (twice := [place for place in places if places.count(place) > 1]):
        raise ValueError(
            f"path.compare_with: two results would be called {twice[0]}, after the set and the weight file: rename the "
            "section below datasets, or the file"
        )
