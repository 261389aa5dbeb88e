"""All metrics. To add one, write its file and an entry of METRICS."""

from functools import partial

from aesop.metrics import ae_psnr, dists, lpips, lr_psnr, ms_ssim, niqe, psnr, ssim
from aesop.metrics.metric_info import MetricInfo
from aesop.metrics.pyiqa_metrics import PYIQA, PYIQA_NAMES, pyiqa_info

METRICS: dict[str, MetricInfo] = {
    "psnr": MetricInfo("PSNR", ".4f", lambda s: partial(psnr.psnr, **s.region), crop_border=4, channel="either"),
    "ssim": MetricInfo("SSIM", ".6f", lambda s: partial(ssim.ssim, **s.region), crop_border=4, channel="either"),
    "ms_ssim": MetricInfo(
        "MS-SSIM",
        ".6f",
        lambda s: partial(ms_ssim.ms_ssim, crop_border=s.crop_border),
        crop_border=4,
        channel="luma",
        check_size=ms_ssim.check_size,
    ),
    "lpips": MetricInfo(
        "LPIPS", ".6f", lambda s: s.learned(lpips.LPIPS.from_weights("alex")), best="min", weights=("alexnet", "lpips_alex")
    ),
    "lpips_vgg": MetricInfo(
        "LPIPS-VGG", ".6f", lambda s: s.learned(lpips.LPIPS.from_weights("vgg")), best="min", weights=("vgg16", "lpips_vgg")
    ),
    "dists": MetricInfo(
        "DISTS", ".6f", lambda s: s.learned(dists.DISTS.from_weights()), best="min", weights=("vgg16", "dists")
    ),
    "niqe": MetricInfo(
        "NIQE",
        ".4f",
        lambda s: partial(niqe.NIQE.from_weights(), crop_border=s.crop_border),
        best="min",
        channel="luma",
        needs_reference=False,
        weights=("niqe",),
        check_size=niqe.check_size,
    ),
    "aepsnr": MetricInfo(
        "AE-PSNR",
        ".4f",
        lambda s: partial(ae_psnr.ae_psnr, autoencoder=s.autoencoder, **s.region),
        crop_border=4,
        channel="either",
        needs_autoencoder=True,
    ),
    "lrpsnr": MetricInfo("LR-PSNR", ".4f", lambda s: partial(lr_psnr.lr_psnr, scale=s.scale, **s.region), channel="either"),
}
# The names of published option files (`val: metrics: <name>: type:`), of the numpy and of the torch variants.
METRIC_TYPES: dict[str, str] = {
    **{f"calculate_{name}{suffix}": name for name in METRICS for suffix in ("", "_pytorch")},
    **{name: PYIQA + name for name in PYIQA_NAMES},
    "calculate_topiq": f"{PYIQA}topiq_fr",
    "calculate_topiq_nr": f"{PYIQA}topiq_nr",
}


def metric_info(kind: str) -> MetricInfo:
    """The entry of METRICS, or for `pyiqa:NAME` what the pyiqa package says of its metric.

    Raises:
        ValueError: Unknown metric, or one of pyiqa's while pyiqa is not installed.
    """
    if kind.startswith(PYIQA):
        return pyiqa_info(kind.removeprefix(PYIQA))
    if kind not in METRICS:
        known = ", ".join([*METRICS, *PYIQA_NAMES])
        raise ValueError(f"there is no metric {kind!r}; known: {known}, and every metric of pyiqa as {PYIQA}NAME")
    return METRICS[kind]
