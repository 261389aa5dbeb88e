"""Going back through each loss at once gives the gradients of the sum of all losses."""

from typing import Any

import pytest
import torch
from torch import Tensor

from aesop.archs import build_network
from aesop.losses import build_losses
from aesop.losses.aesop import AESOPLoss
from aesop.losses.perceptual import PerceptualLoss
from aesop.options.training import TrainOptions
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.autoencoder_stage import AutoEncoderStage
from aesop.training.stage import Stage, StepImages

RRDB = {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "enc_opt": {"num_feat": 48}, "dec_opt": RRDB}
PROBABILISTIC = AUTOENCODER | {"type": "ProbabilisticAutoEncoder_RRDBNet"}
LAYERS = {"conv1_2": 0.1, "conv2_2": 1.0}
GAN: dict[str, Any] = {"aesop_opt": {}, "artifacts_opt": {}, "perceptual_opt": {"layer_weights": LAYERS}, "gan_opt": {}}
CASES: dict[str, dict[str, Any]] = {
    "all": GAN,
    "with pixel loss": GAN | {"pixel_opt": {"loss_weight": 0.01}},
    "sum": GAN | {"aesop_opt": {"reduction": "sum"}},
    "loss map": GAN | {"aesop_opt": {"as_loss_map": True}},
    "plain GAN": GAN | {"gan_opt": {"relativistic": False}},
    "accumulate": GAN | {"accumulate": 2},
}


def adversarial(options: dict[str, Any], net_d: str) -> AdversarialStage:
    torch.manual_seed(0)
    train = TrainOptions.model_validate({"total_iter": 10, **options})
    aesop = train.aesop_opt
    assert aesop is not None
    ready = {"aesop_opt": aesop.around(build_network(AUTOENCODER)), "perceptual_opt": PerceptualLoss(LAYERS)}
    assert isinstance(ready["aesop_opt"], AESOPLoss)
    losses = build_losses(train, ready=ready)
    return AdversarialStage(train, build_network(RRDB), build_network({"type": net_d, "num_feat": 4}), losses=losses)


def of_the_sum(stage: Stage, lq: Tensor, gt: Tensor) -> list[Tensor]:
    """Gradients of the generator from one backward pass over all losses of the whole batch."""
    images = StepImages({"lq": lq, "gt": gt, "gt_usm": gt}, stage.make_image)
    images.output = lambda name, image: images.setdefault(name, image)  # ty: ignore[invalid-assignment] (no leaves)
    total = sum(stage.weighted_loss(term, images) for term in stage.terms.values())
    return list(torch.autograd.grad(total, [*stage.net_g.parameters()]))


def left(stage: Stage) -> list[Tensor]:
    return [parameter.grad for parameter in stage.net_g.parameters() if parameter.grad is not None]


def deviation(found: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in pairs)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_sum(name):
    # BatchNorm would see another batch in each part.
    net_d = "UNetDiscriminatorSN" if "accumulate" in CASES[name] else "VGGStyleDiscriminator128"
    lq, gt = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 128, 128)
    stage, other = adversarial(CASES[name], net_d), adversarial(CASES[name], net_d)
    other.net_d.requires_grad_(False)
    if stage.options.accumulate > 1:
        parts = [of_the_sum(other, lq[k : k + 1], gt[k : k + 1]) for k in range(2)]
        expected = [(a + b) / 2 for a, b in zip(*parts, strict=True)]
    else:
        expected = of_the_sum(other, lq, gt)
    stage.step(lq, gt, 1)
    # Sums of float32 in another order: at most 2.1e-6, on a processor with AMX.
    assert deviation(left(stage), expected) < 4e-6


def test_outputs_of_an_autoencoder_add_up():
    options = {"total_iter": 10, "pixel_opt": {}, "pixel_at_LR_opt": {}, "sigmabranch_opt": {}}

    def stage() -> AutoEncoderStage:
        torch.manual_seed(0)
        return AutoEncoderStage(TrainOptions.model_validate(options), build_network(PROBABILISTIC))

    lq, gt = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 64, 64)
    expected, trained = of_the_sum(stage(), lq, gt), stage()
    trained.step(lq, gt, 1)
    assert deviation(left(trained), expected) < 2e-6


def test_a_loss_that_is_not_finite_skips_the_step(monkeypatch):
    stage = adversarial(GAN, "UNetDiscriminatorSN")
    before = [parameter.detach().clone() for parameter in stage.net_g.parameters()]
    loss = stage.terms["perceptual_opt"].loss
    monkeypatch.setattr(loss, "forward", lambda sr, hr: sr.mean() * float("nan"))
    stage.step(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 64, 64), 1)
    assert stage.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, stage.net_g.parameters(), strict=True))
