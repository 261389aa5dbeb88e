"""The methods that are compared: interpolations, networks, finished images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import torch
from torch import nn

from aesop.archs import build_network, image_channels
from aesop.archs.autoencoder import AutoEncoder, AutoEncoderOptions
from aesop.archs.gray import is_gray
from aesop.data.measured_pairs import Sample
from aesop.evaluation.image_views import Image
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.tiling import NotFinite, upscale_image
from aesop.options.config import TestConfig
from aesop.system.device import autocast, is_out_of_memory
from aesop.system.files import sha256_of
from aesop.weights.errors import WeightsError, option_context
from aesop.weights.load import load_generator, load_into
from aesop.weights.read import read_state_dict

Predictor = Callable[[Image, Image | None], Image]
"""(LR, HR or None) -> SR, all uint8 (H, W, 3). An auto-encoder estimates SR from HR, every other method from LR."""
BICUBIC, LANCZOS = "Bicubic", "Lanczos"
# Labels of images on the page; a method is never called like one of them.
RESERVED_NAMES = ("LR", "Input", BICUBIC, LANCZOS, "HR")


@dataclass(frozen=True)
class Method:
    """One row of a comparison."""

    name: str
    answer: Callable[[Sample], Image]
    """SR of a sample."""
    source: str | None = None
    """Weight file or folder, as given. None: an interpolation."""
    sha256: str | None = None
    """Of the weight file."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a network's answers depend on besides its weights and the sample."""
    finished: Mapping[tuple[str, str], ImageFile] | None = None
    """Finished images by `Sample.key`. None: it has an answer for every sample."""
    tested: bool = False
    generator: nn.Module | None = field(default=None, repr=False)
    """The network, if it is one that enlarges, to measure its cost."""

    @classmethod
    def of(cls, name: str, predict: Predictor, *args: Any, **options: Any) -> Self:
        """A method that sees LR, or HR if it is an auto-encoder."""
        return cls(name, lambda sample: predict(sample.lq, sample.gt), *args, **options)

    def result_name(self, section: str) -> str:
        """Name of its image folder for a test set; for the tested network that is the section's name alone."""
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

    options = config.network_g.model_dump()
    net = build_network(options)
    with option_context("path.pretrain_network_g"):
        load_into(net, read_state_dict(file, config.path.param_key_g)[0], file, config.path.strict_load_g)
    tested_name, *names = method_names([file, *others])
    methods = [bicubic(scale)] if is_generator and (others or config.val.page) else []
    for name, other in zip(names, others, strict=True):
        with option_context("path.compare_with"):
            method, other_scale = network_file(name, other, device, config.precision, config.val.tile)
        if other_scale != scale:
            raise ValueError(
                f"path.compare_with: {other} enlarges {other_scale} times and the tested network {scale} times; only models "
                "of one scale can be compared"
            )
        methods.append(method)
    loaded_as = {"network": options, "key": config.path.param_key_g, "strict": config.path.strict_load_g}
    tested = network(tested_name, net, file, scale, device, config.precision, config.val.tile, loaded_as)
    return [*methods, replace(tested, tested=True)]


def network_file(name: str, file: str, device: torch.device, precision: str, tile: int) -> tuple[Method, int]:
    """A generator's weight file as a method, and its scale."""
    net, info = load_generator(Path(file).expanduser())
    if image_channels(info.options) != (3, 3):
        raise WeightsError(f"{file} contains {info.arch}, which does not take and make 3 channels: give a network for RGB")
    return network(name, net, file, info.scale, device, precision, tile, {"network": info.options}), info.scale


def network(
    name: str,
    net: nn.Module,
    file: str,
    scale: int,
    device: torch.device,
    precision: str = "fp32",
    tile: int = 0,
    loaded_as: Mapping[str, Any] | None = None,
) -> Method:
    """A network with the weights of a file as a method. `loaded_as`: options that decided how they were loaded."""
    net.eval().requires_grad_(False).to(device)
    predictor = partial(predict, net, scale=scale, device=device, precision=precision, tile=tile, finite=True)
    settings = {**(loaded_as or {}), "scale": scale, "device": device.type, "precision": precision, "tile": tile}
    generator = None if isinstance(net, AutoEncoder) else net
    return Method.of(name, predictor, file, sha256_of(Path(file).expanduser()), settings, generator=generator)


def bicubic(scale: int) -> Method:
    return Method.of(BICUBIC, lambda lq, gt: imresize(lq, scale))


def lanczos(scale: int) -> Method:
    """Pillow's, with three lobes."""

    def enlarge(lq: Image, gt: Image | None) -> Image:
        height, width = lq.shape[:2]
        size = (width * scale, height * scale)
        return np.array(PIL.Image.fromarray(lq).resize(size, PIL.Image.Resampling.LANCZOS))

    return Method.of(LANCZOS, enlarge)


INTERPOLATIONS: Mapping[str, Callable[[int], Method]] = {"bicubic": bicubic, "lanczos": lanczos}
"""By the names that users give."""


def predict(
    net: nn.Module,
    lq: Image,
    gt: Image | None,
    scale: int,
    device: torch.device,
    precision: str = "fp32",
    tile: int = 0,
    finite: bool = False,
) -> Image:
    """SR of a generator from LR, or of an auto-encoder from HR; all uint8 (H, W, 3).

    A network of one channel expects gray images, as `MeasuredPairs` makes them. Without HR (`gt` None), `lq` is the
    auto-encoder's input; it is cropped to multiples of the scale. A generator sees tiles of at most `tile` LR pixels (0:
    whole images). NaN becomes black, or with `finite` raises NotFinite.
    """
    if not isinstance(net, AutoEncoder):
        seen = lq[..., :1] if is_gray(net) else lq
        made = upscale_image(net, seen, scale, tile=tile, device=device, precision=precision, finite=finite)
        return made.repeat(3, 2) if is_gray(net) else made
    image = mod_crop(lq, scale) if gt is None else gt
    try:
        with torch.inference_mode(), autocast(device, precision):
            answer = net(to_tensor(image)[None].to(device))[0]
            if finite and not answer.isfinite().all():
                raise NotFinite("the network computes NaN or infinity")
            return to_array(answer)
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
        while name.casefold() in {taken.casefold() for taken in (*RESERVED_NAMES, *names)}:
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
