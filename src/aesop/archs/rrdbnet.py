"""RRDBNet, the generator of ESRGAN (Wang et al., ECCVW 2018, section 3.1) under BasicSR's names.

State-dict names are the published ones, so official ESRGAN, Real-ESRGAN and BasicSR files load unchanged.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# The steps an enlargement is made in: nearest-neighbour, with one convolution after each.
STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
# These scales feed the x4 trunk with a pixel-unshuffled image (Real-ESRGAN).
INPUT_UNSHUFFLE = {1: 4, 2: 2}


def scaled_kaiming_(conv: nn.Conv2d, scale: float) -> None:
    """Kaiming normal initialisation times `scale`, bias zero (ESRGAN, section 3.1 "smaller initialization")."""
    nn.init.kaiming_normal_(conv.weight)
    with torch.no_grad():
        conv.weight.mul_(scale)
        if conv.bias is not None:
            conv.bias.zero_()


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each seeing the input and all former outputs; `0.2 * x5 + x`."""

    def __init__(self, num_feat: int = 64, num_grow_ch: int = 32):
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow_ch, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat + num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv4 = nn.Conv2d(num_feat + 3 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow_ch, num_feat, 3, 1, 1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            scaled_kaiming_(conv, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            features = torch.cat((features, F.leaky_relu(conv(features), 0.2, inplace=True)), 1)
        return self.conv5(features) * 0.2 + x


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks; `0.2 * out + x`."""

    def __init__(self, num_feat: int, num_grow_ch: int = 32):
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class RRDBNet(nn.Module):
    """LR image (N, num_in_ch, H, W) in [0, 1] -> SR image (N, num_out_ch, scale*H, scale*W), not clamped.

    Scales 1 and 2 ignore the bottom rows and right columns beyond a multiple of 4 and 2, as published.

    Args:
        unshuffle: False, with scale 2: BSRGAN's x2 network, which takes the image as it is and enlarges once. Scales 3, 4
            and 8 take the image as it is anyway.
        use_checkpoint: recompute each RRDB in the backward pass: less memory, about a third more time.

    Raises:
        ValueError: for a scale other than 1, 2, 3, 4, 8, or scale 1 without unshuffle.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
        unshuffle: bool = True,
        use_checkpoint: bool = False,
    ):
        super().__init__()
        if scale not in (1, *STEPS):
            raise ValueError(f"RRDBNet: scale {scale} does not exist; use one of {[1, *STEPS]}")
        if scale == 1 and not unshuffle:
            raise ValueError("RRDBNet: scale 1 without unshuffle does not exist; leave unshuffle out")
        self.scale = scale
        self.num_feat, self.num_grow_ch = num_feat, num_grow_ch
        self.use_checkpoint = use_checkpoint
        self.unshuffle = INPUT_UNSHUFFLE.get(scale, 1) if unshuffle else 1
        self.steps = STEPS[scale * self.unshuffle]
        self.conv_first = nn.Conv2d(num_in_ch * self.unshuffle**2, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        for k in range(len(self.steps)):
            self.add_module(f"conv_up{k + 1}", nn.Conv2d(num_feat, num_feat, 3, 1, 1))
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.shallow(x)
        return self.reconstruct(self.deep(first, self.body), first)

    def shallow(self, x: Tensor) -> Tensor:
        """The image -> the features (N, num_feat, h, w) that the blocks start from."""
        if self.unshuffle > 1:
            h, w = (side // self.unshuffle * self.unshuffle for side in x.shape[-2:])
            x = F.pixel_unshuffle(x[..., :h, :w], self.unshuffle)
        return self.conv_first(x)

    def deep(self, feat: Tensor, blocks: nn.Sequential) -> Tensor:
        """Features through some of the body's blocks."""
        for block in blocks:
            if self.use_checkpoint and self.training:
                # Nothing in a block is random, and a CUDA graph cannot ask for the random state.
                feat = checkpoint(block, feat, use_reentrant=False, preserve_rng_state=False)
            else:
                feat = block(feat)
        return feat

    def reconstruct(self, deep: Tensor, first: Tensor) -> Tensor:
        """The blocks' features and those they started from -> the image."""
        feat = self.conv_body(deep) + first
        for k, step in enumerate(self.steps):
            conv = self.get_submodule(f"conv_up{k + 1}")
            feat = F.leaky_relu(conv(F.interpolate(feat, scale_factor=step, mode="nearest")), 0.2, inplace=True)
        return self.conv_last(F.leaky_relu(self.conv_hr(feat), 0.2, inplace=True))
