"""Options of a training: optimisers, schedule, losses, length."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aesop.options.losses import AesopOptions, ArtifactsOptions, GANOptions, PerceptualOptions, PixelOptions
from aesop.system.option_types import Count, Options, Positive, Weight


class OptimizerOptions(Options):
    type: Literal["Adam", "AdamW"] = "Adam"
    """The optimiser."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate before warm-up and scheduler."""
    weight_decay: Weight = 0.0
    """L2 penalty on the weights (AdamW: decoupled)."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's two decay rates."""


class SchedulerOptions(Options):
    type: Literal["MultiStepLR", "MultiStepRestartLR", "CosineAnnealingRestartLR"] = "MultiStepLR"
    """How the learning rate changes; both multi-step names mean the same. The default keeps it constant."""
    milestones: list[Count] = []
    """MultiStepLR: after these iterations the rate is multiplied by gamma."""
    gamma: float = 0.1
    """MultiStepLR: the factor at each milestone."""
    periods: list[Positive] = []
    """CosineAnnealingRestartLR: length of each cosine; the rate stays at its end after the last."""
    restarts: list[Count] = [0]
    """MultiStepLR: iterations at which the rate starts anew."""
    restart_weights: list[float] = [1.0]
    """Factor of the rate after each restart (or in each period)."""
    eta_min: float = 0.0
    """CosineAnnealingRestartLR: the lowest rate."""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.type == "CosineAnnealingRestartLR":
            if not self.periods:
                raise ValueError("CosineAnnealingRestartLR needs periods, e.g. periods: [300000]")
            if len(self.restart_weights) != len(self.periods):
                raise ValueError("restart_weights and periods must be equally long")
        elif len(self.restart_weights) != len(self.restarts):
            raise ValueError("restart_weights and restarts must be equally long")
        return self


class TrainOptions(Options):
    total_iter: Positive
    """Length of the training in optimiser steps."""
    warmup_iter: int = -1
    """Linear warm-up of the learning rate over this many iterations; -1: none."""
    optim_g: OptimizerOptions = OptimizerOptions()
    """The generator's (or auto-encoder's) optimiser."""
    optim_d: OptimizerOptions = OptimizerOptions()
    """adversarial: the discriminator's optimiser."""
    scheduler: SchedulerOptions = SchedulerOptions()
    """The learning rate over time, for all optimisers."""
    max_skipped: Positive = 10
    """A step whose losses or gradients are NaN or infinite is skipped; after so many in a row the run goes back to its
    newest state, and on from there with other samples."""
    max_rollbacks: Count = 3
    """How often it goes back to the same state before it stops."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged generator, which is what is saved for use; 0: the generator itself."""
    ema_warmup: bool | None = None
    """In iteration i the decay is at most (1 + i) / (10 + i), so that the average soon forgets the weights it began with.
    Default: true, but false where path.pretrain_network_g is given and for published files (model_type). A run that an
    earlier version began, without this option, continues without warm-up."""
    accumulate: Positive = 1
    """Split each batch into this many parts (gradients add up): less memory, the same step except for what looks at a
    whole batch at once (BatchNorm, the relativistic GAN's means)."""
    gradient_compression: Literal["none", "bf16"] = "none"
    """Several processes: the gradients travel as they are, or as bfloat16 (half the bytes, 8 bits of precision)."""
    pixel_opt: PixelOptions | None = None
    """Distance of output and HR."""
    pixel_at_LR_opt: PixelOptions | None = None
    """autoencoder: distance of bottleneck and LR."""
    sigmabranch_opt: PixelOptions | None = None
    """autoencoder (probabilistic): distance of the predicted scale and |AE(HR) - HR|."""
    freeze_decoder: Count = 0
    """autoencoder: the decoder's weights stay fixed up to this iteration."""
    aesop_opt: AesopOptions | None = None
    """adversarial: the AESOP loss, in place of pixel_opt."""
    artifacts_opt: ArtifactsOptions | None = None
    """adversarial: LDL's artifact loss; needs ema_decay > 0."""
    perceptual_opt: PerceptualOptions | None = None
    """adversarial: VGG feature distance."""
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
    net_d_iters: Positive = 1
    """adversarial: the generator is updated every net_d_iters-th iteration."""
    net_d_init_iters: Count = 0
    """adversarial: only the discriminator is trained up to this iteration."""
    net_d_published_passes: bool = False
    """adversarial: repeat the published step's discriminator pass whose result is not needed. It only moves buffers:
    BatchNorm's running statistics, which training never reads, or one more power iteration of a spectral norm."""
