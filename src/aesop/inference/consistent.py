"""`aesop upscale --consistent`: the nearest image that becomes the input again when it is reduced.

MATLAB's bicubic reduction of a plane X is D X E', with a sparse matrix for each axis. The smallest change that gives it the
values Y is D' (DD')^-1 (Y - D X E') (EE')^-1 E: back-projection with the filter with which one step is enough. The step may
leave [0, 1], so clipping and steps take turns: projections onto two convex sets, which lead to where these meet or, where
no picture of this range becomes the input, towards the least contradiction. Steps of less than twice the length get there
too (Gubin, Polyak, and Raik, 1967), and sooner.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aesop.images.resize import axis_table
from aesop.images.tensors import ImageArray

LEVEL = 1 / 255
ENOUGH = 0.5 * LEVEL  # the input's own rounding, if it has 8 bits
MOST_STEPS = 40
LONGER = 1.8  # than the projection is each step after the first
STALLED = 0.98  # ratio of the squared errors of two steps from which on more steps do not help
LEAST_PSNR = 55.0  # dB; a result that is further from its input gets a note
STRIP = 256  # input rows whose changes are in memory at a time

Plane = NDArray[np.float32]


def made_consistent(image: ImageArray, low: ImageArray) -> tuple[ImageArray, float]:
    """Change an image as little as possible, so that its reduction is the image `low` that it was enlarged from.

    Both are (H, W) or (H, W, C), uint8, uint16, or float32 in [0, 1]; computed in float32, channel by channel. Ends when
    every value of the reduction is within half of an 8-bit level, or when steps no longer help.

    Returns:
        The image, of its own type, and the PSNR in dB between its reduction and `low`.
    """
    peak = np.float32(1 if image.dtype == np.float32 else np.iinfo(image.dtype).max)
    reduce, correct = _steps(low.shape[0], low.shape[1], image.shape[0] // low.shape[0])
    made, error = np.empty_like(image), 0.0
    for k in range(low.shape[2] if low.ndim == 3 else 1):
        channel = (..., k) if low.ndim == 3 else ...
        wanted = low[channel].astype(np.float32) / peak
        plane = image[channel].astype(np.float32) / peak
        missing, last = wanted - reduce(plane), np.inf
        for step in range(MOST_STEPS):
            correct(plane, missing * np.float32(LONGER if step else 1))
            missing = wanted - reduce(plane)
            squares = float(np.square(missing).mean())
            if np.abs(missing).max() <= ENOUGH or not squares < STALLED * last:
                break
            last = squares
        made[channel] = plane if image.dtype == np.float32 else (plane * peak).round()
        error += float(np.square(wanted - reduce(made[channel].astype(np.float32) / peak), dtype=np.float64).sum())
    # An error below 120 dB is that of float32.
    return made, float(-10 * np.log10(max(error / low.size, 1e-12)))


def shortfall(reached: float) -> list[str]:
    """A note on a result whose reduction is further from the input than LEAST_PSNR."""
    if reached >= LEAST_PSNR:
        return []
    return [
        f"--consistent: reduced, the result is {reached:.1f} dB from the input, which is sharper than reduced pictures are"
    ]


@lru_cache(maxsize=4)  # pages, frames, and folders often have one size
def _steps(height: int, width: int, scale: int) -> tuple[Callable[[Plane], Plane], Callable[[Plane, Plane], None]]:
    """How planes are reduced to `height` x `width`, and changed in place by the least that changes their reduction so."""
    rows, solve_rows = _axis(height, scale)
    columns, solve_columns = _axis(width, scale)

    def reduce(plane: Plane) -> Plane:
        return (columns @ (rows @ plane).T).T

    def correct(plane: Plane, missing: Plane) -> None:
        shares = solve_columns(solve_rows(missing.astype(np.float64)).T).astype(np.float32)
        shares = (columns.T @ shares).T
        for top in range(0, len(plane), STRIP * scale):
            part = plane[top : top + STRIP * scale]
            part += rows.T[top : top + len(part)] @ shares
            np.clip(part, 0, 1, out=part)

    return reduce, correct


def _axis(size: int, scale: int) -> tuple[Any, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """The sparse matrix D (size, scale*size) of the reduction along one axis, and what multiplies by (DD')^-1."""
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import splu

    indices, weights = axis_table(size * scale, 1 / scale)
    places = np.broadcast_to(np.arange(size), indices.shape)
    exact = csr_array((weights.ravel(), (places.ravel(), indices.ravel())), shape=(size, size * scale))
    return exact.astype(np.float32), splu((exact @ exact.T).tocsc()).solve
