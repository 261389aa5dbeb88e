"""Every loss. To add one: its file, with its options; then one field in `LossTerms`."""

from collections.abc import Callable, Mapping

from torch import Tensor

from aesop.losses.aesop import AesopOptions
from aesop.losses.artifact import ArtifactsOptions
from aesop.losses.dists import DISTSOptions
from aesop.losses.gan import GANOptions
from aesop.losses.loss_term import LossOptions, LossTerm
from aesop.losses.lpips import LPIPSOptions
from aesop.losses.ms_ssim import MSSSIMOptions
from aesop.losses.perceptual import PerceptualOptions
from aesop.losses.pixel import PixelAtLROptions, PixelOptions, SigmaBranchOptions
from aesop.system.distributed import World
from aesop.system.option_types import Options


class LossTerms(Options):
    """The losses of a training. A step adds them up in this order."""

    pixel_opt: PixelOptions | None = None
    """Distance of output and HR."""
    pixel_at_LR_opt: PixelAtLROptions | None = None
    """autoencoder: distance of bottleneck and LR."""
    sigmabranch_opt: SigmaBranchOptions | None = None
    """autoencoder (probabilistic): distance of the predicted scale and |AE(HR) - HR|."""
    aesop_opt: AesopOptions | None = None
    """The AESOP loss, in place of pixel_opt."""
    msssim_opt: MSSSIMOptions | None = None
    """MS-SSIM, the similarity of structure at several scales."""
    perceptual_opt: PerceptualOptions | None = None
    """VGG feature distance."""
    lpips_opt: LPIPSOptions | None = None
    """LPIPS, the learned perceptual distance."""
    dists_opt: DISTSOptions | None = None
    """DISTS, the similarity of deep structure and texture."""
    artifacts_opt: ArtifactsOptions | None = None
    """adversarial: LDL's artifact loss; needs ema_decay > 0."""
    gan_opt: GANOptions | None = None
    """adversarial: the GAN loss."""

    l1_gt_usm: bool = False
    """pixel_opt compares with the sharpened HR (Real-ESRGAN's recipe)."""
    percep_gt_usm: bool = False
    """perceptual_opt compares with the sharpened HR."""
    gan_gt_usm: bool = False
    """The discriminator sees the sharpened HR."""
    aesop_gt_usm: bool = False
    """aesop_opt compares with the sharpened HR (published: with HR as it is)."""

    def losses(self) -> dict[str, LossOptions]:
        """The losses that are given, by the names of their options."""
        return {name: options for name, options in self if isinstance(options, LossOptions)}


def build_losses(
    options: LossTerms, scale: int = 4, world: World | None = None, ready: Mapping[str, Callable[..., Tensor]] = {}
) -> dict[str, Callable[..., Tensor]]:
    """The losses of a training by the names of their options: those in `ready`, the others by `LossOptions.build`."""
    built = {name: loss.build(scale, world or World()) for name, loss in options.losses().items() if name not in ready}
    return {**ready, **built}


def loss_terms(options: LossTerms, losses: Mapping[str, Callable[..., Tensor]], prefix: str) -> dict[str, LossTerm]:
    """The summands of a step by the names of their options, logged under `prefix` and their own names."""
    terms = {}
    for name, loss in options.losses().items():
        sharpened = loss.sharpened_by is not None and getattr(options, loss.sharpened_by)
        inputs = tuple("gt_usm" if sharpened and image == "gt" else image for image in loss.inputs)
        terms[name] = LossTerm(prefix + loss.log_name, getattr(loss, "loss_weight", 1.0), inputs, losses[name])
    return terms
