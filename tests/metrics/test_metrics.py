"""Metrics: closed forms, torchmetrics as an oracle, and published figures with real weights."""

import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from aesop.images.read import ImageFile
from aesop.images.resize import imresize
from aesop.images.tensors import to_tensor
from aesop.metrics import METRIC_TYPES, METRICS, metric_info
from aesop.metrics.ae_psnr import ae_psnr
from aesop.metrics.dists import DISTS
from aesop.metrics.lpips import LPIPS
from aesop.metrics.lr_psnr import lr_psnr
from aesop.metrics.luma import quantise, rgb_to_y
from aesop.metrics.psnr import psnr
from aesop.metrics.pyiqa_metrics import PyIQA
from aesop.metrics.ssim import ssim

SHARED = Path(os.environ.get("AESOP_SHARED") or Path(__file__).resolve().parents[3] / "shared")
needs_shared = pytest.mark.skipif(
    not (SHARED / "weights").is_dir(), reason=f"no weights and images in {SHARED} (set AESOP_SHARED)"
)


def noisy_pair(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.rand(shape, generator=generator)
    return quantise(hr + 0.1 * torch.randn(shape, generator=generator)), quantise(hr)


# ITU-R BT.601: Y of the primaries is 16 + 65.481, 128.553, 24.966.
KNOWN_LUMA = {
    (0.0, 0.0, 0.0): 16,
    (1.0, 1.0, 1.0): 235,
    (0.5, 0.5, 0.5): 125.5,
    (1.0, 0.0, 0.0): 81.481,
    (0.0, 1.0, 0.0): 144.553,
    (0.0, 0.0, 1.0): 40.966,
}


@pytest.mark.parametrize("rgb", KNOWN_LUMA)
def test_luma_of_known_colours(rgb):
    image = torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1)
    assert (rgb_to_y(image) * 255).item() == pytest.approx(KNOWN_LUMA[rgb], abs=1e-9)


def test_quantise():
    levels = torch.tensor([-40.0, 0.5, 1.5, 254.5, 300.0])
    assert (quantise(levels / 255) * 255).round().tolist() == [0, 0, 2, 254, 255]


@pytest.mark.parametrize("step", [1, 5, 40])
def test_psnr_of_a_constant_difference(step):
    hr = torch.full((2, 3, 20, 24), 100 / 255)
    sr = torch.full((2, 3, 20, 24), (100 + step) / 255)
    expected = 20 * math.log10(255 / step)
    assert psnr(sr, hr, test_y_channel=False, eps=0).tolist() == pytest.approx([expected] * 2, abs=1e-5)
    # Studio range: one level of gray is 219/255 of a level of Y.
    assert psnr(sr, hr, eps=0).tolist() == pytest.approx([expected + 20 * math.log10(255 / 219)] * 2, abs=1e-5)
    with_eps = -10 * math.log10((step / 255) ** 2 + 1e-8)
    assert psnr(sr, hr, test_y_channel=False).tolist() == pytest.approx([with_eps] * 2, abs=1e-5)


def test_identical_images():
    image = torch.rand(1, 3, 32, 32)
    assert psnr(image, image).item() == pytest.approx(80, abs=1e-9)
    assert psnr(image, image, eps=0).item() == math.inf
    assert ssim(image, image).item() == pytest.approx(1, abs=1e-12)
    assert lr_psnr(image, image, 4).item() == pytest.approx(80, abs=1e-9)


def test_every_image_has_its_own_value_in_float64():
    sr, hr = noisy_pair(3, 3, 40, 36)
    sr[1] = hr[1]
    for metric in (psnr, ssim):
        values = metric(sr, hr)
        assert values.shape == (3,)
        assert values.dtype == torch.float64
        for k in range(3):
            assert metric(sr[k], hr[k]).tolist() == pytest.approx([values[k].item()], abs=1e-12)
    assert psnr(sr, hr)[1] == pytest.approx(80)


def test_images_are_rounded_to_8_bit_first():
    sr, hr = noisy_pair(1, 3, 32, 32)
    jitter = (torch.rand(sr.shape) - 0.5) * 0.9 / 255
    for metric in (psnr, ssim, lambda a, b: lr_psnr(a, b, 4), lambda a, b: ae_psnr(a, b, lambda x: x * 0.3)):
        assert metric(sr + jitter, hr - jitter).item() == metric(sr, hr).item()
    white = torch.ones(1, 3, 32, 32)
    assert psnr(white * 1.7, white).item() == pytest.approx(80)


def test_border_is_cropped():
    sr, hr = noisy_pair(1, 3, 30, 26)
    framed = hr.clone()
    framed[..., 4:-4, 4:-4] = sr[..., 4:-4, 4:-4]
    for metric in (psnr, ssim):
        assert metric(framed, hr, crop_border=4).item() == metric(sr, hr, crop_border=4).item()
        inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
        assert metric(sr, hr, crop_border=4).item() == metric(sr[inside], hr[inside], crop_border=0).item()


