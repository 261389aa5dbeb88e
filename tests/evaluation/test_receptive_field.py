"""The receptive field of networks for which it is known."""

import pytest
import torch
from torch import nn

from aesop.evaluation.receptive_field import receptive_field


def convolution(kernel: int, value: float = 1.0) -> nn.Conv2d:
    conv = nn.Conv2d(1, 1, kernel, padding=kernel // 2)
    nn.init.constant_(conv.weight, value)
    return conv


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (nn.Identity(), 1),
        (convolution(3), 3),
        (nn.Sequential(convolution(3), convolution(3)), 5),
        (nn.Sequential(convolution(5), nn.Upsample(scale_factor=2)), 5),
        (nn.Sequential(nn.Upsample(scale_factor=3), convolution(3)), 3),
    ],
)
def test_of_convolutions(net, expected):
    assert receptive_field(net, torch.rand(1, 1, 32, 32)) == expected


@pytest.mark.parametrize(("outer", "expected"), [(0.0010, 1), (0.0015, 3)])
def test_the_last_hundredth_of_the_gradient_is_left_out(outer, expected):
    conv = convolution(3, outer)
    with torch.no_grad():
        conv.weight[0, 0, 1, 1] = 1 - 8 * outer  # the sum is 1: eight times the outer value lies outside
    assert receptive_field(conv, torch.rand(1, 1, 32, 32)) == expected


def test_a_network_that_sees_everything_has_the_image_as_its_field():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3), keepdim=True).expand_as(x)

    assert receptive_field(Mean(), torch.rand(1, 1, 32, 32)) == 32
