"""Metrics of the pyiqa package."""

from importlib import import_module

import torch
from torch import Tensor

from aesop.metrics import PYIQA, metric_info
from aesop.metrics.luma import _batch, crop, quantise


class PyIQA:
    """A metric of the pyiqa package (Chen and Mo, IQA-PyTorch) by its name there; pyiqa downloads its weights itself.

    Raises:
        ValueError: pyiqa is not installed, has no such metric, or cannot set it up (the weights cannot be downloaded).
    """

    def __init__(self, name: str, device: torch.device):
        self.name = name
        self.needs_reference = metric_info(PYIQA + name).needs_reference
        try:
            self.measure = import_module("pyiqa").create_metric(name, device=device)
        except Exception as error:  # of any kind: the network's, its libraries', its own
            if isinstance(error, ImportError):
                remedy = 'A package it needs is missing: pip install "aesop-sr[iqa]" installs them all'
            else:
                remedy = (
                    "It downloads a metric's weights at first use: let this machine go online once, or copy the folder "
                    "hub/pyiqa of PyTorch's cache from one that did"
                )
            raise ValueError(f"pyiqa could not set up {name!r} ({_said(error)}). {remedy}") from error

    def __call__(self, sr: Tensor, hr: Tensor | None = None, crop_border: int = 0) -> Tensor:
        """(N,) for RGB images (N, 3, H, W) in about [0, 1]; HR for the metrics that need it only.

        Raises:
            ValueError: the images do not fit each other, or pyiqa cannot measure them.
        """
        images = _batch(sr, hr) if self.needs_reference and hr is not None else _batch(sr, sr)[:1]
        images = [crop(quantise(image), crop_border) for image in images]
        try:
            return self.measure(*images).flatten().double().cpu()
        except Exception as error:  # as above
            raise ValueError(f"pyiqa could not measure {self.name!r} ({_said(error)})") from error


def _said(error: Exception) -> str:
    """The first line of what an error says, and its kind."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
