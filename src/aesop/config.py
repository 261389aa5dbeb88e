"""Every option: its type, its default and what it does. Names are BasicSR's.

`aesop schema` prints this file's content as a JSON schema for editors; option_file.py reads files into it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

STAGES = ("psnr", "autoencoder", "adversarial")


def _whole(value: Any) -> Any:
    """YAML reads 5e3 as a string; counts written like that are meant as whole numbers."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Side = Annotated[Positive, Field(le=16_384)]
Weight = Annotated[float, Field(ge=0)]
# All numbers in the options of a network together; in the widest networks known they add up to half of this.
MAX_NETWORK_NUMBERS = 2048


def check_network_numbers(options: Any) -> None:
    """Raise ValueError for numbers in a network's options, at any depth, with which building it has no end."""
    numbers = list(_numbers(options))
    if sum(size for size, _ in numbers) > MAX_NETWORK_NUMBERS:
        largest, name = max(numbers)
        raise ValueError(
            f"{name}: {largest:.6g} is too large: the numbers of a network's options add up to {MAX_NETWORK_NUMBERS} at "
            "most, far more than those of any network known"
        )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[float, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, name)
    elif isinstance(value, int | float) and value == value:  # not NaN
        yield min(abs(value), 1e300), name


def _name_below(value: str) -> str:
    """A name of a folder or file, or of one in sub-folders, that leads to no place outside the folder it is put in."""
    nowhere = {"", ".", ".."} & set(re.split(r"[/\\]", value))
    if nowhere or value.startswith("~") or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(
            f"{value[:100]!r} becomes a part of a path: it must not be empty, begin or end with /, begin with ~, have . or "
            ".. as a part, or control characters"
        )
    return value


Name = Annotated[str, AfterValidator(_name_below)]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), validate_default=True)


# --- networks ----------------------------------------------------------------------------------------------------------


class RRDBNetOptions(Options):
    type: Literal["RRDBNet"] = "RRDBNet"
    """The network's name: ESRGAN's generator."""
    num_in_ch: Positive = 3
    """Channels of the LR image."""
    num_out_ch: Positive = 3
    """Channels of the SR image."""
    scale: Literal[1, 2, 3, 4, 8] | None = None
    """Enlargement; default: the file's `scale`."""
    num_feat: Positive = 64
    """Width of the trunk."""
    num_block: Positive = 23
    """Number of RRDBs."""
    num_grow_ch: Positive = 32
    """Growth of the dense blocks."""
    unshuffle: bool = True
    """At scale 2 feed the x4 trunk with the pixel-unshuffled image; false: BSRGAN's x2 network, with one enlargement."""
    use_checkpoint: bool = False
    """Recompute each block in the backward pass: less memory, more time."""


class MSRResNetOptions(Options):
    type: Literal["MSRResNet"]
    """The network's name: SRResNet without BatchNorm."""
    num_in_ch: Positive = 3
    """Channels of the LR image."""
    num_out_ch: Positive = 3
    """Channels of the SR image."""
    num_feat: Positive = 64
    """Width."""
    num_block: Positive = 16
    """Number of residual blocks."""
    upscale: Literal[2, 3, 4] | None = None
    """Enlargement; default: the file's `scale`."""


class SPSRNetOptions(Options):
    type: Literal["SPSRNet"]
    """The network's name: SPSR's generator."""
    in_nc: Positive = 3
    """Channels of the LR image."""
    out_nc: Positive = 3
    """Channels of the SR image."""
    nf: Positive = 64
    """Width of the trunk."""
    nb: Annotated[int, Field(ge=20)] = 23
    """Number of RRDBs; the gradient branch taps blocks 5, 10, 15 and 20."""
    gc: Positive = 32
    """Without effect, as published: the growth is 32."""
    upscale: Literal[2, 3, 4, 8] | None = None
    """Enlargement; default: the file's `scale`."""


