"""DISTS as a loss: equal to the metric, with the derivative that finite differences give, and one more term of a step."""

import pytest
import torch
from torch import Tensor

from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.losses import build_losses
from aesop.losses.dists import DISTSLoss
from aesop.metrics.dists import DISTS
from aesop.options.training import TrainOptions
from aesop.training.adversarial_stage import AdversarialStage


def loaded(kind: type[DISTSLoss]) -> DISTSLoss:
    generator = torch.Generator().manual_seed(0)
    trunk = VGGFeatureExtractor(["conv5_3"], "vgg16").state_dict()
    trunk = {
        name: torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else value * 0
        for name, value in trunk.items()
    }
    width = sum(DISTSLoss.WIDTHS)
    heads = {name: torch.rand(1, width, 1, 1, generator=generator) for name in ("alpha", "beta")}
    loss = kind()
    loss.load_weights(trunk, heads)
    return loss


def images(seed: int = 1) -> tuple[Tensor, Tensor]:
    """Eight-bit values, which the metric does not round any more."""
    sr, hr = torch.randint(0, 256, (2, 2, 3, 32, 40), generator=torch.Generator().manual_seed(seed)) / 255
    return sr, hr


def test_the_loss_is_the_mean_of_the_metric_and_zero_for_equal_images():
    sr, hr = images()
    assert loaded(DISTSLoss)(sr, hr).item() == pytest.approx(loaded(DISTS)(sr, hr).mean().item(), rel=1e-5)
    assert loaded(DISTSLoss)(hr, hr).item() == pytest.approx(0, abs=1e-6)
    assert loaded(DISTSLoss)(sr, hr).item() > 0.01


def test_the_gradient_is_the_slope_and_reaches_sr_only():
    loss = loaded(DISTSLoss).double()
    sr, hr = (image.double().requires_grad_() for image in images(2))
    (gradient,) = torch.autograd.grad(loss(sr, hr), sr)
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert torch.autograd.grad(loss(sr, hr), hr, allow_unused=True) == (None,)
    direction = torch.randn(sr.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        slope = (loss(sr + 1e-6 * direction, hr) - loss(sr - 1e-6 * direction, hr)) / 2e-6
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_it_is_one_more_term_of_the_adversarial_step():
    torch.manual_seed(0)
    rrdb = {"type": "RRDBNet", "num_feat": 4, "num_block": 1, "num_grow_ch": 2, "scale": 4}
    train = TrainOptions.model_validate({"total_iter": 1, "gan_opt": {}, "dists_opt": {"loss_weight": 2.0}})
    losses = build_losses(train, ready={"dists_opt": loaded(DISTSLoss)})
    nets = build_network(rrdb), build_network({"type": "UNetDiscriminatorSN", "num_feat": 4})
    stage = AdversarialStage(train, *nets, losses=losses)
    lq, gt = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = 2 * loaded(DISTSLoss)(stage.net_g(lq), gt)
    assert stage.step(lq, gt, 1)["l_g_dists"].item() == pytest.approx(expected.item(), rel=1e-5)
