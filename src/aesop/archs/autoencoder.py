"""The auto-encoder in whose output space the AESOP loss compares images (Lee et al., CVPR 2025), and its variants."""

from collections.abc import Mapping
from math import ceil, isqrt
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.generators import Generator
from aesop.archs.gray import in_rgb, is_gray, seen_by
from aesop.archs.mixed_precision import in_full_precision
from aesop.archs.network_options import NetworkOptions, State
from aesop.archs.rrdbnet import RRDB, STEPS, RRDBNet, scaled_kaiming_
from aesop.system.option_types import Options, Positive

# The smallest num_feat with which the encoder keeps three colours at scale 4: it has num_feat / 16 channels before the
# unshuffle, and a convolution to fewer than 3 loses a colour even in a flat area.
NARROWEST_IN_COLOUR = 48
# Published files contain every encoder tensor a second time under these names (`AutoEncoder_RRDBNet`'s attributes).
PUBLISHED_ALIASES = {"conv_first.": "encoder.0.", "body.": "encoder.2.", "conv_last.": "encoder.3."}


class AutoEncoder(nn.Module):
    """HR image (N, 3, H, W) in [0, 1] -> its fidelity-oriented estimate of the same shape, not clamped.

    Encoder: two 3x3 convolutions without an activation in between, pixel-unshuffle to 1/scale, two RRDBs, two 3x3
    convolutions to a 3-channel bottleneck of LR size, which the decoder enlarges. At the published scale 4 the first
    convolutions have num_feat / 16 channels, at other scales max(3, ceil(num_feat / scale**2)): no colour is lost.
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
        scaled_kaiming_(nn.Sequential(*first, *last))
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
                f"image sides must be multiples of the scale {self.scale}, found {x.shape[-2]}x{x.shape[-1]}; crop the "
                "images (mod_crop) or change gt_size"
            )
        enter, unshuffle, blocks, leave = self.encoder
        with in_full_precision(x):
            x = unshuffle(enter(x))
        x = blocks(x)
        with in_full_precision(x):
            return leave(x)

    def forward(self, x: Tensor, return_bottleneck: bool = False) -> Tensor | tuple[Tensor, ...]:
        bottleneck = self.encode(x)
        image = in_rgb(self.decoder(seen_by(self.decoder, bottleneck)))
        return (image, bottleneck) if return_bottleneck else image


class BicubicAutoEncoder(AutoEncoder):
    """The ablation whose bottleneck is the antialiased bicubic LR image (a = -1/2, like Pillow's), of sides rounded down.

    As in the published code, the state keeps the unused encoder's tensors, but only as `conv_first.*`, `body.*` and
    `conv_last.*`. Files are recognised by the missing `encoder.*`.
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
    """The auto-encoder that also predicts a per-pixel uncertainty, from the trunk of its decoder, an RRDBNet of scale 4.

    It is half the scale of a Laplacian around the image. As published, nothing but LaplaceKLLoss keeps it positive.
    """

    decoder: RRDBNet

    def __init__(self, decoder: nn.Module, scale: int = 4, num_feat: int = 64, num_grow_ch: int = 32):
        if not isinstance(decoder, RRDBNet) or scale != 4 or decoder.scale != 4:
            found = f"{type(decoder).__name__} of scale {getattr(decoder, 'scale', 'unknown')}, and scale {scale}"
            raise ValueError(f"the decoder must be an RRDBNet of scale 4, found {found}; use an AutoEncoder for others")
        if is_gray(decoder):
            raise ValueError("the decoder must have 3 channels; use an AutoEncoder for gray images")
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
    """Width of the encoder's RRDBs; default: the decoder's; in a pipeline at scale 4 at least 48, to keep all colours."""
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
        widths = {"num_feat": 64, "num_grow_ch": 32}
        if isinstance(decoder := arguments["dec_opt"], RRDBNet):  # the encoder is as wide by default
            widths = {name: getattr(decoder, name) for name in widths}
        given = arguments.get("enc_opt") or {}
        widths |= {name: given[name] for name in widths if given.get(name) is not None}
        return variants.get(type_name, AutoEncoder)(decoder, arguments.get("scale", 4), **widths)

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
            # The unshuffle makes scale**2 channels of one; the width of the blocks is num_feat rounded up to their multiple.
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
        def below(part: str, prefix: str) -> State:
            return {prefix + k.removeprefix(part): value for k, value in state.items() if k.startswith(part)}

        names = below("decoder.", "decoder.")
        if not names:
            return state
        for alias, part in PUBLISHED_ALIASES.items():
            names |= below(part, alias)
        return names | state  # the published order
