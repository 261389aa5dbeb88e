"""Artifact, perceptual and GAN losses against PyTorch's own functions and formulas written out here."""

import os
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from aesop.archs.vgg import layer_names
from aesop.losses.artifact import artifact_loss, artifact_map, local_variance
from aesop.losses.gan import GANLoss, GANOptions
from aesop.losses.perceptual import PerceptualLoss
from aesop.weights.errors import WeightsError, WeightsNotFound
from aesop.weights.pretrained import find_pretrained


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.rand(count, 2, 3, 12, 16, generator=generator, dtype=torch.float64))


# --- artifact loss -----------------------------------------------------------------------------------------------------


def window_variance(x: Tensor, ksize: int) -> Tensor:
    windows = F.unfold(F.pad(x, (ksize // 2,) * 4, mode="reflect"), ksize)
    return windows.var(1).view_as(x)


@pytest.mark.parametrize("ksize", [3, 7])
def test_local_variance_is_torch_var_over_windows(ksize):
    x = noise(2, 1, 12, 16).abs()
    torch.testing.assert_close(local_variance(x, ksize), window_variance(x, ksize), rtol=1e-12, atol=1e-14)


def test_local_variance_keeps_float32_digits_at_an_offset():
    x = 3 + 0.01 * noise(1, 1, 16, 16)
    exact = window_variance(x, 7)
    # Rounding 3.0 to float32 moves each sample by 1.2e-7, 1e-5 of the deviation. E[x^2] - E[x]^2 at this offset
    # without centring errs by about 9 * 6e-8 / 1e-4 = 5e-3.
    torch.testing.assert_close(local_variance(x.float()).double(), exact, rtol=1e-4, atol=0)


def direct_map(hr: Tensor, sr: Tensor, ema: Tensor, ksize: int) -> Tensor:
    r, r_ema = (hr - sr).abs().sum(1, keepdim=True), (hr - ema).abs().sum(1, keepdim=True)
    w = torch.stack([one.var() ** (1 / 5) * window_variance(one[None], ksize)[0] for one in r])
    return w * (r >= r_ema)


@pytest.mark.parametrize("ksize", [3, 7])
def test_artifact_map_and_loss_against_the_direct_formula(ksize):
    sr, hr, ema = images(3)
    sr.requires_grad_()
    reference = sr.detach().clone().requires_grad_()
    expected_map = direct_map(hr, reference, ema, ksize)
    torch.testing.assert_close(artifact_map(hr, sr, ema, ksize), expected_map, rtol=1e-10, atol=1e-14)
    expected = (expected_map * (reference - hr)).abs().mean()
    loss = artifact_loss(sr, hr, ema, ksize)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(sr.grad, reference.grad, rtol=1e-8, atol=1e-14)
    # A detached map would give another gradient.
    detached = reference.detach().clone().requires_grad_()
    (expected_map.detach() * (detached - hr)).abs().mean().backward()
    assert (detached.grad - sr.grad).norm() > 0.1 * sr.grad.norm()


def test_artifact_map_is_zero_exactly_where_sr_is_closer_than_the_ema():
    sr, hr, ema = images(3, seed=1)
    ema[:, :, :, :4] = sr[:, :, :, :4]  # equally far counts as an artifact
    closer = (hr - sr).abs().sum(1) < (hr - ema).abs().sum(1)
    zero = artifact_map(hr, sr, ema)[:, 0] == 0
    assert closer.any()
    assert not closer.all()
    assert torch.equal(zero, closer)
    assert not zero[..., :4].any()


def test_artifact_loss_sum():
    sr, hr, ema = images(3)
    assert artifact_loss(sr, hr, ema, reduction="sum").item() == pytest.approx(
        artifact_loss(sr, hr, ema).item() * sr.numel(), rel=1e-12
    )


# --- perceptual loss ---------------------------------------------------------------------------------------------------

# torchvision's `vgg19().features`, up to conv2_2, and the indices of all its convolutions.
HEAD = [nn.Conv2d(3, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
HEAD += [nn.Conv2d(64, 128, 3, 1, 1), nn.ReLU(), nn.Conv2d(128, 128, 3, 1, 1)]
VGG19_CONVS = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
VGG16_CONVS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No known weights on this machine: both places that are searched are empty folders."""
    for name in ("weights", "hub"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path


@pytest.fixture(scope="module")
def trunk() -> nn.Sequential:
    torch.manual_seed(0)
    trunk = nn.Sequential(*HEAD)
    for layer in trunk:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    return trunk.requires_grad_(False)


def file_of(trunk: nn.Sequential) -> dict[str, Tensor]:
    state = {f"features.{name}": value for name, value in trunk.state_dict().items()}
    return state | {"classifier.0.weight": torch.zeros(2, 2)}


def loaded(trunk: nn.Sequential, **options) -> PerceptualLoss:
    loss = PerceptualLoss({"conv1_2": 0.1, "conv2_2": 2.0}, **options)
    loss.vgg.load_trunk(file_of(trunk))
    return loss


@pytest.mark.parametrize(("vgg_type", "convs"), [("vgg19", VGG19_CONVS), ("vgg16", VGG16_CONVS)])
def test_layers_stand_at_torchvisions_indices(vgg_type, convs):
    names = layer_names(vgg_type)
    assert [k for k, name in enumerate(names) if name.startswith("conv")] == convs
    assert len(names) == {"vgg19": 37, "vgg16": 31}[vgg_type]


def test_identical_images_have_no_perceptual_distance(trunk):
    image = images(1)[0].float()
    for criterion in ("l1", "l2", "fro"):
        assert loaded(trunk, criterion=criterion, style_weight=1.0)(image, image.clone()).item() == 0
    assert loaded(trunk)(image, image.flip(-1)).item() > 0.01


def features(trunk: nn.Sequential, x: Tensor, range_norm: bool, use_input_norm: bool) -> list[Tensor]:
    if range_norm:
        x = (x + 1) / 2
    if use_input_norm:
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return [trunk[:3](x), trunk(x)]


@pytest.mark.parametrize("range_norm", [False, True])
@pytest.mark.parametrize("use_input_norm", [False, True])
@pytest.mark.parametrize("criterion", ["l1", "l2", "fro"])
def test_perceptual_and_style_against_the_direct_formula(trunk, range_norm, use_input_norm, criterion):
    sr, hr = (image.float() for image in images(2))
    distance = {"l1": F.l1_loss, "l2": F.mse_loss, "fro": lambda a, b: (a - b).square().sum().sqrt()}[criterion]
    expected_perceptual = expected_style = 0.0
    taps = [features(trunk, x, range_norm, use_input_norm) for x in (sr, hr)]
    for weight, a, b in zip((0.1, 2.0), *taps, strict=True):
        expected_perceptual += weight * distance(a, b)
        grams = [torch.einsum("nchw,ndhw->ncd", x, x) / x[0].numel() for x in (a, b)]
        expected_style += weight * distance(*grams)
    options = {"range_norm": range_norm, "use_input_norm": use_input_norm, "criterion": criterion}
    perceptual = loaded(trunk, perceptual_weight=3.0, **options)(sr, hr)
    style = loaded(trunk, perceptual_weight=0.0, style_weight=5.0, **options)(sr, hr)
    both = loaded(trunk, perceptual_weight=3.0, style_weight=5.0, **options)(sr, hr)
    assert perceptual.item() == pytest.approx(3 * expected_perceptual.item(), rel=1e-5)
    assert style.item() == pytest.approx(5 * expected_style.item(), rel=1e-4)  # differences of sums over 192 pixels
    assert both.item() == pytest.approx(perceptual.item() + style.item(), rel=1e-6)


def test_perceptual_gradient_reaches_sr_only(trunk):
    loss = loaded(trunk).train()
    sr, hr = (image.float().requires_grad_() for image in images(2))
    loss(sr, hr).backward()
    assert sr.grad.abs().sum() > 0
    assert hr.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_only_the_needed_layers_are_built():
    loss = PerceptualLoss({"conv1_2": 1.0})
    assert set(loss.state_dict()) == {f"vgg.features.{k}.{kind}" for k in (0, 2) for kind in ("weight", "bias")}


def test_explicit_vgg_path(trunk, nowhere):
    save_file(file_of(trunk), nowhere / "any_name.safetensors")
    loss = PerceptualLoss({"conv1_2": 0.1, "conv2_2": 2.0})
    loss.vgg.load_trunk(find_pretrained("vgg19", nowhere / "any_name.safetensors"))
    sr, hr = (image.float() for image in images(2))
    assert torch.equal(loss(sr, hr), loaded(trunk)(sr, hr))
    with pytest.raises(WeightsError, match=r"no_such\.safetensors does not exist"):
        find_pretrained("vgg19", nowhere / "no_such.safetensors")


def test_known_weights_are_found_in_the_named_folders_first(trunk, nowhere, monkeypatch):
    state = file_of(trunk)
    other = {name: value + 1 for name, value in state.items()}
    (nowhere / "hub" / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(other, nowhere / "hub" / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth")  # where torchvision puts it
    assert torch.equal(find_pretrained("vgg19")["features.0.weight"], other["features.0.weight"])
    (nowhere / "second").mkdir()
    monkeypatch.setenv("AESOP_WEIGHTS", os.pathsep.join((str(nowhere / "weights"), str(nowhere / "second"))))
    save_file(state, nowhere / "second" / "vgg19_features.safetensors")
    assert torch.equal(find_pretrained("vgg19")["features.0.weight"], state["features.0.weight"])


@pytest.mark.parametrize("name", ["vgg19", "vgg16", "alexnet"])
def test_missing_weights_name_the_remedy(name, nowhere):
    with pytest.raises(WeightsNotFound) as caught:
        find_pretrained(name)
    text = str(caught.value)
    assert f"no weights for {name} on this machine" in text
    assert f"torchvision.models.{name}(weights='DEFAULT')" in text
    assert "set AESOP_WEIGHTS to it" in text
    assert str(nowhere / "weights" / f"{name}_features.safetensors") in text, "every place looked at is named"
    assert str(nowhere / "hub") in text


def test_wrong_vgg_options_and_files_are_refused(trunk):
    with pytest.raises(ValueError, match=r"(?s)vgg_type\n.*vgg19.*vgg16.*'vgg13'"):
        PerceptualLoss({"conv1_1": 1.0}, vgg_type="vgg13")
    with pytest.raises(ValueError, match="vgg16 has no layer conv3_4; it has conv1_1, relu1_1, conv1_2"):
        PerceptualLoss({"conv3_4": 1.0}, vgg_type="vgg16")
    with pytest.raises(ValueError, match=r"(?s)criterion\n.*'l1', 'l2' or 'fro'.*'l3'"):
        PerceptualLoss({"conv1_1": 1.0}, criterion="l3")
    with pytest.raises(ValueError, match=r"not a torchvision VGG file: features\.10\.weight and 1 other"):
        PerceptualLoss({"conv3_1": 1.0}).vgg.load_trunk(file_of(trunk))


# --- GAN losses --------------------------------------------------------------------------------------------------------

SHAPES = [(4, 1), (2, 1, 5, 6)]  # VGG style, and a logit per pixel
CLOSED_FORMS = {
    "vanilla": lambda x, real, disc: F.softplus(-x if real else x).mean(),
    "lsgan": lambda x, real, disc: ((x - (1 if real else 0)) ** 2).mean(),
    "wgan": lambda x, real, disc: -x.mean() if real else x.mean(),
    "wgan_softplus": lambda x, real, disc: torch.log1p(torch.exp(-x if real else x)).mean(),
    "hinge": lambda x, real, disc: (1 - x if real else 1 + x).clamp(min=0).mean() if disc else -x.mean(),
}


@pytest.mark.parametrize("gan_type", CLOSED_FORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("real", "disc"), [(True, True), (False, True), (True, False)])
def test_gan_losses_have_their_closed_forms(gan_type, shape, real, disc):
    x = (2 * noise(*shape)).requires_grad_()
    value, expected = GANLoss(gan_type)(x, real, disc), CLOSED_FORMS[gan_type](x, real, disc)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(y, x)[0] for y in (value, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("gan_type", ["vanilla", "lsgan"])
def test_label_values(gan_type):
    x = noise(4, 1)
    loss = GANLoss(gan_type, real_label_val=0.9, fake_label_val=0.2)
    for real, label in ((True, 0.9), (False, 0.2)):
        target = torch.full_like(x, label)
        expected = F.binary_cross_entropy(x.sigmoid(), target) if gan_type == "vanilla" else F.mse_loss(x, target)
        torch.testing.assert_close(loss(x, real), expected, rtol=1e-12, atol=0)


def test_vanilla_survives_large_logits():
    x = torch.tensor([[1000.0], [-1000.0]])
    assert GANLoss()(x, True).item() == 500
    assert GANLoss("wgan_softplus")(x, False).item() == 500


def test_unknown_gan_type_is_refused():
    with pytest.raises(ValueError, match=r"(?s)gan_type\n.*'vanilla', 'lsgan', 'wgan', 'wgan_softplus' or 'hinge'.*'sgan'"):
        GANOptions(gan_type="sgan")


@pytest.mark.parametrize("gan_type", CLOSED_FORMS)
def test_plain_terms(gan_type):
    form, loss = CLOSED_FORMS[gan_type], GANLoss(gan_type)
    real, fake = noise(4, 1, seed=1), noise(4, 1, seed=2)
    assert torch.allclose(loss.generator(fake), form(fake, True, False), rtol=1e-12, atol=0)
    terms = loss.discriminator(real, fake, relativistic=False)
    assert torch.allclose(terms[0], form(real, True, True), rtol=1e-12, atol=0)
    assert torch.allclose(terms[1], form(fake, False, True), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gan_type", CLOSED_FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_relativistic_terms_against_the_direct_formula(gan_type, shape):
    form, loss = CLOSED_FORMS[gan_type], GANLoss(gan_type)
    real, fake = noise(*shape, seed=1).requires_grad_(), (noise(*shape, seed=2) - 0.5).requires_grad_()

    generator = loss.generator(fake, real)
    frozen = real.detach()
    expected = (form(frozen - fake.mean(), False, False) + form(fake - frozen.mean(), True, False)) / 2
    torch.testing.assert_close(generator, expected, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(generator, (fake, real), allow_unused=True)
    assert gradients[1] is None, "the generator's term must not train on D(HR)"
    torch.testing.assert_close(gradients[0], *torch.autograd.grad(expected, fake), rtol=1e-10, atol=1e-15)

    terms = loss.discriminator(real, fake, relativistic=True)
    expected_real = 0.5 * form(real - fake.detach().mean(), True, True)
    expected_fake = 0.5 * form(fake - real.detach().mean(), False, True)
    for term, reference, trained, constant in ((terms[0], expected_real, real, fake), (terms[1], expected_fake, fake, real)):
        torch.testing.assert_close(term, reference, rtol=1e-12, atol=0)
        gradients = torch.autograd.grad(term, (trained, constant), allow_unused=True)
        assert gradients[1] is None, "the other side's mean is a constant"
        torch.testing.assert_close(gradients[0], *torch.autograd.grad(reference, trained), rtol=1e-10, atol=1e-15)


def test_relativistic_discriminator_is_confident_when_real_is_above_fake():
    values = [
        sum(GANLoss().discriminator(torch.full((4, 1), gap), torch.zeros(4, 1), True)).item() for gap in (-3.0, 0.0, 3.0)
    ]
    assert all(a > b for a, b in pairwise(values))
    assert values[1] == pytest.approx(torch.log(torch.tensor(2.0)).item(), rel=1e-6)


def test_artifact_loss_has_a_finite_gradient_where_sr_equals_hr():
    hr = torch.rand(1, 3, 16, 16)
    sr = hr.clone().requires_grad_(True)
    artifact_loss(sr, hr, hr).backward()
    assert torch.isfinite(sr.grad).all()
