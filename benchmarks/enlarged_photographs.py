"""Photographs, reduced by MATLAB's bicubic interpolation, enlarged, and measured, for other scripts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

import aesop
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import Image
from aesop.evaluation.measure import averages, measure
from aesop.metrics.build import Metric, make_metrics
from aesop.options.datasets import PairedDataset
from aesop.options.validation import MetricOptions
from aesop.system.distributed import World

HELD_OUT = Path(aesop.__file__).parent / "assets" / "photos" / "heldout"
CPU = torch.device("cpu")


def photographs(folders: Sequence[Path], scale: int) -> dict[str, MeasuredPairs]:
    """The photographs of folders of HR images, by name."""
    found = {}
    for folder in folders:
        name = folder.parent.name if folder.name == "HR" else folder.name
        found[name] = MeasuredPairs.find(PairedDataset(dataroot_gt=str(folder)), name, scale)
    return found


def metrics_of(scale: int) -> dict[str, Metric]:
    """PSNR (luma), LPIPS, DISTS, and the PSNR of the reduced images."""
    return make_metrics({name: MetricOptions() for name in ("psnr", "lpips", "dists", "lrpsnr")}, scale, CPU)


def means(enlarge: Callable[[Image], Image], pairs: MeasuredPairs, metrics: dict[str, Metric]) -> dict[str, float]:
    """The metrics' means over the images."""
    return averages(measure(lambda lq, _: enlarge(lq), pairs, metrics, World(device=CPU)))


def compressed(image: Image, quality: int) -> Image:
    """An image (H, W, 3) saved as JPEG and read again."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
