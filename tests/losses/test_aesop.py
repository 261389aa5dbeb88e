"""The AESOP loss: its definition, what gets a gradient, the range guards, and the files it is made from; its variants."""

import json

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Laplace, kl_divergence

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.rrdbnet import RRDBNet
from aesop.losses.aesop import AESOPLoss, BottleneckLoss, LaplaceKLLoss, laplace_kl
from aesop.weights.errors import WeightsError
from aesop.weights.save import save_weights
from checkpoint_kinds import save_basicsr

AE_OPTIONS = {
    "type": "AutoEncoder_RRDBNet",
    "scale": 4,
    "dec_opt": {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 4},
}


def tiny(seed: int = 0, dtype: torch.dtype = torch.float32, **options) -> AutoEncoder:
    torch.manual_seed(seed)
    net = build_network({**AE_OPTIONS, **options})
    with torch.no_grad():  # unit gain: the published initialisation (x0.1) would give an almost constant output
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape) / (parameter[0].numel() if parameter.ndim > 1 else 100) ** 0.5)
    return net.eval().to(dtype)


def images(low: float = 0.0, high: float = 1.0, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sr, hr = torch.rand(2, 2, 3, 8, 12, generator=generator)
    return sr * (high - low) + low, hr


class Recorder(nn.Module):
    """Hands images on to a network and remembers what range they had."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.lowest, self.highest = net, [], []

    def forward(self, x: Tensor) -> Tensor:
        self.lowest.append(x.min().item())
        self.highest.append(x.max().item())
        return self.net(x)


def value_and_gradient(loss: AESOPLoss, sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    sr = sr.clone().requires_grad_()
    value = loss(sr, hr)
    (gradient,) = torch.autograd.grad(value, sr)
    return value.detach(), gradient


@pytest.mark.parametrize(("criterion", "reduction"), [("l1", "mean"), ("l2", "mean"), ("l1", "sum"), ("l2", "sum")])
def test_value_is_the_distance_after_the_autoencoder(criterion, reduction):
    net = tiny()
    sr, hr = images()
    with torch.no_grad():
        difference = (net(sr) - net(hr)).double()
    each = difference.abs() if criterion == "l1" else difference**2
    expected = each.mean() if reduction == "mean" else each.sum()
    value = AESOPLoss(net, criterion, reduction)(sr, hr)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (sr - hr).abs().mean().item() != pytest.approx(value.item(), rel=0.1), "the plain pixel loss would differ"


def test_weight_gives_a_weighted_mean():
    net = tiny()
    sr, hr = images()
    weight = torch.rand(2, 1, 8, 12)
    with torch.no_grad():
        difference = (net(sr) - net(hr)).abs().double()
    expected = (difference * weight).sum() / (3 * weight.double().sum())
    assert AESOPLoss(net)(sr, hr, weight).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("guard", ["none", "clamp", "normalize"])
@pytest.mark.parametrize("as_loss_map", [False, True])
def test_gradient_reaches_sr_only(guard, as_loss_map):
    net = tiny()
    loss = AESOPLoss(net, range_guard=guard, as_loss_map=as_loss_map)
    sr, hr = (x.requires_grad_() for x in images())
    loss(sr, hr).backward()
    assert sr.grad.abs().min() > 0
    assert hr.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.parameters())


def test_gradient_is_the_one_of_the_definition():
    net = tiny(dtype=torch.float64)
    sr, hr = (x.double() for x in images())
    with torch.no_grad():
        target = net(hr)
    reference = sr.clone().requires_grad_()
    nn.functional.l1_loss(net(reference), target).backward()
    loss = AESOPLoss(net)
    sr.requires_grad_()
    loss(sr, hr).backward()
    # The loss is computed in float32 after the auto-encoder, so the sum of 576 terms is rounded to about 1e-7.
    torch.testing.assert_close(sr.grad, reference.grad, rtol=1e-5, atol=1e-9)


def test_the_autoencoder_stays_frozen_and_in_eval_mode():
    decoder = nn.Sequential(nn.Upsample(scale_factor=4), nn.BatchNorm2d(3))
    loss = AESOPLoss(AutoEncoder(decoder, 4, num_feat=16, num_grow_ch=4))
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    assert loss.train() is loss
    assert loss.training
    assert not any(module.training for module in loss.autoencoder.modules())
    parent = nn.Sequential(loss).train()
    assert not any(module.training for module in loss.autoencoder.modules())
    sr, hr = images()
    loss(sr.requires_grad_(), hr).backward()
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())
    parent.eval()
    assert not loss.training


@pytest.mark.parametrize("guard", ["clamp", "normalize"])
@pytest.mark.parametrize("criterion", ["l1", "l2"])
@pytest.mark.parametrize("as_loss_map", [False, True])
def test_guards_are_exactly_the_published_loss_inside_the_range(guard, criterion, as_loss_map):
    net = tiny()
    sr, hr = images()
    sr[0, :, 0, :4], sr[0, :, 1, :4] = 0.0, 1.0  # the borders belong to the range
    published = value_and_gradient(AESOPLoss(net, criterion, as_loss_map=as_loss_map), sr, hr)
    guarded = value_and_gradient(AESOPLoss(net, criterion, as_loss_map=as_loss_map, range_guard=guard), sr, hr)
    assert torch.equal(guarded[0], published[0])
    assert torch.equal(guarded[1], published[1])


@pytest.mark.parametrize("guard", ["clamp", "normalize"])
def test_guards_differ_from_the_published_loss_outside_the_range_and_keep_the_autoencoder_inside(guard):
    recorder = Recorder(tiny())
    sr, hr = images(-0.5, 1.5)
    guarded = AESOPLoss(recorder, range_guard=guard)(sr, hr)
    assert min(recorder.lowest) >= 0
    # (x - min) / (max - min) may round to one unit in the last place above 1.
    assert max(recorder.highest) <= 1 + torch.finfo(torch.float32).eps
    assert guarded.item() != pytest.approx(AESOPLoss(recorder.net)(sr, hr).item(), rel=1e-3)
    assert max(recorder.highest) > 0.99, "the range is used"


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_clamp_pulls_pixels_outside_back_into_the_range(criterion):
    sr, hr = images(-0.5, 1.5)
    value, gradient = value_and_gradient(AESOPLoss(tiny(), criterion, range_guard="clamp"), sr, hr)
    above, below = sr > 1, sr < 0
    assert above.any()
    assert below.any()
    # A descent step moves against the gradient; only the excess, an L1 mean, acts on these pixels.
    assert torch.equal(gradient[above], torch.full_like(gradient[above], 1 / sr.numel()))
    assert torch.equal(gradient[below], torch.full_like(gradient[below], -1 / sr.numel()))
    with torch.no_grad():
        inside = AESOPLoss(tiny(), criterion)(sr.clamp(0, 1), hr)
    excess = (sr.double() - sr.double().clamp(0, 1)).abs().mean()
    assert value.item() == pytest.approx(inside.item() + excess.item(), rel=1e-6)


def test_clamp_brings_an_optimised_image_back_into_the_range():
    """What the guard is for: without it, nothing keeps such pixels from drifting on."""
    net = tiny()
    sr, hr = images(-0.5, 1.5)
    sr = sr.requires_grad_()
    loss = AESOPLoss(net, range_guard="clamp")
    optimiser = torch.optim.Adam([sr], lr=0.02)
    outside = [((sr < 0) | (sr > 1)).float().mean().item()]
    for _ in range(40):
        optimiser.zero_grad()
        loss(sr, hr).backward()
        optimiser.step()
    outside.append(((sr < -0.05) | (sr > 1.05)).float().mean().item())
    assert outside[0] > 0.4
    assert outside[1] < 0.02


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_normalize_measures_at_the_original_scale_with_one_map_per_image(criterion):
    net = tiny()
    sr, hr = images()
    sr = torch.stack((sr[0] * 2 - 0.5, sr[1]))  # the second image stays inside: its map is the identity
    each = []
    for one_sr, one_hr in zip(sr, hr, strict=True):
        low, high = min(one_sr.min().item(), 0.0), max(one_sr.max().item(), 1.0)
        with torch.no_grad():
            a, b = (net((x[None] - low) / (high - low)) * (high - low) for x in (one_sr, one_hr))
        each.append((a - b).abs().double().mean() if criterion == "l1" else ((a - b) ** 2).double().mean())
    expected = sum(each) / 2
    assert AESOPLoss(net, criterion, range_guard="normalize")(sr, hr).item() == pytest.approx(expected.item(), rel=1e-5)


def test_as_loss_map_weights_the_pixel_loss():
    net = tiny()
    sr, hr = images()
    with torch.no_grad():
        loss_map = (net(sr) - net(hr)).abs().double()
    expected = ((sr - hr).abs() * loss_map).sum() / loss_map.sum()
    assert AESOPLoss(net, as_loss_map=True)(sr, hr).item() == pytest.approx(expected.item(), rel=1e-6)


def test_from_pretrained_reads_our_file_and_the_published_one(tmp_path):
    net = tiny()
    sr, hr = images()
    expected = AESOPLoss(net)(sr, hr)
    save_weights(tmp_path / "ae.safetensors", net.state_dict(), {"network": json.dumps(AE_OPTIONS)})
    save_weights(tmp_path / "bare.safetensors", net.state_dict(), {})
    save_basicsr(tmp_path / "ae.pth", {"params": tiny(5).state_dict(), "params_ema": net.state_dict()})
    for name in ("ae.safetensors", "bare.safetensors", "ae.pth"):
        loss = AESOPLoss.from_pretrained(tmp_path / name)
        assert torch.equal(loss(sr, hr), expected), name
        assert not loss.autoencoder.training
        assert not any(parameter.requires_grad for parameter in loss.parameters())
    options = AESOPLoss.from_pretrained(tmp_path / "ae.pth", criterion="l2", range_guard="clamp")
    assert (options.pixel.criterion, options.range_guard) == ("l2", "clamp")


def test_a_generators_file_is_refused(tmp_path):
    save_weights(tmp_path / "g.safetensors", RRDBNet(num_feat=8, num_block=1, num_grow_ch=4).state_dict(), {})
    with pytest.raises(WeightsError, match=r"g\.safetensors contains RRDBNet, not an auto-encoder: train one first"):
        AESOPLoss.from_pretrained(tmp_path / "g.safetensors")


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="criterion must be l1 or l2, found 'charbonnier'"):
        AESOPLoss(nn.Identity(), criterion="charbonnier")
    with pytest.raises(ValueError, match="range_guard must be none, clamp or normalize, found 'tanh'"):
        AESOPLoss(nn.Identity(), range_guard="tanh")
    with pytest.raises(ValueError, match="reduction must be mean or sum, found 'none'"):
        AESOPLoss(nn.Identity(), reduction="none")


# --- variants ----------------------------------------------------------------------------------------------------------


def probabilistic(seed: int = 0) -> AutoEncoder:
    net = tiny(seed, type="ProbabilisticAutoEncoder_RRDBNet")
    with torch.no_grad():
        net.sigma_branch[10].bias.fill_(1.0)  # positive for these images
    return net


VARIANTS = {
    "bottleneck": lambda: BottleneckLoss(tiny()),
    "reverse": lambda: LaplaceKLLoss(probabilistic()),
    "forward": lambda: LaplaceKLLoss(probabilistic(), "forward"),
}


@pytest.mark.parametrize(("criterion", "reduction"), [("l1", "mean"), ("l2", "mean"), ("l1", "sum"), ("l2", "sum")])
def test_bottleneck_loss_is_the_distance_of_the_bottlenecks(criterion, reduction):
    net = tiny()
    sr, hr = images()
    with torch.no_grad():
        difference = (net(sr, return_bottleneck=True)[1] - net(hr, return_bottleneck=True)[1]).double()
    each = difference.abs() if criterion == "l1" else difference**2
    expected = each.mean() if reduction == "mean" else each.sum()
    assert BottleneckLoss(net, criterion, reduction)(sr, hr).item() == pytest.approx(expected.item(), rel=1e-6)
    assert AESOPLoss(net, criterion, reduction)(sr, hr).item() != pytest.approx(expected.item(), rel=0.1)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_reach_sr_only_and_leave_the_autoencoder_as_it_is(name):
    loss = VARIANTS[name]()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    assert loss.train() is loss
    assert not any(module.training for module in loss.autoencoder.modules())
    sr, hr = (x.requires_grad_() for x in images())
    loss(sr, hr).backward()
    assert sr.grad.abs().sum() > 0
    assert hr.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in loss.parameters())
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_equal_images_are_zero(name):
    loss = VARIANTS[name]()
    sr, hr = images()
    assert loss(hr.clone(), hr).item() == 0
    assert loss(sr, hr).item() > 1e-3


def laplacians(seed: int = 0) -> list[Tensor]:
    """Mean and scale of P, mean and scale of Q."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.rand(4, 50, generator=generator, dtype=torch.float64) + 0.1)


def test_laplace_kl_of_equal_means_is_pytorchs():
    mean, p_scale, _, q_scale = laplacians()
    ours = laplace_kl(mean, p_scale, mean, q_scale)
    torch.testing.assert_close(ours, kl_divergence(Laplace(mean, p_scale), Laplace(mean, q_scale)), rtol=1e-12, atol=1e-14)
    assert ours.min() >= 0


def test_laplace_kl_exceeds_pytorchs_by_what_the_published_formula_leaves_out():
    p_mean, p_scale, q_mean, q_scale = laplacians()
    exact = kl_divergence(Laplace(p_mean, p_scale), Laplace(q_mean, q_scale))
    excess = p_scale / q_scale * (1 - torch.exp(-(p_mean - q_mean).abs() / p_scale))
    torch.testing.assert_close(laplace_kl(p_mean, p_scale, q_mean, q_scale), exact + excess, rtol=1e-12, atol=1e-14)
    assert excess.min() > 0
    equal = laplace_kl(p_mean, p_scale, p_mean, p_scale)
    torch.testing.assert_close(equal, torch.zeros_like(equal), rtol=0, atol=1e-15)


def test_laplace_kl_loss_takes_twice_the_clamped_sigma_and_the_direction_asked_for():
    net = probabilistic()
    sr, hr = images()
    with torch.no_grad():
        net.sigma_branch[10].bias.sub_(net(hr, return_sigma=True)[1].median())
        (sr_mean, sr_sigma), (hr_mean, hr_sigma) = (net(x, return_sigma=True) for x in (sr, hr))
    assert 0.1 < (sr_sigma < 1e-6).float().mean() < 0.9, "the clamp must be seen"
    p = sr_mean.double(), 2 * sr_sigma.double().clamp(min=1e-6)
    q = hr_mean.double(), 2 * hr_sigma.double().clamp(min=1e-6)
    for criterion, expected in (("reverse", laplace_kl(*p, *q)), ("forward", laplace_kl(*q, *p))):
        assert LaplaceKLLoss(net, criterion)(sr, hr).item() == pytest.approx(expected.mean().item(), rel=1e-5)
    assert LaplaceKLLoss(net, "forward")(sr, hr).item() == LaplaceKLLoss(net, "reverse")(hr, sr).item()


def test_variants_refuse_wrong_options():
    with pytest.raises(ValueError, match="BottleneckLoss: criterion must be l1 or l2, found 'charbonnier'"):
        BottleneckLoss(tiny(), criterion="charbonnier")
    net = tiny()
    with pytest.raises(ValueError, match="needs a ProbabilisticAutoEncoder, found AutoEncoder: train one with"):
        LaplaceKLLoss(net)
    assert all(parameter.requires_grad for parameter in net.parameters()), "what is refused is not frozen"


@pytest.mark.parametrize("make", [AESOPLoss, BottleneckLoss])
def test_mixed_precision_around_the_loss_changes_nothing(make):
    """The difference is small and the numbers are large: bfloat16 would lose it."""
    torch.manual_seed(0)
    loss = make(AutoEncoder(RRDBNet(3, 3, 4, 8, 1, 4), 4, 16, 4))
    hr = torch.rand(2, 3, 16, 16)
    sr = (hr + 0.01 * torch.randn_like(hr)).requires_grad_(True)
    expected = loss(sr, hr)
    (gradient,) = torch.autograd.grad(expected, sr)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(sr, hr)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert torch.equal(torch.autograd.grad(value, sr)[0], gradient)
    half = loss(sr.detach().bfloat16(), hr.bfloat16())
    assert torch.equal(half, loss(sr.detach().bfloat16().float(), hr.bfloat16().float()))


def test_double_precision_is_kept():
    loss = AESOPLoss(AutoEncoder(RRDBNet(3, 3, 4, 8, 1, 4), 4, 16, 4).double())
    assert loss(*torch.rand(2, 1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("sr", "hr"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)),
        (torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)),
        (torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 12)),
    ],
    ids=["uint8", "gray", "no batch", "other sizes"],
)
def test_images_of_another_kind_are_refused(sr, hr):
    loss = AESOPLoss(AutoEncoder(RRDBNet(3, 3, 4, 8, 1, 4), 4, 16, 4))
    with pytest.raises(ValueError, match=r"AESOPLoss compares two batches \(N, 3, H, W\) of floating-point images"):
        loss(sr, hr)


def test_an_auto_encoder_of_another_scale_is_refused_where_the_scale_is_given(tmp_path):
    options = {"type": "AutoEncoder_RRDBNet", "scale": 4, "enc_opt": {"num_feat": 16, "num_grow_ch": 4}}
    options["dec_opt"] = {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
    save_weights(tmp_path / "ae.safetensors", build_network(options).state_dict(), {"network": json.dumps(options)})
    assert AESOPLoss.from_pretrained(tmp_path / "ae.safetensors", scale=4, criterion="l2").pixel.criterion == "l2"
    with pytest.raises(ValueError, match=r"ae.safetensors is an auto-encoder of scale 4, but scale 2 is trained"):
        AESOPLoss.from_pretrained(tmp_path / "ae.safetensors", scale=2)
    with pytest.raises(ValueError, match="give the auto-encoder's weight file, found None"):
        AESOPLoss.from_pretrained(None)
