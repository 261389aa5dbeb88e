"""NIQE, the natural image quality evaluator (Mittal et al., IEEE Signal Processing Letters, 2013): lower is better.

NIQE is the distance between the statistics of an image's 96x96 blocks and those of pristine photographs. This follows
BasicSR's version of the authors' MATLAB code: planes in float32 (sums in float64), shape parameters from a grid of 0.001.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.images.resize import imresize
from aesop.metrics.luma import as_batch, crop, quantise, rgb_to_y
from aesop.weights.errors import WeightsError
from aesop.weights.pretrained import find_file

BLOCK = 96
FEATURES = 36  # 18 at each of two scales
WINDOW, SIGMA = 7, 7 / 6
# Neighbours whose products are modelled: right, below, and the two diagonals.
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
SHAPES = 0.2 + 0.001 * torch.arange(9801, dtype=torch.float64)


@dataclass(frozen=True)
class NIQE:
    """Mean (36,) and covariance (36, 36) of the features of pristine photographs, in float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def from_weights(cls, path: Path | None = None) -> Self:
        """Read BasicSR's parameter file (niqe_pris_params.npz) at the given path, by default where `find_file` finds it."""
        path = path or find_file("niqe")
        try:
            with np.load(path, allow_pickle=False) as file:
                mean = file["mu_pris_param"].astype(np.float64).reshape(FEATURES)
                covariance = file["cov_pris_param"].astype(np.float64).reshape(FEATURES, FEATURES)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path} has no NIQE parameters (mu_pris_param, cov_pris_param): {error}") from error
        return cls(torch.from_numpy(mean), torch.from_numpy(covariance))

    @torch.no_grad()
    def __call__(self, sr: Tensor, crop_border: int = 0) -> Tensor:
        """NIQE (N,) of RGB images (N, 3, H, W) in about [0, 1], on rounded luma. NaN where fewer than two blocks vary."""
        sr, _ = as_batch(sr, sr)
        luma = crop(rgb_to_y(quantise(sr.cpu()).double()), crop_border).mul(255).round()
        return torch.stack([self.of_plane(plane) for plane in luma[:, 0]])

    def of_plane(self, plane: Tensor) -> Tensor:
        """NIQE of one gray image (H, W) in 0..255: a scalar."""
        check_size(*plane.shape)
        return self.distance(features(plane))

    def distance(self, rows: Tensor) -> Tensor:
        """Equation 10 for blocks with the given features (B, 36). NaN if fewer than two blocks have all features."""
        complete = rows[~rows.isnan().any(1)]
        if len(complete) < 2:
            return torch.tensor(math.nan, dtype=torch.float64)
        difference = self.mean - rows.nanmean(0)
        inverse = torch.linalg.pinv((self.covariance + complete.T.cov()) / 2, rtol=1e-15)
        return (difference @ inverse @ difference).sqrt()


def check_size(height: int, width: int) -> None:
    """Raise ValueError for a cropped image with fewer than two 96x96 blocks, whose covariance NIQE needs."""
    if (height // BLOCK) * (width // BLOCK) < 2:
        needed = f"NIQE needs two blocks of {BLOCK}x{BLOCK}: at least {BLOCK}x{2 * BLOCK} pixels after cropping"
        raise ValueError(f"{needed}; found {width}x{height}. Leave out the image or the metric")


def features(plane: Tensor) -> Tensor:
    """The 36 features of each complete 96x96 block of a gray image (H, W) in 0..255: (B, 36), float64."""
    rows, columns = (side // BLOCK for side in plane.shape)
    plane = plane[: rows * BLOCK, : columns * BLOCK].float()
    scales = []
    for side in (BLOCK, BLOCK // 2):
        blocks = normalise(plane).view(rows, side, columns, side).transpose(1, 2).reshape(-1, side, side)
        scales.append(block_features(blocks))
        plane = imresize(plane, 0.5)
    return torch.cat(scales, 1)


def normalise(plane: Tensor) -> Tensor:
    """Equation 1: (I - mean) / (deviation + 1), both of the Gaussian window around each pixel of (H, W)."""
    mean = _smooth(plane)
    deviation = (_smooth(plane.square()) - mean.square()).abs().sqrt()
    return (plane - mean) / (deviation + 1)


def _smooth(plane: Tensor) -> Tensor:
    """Gaussian mean around each pixel of (H, W), with edge pixels repeated. Sums in float64 keep flat areas exactly flat."""
    distance = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-(distance**2) / (2 * SIGMA**2))
    window /= window.sum()
    padded = F.pad(plane.double()[None, None], [WINDOW // 2] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))[0, 0].float()


def block_features(blocks: Tensor) -> Tensor:
    """Normalised pixels (B, side, side) -> (B, 18): distributions of pixels and of products of neighbours (section II)."""
    shape, left, right = fit_aggd(blocks)
    columns = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = fit_aggd(blocks * blocks.roll(shift, (1, 2)))
        columns += [shape, (right - left) * _gamma_ratio(2 / shape, 1 / shape), left, right]
    return torch.stack(columns, 1)


def fit_aggd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit asymmetric generalised Gaussians to (B, ...) by moment matching: shape, left scale and right scale, (B,) each.

    Without values on one side of 0, that side's scale is NaN and the shape 0.2, as in BasicSR.
    """
    x = x.flatten(1).double()
    squares, below, above = x.square(), x < 0, x > 0
    left = ((squares * below).sum(1) / below.sum(1)).sqrt()
    right = ((squares * above).sum(1) / above.sum(1)).sqrt()
    skew = left / right
    ratio = x.abs().mean(1).square() / squares.mean(1) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    known = _gamma_ratio(2 / SHAPES, 1 / SHAPES) * _gamma_ratio(2 / SHAPES, 3 / SHAPES)  # grows with the shape
    above_it = torch.searchsorted(known, ratio).clamp(1, len(known) - 1)
    nearest = above_it - (ratio - known[above_it - 1] <= known[above_it] - ratio).long()
    shape = torch.where(ratio.isnan(), SHAPES[0], SHAPES[nearest])
    spread = _gamma_ratio(1 / shape, 3 / shape).sqrt()
    return shape, left * spread, right * spread


def _gamma_ratio(a: Tensor, b: Tensor) -> Tensor:
    """Gamma(a) / Gamma(b)."""
    return torch.exp(torch.lgamma(a) - torch.lgamma(b))
