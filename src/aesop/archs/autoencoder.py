"""The auto-encoder whose output space AESOP measures in (Lee et al., CVPR 2025), and its two published variants."""

from math import ceil

import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.rrdbnet import RRDB, STEPS, RRDBNet, scaled_kaiming_

# At scale 4 the published encoder has num_feat / 16 channels before the unshuffle. Fewer than 3 cannot carry three colours:
# a convolution maps a flat area's 3 values to 2, and one is gone.
NARROWEST_IN_COLOUR = 48
# Published files hold every encoder tensor a second time under these names (`AutoEncoder_RRDBNet`'s attributes).
PUBLISHED_ALIASES = {"conv_first.": "encoder.0.", "body.": "encoder.2.", "conv_last.": "encoder.3."}


class AutoEncoder(nn.Module):
    """HR image (N, 3, H, W) in [0, 1] -> its fidelity-oriented estimate of the same shape, not clamped.

    Encoder: two 3x3 convolutions without activation in between, pixel-unshuffle down to 1/scale, two RRDBs, two 3x3
    convolutions to a 3-channel bottleneck of LR size. Decoder: any network that maps an LR image to `scale` times its
    size. With scale 4 and an RRDBNet decoder this is the published `AutoEncoder_RRDBNet`; with scale 4, an MSRResNet
    decoder and the default widths, `AutoEncoder_MSRResNet`.

    For the other scales the first convolutions have max(3, ceil(num_feat / scale**2)) channels, so that no colour is
    squeezed out before the unshuffle even at x8 (ours; the published code has x4 only, with num_feat / 16).

    Args:
        decoder: LR (N, 3, H/scale, W/scale) -> (N, 3, H, W).
        num_feat, num_grow_ch: widths of the encoder's RRDBs.

    Raises:
        ValueError: for an unsupported scale, or (in forward) sides that are no multiple of the scale.
    """

    def __init__(self, decoder: nn.Module, scale: int = 4, num_feat: int = 64, num_grow_ch: int = 32):
        super().__init__()
        if scale not in STEPS:
            raise ValueError(f"AutoEncoder: scale {scale} does not exist; use one of {list(STEPS)}")
        if scale == 4 and num_feat % 16:
            raise ValueError(f"AutoEncoder: num_feat must be a multiple of 16 at scale 4, found {num_feat}")
        self.scale = scale
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
        self.register_load_state_dict_pre_hook(_fold_before_loading)

    def encode(self, x: Tensor) -> Tensor:
        """HR (N, 3, H, W) -> bottleneck (N, 3, H/scale, W/scale)."""
        if x.shape[-2] % self.scale or x.shape[-1] % self.scale:
            raise ValueError(
                f"AutoEncoder: image sides must be multiples of the scale {self.scale}, found "
                f"{x.shape[-2]}x{x.shape[-1]}; crop the images (mod_crop) or choose another gt_size"
            )
        return self.encoder(x)

    def forward(self, x: Tensor, return_bottleneck: bool = False) -> Tensor | tuple[Tensor, ...]:
        bottleneck = self.encode(x)
        image = self.decoder(bottleneck)
        return (image, bottleneck) if return_bottleneck else image


class BicubicAutoEncoder(AutoEncoder):
    """The ablation with no learned encoder (published `BicubicDown_RRDBNet`): the bottleneck is the bicubic x1/scale image.

    Antialiased, a = -1/2, like Pillow's. Sides need not be multiples of the scale: the bottleneck's are rounded down, and
    with them the output's. The learned encoder's tensors stay in the state without being used, as published, under the
    names of its parts only (`conv_first.*`, `body.*`, `conv_last.*`, no `encoder.*`): by this such a file is known.
    """

    def __init__(self, decoder: nn.Module, scale: int = 4, num_feat: int = 64, num_grow_ch: int = 32):
        super().__init__(decoder, scale, num_feat, num_grow_ch)
        self.conv_first, _, self.body, self.conv_last = self.encoder
        del self.encoder
        self.colour_channels = 3

    def encode(self, x: Tensor) -> Tensor:
        """HR (N, 3, H, W) -> bottleneck (N, 3, H // scale, W // scale)."""
        return F.interpolate(x, scale_factor=1 / self.scale, mode="bicubic", antialias=True)


class ProbabilisticAutoEncoder(AutoEncoder):
    """The auto-encoder that also says how sure it is: a per-pixel scale (published `ProbabilisticAutoEncoder_RRDBNet`).

    A second branch on the decoder's trunk gives half the scale of a Laplacian around the image: unconstrained here, as
    published; LaplaceKLLoss keeps it positive.

    Args:
        decoder: an RRDBNet of scale 4.

    Raises:
        ValueError: for another decoder or scale.
    """

    decoder: RRDBNet

    def __init__(self, decoder: nn.Module, scale: int = 4, num_feat: int = 64, num_grow_ch: int = 32):
        if not isinstance(decoder, RRDBNet) or scale != 4 or decoder.scale != 4:
            found = f"{type(decoder).__name__} of scale {getattr(decoder, 'scale', 'unknown')}, and scale {scale}"
            raise ValueError(
                "ProbabilisticAutoEncoder: its second branch starts from the trunk of an RRDBNet decoder of scale 4, found "
                f"{found}; use an AutoEncoder for others"
            )
        super().__init__(decoder, scale, num_feat, num_grow_ch)
        enlarging = [(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, 1, 1), nn.LeakyReLU(0.2)) for _ in range(2)]
        self.sigma_branch = nn.Sequential(
            RRDB(decoder.num_feat, decoder.num_grow_ch),
            nn.Conv2d(decoder.num_feat, 3, 3, 1, 1),
            *(layer for step in enlarging for layer in step),
            nn.Conv2d(3, 3, 3, 1, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(3, 3, 3, 1, 1),
        )

    def forward(self, x: Tensor, return_bottleneck: bool = False, return_sigma: bool = False) -> Tensor | tuple[Tensor, ...]:
        """The image (N, 3, H, W), or the tuple (image[, bottleneck][, sigma]); sigma has the image's shape."""
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


def _fold_before_loading(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    fold_published_aliases(state, prefix)


def fold_published_aliases(state: dict[str, Tensor], prefix: str = "") -> None:
    """Remove, in place, a published state dict's second names of the encoder tensors; `encoder.*` is in effect.

    A state without `encoder.*` has no second names: it is BicubicAutoEncoder's.
    """
    if not any(key.startswith(prefix + "encoder.") for key in state):
        return
    for alias, name in PUBLISHED_ALIASES.items():
        for key in [k for k in state if k.startswith(prefix + alias)]:
            value = state.pop(key)
            state.setdefault(prefix + name + key[len(prefix + alias) :], value)


def published_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our auto-encoder state dict in the order and with the doubled names that the published code expects."""
    encoder = {k: v for k, v in state.items() if k.startswith("encoder.")}
    doubled = {k: v for k, v in state.items() if k.startswith("decoder.")}
    for alias, name in PUBLISHED_ALIASES.items():
        doubled.update({alias + k[len(name) :]: v for k, v in encoder.items() if k.startswith(name)})
    return doubled | encoder | state  # what else there is comes last
