"""All metrics. To add one, write its file and an entry of METRICS."""

from typing import Any

from aesop.metrics import ae_psnr, lr_psnr, ms_ssim, niqe, psnr, ssim
from aesop.metrics.dists import DISTS
from aesop.metrics.lpips import LPIPS
from aesop.metrics.metric_info import MetricInfo
from aesop.metrics.pyiqa_metrics import PYIQA, PYIQA_NAMES, pyiqa_info

FIDELITY: dict[str, Any] = {"format": ".2f", "channel": "either"}  # PSNR and its variants
METRICS: dict[str, MetricInfo] = {
    "psnr": MetricInfo("PSNR", lambda s: s.either(psnr.psnr), crop_border=4, **FIDELITY),
    "ssim": MetricInfo("SSIM", lambda s: s.either(ssim.ssim), crop_border=4, channel="either"),
    "ms_ssim": MetricInfo(
        "MS-SSIM", lambda s: s.cropped(ms_ssim.ms_ssim), crop_border=4, channel="luma", check_size=ms_ssim.check_size
    ),
    "lpips": MetricInfo("LPIPS", lambda s: s.learned(LPIPS, "alex"), best="min", weights=("alexnet", "lpips_alex")),
    "lpips_vgg": MetricInfo("LPIPS-VGG", lambda s: s.learned(LPIPS, "vgg"), best="min", weights=("vgg16", "lpips_vgg")),
    "dists": MetricInfo("DISTS", lambda s: s.learned(DISTS), best="min", weights=("vgg16", "dists")),
    "niqe": MetricInfo(
        "NIQE",
        lambda s: s.cropped(niqe.NIQE.from_weights()),
        best="min",
        channel="luma",
        weights=("niqe",),
        format=".2f",
        needs_reference=False,
        check_size=niqe.check_size,
    ),
    "aepsnr": MetricInfo(
        "AE-PSNR",
        lambda s: s.either(ae_psnr.ae_psnr, autoencoder=s.autoencoder),
        crop_border=4,
        needs_autoencoder=True,
        **FIDELITY,
    ),
    "lrpsnr": MetricInfo("LR-PSNR", lambda s: s.either(lr_psnr.lr_psnr, scale=s.scale), **FIDELITY),
}
# The names of published option files (`val: metrics: <name>: type:`), of the numpy and of the torch variants.
METRIC_TYPES: dict[str, str] = {
    **{f"calculate_{name}{suffix}": name for name in METRICS for suffix in ("", "_pytorch")},
    **{name: PYIQA + name for name in PYIQA_NAMES},
    "calculate_topiq": f"{PYIQA}topiq_fr",
    "calculate_topiq_nr": f"{PYIQA}topiq_nr",
}


def metric_info(kind: str) -> MetricInfo:
    """The entry of METRICS, or for `pyiqa:NAME` what the pyiqa package says of its metric; ValueError if there is none."""
    if kind.startswith(PYIQA):
        return pyiqa_info(kind.removeprefix(PYIQA))
    if kind not in METRICS:
        known = ", ".join([*METRICS, *PYIQA_NAMES])
        raise ValueError(f"there is no metric {kind!r}; known: {known}, and every metric of pyiqa as {PYIQA}NAME")
    return METRICS[kind]
