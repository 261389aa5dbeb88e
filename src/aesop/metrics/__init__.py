"""Every metric: what it is called, how it is printed, what it needs."""

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is printed and, where an option file does not say otherwise, measured."""

    label: str
    format: str
    higher_is_better: bool
    crop_border: int
    test_y_channel: bool
    needs_reference: bool = True
    """False: measured on SR alone."""
    either_channel: bool = False
    """Defined on luma and in colour alike; others were made for one of them."""
    weights: tuple[str, ...] = ()
    """The known weights (see weights.py) it needs."""


METRICS: dict[str, MetricInfo] = {
    "psnr": MetricInfo("PSNR", ".4f", True, 4, True, either_channel=True),
    "ssim": MetricInfo("SSIM", ".6f", True, 4, True, either_channel=True),
    "lpips": MetricInfo("LPIPS", ".6f", False, 0, False, weights=("alexnet", "lpips_alex")),
    "lpips_vgg": MetricInfo("LPIPS-VGG", ".6f", False, 0, False, weights=("vgg16", "lpips_vgg")),
    "dists": MetricInfo("DISTS", ".6f", False, 0, False, weights=("vgg16", "dists")),
    "niqe": MetricInfo("NIQE", ".4f", False, 0, True, needs_reference=False, weights=("niqe",)),
    "aepsnr": MetricInfo("AE-PSNR", ".4f", True, 4, True, either_channel=True),
    "lrpsnr": MetricInfo("LR-PSNR", ".4f", True, 0, True, either_channel=True),
}
# Metrics of the pyiqa package: this and their name there. Those the papers report go by their bare names too.
PYIQA = "pyiqa:"
PYIQA_NAMES = ("musiq", "maniqa", "clipiqa")
# The published option files' names (`val: metrics: <name>: type:`), of the numpy and of the torch variants.
METRIC_TYPES: dict[str, str] = {f"calculate_{name}{suffix}": name for name in METRICS for suffix in ("", "_pytorch")}


def metric_info(kind: str) -> MetricInfo:
    """What METRICS, or for a `pyiqa:NAME` the pyiqa package, says of a metric.

    Raises:
        ValueError: for a metric that there is not, or one of pyiqa's while that is not installed.
    """
    if kind.startswith(PYIQA):
        name = kind.removeprefix(PYIQA)
        facts = _pyiqa_facts(name)
        higher, needs_reference = not facts.get("lower_better", False), facts.get("metric_mode") == "FR"
        return MetricInfo(name.upper(), ".4f", higher, 0, False, needs_reference)
    if kind not in METRICS:
        known = ", ".join([*METRICS, *PYIQA_NAMES])
        raise ValueError(f"there is no metric {kind!r}; known: {known}, and every metric of pyiqa as {PYIQA}NAME")
    return METRICS[kind]


def _pyiqa_facts(name: str) -> dict[str, Any]:
    """`metric_mode` (FR or NR), `lower_better` ... of a metric of pyiqa."""
    try:
        known = import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS
    except ImportError as error:
        lacks = "is not installed" if (error.name or "").startswith("pyiqa") else f"cannot be imported ({error})"
        raise ValueError(
            f'{name!r} is a metric of pyiqa, which {lacks}: pip install "aesop-sr[iqa]" (pyiqa\'s licences, PolyForm '
            "Noncommercial and S-Lab, allow no commercial use)"
        ) from error
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=4, cutoff=0.4)) or "pyiqa.list_models() names all"
        raise ValueError(f"pyiqa has no metric {name!r}; the nearest: {near}")
    if "fid" in name or name == "inception_score":
        raise ValueError(f"{name!r} judges a whole set of images at once, here each image is measured: leave it out")
    return known[name]
