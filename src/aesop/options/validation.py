"""Options of validation and tests."""

from typing import Annotated

from pydantic import AfterValidator

from aesop.system.option_types import Count, Options, _name_below


class MetricOptions(Options):
    type: str | None = None
    """psnr, ssim, lpips, lpips_vgg, dists, aepsnr, lrpsnr, niqe; with the extra `iqa` musiq, maniqa, clipiqa, pyiqa:NAME for
    each of pyiqa's metrics; or a published name (calculate_psnr_pytorch). Default: the entry's name."""
    crop_border: Count | None = None
    """Border left out, in HR pixels; default: the metric's usual one."""
    test_y_channel: bool | None = None
    """Measure luma only; default: as usual for the metric."""
    autoencoder: str | None = None
    """aepsnr: weight file of the auto-encoder to measure with; default: the AESOP loss's while training."""


SMALLEST_TILE = 32  # as for `aesop upscale`


def _tile(side: int) -> int:
    if 0 < side < SMALLEST_TILE:
        raise ValueError(f"0 (whole images) or at least {SMALLEST_TILE}")
    return side


class ValOptions(Options):
    val_freq: Count = 5000
    """Validate every so many iterations; 0: never."""
    val_start_iter: Count = 0
    """No validation before this iteration."""
    save_img: bool = True
    """Save the validated images."""
    suffix: Annotated[str, AfterValidator(lambda text: text and _name_below(text))] | None = None
    """Appended to the names of saved images."""
    metrics: dict[str, MetricOptions] = {"psnr": MetricOptions()}
    """What is measured, in validation and by `aesop test`: name -> options, `{}` for the usual ones."""
    tile: Annotated[Count, AfterValidator(_tile)] = 0
    """Side of the tiles, in LR pixels, in which generators see large images, in validation and by `aesop test`: less memory,
    a little another result; 0: whole images, as published."""
    page: bool = False
    """`aesop test` also writes <results>/page.html: the tested network, bicubic and `path.compare_with` side by side."""
    best_metric: str | None = None
    """The metric by which the best weights are kept; default: the first one."""
