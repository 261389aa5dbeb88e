"""The mean over the eight ways to turn and mirror a picture, as benchmarks call it: self-ensemble, or x8."""

import torch
from torch import Tensor, nn


class EightWays(nn.Module):
    """A network that sees its input (N, C, H, W) in eight ways and returns the mean of what it makes of them, turned back.

    Tiles are turned, not the picture, so memory grows by one result of a tile.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.size_multiple = getattr(net, "size_multiple", 1)
        self.channels_last_on_cpu = getattr(net, "channels_last_on_cpu", False)
        if isinstance(original := getattr(net, "original", None), nn.Module):
            self.original = EightWays(original)

    def forward(self, x: Tensor) -> Tensor:
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        total = torch.zeros((), device=x.device)
        for turns in range(4):
            for mirrored in (False, True):
                seen = torch.rot90(x.flip(3) if mirrored else x, turns, (2, 3))
                made = torch.rot90(self.net(seen.contiguous(memory_format=layout)).float(), -turns, (2, 3))
                total = total + (made.flip(3) if mirrored else made)
        return total / 8
