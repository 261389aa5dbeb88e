"""LPIPS and MS-SSIM as losses: equal to the metrics, with the slope that finite differences give."""

import pytest
import torch
from torch import Tensor

from aesop.losses.lpips import LPIPSLoss
from aesop.losses.ms_ssim import WEIGHTS, ms_ssim_loss, ms_ssim_of
from aesop.metrics.lpips import LPIPS
from aesop.metrics.ms_ssim import ms_ssim


def lpips(kind: type[LPIPSLoss], net: str) -> LPIPSLoss:
    generator = torch.Generator().manual_seed(0)
    made = kind(net)  # ty: ignore[invalid-argument-type]
    for parameter in made.parameters():
        spread = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0
        parameter.copy_(torch.randn(parameter.shape, generator=generator).abs() * spread if parameter.shape[0] == 1
                        else torch.randn(parameter.shape, generator=generator) * spread)  # fmt: skip
    return made


def images(height: int = 64, width: int = 80, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Eight-bit values, which the metrics do not round any more."""
    sr, hr = torch.randint(0, 256, (2, 2, 3, height, width), generator=torch.Generator().manual_seed(seed)) / 255
    return (sr + 3 * hr) / 4 * 255 // 1 / 255, hr


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_the_mean_of_the_metric_and_zero_for_equal_images(net):
    sr, hr = images()
    assert lpips(LPIPSLoss, net)(sr, hr).item() == pytest.approx(lpips(LPIPS, net)(sr, hr).mean().item(), rel=1e-4)
    assert lpips(LPIPSLoss, net)(hr, hr).item() == 0


def test_ms_ssim_is_one_minus_the_metric_per_channel():
    torch.manual_seed(0)
    gray_sr, gray_hr = (image[:, :1] for image in images(192, 180))
    # Of gray images the metric takes luma, which is affine in the channel: 16 + 219 x.
    luma = [219 / 255 * image + 16 / 255 for image in (gray_sr, gray_hr)]
    expected = 1 - ms_ssim(gray_sr.expand(-1, 3, -1, -1), gray_hr.expand(-1, 3, -1, -1), crop_border=0).mean().item()
    assert ms_ssim_loss(luma[0], luma[1]).item() == pytest.approx(expected, abs=2e-5)


def test_small_crops_have_fewer_scales_with_the_same_sum_of_exponents():
    sr, hr = (image * 255 for image in images(48, 50))  # 48, 24 and 12 pixels
    weights = [w * sum(WEIGHTS) / sum(WEIGHTS[:3]) for w in WEIGHTS[:3]]
    assert ms_ssim_loss(sr / 255, hr / 255).item() == pytest.approx(1 - ms_ssim_of(sr, hr, weights).mean().item(), abs=1e-6)
    with pytest.raises(ValueError, match=r"MS-SSIM needs 11 pixels per side, found 12x8: raise gt_size"):
        ms_ssim_loss(sr[..., :8, :12], hr[..., :8, :12])


@pytest.mark.parametrize("name", ["lpips", "ms_ssim"])
def test_the_gradient_is_the_slope_and_reaches_sr_only(name):
    loss = lpips(LPIPSLoss, "alex").double() if name == "lpips" else ms_ssim_loss
    sr, hr = (image.double().requires_grad_() for image in images(seed=2))
    (gradient,) = torch.autograd.grad(loss(sr, hr), sr)
    assert torch.autograd.grad(loss(sr, hr), hr, allow_unused=True) == (None,)
    direction = torch.randn(sr.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        slope = (loss(sr + 1e-6 * direction, hr) - loss(sr - 1e-6 * direction, hr)) / 2e-6
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-3)


@pytest.mark.parametrize("name", ["lpips", "ms_ssim"])
def test_flat_and_equal_images_have_finite_gradients(name):
    loss = lpips(LPIPSLoss, "alex") if name == "lpips" else ms_ssim_loss
    for sr in (torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.5)):
        sr.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(sr, torch.zeros(1, 3, 64, 64)), sr)
        assert torch.isfinite(gradient).all()
