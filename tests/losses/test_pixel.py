"""Pixel losses against PyTorch's own and closed forms."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.losses.pixel import LRLoss, PixelLoss, weighted_tv_loss


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("criterion", "reference"), [("l1", F.l1_loss), ("l2", F.mse_loss)])
def test_pixel_losses_are_pytorchs(criterion, reference, reduction):
    sr, hr = images(2, 3, 5, 7)
    ours = PixelLoss(criterion, reduction)(sr, hr)
    torch.testing.assert_close(ours, reference(sr, hr, reduction=reduction), rtol=1e-12, atol=0)


def test_charbonnier_is_between_l1_and_l1_plus_the_root_of_its_epsilon():
    sr, hr = images(2, 3, 5, 7)
    sr[0] = hr[0]
    smooth, l1 = PixelLoss("charbonnier", eps=1e-4).distance(sr, hr), (sr - hr).abs()
    assert (smooth > l1).all()
    assert (smooth <= l1 + 1e-2).all()
    torch.testing.assert_close(smooth[0], torch.full_like(smooth[0], 1e-2))


# Keys' kernel with a = -3/4 halfway between two pixels, which is where x1/4 samples.
HALFWAY = torch.tensor([-0.09375, 0.59375, 0.59375, -0.09375], dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (11, 14)])
def test_lr_loss_is_the_distance_after_sampling_every_fourth_pixel(height, width):
    sr, hr = images(2, 3, height, width)
    kernel = torch.outer(HALFWAY, HALFWAY).expand(3, 1, 4, 4)
    # On multiples of 4 the samples' windows tile the image.
    small = [F.conv2d(x, kernel, stride=4, groups=3) for x in (sr, hr)]
    assert small[0].shape[-2:] == (height // 4, width // 4)
    torch.testing.assert_close(LRLoss()(sr, hr), F.l1_loss(*small), rtol=1e-10, atol=0)
    torch.testing.assert_close(LRLoss(4, "l2", "sum")(sr, hr), F.mse_loss(*small, reduction="sum"), rtol=1e-10, atol=0)


def test_lr_loss_of_another_scale():
    sr, hr = images(1, 3, 6, 9)
    # x1/3 samples at the middle of three pixels, where the kernel is 1.
    torch.testing.assert_close(LRLoss(3)(sr, hr), F.l1_loss(sr[..., 1::3, 1::3], hr[..., 1::3, 1::3]), rtol=1e-10, atol=0)


def test_total_variation_of_a_ramp_is_its_slopes_whatever_the_weight():
    rows, columns = torch.arange(6.0)[:, None], torch.arange(8.0)
    ramp = (0.5 * rows - 0.25 * columns).expand(2, 3, 6, 8)
    weight = images(1, 1, 6, 8)[0].float()
    assert weighted_tv_loss(ramp, weight).item() == pytest.approx(0.75, rel=1e-5)
    vertical, horizontal = weight[..., :-1, :].sum(), weight[..., :-1].sum()
    expected = 2 * 3 * (0.5 * vertical + 0.25 * horizontal).item()
    assert weighted_tv_loss(ramp, weight, "sum").item() == pytest.approx(expected, rel=1e-5)


def test_total_variation_weights_a_pair_at_its_upper_or_left_pixel():
    image = torch.zeros(1, 1, 4, 5)
    image[..., 2, 2] = 1
    for (row, column), expected in {(2, 2): 2, (1, 2): 1, (2, 1): 1, (3, 2): 0, (2, 3): 0}.items():
        weight = torch.zeros(1, 1, 4, 5)
        weight[..., row, column] = 1
        assert weighted_tv_loss(image, weight, "sum").item() == expected, (row, column)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="criterion must be l1, l2 or charbonnier, found 'l3'"):
        LRLoss(criterion="l3")
    with pytest.raises(ValueError, match="reduction must be mean or sum, found 'none'"):
        PixelLoss(reduction="none")
