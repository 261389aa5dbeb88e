"""`aesop upscale --hallucination-map`: where a result shows what its input did not determine.

A small network looks at a result and at how it differs from bicubic interpolation, and estimates the mean absolute error of
each block against the unknown original. It was trained and calibrated with results of the model that its file names, on
bicubic reductions of photographs whose originals are known (reproduction/hallucination.py). Of other models, other sizes
than the model's own, and compressed pictures it still ranks the blocks, but its values are not calibrated.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile, PngInfo
from torch import Tensor, nn

from aesop.images.tensors import ImageArray
from aesop.system.files import replacing

BLOCK = 8
"""Side of a block, in pixels of the result."""
FULL_COLOUR = 40
"""Grey levels from which on the map has its brightest colour."""
CALIBRATED = "expected error in grey levels of 8 bits"
UNCALIBRATED = "uncalibrated: values rank the places of the picture, but do not read as grey levels"
_PREFIX = "Hallucination map of AESOP; palette index: "
STRIP = 1 << 16  # blocks that are computed at once
REACH = 10  # more blocks than the estimate of a block depends on, to each side
WIDTHS, DILATIONS = (16, 32, 48), (1, 2, 4)
_MEAN, _SPREAD = (0.45, 0.0), (0.25, 0.07)  # of the result's values, and of its differences from bicubic interpolation


class ErrorHead(nn.Module):
    """Estimates the error of blocks: (N, 6, H, W) -> (N, 1, H / 8, W / 8), logarithms of grey levels of 8 bits.

    The six channels are the result, RGB in [0, 1], and its difference from the input enlarged by bicubic interpolation.
    H and W are multiples of BLOCK.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        layers: list[nn.Module] = []
        for before, after in ((6, first), (first, second), (second, third)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.1, inplace=True)]
        for step in DILATIONS:
            layers += [nn.Conv2d(third, third, 3, 1, step, step), nn.LeakyReLU(0.1, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(third, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = (x.new_tensor(values).repeat_interleave(3).view(1, 6, 1, 1) for values in (_MEAN, _SPREAD))
        return self.layers((x - mean) / spread)


@dataclass(frozen=True)
class Calibration:
    """A head with what belongs to it."""

    head: ErrorHead
    generator: str
    """SHA-256 of the weight file of the model whose results it was trained with."""
    estimated: NDArray[np.float64]
    measured: NDArray[np.float64]
    """Mean errors that were measured for the estimates of the same place, both in grey levels and rising."""

    def levels(self, logarithms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Estimates in grey levels; beyond the ends of the table, in proportion."""
        estimates = np.exp(logarithms)
        ratios = np.interp(estimates, self.estimated, self.measured / self.estimated)
        return (estimates * ratios).astype(np.float32)


@dataclass(frozen=True)
class HallucinationMap:
    """The expected error of a result."""

    levels: NDArray[np.float32]
    """(ceil(H / 8), ceil(W / 8)): of each block the mean absolute error to expect, in grey levels of 8 bits."""
    width: int
    height: int
    """Of the result, in pixels."""
    is_calibrated: bool
    """Whether values read as grey levels; otherwise they only rank the blocks."""

    @property
    def meaning(self) -> str:
        """What its values are."""
        return CALIBRATED if self.is_calibrated else UNCALIBRATED

    def image(self) -> NDArray[np.uint8]:
        """(H, W): the error of each pixel's surroundings in whole grey levels, at most 255."""
        size = (self.levels.shape[1] * BLOCK, self.levels.shape[0] * BLOCK)
        coarse = np.minimum(self.levels, 255)
        smooth = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)[: self.height, : self.width]
        return np.rint(smooth, out=smooth).astype(np.uint8)


def expected_error(low: ImageArray, high: ImageArray, device: torch.device, is_calibrated: bool = True) -> HallucinationMap:
    """Map the error to expect of the result `high`, (H, W) or (H, W, 3), of the input `low`, of the same type and kind.

    Both are uint8, uint16, or float32 in [0, 1]. Memory on top of the images: an enlarged input, and a strip of floats.
    """
    calibration, (height, width) = load_calibration(), high.shape[:2]
    head = copy.deepcopy(calibration.head).to(device)  # several devices may compute at once
    enlarged = cv2.resize(low, (width, height), interpolation=cv2.INTER_CUBIC)
    with torch.inference_mode():
        rows = [head(strip.to(device))[0, 0, before:after].cpu().numpy() for strip, before, after in _strips(high, enlarged)]
    return HallucinationMap(calibration.levels(np.concatenate(rows)), width, height, is_calibrated)


def is_calibrated_for(weights: str) -> bool:
    """Whether values are calibrated for results of the weights of this SHA-256."""
    return weights == load_calibration().generator


def head_input(high: ImageArray, enlarged: ImageArray) -> Tensor:
    """What the head sees of images of one size: (1, 6, H, W), with H and W filled up to multiples of BLOCK."""
    result, interpolated = _as_tensor(high), _as_tensor(enlarged)
    x = torch.cat([result, result - interpolated], 1)
    return F.pad(x, (0, -x.shape[3] % BLOCK, 0, -x.shape[2] % BLOCK), mode="replicate")


@lru_cache(maxsize=1)
def load_calibration() -> Calibration:
    """The head that comes with the package."""
    from safetensors import safe_open

    file = Path(str(resources.files("aesop"))) / "assets" / "hallucination" / "aesop_compact_x4.safetensors"
    with safe_open(file, "pt") as opened:
        metadata: dict[str, Any] = opened.metadata()
        state = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118 - it is no dictionary
    head = ErrorHead().eval().requires_grad_(False)
    head.load_state_dict(state)
    estimated, measured = np.array(json.loads(metadata["calibration"]), dtype=np.float64).T
    return Calibration(head, metadata["generator_sha256"], estimated, measured)


def write_map(path: Path, made: HallucinationMap) -> None:
    """Write a PNG with a palette: indices are the values of `HallucinationMap.image`, a text says what they mean."""
    picture = PIL.Image.fromarray(made.image(), "P")
    picture.putpalette(palette().tobytes())
    text = PngInfo()
    text.add_text("Description", _PREFIX + made.meaning)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        picture.save(file, "png", pnginfo=text)


def read_map(path: Path) -> tuple[NDArray[np.uint8], str]:
    """The values, (H, W), of a map that `write_map` wrote, and their meaning."""
    with open(path, "rb") as file, PngImageFile(file) as picture:  # Image.open refuses large ones
        meaning = str(picture.info.get("Description", ""))
        if picture.mode != "P" or not meaning.startswith(_PREFIX):
            raise ValueError(f"{path} is no hallucination map")
        return np.array(picture), meaning.removeprefix(_PREFIX)


def palette() -> NDArray[np.uint8]:
    """(256, 3) RGB: the colour of each grey level of a map; from FULL_COLOUR on all are alike."""
    index = np.minimum(np.arange(256) * 255 // FULL_COLOUR, 255).astype(np.uint8)
    return cv2.applyColorMap(index[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1].astype(np.uint8)


def overlaid(image: NDArray[np.uint8], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A map in its colours over a result (H, W, 3) in gray, so that places are recognised. The map may be larger."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32) / 255
    fitting = cv2.resize(levels, image.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    return (palette()[fitting] * (0.45 + 0.4 * gray) + 38 * gray).astype(np.uint8)


def _as_tensor(image: ImageArray) -> Tensor:
    """(1, 3, H, W) in [0, 1]; gray becomes three equal channels."""
    most = 1 if image.dtype == np.float32 else np.iinfo(image.dtype).max
    values = torch.from_numpy(np.clip(np.atleast_3d(image).astype(np.float32) / most, 0, 1)).permute(2, 0, 1)[None]
    return values.expand(-1, 3, -1, -1)


def _strips(high: ImageArray, enlarged: ImageArray) -> Iterator[tuple[Tensor, int, int]]:
    """The head's input in overlapping strips, and which of its rows of blocks are used."""
    blocks, across = (-(-side // BLOCK) for side in high.shape[:2])
    height = max(1, STRIP // across)
    for top in range(0, blocks, height):
        first, end = max(0, top - REACH), min(blocks, top + height + REACH)
        rows = slice(first * BLOCK, end * BLOCK)
        yield head_input(high[rows], enlarged[rows]), top - first, min(top + height, blocks) - first
