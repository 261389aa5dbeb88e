"""`aesop models verify`: whether weight files are safe, complete, finite, unchanged, and make an image of a photograph."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aesop.archs import image_channels
from aesop.archs.gray import in_rgb, luma
from aesop.images.photograph import photograph
from aesop.images.resize import imresize
from aesop.images.tensors import to_tensor
from aesop.inference.models import find_model
from aesop.metrics.psnr import psnr
from aesop.weights.errors import WeightsError
from aesop.weights.load import LoadedInfo, load_generator
from aesop.weights.read import listed, read_state_dict
from aesop.weights.tensor_hash import HASH, tensor_hash

SIDE = 192
"""Of the part of a photograph that is reduced and enlarged again: a multiple of every scale."""
NEAR = 15.0
"""dB. Networks for degraded photographs are some dB below bicubic, untrained ones below 10 dB."""


@dataclass(frozen=True)
class Checked:
    """A model, as given, with what was found or with its first fault."""

    model: str
    found: str | None = None
    fault: str | None = None

    def __str__(self) -> str:
        if self.fault is None:
            return f"ok     {self.model}: {self.found}"
        return f"fault  {self.fault}" if self.model in self.fault else f"fault  {self.model}: {self.fault}"


def verify_models(models: Sequence[str]) -> list[Checked]:
    """Check each model."""
    checked = []
    for model in models:
        try:
            checked.append(Checked(model, found=_verified(find_model(model))))
        except Exception as error:  # noqa: BLE001 - no file, however damaged, keeps the others from being checked
            checked.append(Checked(model, fault=(str(error) or type(error).__name__).splitlines()[0]))
    return checked


def _verified(path: Path) -> str:
    """Return what was found; WeightsError names the first fault."""
    state, metadata = read_state_dict(path)
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise WeightsError(
            f"{path} has NaN or infinite weights ({listed(broken)}): download it again, or take another state"
        )
    has_hash = path.suffix == ".safetensors" and HASH in metadata
    if has_hash and metadata[HASH].lower() != (found := tensor_hash(path)):
        raise WeightsError(
            f"{path} was changed: the SHA-256 of its tensors is {found}, its metadata say {metadata[HASH][:66]}"
        )
    net, info = load_generator(path)
    return f"{info.arch} x{info.scale}, {_compared(net, info, path)}{', hash as recorded' if has_hash else ''}"


def _compared(net: nn.Module, info: LoadedInfo, path: Path) -> str:
    """Enlarge a reduced photograph; return how near the original the image is, and how near bicubic is."""
    channels = image_channels(info.options)
    if channels not in ((1, 1), (3, 3)):
        raise WeightsError(f"{path} makes {channels[1]} channels of {channels[0]}: a picture needs 3 (RGB) or 1 (gray)")

    def seen(image: Tensor) -> Tensor:
        return luma(image[None]) if channels == (1, 1) else image[None]

    hr = photograph(SIDE, SIDE)
    lr = imresize(hr, 1 / info.scale)
    with torch.inference_mode():
        sr = net(seen(to_tensor(lr)))
    original, bicubic = (seen(to_tensor(image)) for image in (hr, imresize(lr, info.scale)))
    if sr.shape != original.shape:
        raise WeightsError(f"{path} makes {tuple(sr.shape)} of {tuple(lr.shape)}: no generator of scale {info.scale}")
    if not sr.isfinite().all():
        raise WeightsError(f"{path} computes NaN or infinity for a photograph")
    near, reference = (psnr(in_rgb(image), in_rgb(original)).item() for image in (sr, bicubic))
    if near < NEAR:
        raise WeightsError(f"{path} does not reproduce a photograph: {near:.1f} dB, bicubic {reference:.1f} dB")
    return f"{near:.1f} dB from a photograph (bicubic {reference:.1f} dB)"
