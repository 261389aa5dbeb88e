"""MS-SSIM: torchmetrics' terms as an oracle, closed properties, and images that are too small."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.metrics import metric_info
from aesop.metrics.build import make_metrics
from aesop.metrics.luma import quantise, rgb_to_y
from aesop.metrics.ms_ssim import WEIGHTS, check_size, ms_ssim
from aesop.options.validation import MetricOptions

CPU = torch.device("cpu")


def smooth_pair(height: int, width: int, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 3, 12, 12), generator=generator)
    hr = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return quantise(hr + noise * torch.randn(hr.shape, generator=generator)), quantise(hr)


@pytest.mark.parametrize(("height", "width"), [(176, 200), (211, 187)])
def test_the_terms_are_those_of_torchmetrics(height, width):
    """Its own MS-SSIM includes a mirrored border at the smallest scale; its contrast terms do not."""
    image = pytest.importorskip("torchmetrics.functional.image")
    options = {"sigma": 1.5, "kernel_size": 11, "data_range": 255.0}
    sr, hr = smooth_pair(height, width)
    measured = ms_ssim(sr, hr, crop_border=0)
    assert measured.shape == (2,)
    assert measured.dtype == torch.float64
    for k in range(2):
        x, y = (rgb_to_y(t[k : k + 1].double()) * 255 for t in (sr, hr))
        expected = 1.0
        for weight in WEIGHTS[:-1]:
            contrast = image.structural_similarity_index_measure(x, y, return_contrast_sensitivity=True, **options)[1]
            expected *= contrast.item() ** weight
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        whole = image.structural_similarity_index_measure(x, y, return_full_image=True, **options)[1]
        expected *= whole[..., 5:-5, 5:-5].mean().item() ** WEIGHTS[-1]
        assert measured[k].item() == pytest.approx(expected, abs=1e-7)
        assert 0.3 < expected < 0.999


def test_closed_properties():
    sr, hr = smooth_pair(192, 192)
    assert ms_ssim(hr, hr).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert ms_ssim(sr, hr).tolist() == pytest.approx(ms_ssim(hr, sr).tolist(), abs=1e-12)
    # Flat images differ in luminance alone, which counts at the smallest scale only.
    dark, bright = (torch.full((1, 3, 184, 184), level / 255) for level in (51, 204))
    low, high = (16 + 219 * level / 255 for level in (51, 204))
    c1 = (0.01 * 255) ** 2
    luminance = (2 * low * high + c1) / (low**2 + high**2 + c1)
    assert ms_ssim(dark, bright).item() == pytest.approx(luminance ** WEIGHTS[-1], abs=1e-9)
    assert math.isclose(sum(WEIGHTS), 1, abs_tol=1e-3)
    # A negative is unlike the image at every scale.
    assert ms_ssim(1 - hr, hr).tolist() == [0, 0]


def test_the_border_is_cropped_and_luma_alone_counts():
    sr, hr = smooth_pair(190, 184)
    assert ms_ssim(sr, hr, 4).tolist() == ms_ssim(sr[..., 4:-4, 4:-4], hr[..., 4:-4, 4:-4], 0).tolist()
    metric = make_metrics({"ms_ssim": MetricOptions()}, 4, CPU)["ms_ssim"]
    assert metric(sr, hr).tolist() == ms_ssim(sr, hr, 4).tolist()
    assert metric_info("ms_ssim").best == "max"


@pytest.mark.parametrize(("height", "width"), [(175, 300), (300, 175)])
def test_small_images_are_named(height, width):
    with pytest.raises(ValueError, match=rf"MS-SSIM needs 176 pixels per side after cropping, found {width}x{height}\."):
        ms_ssim(torch.rand(1, 3, height, width), torch.rand(1, 3, height, width), crop_border=0)
    check_size(176, 176)
    with pytest.raises(ValueError, match="one size"):
        ms_ssim(torch.rand(1, 3, 200, 200), torch.rand(1, 3, 200, 204))
