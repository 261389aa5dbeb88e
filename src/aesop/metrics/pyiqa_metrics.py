"""Metrics of the pyiqa package (Chen and Mo, IQA-PyTorch), by their names there. pyiqa downloads their weights itself."""

from difflib import get_close_matches
from importlib import import_module

import torch
from torch import Tensor

from aesop.metrics.luma import as_batch, crop, quantise
from aesop.metrics.metric_info import MetricInfo

PYIQA = "pyiqa:"
"""Prefix of their names in option files."""
PYIQA_NAMES = {"musiq": ".2f", "maniqa": ".4f", "clipiqa": ".4f"}
"""Those that papers report need no prefix; name -> `MetricInfo.format`."""


def pyiqa_info(name: str) -> MetricInfo:
    """What pyiqa says of its metric; ValueError if it is not installed or the metric cannot measure single images."""
    try:
        known = import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS
    except ImportError as error:
        lacks = "is not installed" if (error.name or "").startswith("pyiqa") else f"cannot be imported ({error})"
        raise ValueError(
            f'{name!r} is a metric of pyiqa, which {lacks}: pip install "aesop-sr[iqa]" (pyiqa\'s licences, PolyForm '
            "Noncommercial and S-Lab, forbid commercial use)"
        ) from error
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=4, cutoff=0.4)) or "pyiqa.list_models() names all"
        raise ValueError(f"pyiqa has no metric {name!r}; the nearest: {near}")
    if "fid" in name or name == "inception_score":
        raise ValueError(f"{name!r} measures a whole set of images, but here each image is measured: leave it out")
    return MetricInfo(
        name.upper(),
        lambda s: s.cropped(PyIQA(name, s.device)),
        format=PYIQA_NAMES.get(name, ".4f"),
        best="min" if known[name].get("lower_better", False) else "max",
        needs_reference=known[name].get("metric_mode") == "FR",
    )


class PyIQA:
    """A metric of pyiqa: RGB (N, 3, H, W) in about [0, 1], and HR if the metric needs it -> (N,)."""

    def __init__(self, name: str, device: torch.device):
        self.name = name
        self.needs_reference = pyiqa_info(name).needs_reference
        try:
            self.measure = import_module("pyiqa").create_metric(name, device=device)
        except Exception as error:  # the network's, its libraries' or its own
            remedy = "It downloads weights at first use: connect to the internet once, or copy hub/pyiqa of PyTorch's cache"
            if isinstance(error, ImportError):
                remedy = 'A package it needs is missing: pip install "aesop-sr[iqa]" installs all of them'
            raise ValueError(f"pyiqa could not set up {name!r} ({_first_line(error)}). {remedy}") from error

    def __call__(self, sr: Tensor, hr: Tensor | None = None, crop_border: int = 0) -> Tensor:
        images = as_batch(sr, hr) if self.needs_reference and hr is not None else as_batch(sr, sr)[:1]
        images = [crop(quantise(image), crop_border) for image in images]
        try:
            return self.measure(*images).flatten().double().cpu()
        except Exception as error:  # as above
            raise ValueError(f"pyiqa could not measure {self.name!r} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