class SpandrelNetOptions(Options):
    """Any image network that the spandrel library knows, with the options of its class there."""

    model_config = ConfigDict(extra="allow")
    type: str
    """The class's name: SwinIR, DRCT, HAT, DAT, RGT, ATD, SPAN, RealPLKSR, Compact ... An unknown one is answered with
    the list."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        from aesop.archs.spandrel_nets import check_options

        check_options(self.type, self.model_extra or {})
        return self


def _kind(value: Any) -> str | None:
    """Which options class a `network_g` belongs to; what is none of ours is looked for in spandrel."""
    given = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    if given in AUTOENCODERS:
        return "AutoEncoder_RRDBNet"
    if given in ("RRDBNet", "MSRResNet", "SPSRNet"):
        return given
    return "spandrel" if isinstance(given, str) else None


Generator = Annotated[
    Annotated[RRDBNetOptions, Tag("RRDBNet")]
    | Annotated[MSRResNetOptions, Tag("MSRResNet")]
    | Annotated[SPSRNetOptions, Tag("SPSRNet")]
    | Annotated[SpandrelNetOptions, Tag("spandrel")],
    Discriminator(_kind),
]


class EncoderOptions(Options):
    num_feat: Positive | None = None
    """Width of the encoder's RRDBs; default: the decoder's."""
    num_grow_ch: Positive | None = None
    """Growth of the encoder's dense blocks; default: the decoder's."""


AUTOENCODERS = (
    "AutoEncoder_RRDBNet",
    "AutoEncoder_MSRResNet",
    "BicubicDown_RRDBNet",
    "ProbabilisticAutoEncoder_RRDBNet",
)


class AutoEncoderOptions(Options):
    type: Literal[
        "AutoEncoder_RRDBNet", "AutoEncoder_MSRResNet", "BicubicDown_RRDBNet", "ProbabilisticAutoEncoder_RRDBNet"
    ] = "AutoEncoder_RRDBNet"
    """AESOP's auto-encoder, or one of the paper's ablations: with an MSRResNet decoder, with bicubic in the encoder's
    place, with a second output that predicts each pixel's scale of error."""
    scale: Literal[2, 3, 4, 8] | None = None
    """Ratio of HR to bottleneck size; default: the file's `scale`."""
    enc_opt: EncoderOptions = EncoderOptions()
    """The encoder."""
    dec_opt: Generator
    """The decoder: a generator of the same scale."""


class VGGStyleDiscriminatorOptions(Options):
    type: Literal["VGGStyleDiscriminator128", "VGGStyleDiscriminator192", "VGGStyleDiscriminator256"]
    """The number is the image size it takes, which must be the training crop's `gt_size`."""
    num_in_ch: Positive = 3
    """Channels of the image."""
    num_feat: Positive = 64
    """Width of the first stage."""


class UNetDiscriminatorOptions(Options):
    type: Literal["UNetDiscriminatorSN"]
    """The network's name: Real-ESRGAN's discriminator, for crops whose side is a multiple of 8."""
    num_in_ch: Positive = 3
    """Channels of the image."""
    num_feat: Positive = 64
    """Width of the first stage."""
    skip_connection: bool = True
    """Add the encoder's features to the decoder's."""


NetworkG = Annotated[
    Annotated[RRDBNetOptions, Tag("RRDBNet")]
    | Annotated[MSRResNetOptions, Tag("MSRResNet")]
    | Annotated[SPSRNetOptions, Tag("SPSRNet")]
    | Annotated[AutoEncoderOptions, Tag("AutoEncoder_RRDBNet")]
    | Annotated[SpandrelNetOptions, Tag("spandrel")],
    Discriminator(_kind),
]
NetworkD = Annotated[VGGStyleDiscriminatorOptions | UNetDiscriminatorOptions, Field(discriminator="type")]


def enlargement_option(network: Options) -> str | None:
    """What a network's options call its enlargement; None for one that has none."""
    if isinstance(network, SpandrelNetOptions):
        from aesop.archs.spandrel_nets import scale_option

        return scale_option(network.type)
    return "scale" if "scale" in type(network).model_fields else "upscale"


def _takes(discriminator: VGGStyleDiscriminatorOptions | UNetDiscriminatorOptions, size: int) -> bool:
    if isinstance(discriminator, UNetDiscriminatorOptions):
        return size % 8 == 0
    return discriminator.type == f"VGGStyleDiscriminator{size}"


# --- data --------------------------------------------------------------------------------------------------------------


class IOBackend(Options):
    type: Literal["disk", "lmdb"] = "disk"
    """Where the images are: `disk`, image files in folders, or decoded in packs NAME.pack (`aesop prepare pack`); `lmdb`,
    LMDB folders NAME.lmdb of BasicSR's layout."""


