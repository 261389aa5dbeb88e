"""Options of the networks."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from aesop.system.option_types import Options, Positive


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

    def takes_crops_of(self, size: int) -> bool:
        return self.type == f"VGGStyleDiscriminator{size}"


class UNetDiscriminatorOptions(Options):
    type: Literal["UNetDiscriminatorSN"]
    """The network's name: Real-ESRGAN's discriminator, for crops whose side is a multiple of 8."""
    num_in_ch: Positive = 3
    """Channels of the image."""
    num_feat: Positive = 64
    """Width of the first stage."""
    skip_connection: bool = True
    """Add the encoder's features to the decoder's."""

    def takes_crops_of(self, size: int) -> bool:
        return size % 8 == 0


NetworkG = Annotated[
    Annotated[RRDBNetOptions, Tag("RRDBNet")]
    | Annotated[MSRResNetOptions, Tag("MSRResNet")]
    | Annotated[SPSRNetOptions, Tag("SPSRNet")]
    | Annotated[AutoEncoderOptions, Tag("AutoEncoder_RRDBNet")]
    | Annotated[SpandrelNetOptions, Tag("spandrel")],
    Discriminator(_kind),
]
NetworkD = Annotated[VGGStyleDiscriminatorOptions | UNetDiscriminatorOptions, Field(discriminator="type")]


def scale_option(type_name: str) -> str | None:
    """Return what a network calls its scale (`scale`, `upscale` ...); None if it has no such option or does not exist."""
    if type_name in (*AUTOENCODERS, "RRDBNet"):
        return "scale"
    if type_name in ("MSRResNet", "SPSRNet"):
        return "upscale"
    from aesop.archs import spandrel_nets

    return spandrel_nets.scale_option(type_name) if spandrel_nets.is_known(type_name) else None


def with_scale(options: Any, scale: int) -> Any:
    """Return a network's raw options with `scale` filled in where they leave it out, also in the options of its decoder."""
    if not isinstance(options, Mapping) or not isinstance(options.get("type"), str):
        return options
    filled = {name: with_scale(value, scale) for name, value in options.items()}
    option = scale_option(filled["type"])
    return filled | {option: scale} if option and filled.get(option) is None else filled
