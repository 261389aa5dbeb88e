"""The auto-encoder in whose output space the AESOP loss compares images (Lee et al., CVPR 2025), and its variants."""

from collections.abc import Mapping
from math import ceil, isqrt
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.generators import Generator
from aesop.archs.network_options import NetworkOptions, State
from aesop.archs.rrdbnet import RRDB, STEPS, RRDBNet, scaled_kaiming_
from aesop.system.option_types import Options, Positive

# The smallest num_feat with which the encoder keeps three colours: at scale 4 it has num_feat / 16 channels before the
# unshuffle, and a convolution to fewer than 3 channels loses one of them even in a flat area.
NARROWEST_IN_COLOUR = 48
# Published files contain every encoder tensor a second time under these names (`AutoEncoder_RRDBNet`'s attributes).
PUBLISHED_ALIASES = {"conv_first.": "encoder.0.", "body.": "encoder.2.", "conv_last.": "encoder.3."}


class AutoEncoder(nn.Module):
    """HR image (N, 3, H, W) in [0, 1] -> its fidelity-oriented estimate of the same shape, not clamped.

    Encoder: two 3x3 convolutions without an activation in between, pixel-unshuffle to 1/scale, two RRDBs, two 3x3
    convolutions to a 3-channel bottleneck of LR size. Decoder: any network that maps an LR image to `scale` times its
    size. At scale 4 an RRDBNet decoder makes this the published `AutoEncoder_RRDBNet`; an MSRResNet decoder with the default
    widths makes it `AutoEncoder_MSRResNet`.

    The published code has scale 4 only, with num_feat / 16 channels in the first convolutions. At the other scales we use
    max(3, ceil(num_feat / scale**2)) channels, so that the encoder keeps all three colours even at scale 8.

    Args:
        decoder: LR (N, 3, H/scale, W/scale) -> (N, 3, H, W).
        num_feat, num_grow_ch: Widths of the encoder's RRDBs.

    Raises:
        ValueError: The scale is not supported, or (in forward) the sides are not multiples of the scale.
    """

    channels_last_on_cpu = False

    def __init__(self, decoder: nn.Module, scale: int = 4, num_feat: int = 64, num_grow_ch: int = 32):
        super().__init__()
        if scale not in STEPS:
            raise ValueError(f"AutoEncoder: scale {scale} does not exist; use one of {list(STEPS)}")
        if scale == 4 and num_feat % 16:
            raise ValueError(f"AutoEncoder: num_feat must be a multiple of 16 at scale 4, found {num_feat}")
        self.scale = self.size_multiple = scale
        width = num_feat // 16 if scale == 4 else max(3, ceil(num_feat / scale**2))
        feat = width * scale**2
        self.colour_channels = width
        self.decoder = decoder
        first = [nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)]
        last = [nn.Conv2d(feat, feat, 3, 1, 1), nn.Conv2d(feat, 3, 3, 1, 1)]
        for conv in (*first, *last):
            scaled_kaiming_(conv, 0.1)
        self.encoder = nn.Sequential(
            nn.Sequential(*first),
            nn.Sequential(*(nn.PixelUnshuffle(step) for step in STEPS[scale])),
            nn.Sequential(RRDB(feat, num_grow_ch), RRDB(feat, num_grow_ch)),
            nn.Sequential(*last),
        )

    def encode(self, x: Tensor) -> Tensor:
        """HR (N, 3, H, W) -> bottleneck (N, 3, H/scale, W/scale)."""
        if x.shape[-2] % self.scale or x.shape[-1] % self.scale:
            raise ValueError(
                f"AutoEncoder: image sides must be multiples of the scale {self.scale}, found "
                f"{x.shape[-2]}x{x.shape[-1]}; crop the images (mod_crop) or change gt_size"
            )
        return self.encoder(x)

    def forward(self, x: Tensor, return_bottleneck: bool = False) -> Tensor | tuple[Tensor, ...]:
        bottleneck = self.encode(x)
        image = self.decoder(bottleneck)
        return (image, bottleneck) if return_bottleneck else image


class BicubicAutoEncoder(AutoEncoder):
    """The ablation without a learned encoder (published `BicubicDown_RRDBNet`): the bottleneck is the bicubic LR image.

    The kernel is antialiased with a = -1/2, like Pillow's. The sides of the bottleneck, and with them those of the output,
    are rounded down to whole LR pixels. As in the published code, the state keeps the unused encoder's tensors, but only as
    `conv_first.*`, `body.*` and `conv_last.*`. Files are recognised by the missing `encoder.*`.
    """

    def __init__(self, decoder: nn.Module, scale: int = 4, num_feat: int = 64, num_grow_ch: int = 32):
        super().__init__(decoder, scale, num_feat, num_grow_ch)
        self.conv_first, _, self.body, self.conv_last = self.encoder
        del self.encoder
        self.colour_channels = 3
        self.size_multiple = 1

    def encode(self, x: Tensor) -> Tensor:
        """HR (N, 3, H, W) -> bottleneck (N, 3, H // scale, W // scale)."""
        return F.interpolate(x, scale_factor=1 / self.scale, mode="bicubic", antialias=True)