class PairedDataset(Options):
    name: str = ""
    """Shown in tables and logs; default: the section's name."""
    type: Literal["PairedImageDataset", "SingleImageDataset", "RealESRGANDataset"] = "PairedImageDataset"
    """HR images, with LR images or with LR made from them by bicubic; SingleImageDataset, for tests: the network's input
    alone; RealESRGANDataset, for training: HR images, from which the `degradation` makes LR."""
    dataroot_gt: str | list[str] | None = None
    """Folder(s) of HR images, searched recursively, or packs of them."""
    dataroot_lq: str | list[str] | None = None
    """Folder(s) or packs of LR images; without it LR is made from HR by MATLAB-compatible bicubic."""
    filename_tmpl: str = "{}"
    """LR file name for an HR name, without suffix: `{}x4` pairs img.png with imgx4.png."""
    io_backend: IOBackend = IOBackend()
    """How the images are stored."""

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        here = ("SingleImageDataset",) if isinstance(self, TrainDataset) else ("RealESRGANDataset",)
        if self.type in here:
            raise ValueError(f"type: {self.type} is for {'tests' if isinstance(self, TrainDataset) else 'training'}")
        if self.type == "SingleImageDataset":
            if not self.dataroot_lq or self.dataroot_gt:
                raise ValueError("a SingleImageDataset has dataroot_lq, the network's input, and no dataroot_gt")
        elif self.dataroot_gt is None:
            raise ValueError("dataroot_gt is missing; without HR images use type: SingleImageDataset")
        roots = [
            root
            for given in (self.dataroot_gt, self.dataroot_lq)
            for root in ([given] if isinstance(given, str) else given or [])
        ]
        wrong = [root for root in roots if not root.rstrip("/").endswith(".lmdb")]
        if self.io_backend.type == "lmdb" and wrong:
            raise ValueError(f"io_backend lmdb reads folders whose names end in .lmdb, found {wrong[0]}")
        return self

    @field_validator("filename_tmpl")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if re.fullmatch(r"[^{}]*\{\}[^{}]*", value) is None:
            raise ValueError(f"must have {{}} once, where the HR name goes (e.g. '{{}}x4'), found {value!r}")
        return value


class TrainDataset(PairedDataset):
    meta_info: str | None = None
    """A list of the files below dataroot_gt to use, one name a line; default: all of them."""
    gt_size: Side = 128
    """Side of the HR crop in pixels, a multiple of the scale."""
    use_flip: bool = True
    """Flip left-right with probability 1/2."""
    use_rot: bool = True
    """Flip up-down and transpose, each with probability 1/2 (with use_flip: all eight orientations)."""
    batch_size_per_gpu: Positive = 16
    """Images per step and process."""
    num_worker_per_gpu: Annotated[Count, Field(le=256)] = 4
    """Loader processes per process; 0 loads in the training process. Never changes the samples."""
    bad_images: Literal["stop", "skip"] = "stop"
    """An image that cannot be read, or is too small: stop and name it, or train without it and say so. Training on less than
    one thinks is the worse surprise, so it stops by default."""
    cache: bool = False
    """Keep decoded images in memory (each worker its own): for small sets."""


