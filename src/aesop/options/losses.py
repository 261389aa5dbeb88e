"""Options of the losses."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aesop.system.option_types import Options, Weight


class PixelOptions(Options):
    type: Literal["L1Loss", "MSELoss", "CharbonnierLoss", "LRL1Loss"] = "L1Loss"
    """The distance; CharbonnierLoss is L1 smoothed at zero, LRL1Loss the L1 distance of the images made smaller."""
    scale: Annotated[int, Field(ge=2)] | None = None
    """LRL1Loss: how much smaller the images are made; default: the file's `scale`."""
    loss_weight: Weight = 1.0
    """Factor of this loss in the sum."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over pixels, channels and images."""


class ArtifactsOptions(Options):
    type: Literal["L1Loss"] = "L1Loss"
    """The distance of the weighted images."""
    loss_weight: Weight = 1.0
    """Factor of this loss in the sum."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over pixels, channels and images."""


class AutoencoderLoad(Options):
    path: str
    """The auto-encoder's weight file: ours or a published `.pth`."""
    key: str = "params_ema"
    """Which weights of a `.pth`."""


class AesopOptions(Options):
    type: Literal["AutoEncoderLoss", "AutoEncoderBottleneckLoss", "ProbabilisticAutoEncoderReverseKLDivergenceLoss"] = (
        "AutoEncoderLoss"
    )
    """AESOP; or one of the paper's ablations: the distance of the bottlenecks, or the divergence of the Laplace
    distributions that a probabilistic auto-encoder gives."""
    loss_weight: Weight = 1.0
    """Factor of this loss in the sum."""
    criterion: Literal["l1", "l2", "reverse", "forward"] = "l1"
    """Distance of AE(SR) and AE(HR): absolute (l1) or squared (l2); direction of the divergence: reverse (KL of SR from HR)
    or forward."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over pixels, channels and images."""
    as_loss_map: bool = False
    """Weight the pixel loss by |AE(SR) - AE(HR)| instead."""
    range_guard: Literal["none", "clamp", "normalize"] = "none"
    """What the auto-encoder gets where SR leaves [0, 1]; `none` is the published behaviour."""
    autoencoder_load: AutoencoderLoad | None = None
    """Where the pre-trained auto-encoder is."""

    @model_validator(mode="after")
    def _fits_type(self) -> Self:
        divergence = self.type.startswith("Probabilistic")
        if divergence != (self.criterion in ("reverse", "forward")):
            raise ValueError(f"criterion of {self.type} is {'reverse or forward' if divergence else 'l1 or l2'}")
        if self.type != "AutoEncoderLoss" and (self.as_loss_map or self.range_guard != "none"):
            raise ValueError(f"as_loss_map and range_guard belong to AutoEncoderLoss, not to {self.type}")
        if divergence and self.reduction != "mean":
            raise ValueError(f"{self.type} has reduction: mean only")
        return self


PUBLISHED_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


class PerceptualOptions(Options):
    type: Literal["PerceptualLoss"] = "PerceptualLoss"
    """The loss's published name."""
    layer_weights: dict[str, Weight] = PUBLISHED_LAYERS
    """VGG layer (before its ReLU) -> weight."""
    vgg_type: Literal["vgg19", "vgg16"] = "vgg19"
    """Whose features are compared."""
    vgg_path: str | None = None
    """The VGG's weight file; default: torchvision's cache or the folders in AESOP_WEIGHTS."""
    use_input_norm: bool = True
    """Normalise images with ImageNet's mean and standard deviation."""
    range_norm: bool = False
    """The images are in [-1, 1] (here they are in [0, 1])."""
    perceptual_weight: Weight = 1.0
    """Factor of the feature distance in the sum."""
    style_weight: Weight = 0.0
    """Factor of the distance of the features' Gram matrices; 0: without."""
    criterion: Literal["l1", "l2", "fro"] = "l1"
    """Distance of features: absolute, squared, or the Frobenius norm."""


class GANOptions(Options):
    type: Literal["GANLoss"] = "GANLoss"
    """The loss's published name."""
    gan_type: Literal["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"] = "vanilla"
    """The objective; vanilla is binary cross-entropy."""
    real_label_val: float = 1.0
    """Target of real images (vanilla, lsgan)."""
    fake_label_val: float = 0.0
    """Target of generated images (vanilla, lsgan)."""
    loss_weight: Weight = 5e-3
    """Weight in the generator's loss; the discriminator's is never scaled."""
    relativistic: bool = True
    """Relativistic average GAN (published synthetic recipe) or the plain one (real-world recipe)."""
