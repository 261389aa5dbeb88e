"""Discriminators: VGG style (ESRGAN; fixed input size) and UNet with spectral norm (Real-ESRGAN; per pixel)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


def unrounded(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """The last layer in its weights' precision, whatever autocast says: nothing in a relativistic loss holds the outputs
    near 0, and at 50, which was seen after 2500 steps, bfloat16's steps are a quarter."""
    if x.dtype == layer.weight.dtype:
        return layer(x)
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype))


class VGGStyleDiscriminator(nn.Module):
    """Image (N, num_in_ch, S, S) in [0, 1] -> one logit (N, 1), for S = 128, 192 or 256 = 2**stages * last side.

    conv0_0 has a bias and no batch norm; every later convolution is followed by `bn`. Halvings: five (S = 128: last side
    4; S = 192: last side 6) or six (S = 256: last side 4). With several processes the engine's BatchNorm sees all their
    images (the published 256 variant always uses SyncBatchNorm; the state names are the same).
    """

    def __init__(self, input_size: int, num_in_ch: int = 3, num_feat: int = 64):
        super().__init__()
        if input_size not in (128, 192, 256):
            raise ValueError(f"VGGStyleDiscriminator: input_size must be 128, 192 or 256, found {input_size}")
        self.input_size = input_size
        self.num_stages = 6 if input_size == 256 else 5
        width_in = num_in_ch
        for i in range(self.num_stages):
            width = num_feat * min(2**i, 8)
            self.add_module(f"conv{i}_0", nn.Conv2d(width_in, width, 3, 1, 1, bias=i == 0))
            if i > 0:
                self.add_module(f"bn{i}_0", nn.BatchNorm2d(width))
            self.add_module(f"conv{i}_1", nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f"bn{i}_1", nn.BatchNorm2d(width))
            width_in = width
        last_side = input_size // 2**self.num_stages
        self.linear1 = nn.Linear(width_in * last_side**2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.input_size, self.input_size):
            raise ValueError(
                f"VGGStyleDiscriminator{self.input_size} takes {self.input_size}x{self.input_size} images, found "
                f"{x.shape[-2]}x{x.shape[-1]}: set datasets.train.gt_size to {self.input_size}, or network_d.type to "
                "the variant of your gt_size (128, 192, 256) or to UNetDiscriminatorSN (multiples of 8)"
            )
        for i in range(self.num_stages):
            for j in (0, 1):
                x = self.get_submodule(f"conv{i}_{j}")(x)
                if i + j > 0:
                    x = self.get_submodule(f"bn{i}_{j}")(x)
                x = F.leaky_relu(x, 0.2)
        return unrounded(self.linear2, F.leaky_relu(self.linear1(x.flatten(1)), 0.2))


class UNetDiscriminatorSN(nn.Module):
    """Image (N, num_in_ch, H, W), sides multiples of 8 -> logits (N, 1, H, W) (Real-ESRGAN, section 3.4)."""

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, skip_connection: bool = True):
        super().__init__()
        self.skip_connection = skip_connection
        nf = num_feat
        self.conv0 = nn.Conv2d(num_in_ch, nf, 3, 1, 1)
        self.conv1 = spectral_norm(nn.Conv2d(nf, nf * 2, 4, 2, 1, bias=False))
        self.conv2 = spectral_norm(nn.Conv2d(nf * 2, nf * 4, 4, 2, 1, bias=False))
        self.conv3 = spectral_norm(nn.Conv2d(nf * 4, nf * 8, 4, 2, 1, bias=False))
        self.conv4 = spectral_norm(nn.Conv2d(nf * 8, nf * 4, 3, 1, 1, bias=False))
        self.conv5 = spectral_norm(nn.Conv2d(nf * 4, nf * 2, 3, 1, 1, bias=False))
        self.conv6 = spectral_norm(nn.Conv2d(nf * 2, nf, 3, 1, 1, bias=False))
        self.conv7 = spectral_norm(nn.Conv2d(nf, nf, 3, 1, 1, bias=False))
        self.conv8 = spectral_norm(nn.Conv2d(nf, nf, 3, 1, 1, bias=False))
        self.conv9 = nn.Conv2d(nf, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(
                f"UNetDiscriminatorSN takes images whose sides are multiples of 8, found {x.shape[-2]}x{x.shape[-1]}: "
                "change datasets.train.gt_size"
            )
        down = [F.leaky_relu(self.conv0(x), 0.2)]
        for conv in (self.conv1, self.conv2, self.conv3):
            down.append(F.leaky_relu(conv(down[-1]), 0.2))
        up = down.pop()
        for conv in (self.conv4, self.conv5, self.conv6):
            up = F.interpolate(up, scale_factor=2, mode="bilinear", align_corners=False)
            up = F.leaky_relu(conv(up), 0.2)
            if self.skip_connection:
                up = up + down.pop()
        for conv in (self.conv7, self.conv8):
            up = F.leaky_relu(conv(up), 0.2)
        return unrounded(self.conv9, up)