class Datasets(BaseModel):
    """`train`, and any number of sections whose name begins with `val` or `test`."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, PairedDataset] = Field(init=False)  # ty: ignore[incompatible-mutable-override]
    train: TrainDataset | None = None
    """What is trained on."""

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            wrong = [str(name) for name in data if not str(name).startswith(("train", "val", "test"))]
            wrong += [str(name) for name in data if str(name).startswith("train") and name != "train"]
            if wrong:
                raise ValueError(f"unknown section {', '.join(wrong)}: use train, val..., or test...")
            for name in data:  # results are saved under it
                _name_below(str(name))
            # `datasets.test_3=null` on the command line leaves a set of the file out.
            data = {name: section for name, section in data.items() if section is not None}
        return data

    def measured(self, prefix: str) -> dict[str, PairedDataset]:
        """The sections to validate (`val`) or test (`test`) on."""
        return {name: data for name, data in (self.__pydantic_extra__ or {}).items() if name.startswith(prefix)}


# --- degradation -------------------------------------------------------------------------------------------------------

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Kernel = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
KERNELS: list[Kernel] = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
KERNEL_PROBABILITIES = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise ValueError(f"a kernel's side is odd: {side - 1} or {side + 1}")
    return side


# At least 7, the smallest side that is drawn.
KernelSize = Annotated[int, Field(ge=7, le=201), AfterValidator(_odd)]


class DegradationOptions(Options):
    """Real-ESRGAN's random degradation of HR images into LR images (Wang et al., ICCVW 2021, section 3), in two rounds; the
    options of the second end in 2. Published files have these at the top and below datasets.train: both are read."""

    blur_kernel_size: KernelSize = 21
    """Largest side of a blur kernel; odd sides from 7 on are drawn."""
    kernel_list: list[Kernel] = KERNELS
    """Families of blur kernels: Gaussian, generalised Gaussian, plateau; isotropic or not."""
    kernel_prob: list[Probability] = KERNEL_PROBABILITIES
    """Probability of each family."""
    sinc_prob: Probability = 0.1
    """Probability of a sinc kernel in their place."""
    blur_sigma: Range = (0.2, 3)
    """Standard deviation of the kernels in pixels."""
    betag_range: Range = (0.5, 4)
    """Shape of the generalised Gaussians."""
    betap_range: Range = (1, 2)
    """Shape of the plateaus."""
    resize_prob: tuple[Probability, Probability, Probability] = (0.2, 0.7, 0.1)
    """Probability of enlarging, reducing, keeping."""
    resize_range: Range = (0.15, 1.5)
    """Smallest and largest factor."""
    gaussian_noise_prob: Probability = 0.5
    """Probability of Gaussian noise; else Poisson."""
    noise_range: Range = (1, 30)
    """Standard deviation of the Gaussian noise in grey levels of 255."""
    poisson_scale_range: Range = (0.05, 3)
    """Strength of the Poisson noise."""
    gray_noise_prob: Probability = 0.4
    """Probability of noise without colour."""
    jpeg_range: Range = (30, 95)
    """JPEG quality."""
    second_blur_prob: Probability = 0.8
    """Probability of a blur in the second round."""
    blur_kernel_size2: KernelSize = 21
    """As blur_kernel_size."""
    kernel_list2: list[Kernel] = KERNELS
    """As kernel_list."""
    kernel_prob2: list[Probability] = KERNEL_PROBABILITIES
    """As kernel_prob."""
    sinc_prob2: Probability = 0.1
    """As sinc_prob."""
    blur_sigma2: Range = (0.2, 1.5)
    """As blur_sigma."""
    betag_range2: Range = (0.5, 4)
    """As betag_range."""
    betap_range2: Range = (1, 2)
    """As betap_range."""
    resize_prob2: tuple[Probability, Probability, Probability] = (0.3, 0.4, 0.3)
    """As resize_prob."""
    resize_range2: Range = (0.3, 1.2)
    """As resize_range."""
    gaussian_noise_prob2: Probability = 0.5
    """As gaussian_noise_prob."""
    noise_range2: Range = (1, 25)
    """As noise_range."""
    poisson_scale_range2: Range = (0.05, 2.5)
    """As poisson_scale_range."""
    gray_noise_prob2: Probability = 0.4
    """As gray_noise_prob."""
    jpeg_range2: Range = (30, 95)
    """As jpeg_range."""
    final_sinc_prob: Probability = 0.8
    """Probability of a sinc kernel at the very end."""
    crop_pad_size: Side = 400
    """Side of the HR crop that is degraded; smaller images are continued by reflection. The training crop is cut from it."""
    per_sample: bool = False
    """Every image of a batch is degraded in its own way, without a need for the pool; published: resizing, kind of noise and
    order are drawn for the batch."""
    queue_size: Count = 180
    """Pairs in the pool that mixes the degradations of several batches; a multiple of the batch. 0: no pool."""

    @model_validator(mode="after")
    def _sums(self) -> Self:
        faults = []
        for suffix in ("", "2"):
            names, probs = getattr(self, f"kernel_list{suffix}"), getattr(self, f"kernel_prob{suffix}")
            if len(names) != len(probs):
                faults.append(f"kernel_prob{suffix} has {len(probs)} numbers for the {len(names)} of kernel_list{suffix}")
            for option in (f"kernel_prob{suffix}", f"resize_prob{suffix}"):
                if abs(sum(getattr(self, option)) - 1) > 1e-6:
                    faults.append(f"{option} must sum to 1, sums to {sum(getattr(self, option)):g}")
        for name, value in self:
            if name.rstrip("2").endswith(("_range", "_sigma")) and not 0 <= value[0] <= value[1]:
                faults.append(f"{name} must be [smallest, largest], found {list(value)}")
        if faults:
            raise ValueError("\n".join(faults))
        return self


# --- losses ------------------------------------------------------------------------------------------------------------


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


# --- training ----------------------------------------------------------------------------------------------------------


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


class WandbOptions(Options):
    project: str | None = None
    """The project's name; without it nothing is sent."""
    resume_id: str | None = None
    """Id of the run to continue."""


