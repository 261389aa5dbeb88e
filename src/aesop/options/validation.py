"""Options of validation and tests."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from aesop.system.option_types import Count, Options, Positive, name_below


class MetricOptions(Options):
    type: str | None = None
    """psnr, ssim, lpips, lpips_vgg, dists, aepsnr, lrpsnr or niqe; with the extra `iqa` also musiq, maniqa, clipiqa, and
    pyiqa:NAME for any metric of pyiqa. Published names (calculate_psnr_pytorch) work too. Default: the entry's name."""
    crop_border: Count | None = None
    """Border to leave out, in HR pixels. Default: as usual for the metric."""
    test_y_channel: bool | None = None
    """Measure luma only. Default: as usual for the metric."""
    autoencoder: str | None = None
    """aepsnr: weight file of the auto-encoder. Default in a training: the auto-encoder of the AESOP loss."""


def _tile(side: int) -> int:
    if 0 < side < 32:  # as for `aesop upscale`
        raise ValueError("0 (whole images) or at least 32")
    return side


def _budget(count: int) -> int:
    if count == 1:
        raise ValueError("0 (no front) or at least 2, its ends")
    return count


class FrontOptions(Options):
    distortion: str | None = None
    """Metric of the distortion, by its name in `val.metrics`. Default: the first psnr or lrpsnr."""
    perception: str | None = None
    """Metric of the perceptual quality. Default: the first lpips, lpips_vgg or dists."""
    keep: Annotated[Count, AfterValidator(_budget)] = 8
    """At most this many models: both ends of the front, and of the others those that are least crowded. 0: no front."""


class EarlyStopOptions(Options):
    patience: Positive
    """Stop when this many consecutive validations brought nothing new."""
    watch: Literal["front", "best"] = "front"
    """What counts as new: a model that joins the front, or a better value of `best_metric`."""
    min_iter: Count = 0
    """Train at least until this iteration. Validations before it count as well."""


class ValOptions(Options):
    val_freq: Count = 5000
    """Validate every N iterations. 0: never."""
    val_start_iter: Count = 0
    """Iteration of the first validation."""
    max_images: Count = 0
    """Validate on at most this many images of each set, evenly spread; 0: all. `aesop test` measures all."""
    save_img: bool = True
    """Save the images."""
    suffix: Annotated[str, AfterValidator(lambda text: text and name_below(text))] | None = None
    """Suffix for the names of saved images."""
    metrics: dict[str, MetricOptions] = {"psnr": MetricOptions()}
    """Metrics of validation and of `aesop test`: name -> options, `{}` for the usual ones."""
    tile: Annotated[Count, AfterValidator(_tile)] = 0
    """Side of the tiles of large images, in LR pixels: less memory, slightly different results. 0, as published: none."""
    page: bool = False
    """`aesop test` also writes <results>/page.html, with this network, bicubic and `path.compare_with` side by side."""
    cache: bool = False
    """`aesop test` keeps SR images and values in the user's cache folder, and computes only what is not there."""
    best_metric: str | None = None
    """The metric that decides which weights are the best. Default: the first one."""
    front: FrontOptions = FrontOptions()
    """Training keeps the models that no other one beats in both of two metrics in models/front/. By default it does if
    `metrics` has one of each kind."""
    early_stop: EarlyStopOptions | None = None
    """End the training before `train.total_iter` when validations bring nothing new. Default: never."""
