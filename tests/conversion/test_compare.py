"""Comparing another runtime's images with PyTorch's."""

import numpy as np
import pytest
import torch
from torch import nn

from aesop.conversion.compare import largest_difference
from aesop.images.photograph import photograph_for

SIZES = ((8, 12), (9, 7))


def compared(change, net: nn.Module | None = None) -> float:
    return largest_difference(lambda x: change(x.copy()), net or nn.Identity(), SIZES, 3)


def test_the_largest_difference_of_all_sizes_counts():
    def one_value(x: np.ndarray) -> np.ndarray:
        if x.shape[2:] == (9, 7):
            x[0, 1, 4, 3] += 0.25 if x[0, 1, 4, 3] < 0.5 else -0.25
        return x

    assert compared(one_value) == pytest.approx(0.25)
    assert compared(lambda x: x) == 0


def test_what_is_cut_off_at_the_ends_of_the_range_does_not():
    class Bright(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 2

    assert compared(lambda x: x + 3, Bright()) == 0


def test_nan_of_any_size_is_the_result():
    for size in SIZES:
        assert np.isnan(compared(lambda x, size=size: x * np.float32(np.nan if x.shape[2:] == size else 0.5)))


def test_another_size_is_an_error():
    with pytest.raises(ValueError, match="of 12x8 pixels it makes 11x8 instead of 12x8"):
        compared(lambda x: x[..., 1:])


def test_the_photograph_has_contrast():
    for channels in (1, 3):
        image = photograph_for(channels, 96, 75)
        assert image.shape == (1, channels, 96, 75)
        assert image.std() > 0.1
