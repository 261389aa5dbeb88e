"""The methods that a test compares: bicubic interpolation, other models, the tested network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder, AutoEncoderOptions
from aesop.archs.gray import is_gray
from aesop.evaluation.image_views import Image
from aesop.images.resize import imresize, mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.tiling import upscale_image
from aesop.options.config import TestConfig
from aesop.system.device import autocast, is_out_of_memory
from aesop.weights.errors import option_context
from aesop.weights.load import load_generator, load_into
from aesop.weights.read import read_state_dict

Predictor = Callable[[Image, Image | None], Image]
"""(LR, HR or None) -> SR, all uint8 (H, W, 3). An auto-encoder estimates SR from HR, every other method from LR."""
BICUBIC = "Bicubic"
# Labels of images on the page; a method is never called like one of them.
_RESERVED_NAMES = ("LR", "Input", BICUBIC, "HR")


@dataclass(frozen=True)
class Method:
    """One row of the comparison. `weights` is its file as given; None for bicubic."""

    name: str
    predict: Predictor
    weights: str | None = None
    tested: bool = False

    def result_name(self, section: str) -> str:
        """Name of its CSV file and image folder for a test set; for the tested network that is the section's name alone."""
        return section if self.tested else f"{section}_{self.name}"


def load_methods(config: TestConfig, device: torch.device) -> list[Method]:
    """The tested network last; before it bicubic and the models of `path.compare_with`, if the options ask for any."""
    file, scale = config.path.pretrain_network_g, config.scale
    if not file:
        raise ValueError("path.pretrain_network_g: give the weights to test")
    compare_with = config.path.compare_with or []
    others = [compare_with] if isinstance(compare_with, str) else compare_with
    is_generator = not isinstance(config.network_g, AutoEncoderOptions)
    if others and not is_generator:
        raise ValueError("path.compare_with: network_g is an auto-encoder, which sees HR; only generators can be compared")

    def method(name: str, net: nn.Module, weights: str, tested: bool = False) -> Method:
        net.eval().requires_grad_(False).to(device)
        predictor = partial(predict, net, scale=scale, device=device, precision=config.precision, tile=config.val.tile)
        return Method(name, predictor, weights, tested)

    net = build_network(config.network_g.model_dump())
    with option_context("path.pretrain_network_g"):
        load_into(net, read_state_dict(file, config.path.param_key_g)[0], file, config.path.strict_load_g)
    tested_name, *names = method_names([file, *others])
    methods = [bicubic(scale)] if is_generator and (others or config.val.page) else []
    for name, other in zip(names, others, strict=True):
        with option_context("path.compare_with"):
            model, info = load_generator(Path(other).expanduser())
        if info.scale != scale:
            raise ValueError(
                f"path.compare_with: {other} enlarges {info.scale} times and the tested network {scale} times; only models "
                "of one scale can be compared"
            )
        methods.append(method(name, model, other))
    return [*methods, method(tested_name, net, file, tested=True)]


def bicubic(scale: int) -> Method:
    return Method(BICUBIC, lambda lq, gt: imresize(lq, scale))


def predict(
    net: nn.Module, lq: Image, gt: Image | None, scale: int, device: torch.device, precision: str = "fp32", tile: int = 0
) -> Image:
    """SR of a generator from LR, or of an auto-encoder from HR; all uint8 (H, W, 3).

    A network of one channel expects gray images, as `MeasuredPairs` makes them. Without HR (`gt` None), `lq` is the
    auto-encoder's input; it is cropped to multiples of the scale. A generator sees tiles of at most `tile` LR pixels (0:
    whole images).
    """
    if not isinstance(net, AutoEncoder):
        if is_gray(net):
            return upscale_image(net, lq[..., :1], scale, tile=tile, device=device, precision=precision).repeat(3, 2)
        return upscale_image(net, lq, scale, tile=tile, device=device, precision=precision)
    image = mod_crop(lq, scale) if gt is None else gt
    try:
        with torch.inference_mode(), autocast(device, precision):
            return to_array(net(to_tensor(image)[None].to(device))[0])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory on {device}: an auto-encoder sees whole images, and {image.shape[1]}x{image.shape[0]} is too "
            "large; measure smaller ones, or set device=cpu"
        ) from error


def method_names(files: Sequence[str]) -> list[str]:
    """One name per weight file: its stem, preceded by the nearest folder that differs if several files have this stem.

    A number is appended where this is not enough. Names differ in more than case, because files are named after them.
    """
    paths = [Path(file).expanduser().absolute() for file in files]
    names: list[str] = []
    for index, path in enumerate(paths):
        namesakes = [p for k, p in enumerate(paths) if k != index and p.stem.casefold() == path.stem.casefold()]
        levels = zip(path.parents, *(other.parents for other in namesakes), strict=False)
        differing = (own.name for own, *others in levels if own.name not in {"", *(folder.name for folder in others)})
        folder = next(differing, None) if namesakes else None
        name = first = f"{folder}-{path.stem}" if folder else path.stem
        number = 2
        while name.casefold() in {taken.casefold() for taken in (*_RESERVED_NAMES, *names)}:
            name, number = f"{first}-{number}", number + 1
        names.append(name)
    return names


def check_result_names(sections: Sequence[str], methods: Sequence[Method]) -> None:
    """Raise ValueError if two methods would write their results under the same name."""
    names = [method.result_name(section).casefold() for section in sections for method in methods]
    if len(methods) > 1 and (twice := [name for name in names if names.count(name) > 1]):
        raise ValueError(
            f"path.compare_with: two results would be named {twice[0]}, after the test set and the weight file; rename the "
            "section below datasets, or the file"
        )
