"""The auto-encoder whose output space AESOP measures in (Lee et al., CVPR 2025)."""

from math import ceil

from torch import Tensor, nn

from aesop.archs.rrdbnet import RRDB, scaled_kaiming_

# How the encoder shrinks: one pixel-unshuffle a step. The published x4 one unshuffles by 2 twice.
UNSHUFFLE_STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}

# At scale 4 the published encoder has num_feat / 16 channels before the unshuffle. Fewer than 3 cannot carry three colours:
# a convolution maps a flat area's 3 values to 2, and one is gone.
NARROWEST_IN_COLOUR = 48

# Published files hold every encoder tensor a second time under these names (`AutoEncoder_RRDBNet`'s attributes).
PUBLISHED_ALIASES = {"conv_first.": "encoder.0.", "body.": "encoder.2.", "conv_last.": "encoder.3."}


class AutoEncoder(nn.Module):
    """HR image (N, 3, H, W) in [0, 1] -> its fidelity-oriented estimate of the same shape, not clamped.

    Encoder: two 3x3 convolutions without activation in between, pixel-unshuffle down to 1/scale, two RRDBs, two 3x3
    convolutions to a 3-channel bottleneck of LR size. Decoder: any network that maps an LR image to `scale` times its
    size. With scale 4 and an RRDBNet decoder this is the published `AutoEncoder_RRDBNet`.

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
        if scale not in UNSHUFFLE_STEPS:
            raise ValueError(f"AutoEncoder: scale {scale} does not exist; use one of {sorted(UNSHUFFLE_STEPS)}")
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
            nn.Sequential(*(nn.PixelUnshuffle(step) for step in UNSHUFFLE_STEPS[scale])),
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

    def forward(self, x: Tensor, return_bottleneck: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        bottleneck = self.encode(x)
        image = self.decoder(bottleneck)
        return (image, bottleneck) if return_bottleneck else image


def _fold_before_loading(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    fold_published_aliases(state, prefix)


def fold_published_aliases(state: dict[str, Tensor], prefix: str = "") -> None:
    """Remove, in place, a published state dict's second names of the encoder tensors; `encoder.*` is in effect."""
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
    doubled.update(encoder)
    return doubled