class ProbabilisticAutoEncoder(AutoEncoder):
    """The auto-encoder that also predicts a per-pixel uncertainty (published `ProbabilisticAutoEncoder_RRDBNet`).

    A second branch on the decoder's trunk predicts half the scale of a Laplacian around the image. As in the published code
    its output is not constrained; LaplaceKLLoss keeps it positive.

    Args:
        decoder: An RRDBNet of scale 4.

    Raises:
        ValueError: The decoder or the scale is another one.
    """

    decoder: RRDBNet

    def __init__(self, decoder: nn.Module, scale: int = 4, num_feat: int = 64, num_grow_ch: int = 32):
        if not isinstance(decoder, RRDBNet) or scale != 4 or decoder.scale != 4:
            found = f"{type(decoder).__name__} of scale {getattr(decoder, 'scale', 'unknown')}, and scale {scale}"
            raise ValueError(
                f"ProbabilisticAutoEncoder: the decoder must be an RRDBNet of scale 4, found {found}; use an AutoEncoder "
                "for other decoders"
            )
        super().__init__(decoder, scale, num_feat, num_grow_ch)
        upsampling = [(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, 1, 1), nn.LeakyReLU(0.2)) for _ in range(2)]
        self.sigma_branch = nn.Sequential(
            RRDB(decoder.num_feat, decoder.num_grow_ch),
            nn.Conv2d(decoder.num_feat, 3, 3, 1, 1),
            *(layer for step in upsampling for layer in step),
            nn.Conv2d(3, 3, 3, 1, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(3, 3, 3, 1, 1),
        )

    def forward(self, x: Tensor, return_bottleneck: bool = False, return_sigma: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Return the image (N, 3, H, W) or the tuple (image[, bottleneck][, sigma]); sigma has the image's shape."""
        bottleneck = self.encode(x)
        first = self.decoder.shallow(bottleneck)
        early = self.decoder.deep(first, self.decoder.body[:1])
        deep = self.decoder.deep(early, self.decoder.body[1:])
        outputs = [self.decoder.reconstruct(deep, first)]
        if return_bottleneck:
            outputs.append(bottleneck)
        if return_sigma:
            outputs.append(self.sigma_branch(deep + early))
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


class EncoderOptions(Options):
    num_feat: Positive | None = None
    """Width of the encoder's RRDBs; default: the decoder's."""
    num_grow_ch: Positive | None = None
    """Growth of the encoder's dense blocks; default: the decoder's."""


class AutoEncoderOptions(NetworkOptions):
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

    parts = {"dec_opt": "decoder."}

    @classmethod
    def build(cls, type_name: str, arguments: Mapping[str, Any]) -> AutoEncoder:
        variants = {"BicubicDown_RRDBNet": BicubicAutoEncoder, "ProbabilisticAutoEncoder_RRDBNet": ProbabilisticAutoEncoder}
        return _build(variants.get(type_name, AutoEncoder), **arguments)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any]:
        has_encoder = "encoder.0.1.weight" in state
        colours = state["encoder.0.1.weight" if has_encoder else "conv_first.1.weight"]
        block = state[f"{'encoder.2' if has_encoder else 'body'}.0.rdb1.conv1.weight"]
        variants = {
            "BicubicDown_RRDBNet": not has_encoder,
            "ProbabilisticAutoEncoder_RRDBNet": "sigma_branch.1.weight" in state,
            "AutoEncoder_MSRResNet": "decoder.body.0.conv1.weight" in state,
            "AutoEncoder_RRDBNet": True,
        }
        return {
            "type": next(name for name, fits in variants.items() if fits),
            # The unshuffle makes scale**2 channels of one. At scales other than 4 the width of the blocks is num_feat
            # rounded up to a multiple of that.
            "scale": isqrt(block.shape[1] // colours.shape[0]),
            "enc_opt": {"num_feat": block.shape[1], "num_grow_ch": block.shape[0]},
        }

    @classmethod
    def own_names(cls, state: State) -> State:
        if "encoder.2.0.rdb1.conv1.weight" not in state:  # a BicubicAutoEncoder's file has no second names
            return state
        return {name: value for name, value in state.items() if not name.startswith(tuple(PUBLISHED_ALIASES))}

    @classmethod
    def published_names(cls, state: State, convention: str) -> State:
        decoder = {name: value for name, value in state.items() if name.startswith("decoder.")}
        if not decoder:
            return state
        encoder = {name: value for name, value in state.items() if name.startswith("encoder.")}
        aliases = {
            alias + name.removeprefix(part): value
            for alias, part in PUBLISHED_ALIASES.items()
            for name, value in encoder.items()
            if name.startswith(part)
        }
        return decoder | aliases | encoder | state  # the published order


def _build(
    cls: type[AutoEncoder], dec_opt: nn.Module, enc_opt: Mapping[str, Any] | None = None, scale: int = 4
) -> AutoEncoder:
    """Build an auto-encoder. By default the encoder is as wide as an RRDBNet decoder, and 64/32 wide with another one."""
    followed = dec_opt if isinstance(dec_opt, RRDBNet) else None
    widths = {name: getattr(followed, name, default) for name, default in (("num_feat", 64), ("num_grow_ch", 32))}
    widths |= {name: value for name, value in (enc_opt or {}).items() if name in widths and value is not None}
    return cls(dec_opt, scale, **widths)