class LoggerOptions(Options):
    print_freq: Positive = 100
    """A line of progress every so many iterations."""
    save_checkpoint_freq: Positive = 5000
    """Save weights and resumable state every so many iterations (and at the end)."""
    keep_states: Positive = 2
    """How many resumable states stay on disk; weights are all kept."""
    on_failed_save: Literal["continue", "stop"] = "continue"
    """What to do when a checkpoint cannot be written (a full disk): go on until the next one is due, or stop. The former
    states stay in both cases; the last checkpoint of a run, and that of a signal, always stop."""
    use_tb_logger: bool = True
    """Write TensorBoard events."""
    wandb: WandbOptions | None = None
    """Also log to Weights & Biases when a project is given (extra: pip install "aesop-sr[wandb]")."""


class PathOptions(Options):
    pretrain_network_g: str | None = None
    """Weights the generator (or, for the autoencoder stage, the auto-encoder) starts from."""
    compare_with: str | list[str] | None = None
    """Weight files of other generators of the same scale, which `aesop test` measures beside this network, as it does
    bicubic; their architectures are found from the files."""
    param_key_g: str | None = None
    """Which weights of a `.pth`: params_ema or params; default: the first of these that it has."""
    strict_load_g: bool = True
    """Every tensor must fit; false: take those that do."""
    pretrain_network_d: str | None = None
    """Weights the discriminator starts from."""
    param_key_d: str | None = None
    """As param_key_g."""
    strict_load_d: bool = True
    """As strict_load_g."""
    pretrain_network_decoder: str | None = None
    """autoencoder: weights of the PSNR net the decoder starts from."""
    param_key_decoder: str | None = None
    """As param_key_g."""
    strict_load_decoder: bool = True
    """As strict_load_g."""
    from_scratch: bool = False
    """Allow the autoencoder or adversarial stage to start without the weights it is meant to start from."""
    resume_state: str | None = None
    """A state folder to continue from; `--resume` finds the newest by itself."""
    experiments_root: str = "experiments"
    """Training writes into <experiments_root>/<name>."""
    results_root: str = "results"
    """Testing writes into <results_root>/<name>."""


# The sharpening's blur is 51 pixels wide and mirrors half of it at the borders.
SMALLEST_SHARPENED = 26
# Losses that single stages have.
_ONLY_IN = {
    "pixel_at_LR_opt": ("autoencoder",),
    "sigmabranch_opt": ("autoencoder",),
    "aesop_opt": ("adversarial",),
    "artifacts_opt": ("adversarial",),
    "perceptual_opt": ("adversarial",),
    "gan_opt": ("adversarial",),
}


