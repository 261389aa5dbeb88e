"""Golden parity, group B: loss values, gradients and maps."""

import golden_lib as golden
import pytest
import torch

from aesop.archs import build_network
from aesop.losses.aesop import AESOPLoss, BottleneckLoss, LaplaceKLLoss
from aesop.losses.artifact import artifact_loss, artifact_map, local_variance
from aesop.losses.gan import GANLoss
from aesop.losses.perceptual import PerceptualLoss
from aesop.losses.pixel import PIXEL_CRITERIA, LRLoss, PixelLoss, weighted_tv_loss


def pixel(case, weight=None, **inputs):
    args = case["args"]
    loss = PixelLoss(PIXEL_CRITERIA[case["callable"]], args["reduction"], args.get("eps", 1e-12))
    return args["loss_weight"] * loss(inputs["x"], inputs["gt"], weight)


def lr_space(case, x, gt):
    return case["args"]["loss_weight"] * LRLoss()(x, gt)


def total_variation(case, x, gt, weight):
    return case["args"]["loss_weight"] * weighted_tv_loss(x, weight)


def behind_autoencoder(loss):
    def value(case, x, gt, **weight):
        args = dict(case["args"])
        autoencoder = golden.load(build_network(args.pop("autoencoder_arch")), case["weights"])
        loss_weight = args.pop("loss_weight")
        return loss_weight * loss(autoencoder, **args)(x, gt, **weight)

    return value


def perceptual(case, x, gt):
    loss = PerceptualLoss(**case["args"])
    loss.vgg.load_trunk(golden.fill_case(case["weights"]))
    return loss(x, gt)


def gan(case, logits):
    args = case["args"]
    loss = GANLoss(args["gan_type"], args["real_label_val"], args["fake_label_val"])
    weight = 1.0 if args["is_disc"] else args["loss_weight"]
    return weight * loss(logits, args["target_is_real"], args["is_disc"])


def relativistic(case, real, fake):
    if case["id"].endswith("generator"):
        return case["args"]["loss_weight"] * GANLoss().generator(fake, real)
    return GANLoss().discriminator(real, fake, relativistic=True)[0 if case["id"].endswith("real") else 1]


def maps(case, **x):
    ksize = case["args"]["ksize"]
    if case["callable"] == "get_local_weights":
        return local_variance(x["residual"], ksize)
    if case["callable"] == "get_refined_artifact_map":
        return artifact_map(x["img_gt"], x["img_output"], x["img_ema"], ksize)
    return artifact_loss(x["img_output"], x["img_gt"], x["img_ema"], ksize)


HANDLERS = {
    "L1Loss": pixel,
    "MSELoss": pixel,
    "CharbonnierLoss": pixel,
    "LRL1Loss": lr_space,
    "WeightedTVLoss": total_variation,
    "AutoEncoderLoss": behind_autoencoder(AESOPLoss),
    "AutoEncoderBottleneckLoss": behind_autoencoder(BottleneckLoss),
    "ProbabilisticAutoEncoderReverseKLDivergenceLoss": behind_autoencoder(LaplaceKLLoss),
    "PerceptualLoss": perceptual,
    "GANLoss": gan,
    "GANLoss (vanilla)": relativistic,
    "get_local_weights": maps,
    "get_refined_artifact_map": maps,
    "L1Loss(get_refined_artifact_map * output, get_refined_artifact_map * gt)": maps,
}


def has_kinks(case):
    """The README's exceptions: VGG's max-pool, and a KL whose sigmas the fill left around zero, at the clamp."""
    if case["callable"] == "ProbabilisticAutoEncoderReverseKLDivergenceLoss":
        return "add_after_fill" not in case["weights"]
    return case["callable"] == "PerceptualLoss"


@pytest.mark.parametrize("case", golden.params("B"))
def test_loss(case):
    inputs = {name: x.requires_grad_(True) for name, x in golden.inputs(case).items()}
    result = HANDLERS[case["callable"]](case, **inputs)
    reference = case["value"]["float64"]
    value = result.mean()
    golden.check(case, "value", abs(value.item() - reference) / (abs(reference) or 1.0), golden.LIMITS["loss_value"])
    if "returned" in case["outputs"]:
        golden.check(case, "map", golden.rel_max(result, golden.tensor(case, "returned")), golden.LIMITS["arch_output"])
    value.backward()
    for name in case["outputs"]:
        if name.startswith("grad_"):
            limit = golden.LIMITS["loss_grad_kinks" if has_kinks(case) else "loss_grad"]
            golden.check(case, name, golden.rel_l2(inputs[name[5:]].grad, golden.tensor(case, name)), limit)
    for name in case.get("no_gradient_reaches", ()):
        assert inputs[name].grad is None or not torch.any(inputs[name].grad), f"a gradient reaches {name}"