@pytest.mark.parametrize("on_y", [True, False])
@pytest.mark.parametrize("border", [0, 4])
def test_psnr_and_ssim_of_torchmetrics(on_y, border):
    image = pytest.importorskip("torchmetrics.functional.image")
    sr, hr = noisy_pair(2, 3, 47, 39)
    x, y = (t[..., border : 47 - border, border : 39 - border].double() for t in (sr, hr))
    if on_y:
        x, y = rgb_to_y(x), rgb_to_y(y)
    for k in range(2):
        a, b = x[k : k + 1] * 255, y[k : k + 1] * 255
        # Its mean takes in a mirrored border; the map without it is what is comparable.
        _, similarity = image.structural_similarity_index_measure(
            a, b, sigma=1.5, kernel_size=11, data_range=255.0, return_full_image=True
        )
        oracle = similarity[..., 5:-5, 5:-5].mean().item()
        assert ssim(sr, hr, border, on_y)[k].item() == pytest.approx(oracle, abs=1e-7)
        oracle = image.peak_signal_noise_ratio(a, b, data_range=255.0).item()
        assert psnr(sr, hr, border, on_y, eps=0)[k].item() == pytest.approx(oracle, abs=1e-5)


def test_lr_psnr():
    hr = torch.full((1, 3, 32, 40), 0.4)
    assert lr_psnr(hr + 10 / 255, hr, 4, test_y_channel=False).item() == pytest.approx(
        -10 * math.log10((10 / 255) ** 2 + 1e-8), abs=1e-5
    )
    # What only HR resolution can show does not count: a checkerboard of single pixels vanishes.
    checks = (torch.arange(32)[:, None] + torch.arange(40)) % 2 * 20 / 255
    assert psnr(hr + checks, hr - 10 / 255 + 20 / 255).item() < 35 < lr_psnr(hr + checks, hr + 10 / 255, 4).item()
    sr, hr = noisy_pair(1, 3, 48, 44)
    down = [quantise(imresize(image, 0.25)) for image in (sr, hr)]
    assert lr_psnr(sr, hr, 4).item() == pytest.approx(psnr(*down, crop_border=0).item(), abs=1e-9)


def test_ae_psnr():
    sr, hr = noisy_pair(2, 3, 32, 32)
    torch.testing.assert_close(ae_psnr(sr, hr, lambda x: x), psnr(sr, hr))
    # Neither clamped nor rounded behind the auto-encoder: an offset cancels, a factor of 1/10 is 20 dB.
    torch.testing.assert_close(ae_psnr(sr, hr, lambda x: x + 3), psnr(sr, hr), atol=1e-4, rtol=0)
    mse = 10 ** (-psnr(sr, hr, eps=0) / 10)
    torch.testing.assert_close(ae_psnr(sr, hr, lambda x: x / 10), -10 * torch.log10(mse / 100 + 1e-8), atol=1e-4, rtol=0)
    seen = []
    ae_psnr(sr + 0.001, hr, lambda x: seen.append(x) or x)
    assert all(torch.equal(x, quantise(x)) for x in seen)


@pytest.mark.parametrize("metric", [psnr, ssim, lambda a, b: lr_psnr(a, b, 4), lambda a, b: ae_psnr(a, b, abs), LPIPS()])
def test_shapes_that_do_not_fit(metric):
    image = torch.rand(1, 3, 64, 64)
    for other in (torch.rand(1, 3, 64, 60), torch.rand(2, 3, 64, 64), torch.rand(1, 1, 64, 64)):
        with pytest.raises(ValueError, match="one size"):
            metric(image, other)
    with pytest.raises(ValueError, match="RGB"):
        metric(torch.rand(1, 4, 64, 64), torch.rand(1, 4, 64, 64))


def test_images_too_small():
    tiny = torch.rand(1, 3, 8, 40)
    with pytest.raises(ValueError, match="lower crop_border"):
        psnr(tiny, tiny)
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(tiny, tiny, crop_border=0)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_of_torchmetrics_with_random_weights(net):
    oracle_module = pytest.importorskip("torchmetrics.functional.image.lpips")
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    oracle = oracle_module._LPIPS(pretrained=False, net=net, pnet_rand=True, eval_mode=True)
    heads = {name: value.abs_() for name, value in oracle.state_dict().items() if name.startswith("lin")}
    trunk = {
        "features." + name.split(".", 1)[1]: value for name, value in oracle.net.state_dict().items() if "slice" in name
    }
    metric = LPIPS(net)
    metric.load_weights(trunk, heads)
    sr, hr = noisy_pair(2, 3, 64, 72)
    with torch.no_grad():
        expected = oracle(sr, hr, normalize=True).flatten().double()
    torch.testing.assert_close(metric(sr, hr), expected, rtol=1e-5, atol=1e-8)
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(metric(sr, hr, crop_border=4), metric(sr[inside], hr[inside]))
    assert metric(hr, hr).tolist() == [0, 0]