class Config(Options):
    """One option file: one training stage, or a test."""

    name: Name
    """Names the output folder."""
    stage: Literal["psnr", "autoencoder", "adversarial"] = "psnr"
    """What is trained: psnr (pixel loss), then autoencoder, then adversarial (the AESOP GAN)."""
    scale: Literal[1, 2, 3, 4, 8] = 4
    """Enlargement from LR to HR; the networks take it from here."""
    manual_seed: Count = 0
    """Determines initial weights and every sample."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the networks run in; losses, EMA and optimiser stay in fp32."""
    deterministic: bool = False
    """CUDA: deterministic algorithms only, slower, so that a training that stopped and went on ends bit for bit as one that
    did not. On a CPU it always does."""
    channels_last: bool = False
    """Keep images and features channel by channel within a pixel: what the tensor cores of NVIDIA GPUs want."""
    compile: bool = False
    """Compile the networks (torch.compile): a minute at the start, fewer and larger kernels from then on."""
    cuda_graphs: bool = False
    """CUDA, one process: record a training step once and replay it, so that the GPU does not wait for Python. A recording
    keeps its memory. Not yet run on a GPU."""
    network_g: NetworkG
    """The generator; for the autoencoder stage the auto-encoder."""
    network_d: NetworkD | None = None
    """The discriminator of the adversarial stage."""
    datasets: Datasets = Datasets()
    """What is trained, validated and tested on."""
    degradation: DegradationOptions | None = None
    """Real-world training: LR images are made by random degradations; goes with datasets.train.type RealESRGANDataset."""
    path: PathOptions = PathOptions()
    """Weights to start from, folders to write to."""
    train: TrainOptions | None = None
    """Losses, optimisers and length of the training; a test has none."""
    val: ValOptions = ValOptions()
    """Validation while training, and what `aesop test` measures."""
    logger: LoggerOptions = LoggerOptions()
    """Progress lines, checkpoints and where figures are sent."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.train is not None and self.train.ema_warmup is None:
            self.train.ema_warmup = self.path.pretrain_network_g is None
        faults = [*self._size_faults(), *self._scale_faults()]
        if self.train is not None:
            faults += self._train_faults(self.train)
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _size_faults(self) -> Iterator[str]:
        for where, network in (("network_g", self.network_g), ("network_d", self.network_d)):
            try:
                check_network_numbers(network.model_dump() if network else {})
            except ValueError as error:
                yield f"{where}: {error}"

    def _scale_faults(self) -> Iterator[str]:
        networks: list[tuple[str, Any]] = [("network_g", self.network_g)]
        if isinstance(self.network_g, AutoEncoderOptions):
            networks.append(("network_g.dec_opt", self.network_g.dec_opt))
        for where, network in networks:
            option = enlargement_option(network)
            given = getattr(network, option, None) if option else 1
            if given is None and option:
                setattr(network, option, self.scale)
            elif given != self.scale:
                called = f".{option}: {given}" if option else f".type: {network.type} keeps the size, which"
                yield f"{where}{called} differs from the file's scale {self.scale}"
        if self.train and self.train.pixel_opt and self.train.pixel_opt.type == "LRL1Loss":
            self.train.pixel_opt.scale = self.train.pixel_opt.scale or self.scale
        if self.datasets.train and self.datasets.train.gt_size % self.scale:
            yield f"datasets.train.gt_size: {self.datasets.train.gt_size} is no multiple of the scale {self.scale}"

    def _train_faults(self, train: TrainOptions) -> Iterator[str]:
        is_autoencoder = isinstance(self.network_g, AutoEncoderOptions)
        if is_autoencoder != (self.stage == "autoencoder"):
            wanted = "an auto-encoder (AutoEncoder_RRDBNet)" if self.stage == "autoencoder" else "a generator"
            yield f"network_g.type: the {self.stage} stage trains {wanted}, found {self.network_g.type}"
        if self.datasets.train is None:
            yield "datasets.train: missing; give at least dataroot_gt"
        elif self.datasets.train.batch_size_per_gpu % train.accumulate:
            batch = self.datasets.train.batch_size_per_gpu
            yield f"train.accumulate: {train.accumulate} does not divide the batch_size_per_gpu of {batch}"
        sums = [o for o in (train.pixel_opt, train.pixel_at_LR_opt, train.aesop_opt) if o and o.reduction == "sum"]
        if sums and train.accumulate > 1:
            yield "train.accumulate: parts of a batch are averaged, which does not go with reduction: sum"
        yield from self._degradation_faults()
        for option, stages in _ONLY_IN.items():
            if getattr(train, option) is not None and self.stage not in stages:
                yield f"train.{option}: it has no place in the {self.stage} stage, only in {' and '.join(stages)}; remove it"
        probabilistic = self.network_g.type == "ProbabilisticAutoEncoder_RRDBNet"
        if train.sigmabranch_opt is not None and not probabilistic:
            yield "train.sigmabranch_opt: only a ProbabilisticAutoEncoder_RRDBNet has a sigma branch"
        if self.stage == "autoencoder" and probabilistic and train.sigmabranch_opt is None:
            yield "train.sigmabranch_opt: a probabilistic auto-encoder learns its scale from it, e.g. {type: L1Loss}"
        sharpened = [name for name, value in train if name.endswith("_gt_usm") and value]
        if sharpened and self.datasets.train is not None and self.datasets.train.gt_size < SMALLEST_SHARPENED:
            yield f"train.{sharpened[0]}: sharpening takes images from {SMALLEST_SHARPENED} pixels on; raise gt_size"
        if self.network_g.type == "BicubicDown_RRDBNet" and train.freeze_decoder:
            yield "train.freeze_decoder: a BicubicDown_RRDBNet has nothing but its decoder to train; set it to 0"
        best = self.val.best_metric
        if best is not None and best not in self.val.metrics:
            yield f"val.best_metric: {best!r} is none of val.metrics ({', '.join(self.val.metrics)})"
        start = self.path.pretrain_network_g or self.path.resume_state or self.path.from_scratch
        if self.stage in ("psnr", "autoencoder") and train.pixel_opt is None:
            yield f"train.pixel_opt: the {self.stage} stage needs it, e.g. pixel_opt: {{type: L1Loss}}"
        if self.stage == "autoencoder" and not (start or self.path.pretrain_network_decoder):
            yield (
                "path.pretrain_network_decoder: the auto-encoder's decoder starts from a trained PSNR net; give its "
                "weights (or run `aesop pipeline`, or set path.from_scratch: true if you mean it)"
            )
        if self.stage == "adversarial":
            yield from self._adversarial_faults(train, bool(start))

    def _degradation_faults(self) -> Iterator[str]:
        crops, degradation = self.datasets.train, self.degradation
        if crops is None:
            return
        if (crops.type == "RealESRGANDataset") != (degradation is not None):
            yield (
                "degradation: it goes with datasets.train.type: RealESRGANDataset, and that with a degradation section "
                "(`degradation: {}` takes Real-ESRGAN's values)"
            )
        if degradation is None:
            return
        if crops.dataroot_lq is not None:
            yield "datasets.train.dataroot_lq: LR images are made by the degradation; leave it out"
        side = degradation.crop_pad_size
        if side < crops.gt_size or side % self.scale:
            yield f"degradation.crop_pad_size: {side} must be a multiple of the scale, and at least gt_size {crops.gt_size}"
        if degradation.queue_size % crops.batch_size_per_gpu:
            yield (
                f"degradation.queue_size: {degradation.queue_size} is no multiple of the batch_size_per_gpu "
                f"{crops.batch_size_per_gpu}"
            )

    def _adversarial_faults(self, train: TrainOptions, has_start: bool) -> Iterator[str]:
        if not has_start:
            yield (
                "path.pretrain_network_g: the adversarial stage starts from a trained PSNR net; give its weights (or run "
                "`aesop pipeline`, or set path.from_scratch: true if you mean it)"
            )
        if train.gan_opt is None or self.network_d is None:
            yield "train.gan_opt and network_d: the adversarial stage needs both"
        if train.aesop_opt is not None and train.aesop_opt.autoencoder_load is None:
            yield (
                "train.aesop_opt.autoencoder_load: give the trained auto-encoder's weights, e.g. autoencoder_load: "
                "{path: autoencoder.safetensors} (made by the autoencoder stage)"
            )
        if train.artifacts_opt is not None and train.ema_decay == 0:
            yield "train.artifacts_opt: the artifact loss compares with the EMA generator; set train.ema_decay > 0"
        size = self.datasets.train.gt_size if self.datasets.train else None
        if self.network_d is not None and size and not _takes(self.network_d, size):
            yield (
                f"network_d.type: {self.network_d.type} does not take crops of gt_size {size}: change "
                "datasets.train.gt_size, or use UNetDiscriminatorSN, which takes any multiple of 8"
            )

    @property
    def run_folder(self) -> Path:
        """What training writes into."""
        return Path(self.path.experiments_root).expanduser() / self._folder_name

    @property
    def results_folder(self) -> Path:
        """What testing writes into."""
        return Path(self.path.results_root).expanduser() / self._folder_name

    @property
    def _folder_name(self) -> str:
        """The name without what cannot be in a folder's name everywhere: a published file has a colon in it."""
        return re.sub(r'[<>:"|?*\\]', "_", self.name)

    def to_yaml(self) -> str:
        """The resolved configuration; reading it gives the same one."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
