"""Transparency: colours that are ready to be enlarged without it, and the alpha channel enlarged apart from them.

Arrays are uint8, uint16, or float32 in [0, 1]; alpha is (H, W), of the type of the colours.
"""

from collections.abc import Callable

import cv2
import numpy as np

from aesop.images.tensors import ImageArray

ALPHA_METHODS = ("auto", "network", "bicubic")
SPREAD = 7  # pixels across which the colours of nearly transparent pixels are taken from more visible ones


def mended_colours(colours: ImageArray, alpha: ImageArray) -> ImageArray:
    """Replace colours (H, W) or (H, W, 3) that hardly show, so that they do not bleed into their neighbours.

    An invisible pixel gets the colour of the nearest visible one. A pixel that is fainter than those around it moves to
    their average colour by as much as it is fainter. A constant alpha above 0 changes nothing.
    """
    visible = _unit(alpha)
    if visible.min() == visible.max():
        return colours
    window = np.ones((SPREAD, SPREAD), np.uint8)
    trusted = visible / np.maximum(cv2.dilate(visible, window), np.finfo(np.float32).tiny)
    planes = colours.astype(np.float32) if colours.ndim == 3 else colours[..., None].astype(np.float32)
    around = cv2.blur(visible, (SPREAD, SPREAD))
    faint = (visible > 0) & (trusted < 1)
    for c in range(planes.shape[2]):
        plane = planes[..., c]
        average = cv2.blur(plane * visible, (SPREAD, SPREAD))[faint] / around[faint]
        plane[faint] = average + (plane[faint] - average) * trusted[faint]
    invisible = visible == 0
    if invisible.any():
        # Labels number the visible pixels; each pixel gets the label of the nearest.
        _, labels = cv2.distanceTransformWithLabels(
            invisible.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        where = np.zeros(labels.max() + 1, np.int64)
        where[labels[~invisible]] = np.flatnonzero(~invisible)
        planes[invisible] = planes.reshape(-1, planes.shape[2])[where[labels[invisible]]]
    if colours.dtype != np.float32:
        planes = planes.round()
    return planes.astype(colours.dtype).reshape(colours.shape)


def enlarged_alpha(alpha: ImageArray, scale: int, method: str, network: Callable[[ImageArray], ImageArray]) -> ImageArray:
    """Enlarge alpha by `network`, which takes gray images (H, W), or by bicubic interpolation; `auto` chooses.

    Where alpha is constant it stays exactly so: a network leaves traces in even areas.
    """
    height, width = alpha.shape[0] * scale, alpha.shape[1] * scale
    if alpha.min() == alpha.max():
        return np.full((height, width), alpha.flat[0])
    bicubic = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC)
    if alpha.dtype == np.float32:
        bicubic = np.clip(bicubic, 0, 1)
    if method == "bicubic" or (method == "auto" and not has_sharp_edges(alpha)):
        return bicubic
    window = np.ones((5, 5), np.uint8)
    even = cv2.dilate(alpha, window) == cv2.erode(alpha, window)
    return np.where(even.repeat(scale, 0).repeat(scale, 1), bicubic, network(alpha))


def has_sharp_edges(alpha: ImageArray) -> bool:
    """Whether alpha cuts shapes out, with or without smoothed edges, and does not fade: what networks enlarge better.

    Then hardly any half-transparent pixel lies apart from an edge, where alpha changes by more than half within 3 pixels.
    """
    values, window = _unit(alpha), np.ones((3, 3), np.uint8)
    edge = cv2.dilate(values, window) - cv2.erode(values, window) > 0.5
    faded = (values > 0) & (values < 1) & ~edge
    return bool(edge.any()) and faded.sum() <= 0.1 * edge.sum()


def _unit(alpha: ImageArray) -> ImageArray:
    most = 1 if alpha.dtype == np.float32 else np.iinfo(alpha.dtype).max
    return np.clip(alpha.astype(np.float32) / np.float32(most), 0, 1)
