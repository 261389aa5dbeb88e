"""Noticing HR and LR images that do not show the same picture, such as two swapped files of one size."""

import logging
from collections.abc import Sequence

import cv2
import numpy as np

from aesop.data.find_pairs import Pair
from aesop.images.errors import ImageError
from aesop.images.tensors import ImageArray
from aesop.system.wording import first_few

log = logging.getLogger("aesop")
UNLIKE = 0.5
"""Correlation below which two images are taken for different pictures. Of 59 photographs, the lowest with an LR image after
heavy blur, noise of 30 grey levels, and JPEG of quality 20 was 0.52; of wrong partners of one size, 99.8 % lay below 0.5.
"""
LOOKED_AT = 8
_SIDE = 48  # images are compared at this size, at which blur, noise and JPEG hardly show
_FLAT = 3.0  # grey levels of deviation below which a picture has too little in it to tell


def likeness(hr: ImageArray, lr: ImageArray) -> float:
    """The correlation of two pictures, uint8 (H, W, 3), at a small size: 1 for the same picture; 1 too if one is flat."""
    height, width = (min(_SIDE, side) for side in lr.shape[:2])
    grays = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (hr, lr))
    small = (cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64) for gray in grays)
    a, b = (image - image.mean() for image in small)
    if min(a.std(), b.std()) < _FLAT:
        return 1.0
    return float((a * b).mean() / (a.std() * b.std()))


def warn_of_wrong_pairs(pairs: Sequence[Pair], scale: int) -> None:
    """Look at a few pairs, evenly spread, before a training; name those that do not show the same picture."""
    count = min(len(pairs), LOOKED_AT)
    wrong = []
    for pair in (pairs[place * len(pairs) // count] for place in range(count)):
        try:
            hr, lr = pair.read(scale)
        except ImageError:
            continue  # the training reports it, or skips it
        if lr is not None and likeness(hr, lr) < UNLIKE:
            wrong.append(f"{pair.gt} and {pair.lq}")
    if wrong:
        log.warning(
            "%d of %d pairs looked at do not show the same picture: %s. Check them all with `aesop doctor`",
            *(len(wrong), count, first_few(wrong)),
        )
