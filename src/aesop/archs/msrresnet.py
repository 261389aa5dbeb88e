"""MSRResNet: SRResNet (Ledig et al., CVPR 2017) without batch normalisation, ESRGAN's small PSNR network.

State-dict names are BasicSR's.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.rrdbnet import scaled_kaiming_

SHUFFLES = {2: (2,), 3: (3,), 4: (2, 2)}


class ResidualBlock(nn.Module):
    """Two convolutions with a ReLU between; `conv2(relu(conv1(x))) + x`."""

    def __init__(self, num_feat: int):
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x))) + x


class MSRResNet(nn.Module):
    """LR image (N, num_in_ch, H, W) in [0, 1] -> SR image (N, num_out_ch, upscale*H, upscale*W), not clamped.

    The network predicts what is to be added to the bilinearly enlarged input.

    Raises:
        ValueError: for an upscale other than 2, 3, 4, or an input that cannot be added to the output.
    """

    def __init__(self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 16, upscale: int = 4):
        super().__init__()
        if upscale not in SHUFFLES:
            raise ValueError(f"MSRResNet: upscale {upscale} does not exist; use one of {list(SHUFFLES)}")
        if num_in_ch not in (1, num_out_ch):
            raise ValueError(f"MSRResNet: num_in_ch must be 1 or num_out_ch ({num_out_ch}), found {num_in_ch}")
        self.upscale = upscale
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*(ResidualBlock(num_feat) for _ in range(num_block)))
        for k, step in enumerate(SHUFFLES[upscale]):
            self.add_module(f"upconv{k + 1}", nn.Conv2d(num_feat, num_feat * step**2, 3, 1, 1))
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                scaled_kaiming_(module, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        feat = self.body(F.leaky_relu(self.conv_first(x), 0.1))
        for k, step in enumerate(SHUFFLES[self.upscale]):
            feat = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{k + 1}")(feat), step), 0.1)
        image = self.conv_last(F.leaky_relu(self.conv_hr(feat), 0.1))
        return image + F.interpolate(x, scale_factor=self.upscale, mode="bilinear", align_corners=False)