def test_dists_of_torchmetrics_with_a_random_trunk(monkeypatch):
    oracle_module = pytest.importorskip("torchmetrics.functional.image.dists")
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    vgg = torchvision.models.vgg16(weights=None)
    monkeypatch.setattr(oracle_module, "vgg16", lambda weights: vgg)
    oracle = oracle_module.DISTSNetwork(load_weights=False)
    metric = DISTS()
    metric.load_weights(vgg.state_dict(), oracle.state_dict())
    sr, hr = noisy_pair(2, 3, 64, 72)
    torch.testing.assert_close(metric(sr, hr), oracle(sr, hr).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(metric(hr, hr), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_weights_that_are_something_else():
    alex = LPIPS("alex")
    trunk = alex.trunk.state_dict()
    with pytest.raises(ValueError, match="not a torchvision file of 'alex'"):
        alex.load_weights({"weight": torch.zeros(1)}, {})
    vgg_heads = {f"lin{k}.model.1.weight": head for k, head in enumerate(LPIPS("vgg").heads)}
    with pytest.raises(ValueError, match="not an LPIPS head file for 'alex'"):
        alex.load_weights(trunk, vgg_heads)
    with pytest.raises(ValueError, match="no DISTS weight file"):
        DISTS().load_weights(LPIPS("vgg").trunk.state_dict(), {})


@pytest.fixture(scope="module")
def perceptual() -> dict[str, torch.nn.Module]:
    weights = SHARED / "weights"
    vgg = weights / "vgg16_features.safetensors"
    return {
        "lpips_alex": LPIPS.from_weights(
            "alex", weights / "alexnet_features.safetensors", weights / "lpips_lin_alex.safetensors"
        ),
        "lpips_vgg": LPIPS.from_weights("vgg", vgg, weights / "lpips_lin_vgg.safetensors"),
        "dists": DISTS.from_weights(vgg, weights / "dists_alpha_beta.safetensors"),
    }


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads((SHARED / "weights" / "reference_figures.json").read_text())


@needs_shared
@pytest.mark.parametrize("example", ["ex_p0", "ex_p1"])
def test_lpips_packages_own_example(perceptual, figures, example):
    files = [SHARED / "data" / "lpips_example" / f"{name}.png" for name in ("ex_ref", example)]
    images = [to_tensor(ImageFile.at(file).read()) for file in files]
    for net, expected in figures["published_metric_values"]["lpips_example_images"][f"ex_ref vs {example}"].items():
        # The figures are of a float32 trunk; VGG16 here is stored in float16.
        assert perceptual[f"lpips_{net}"](*images).item() == pytest.approx(expected, abs=1e-6 if net == "alex" else 3.2e-5)


def bicubic_pair(dataset: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    lr = ImageFile.at(SHARED / "data" / dataset / "LRx4" / name).read()
    sr = np.clip(np.floor(imresize(lr.astype(np.float64), 4) + 0.5), 0, 255).astype(np.uint8)
    return to_tensor(sr), to_tensor(ImageFile.at(SHARED / "data" / dataset / "HR" / name).read())


@needs_shared
@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
def test_bicubic_reference_figures(figures, dataset):
    for name, expected in figures["results"][dataset]["bicubic"]["per_image"].items():
        sr, hr = bicubic_pair(dataset, name)
        assert psnr(sr, hr, eps=0).item() == pytest.approx(expected["psnr_y"], abs=1e-5)
        assert ssim(sr, hr).item() == pytest.approx(expected["ssim_y"], abs=1e-6)


@needs_shared
@pytest.mark.parametrize("name", ["img_003.png", "img_005.png"])
def test_perceptual_reference_figures(perceptual, figures, name):
    expected = figures["results"]["Set5"]["bicubic"]["per_image"][name]
    sr, hr = bicubic_pair("Set5", name)
    for kind, metric in perceptual.items():
        assert metric(sr, hr).item() == pytest.approx(expected[kind], abs=1e-5)
    assert perceptual["lpips_alex"](sr, hr, 4).item() == pytest.approx(expected["lpips_alex_crop4"], abs=1e-5)


class StubbedMetric:
    """What pyiqa's create_metric gives, as far as it is used; remembers what it was given."""

    def __init__(self, name: str, device: torch.device):
        if name == "offline":
            raise OSError("<urlopen error [Errno -2] Name or service not known>\nand more")
        if name == "lacking":
            raise ModuleNotFoundError("No module named 'timm'")
        self.name, self.device = name, device

    def __call__(self, *images: torch.Tensor) -> torch.Tensor:
        if min(images[0].shape[-2:]) < 16:
            raise AssertionError("too small")
        self.seen = images
        return images[0].mean(dim=(1, 2, 3))[:, None].float()


@pytest.fixture
def pyiqa(monkeypatch) -> None:
    """A module of pyiqa's interface, without anything that measures."""
    package, configs = ModuleType("pyiqa"), ModuleType("pyiqa.default_model_configs")
    configs.DEFAULT_CONFIGS = {
        "musiq": {"metric_mode": "NR"},
        "musiq-ava": {"metric_mode": "NR"},
        "nlpd": {"metric_mode": "FR", "lower_better": True},
        "fid": {"metric_mode": "NR", "lower_better": True},
        "offline": {"metric_mode": "NR"},
        "lacking": {"metric_mode": "NR"},
    }
    package.create_metric = StubbedMetric
    package.default_model_configs = configs
    monkeypatch.setitem(sys.modules, "pyiqa", package)
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", configs)


def test_what_pyiqa_says_of_its_metrics(pyiqa):
    musiq, nlpd = metric_info("pyiqa:musiq"), metric_info("pyiqa:nlpd")
    assert (musiq.label, musiq.best, musiq.needs_reference) == ("MUSIQ", "max", False)
    assert (nlpd.label, nlpd.best, nlpd.needs_reference) == ("NLPD", "min", True)
    assert musiq.channel == "colour"
    assert musiq.crop_border == 0


def test_pyiqa_gets_rgb_rounded_to_8_bit(pyiqa):
    sr, hr = noisy_pair(2, 3, 40, 36)
    jitter = (torch.rand(sr.shape) - 0.5) * 0.9 / 255
    musiq, nlpd = (PyIQA(name, torch.device("cpu")) for name in ("musiq", "nlpd"))
    value = musiq(sr + jitter, crop_border=4)
    assert value.shape == (2,)
    assert value.dtype == torch.float64
    (seen,) = musiq.measure.seen
    torch.testing.assert_close(seen, sr[..., 4:-4, 4:-4], rtol=0, atol=1e-7)
    nlpd(sr * 2, hr)
    assert [torch.equal(a, b) for a, b in zip(nlpd.measure.seen, (quantise(sr * 2), hr), strict=True)] == [True, True]
    assert nlpd.measure.seen[0].max() <= 1
    assert musiq(sr[0]).shape == (1,)
    with pytest.raises(ValueError, match="one size"):
        nlpd(sr, hr[..., 4:])


def test_what_pyiqa_cannot_do_is_said_in_one_sentence(pyiqa):
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match=r"pyiqa has no metric 'musik'; the nearest: musiq, musiq-ava"):
        PyIQA("musik", cpu)
    with pytest.raises(ValueError, match=r"'fid' measures a whole set of images"):
        PyIQA("fid", cpu)
    with pytest.raises(ValueError, match=r"Name or service not known>\)\. It downloads .* at first use") as caught:
        PyIQA("offline", cpu)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"No module named 'timm'\)\. A package it needs is missing: pip install"):
        PyIQA("lacking", cpu)
    with pytest.raises(ValueError, match=r"pyiqa could not measure 'musiq' \(AssertionError: too small\)"):
        PyIQA("musiq", cpu)(torch.rand(1, 3, 8, 40))


def test_without_pyiqa_the_remedy_and_its_licence_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # importing it fails
    with pytest.raises(ValueError, match=r'not installed: pip install "aesop-sr\[iqa\]" .*Noncommercial'):
        metric_info("pyiqa:musiq")


def test_tables():
    assert {"psnr", "ssim", "lpips", "lpips_vgg", "dists", "niqe", "aepsnr", "lrpsnr"} <= METRICS.keys()
    assert {name: METRIC_TYPES[f"calculate_{name}_pytorch"] for name in METRICS} == {name: name for name in METRICS}
    assert METRIC_TYPES["calculate_psnr"] == "psnr"
    assert METRIC_TYPES["calculate_ssim"] == "ssim"
    assert METRIC_TYPES["calculate_niqe"] == "niqe"
    assert METRIC_TYPES["musiq"] == "pyiqa:musiq"
    assert METRIC_TYPES["calculate_topiq"] == "pyiqa:topiq_fr"
    for name, info in METRICS.items():
        assert metric_info(name) is info
        assert f"{0.5:{info.format}}".startswith("0.5")
        assert (info.best == "min") == (info.label in ("LPIPS", "LPIPS-VGG", "DISTS", "NIQE"))
        assert info.needs_reference == (name != "niqe")
    with pytest.raises(ValueError, match=r"no metric 'pnsr'; known: psnr, .*, clipiqa, and every .* pyiqa:NAME"):
        metric_info("pnsr")
