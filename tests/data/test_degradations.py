"""Degradations: kernels against scipy, filters and JPEG against OpenCV, noise and draws by their statistics."""

import math
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F

import aesop
from aesop.data.degradation.blur_kernels import (
    SINC,
    bivariate_kernels,
    render,
    sample_blur_kernels,
    sample_final_kernels,
    sinc_kernels,
)
from aesop.data.degradation.jpeg import jpeg
from aesop.data.degradation.operations import filter2d, gaussian_noise, poisson_noise, resize, usm_sharpen
from aesop.data.degradation.random_degradation import (
    apply,
    batch_generator,
    degrade,
    draw,
    draw_corners,
    paired_crop,
    render_draw,
    smallest_side,
)
from aesop.data.degradation.training_pool import TrainingPool
from aesop.images.read import ImageFile
from aesop.images.tensors import to_tensor
from aesop.options.degradation import KERNELS, DegradationOptions

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "heldout"
PROBABILITIES = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
# The paper's option file, where it differs from Real-ESRGAN's.
PAPER = DegradationOptions(
    resize_range=(0.2, 1.5),
    poisson_scale_range=(0.05, 2),
    jpeg_range=(50, 95),
    noise_range2=(1, 20),
    poisson_scale_range2=(0.05, 2),
    jpeg_range2=(50, 95),
    queue_size=144,
)
N = 10_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(side: int = 128, name: str = "astronaut") -> torch.Tensor:
    """(1, 3, side, side) of a photograph."""
    return to_tensor(ImageFile.at(PHOTOS / f"{name}.png").read_uint8())[None, :, 100 : 100 + side, 100 : 100 + side]


def bivariate(size, sigma_x, sigma_y, theta, beta=1.0, plateau=False, grid=21):
    values = (torch.tensor([value], dtype=torch.float64) for value in (sigma_x, sigma_y, theta, beta))
    return bivariate_kernels(torch.tensor([size]), *values, torch.tensor([plateau]), grid)[0].numpy()


def sinc(size, cutoff, grid=21):
    return sinc_kernels(torch.tensor([size]), torch.tensor([cutoff], dtype=torch.float64), grid)[0].numpy()


def blur_kernels(n, seed=0, **changed):
    return sample_blur_kernels(n, DegradationOptions(**changed), generator(seed))


def check_share(happened, probability: float, n: int | None = None) -> None:
    """How often something happened lies within 4 standard deviations of what its probability says."""
    happened = torch.as_tensor(happened)
    n = n or happened.numel()
    count = int(happened.sum())
    spread = math.sqrt(n * probability * (1 - probability))
    assert abs(count - n * probability) <= 4 * spread, f"{count} of {n}, expected {n * probability:.0f} +- {spread:.0f}"


def check_uniform(values, low: float, high: float) -> None:
    assert low <= values.min()
    assert values.max() <= high
    assert scipy.stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-4


# --- kernels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 13, 21])
@pytest.mark.parametrize(("sigma_x", "sigma_y", "theta"), [(1.3, 1.3, 0), (2.7, 0.8, 0.4), (0.3, 2.9, -2.5)])
@pytest.mark.parametrize(("beta", "plateau"), [(1.0, False), (0.6, False), (3.5, False), (1.0, True), (1.8, True)])
def test_bivariate_kernels_against_scipys_density(size, sigma_x, sigma_y, theta, beta, plateau):
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    covariance = turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T
    y, x = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
    log_density = scipy.stats.multivariate_normal(cov=covariance).logpdf(np.stack([x, y], -1))
    q = -2 * (log_density - log_density[size // 2, size // 2])
    q[size // 2, size // 2] = 0
    expected = 1 / (1 + q**beta) if plateau else np.exp(-(q**beta) / 2)
    made = bivariate(size, sigma_x, sigma_y, theta, beta, plateau)
    np.testing.assert_allclose(made, np.pad(expected / expected.sum(), (21 - size) // 2), atol=1e-12)


@pytest.mark.parametrize("size", [7, 13, 21])
@pytest.mark.parametrize("cutoff", [math.pi / 5, 1.9, math.pi])
def test_sinc_kernels_against_scipys_bessel_function(size, cutoff):
    y, x = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
    r = np.hypot(x, y)
    with np.errstate(invalid="ignore"):
        expected = np.where(r == 0, cutoff**2 / (4 * np.pi), cutoff * scipy.special.j1(cutoff * r) / (2 * np.pi * r))
    # torch's J1 is off by up to 5e-7 between 5 and 10, whatever the precision.
    np.testing.assert_allclose(sinc(size, cutoff), np.pad(expected / expected.sum(), (21 - size) // 2), rtol=0, atol=3e-7)


def test_kernels_turn_with_theta():
    kernel = bivariate(21, 2.5, 0.9, 0.3, beta=1.7)
    np.testing.assert_allclose(bivariate(21, 2.5, 0.9, 0.3 + np.pi / 2, beta=1.7), np.rot90(kernel, -1), atol=1e-12)
    np.testing.assert_allclose(bivariate(21, 0.9, 2.5, 0.3 + np.pi / 2, beta=1.7), kernel, atol=1e-12)


def test_rendered_kernels_of_every_kind():
    n = 2000
    parameters = blur_kernels(n)
    kernels = render(parameters, 21)
    assert kernels.dtype == torch.float32
    assert kernels.isfinite().all()
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(n), atol=1e-5, rtol=0)
    torch.testing.assert_close(kernels, kernels.flip(1, 2), atol=1e-6, rtol=0)
    symmetric = (parameters.kind % 2 == 0) | (parameters.kind == SINC)
    torch.testing.assert_close(kernels[symmetric], kernels[symmetric].mT, atol=1e-6, rtol=0)
    torch.testing.assert_close(kernels[symmetric], kernels[symmetric].flip(1), atol=1e-6, rtol=0)
    # Nothing outside a kernel's own size.
    outside = torch.maximum(*torch.meshgrid(*[(torch.arange(21) - 10).abs()] * 2, indexing="ij"))
    assert not kernels[outside[None] > (parameters.size // 2)[:, None, None]].any()


def test_how_often_which_blur_kernel():
    parameters = blur_kernels(N)
    kind, size = parameters.kind, parameters.size
    for family, probability in zip(KERNELS, PROBABILITIES, strict=True):
        check_share(kind == KERNELS.index(family), 0.9 * probability)
    check_share(kind == SINC, 0.1)
    assert sorted(set(size.tolist())) == list(range(7, 22, 2))
    for side in range(7, 22, 2):
        check_share(size == side, 1 / 8)
    check_uniform(parameters.sigma_x, 0.2, 3)
    check_uniform(parameters.theta, -math.pi, math.pi)
    check_uniform(parameters.cutoff[size < 13], math.pi / 3, math.pi)
    check_uniform(parameters.cutoff[size >= 13], math.pi / 5, math.pi)
    aniso = (kind % 2 == 1) & (kind != SINC)
    check_uniform(parameters.sigma_y[aniso], 0.2, 3)
    assert abs(np.corrcoef(parameters.sigma_x[aniso], parameters.sigma_y[aniso])[0, 1]) < 0.08
    assert torch.equal(parameters.sigma_x[~aniso], parameters.sigma_y[~aniso])


def test_beta_is_as_often_below_one_as_above():
    betas = blur_kernels(N, kernel_list=["generalized_aniso"], kernel_prob=[1], sinc_prob=0).beta
    check_share(betas < 1, 0.5)
    check_uniform(betas[betas < 1], 0.5, 1)
    check_uniform(betas[betas >= 1], 1, 4)
    betas = blur_kernels(N, kernel_list=["plateau_iso"], kernel_prob=[1], sinc_prob=0).beta
    check_share(betas == 1, 0.5)  # the part below 1 of 1..2
    check_uniform(betas[betas > 1], 1, 2)
    assert (blur_kernels(N, kernel_list=["aniso"], kernel_prob=[1], sinc_prob=0).beta == 1).all()


def test_final_kernels():
    parameters = sample_final_kernels(N, 0.8, 21, generator())
    check_share(parameters.size > 1, 0.8)
    check_share(parameters.size == 9, 0.8 / 8)
    check_uniform(parameters.cutoff, math.pi / 3, math.pi)
    kernels = render(sample_final_kernels(9, 0, 21, generator()), 21)
    assert (kernels[:, 10, 10] == 1).all()
    assert (kernels.sum((1, 2)) == 1).all()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"blur_kernel_size": 20}, "blur_kernel_size"),
        ({"blur_kernel_size2": 5}, "blur_kernel_size2"),
        ({"kernel_list": ["round"], "kernel_prob": [1]}, "kernel_list"),
        ({"kernel_prob2": [1]}, r"kernel_prob2 has 1 numbers for the 6 of kernel_list2"),
        ({"kernel_prob2": [*PROBABILITIES[::-1][:5], 0.5]}, "kernel_prob2 must sum to 1"),
        ({"resize_prob2": (1, 1, 0)}, "resize_prob2 must sum to 1"),
        ({"noise_range2": (2, 1)}, r"noise_range2 must be \[smallest, largest\]"),
        ({"jpeg_range2": (50, 101)}, "jpeg_range2 must not exceed 100"),
    ],
)
def test_impossible_options_are_refused(changed, named):
    with pytest.raises(ValueError, match=named):
        DegradationOptions(**changed)


# --- operations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 7), (21, 21), (1, 9), (11, 3)])
def test_filter2d_against_opencv(shape):
    images = torch.rand(3, 2, 31, 40, generator=generator())
    kernels = torch.rand(3, *shape, generator=generator(1))
    kernels /= kernels.sum((1, 2), keepdim=True)
    made = filter2d(images, kernels)
    for image, kernel, result in zip(images, kernels, made, strict=True):
        for plane, filtered in zip(image, result, strict=True):
            expected = cv2.filter2D(plane.numpy(), -1, kernel.numpy(), borderType=cv2.BORDER_REFLECT_101)
            np.testing.assert_allclose(filtered, expected, atol=2e-6)
    torch.testing.assert_close(filter2d(images, kernels[:1])[0], made[0])


def test_sharpening_against_opencv():
    image = photo(160)
    array = image[0].permute(1, 2, 0).double().numpy()

    def blur(x):
        return cv2.GaussianBlur(x, (51, 51), 0, borderType=cv2.BORDER_REFLECT_101)

    residual = array - blur(array)
    mask = blur((np.abs(residual) * 255 > 10).astype(np.float64))
    expected = mask * np.clip(array + 0.5 * residual, 0, 1) + (1 - mask) * array
    difference = np.abs(usm_sharpen(image)[0].permute(1, 2, 0).numpy() - expected)
    # One pixel on the other side of the threshold would change its surroundings by some 1e-4.
    assert difference.max() < 1e-3
    assert difference.mean() < 1e-6
    assert usm_sharpen(image).sub(image).abs().max() > 0.05


def test_gaussian_noise():
    images, sigma = torch.full((4, 3, 150, 150), 0.5), torch.tensor([1.0, 5, 10, 30]) / 255
    gray = torch.tensor([False, True, False, True])
    noise = gaussian_noise(images, sigma, gray, generator())
    std = noise.std((1, 2, 3))
    torch.testing.assert_close(std, sigma, rtol=0.02, atol=0)
    assert (noise.mean((1, 2, 3)).abs() < 4 * sigma / 150).all()
    for i in range(4):
        same = (noise[i, 0] - noise[i, 1]).abs().max() < 1e-7
        assert same == gray[i]
    torch.testing.assert_close(noise[1] / 5, noise[3] / 30)  # one field for the batch
    assert abs(torch.corrcoef(noise[[0, 2]].flatten(1))[0, 1]) < 0.02


@pytest.mark.parametrize(("levels", "v"), [(2, 2), (3, 4), (16, 16), (17, 32), (256, 256)])
def test_poisson_noise(levels, v):
    values = torch.linspace(0, 255, levels).round() / 255
    image = values.repeat(40_000 // levels)[:38_400].view(1, 1, 160, 240).expand(1, 3, -1, -1)
    plain, gray = torch.tensor([False]), torch.tensor([True])
    noise = poisson_noise(image, torch.ones(1), plain, generator())
    counts = (noise + image) * v
    torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)
    for level in values[1 :: max(1, levels // 4)]:
        at = noise[image == level]
        assert abs(at.mean()) < 4 * math.sqrt(level / v / len(at))
        # The variance of a Poisson sample's variance: (2 + 1 / rate) / n.
        spread = math.sqrt((2 + 1 / (level * v)) / len(at))
        assert abs(at.var() / (level / v) - 1) < 5 * spread
    assert not (noise[:, 0] == noise[:, 1]).all()
    coarse = poisson_noise(image, torch.full((1,), 2.0), gray, generator())
    assert torch.equal(coarse[:, 0], coarse[:, 2])
    assert abs(coarse[:, 0].std() / noise.std() - 2) < 0.1


def test_poisson_noise_counts_the_levels_of_each_image():
    images = torch.stack([torch.full((3, 64, 64), 0.4), photo(64)[0]])
    noise = poisson_noise(images, torch.ones(2), torch.zeros(2, dtype=torch.bool), generator())
    assert noise[0].std() > 0.5  # one level: v = 1
    assert noise[1].std() < 0.1


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_jpeg_is_like_a_real_encoder(quality):
    image = photo(128)
    array = (image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", array[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    real = to_tensor(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].copy())
    simulated = jpeg(image, quality)[0]
    loss = (real - image[0]).abs().mean()
    assert (simulated - real).abs().mean() < 0.8 * loss
    assert abs((simulated - image[0]).abs().mean() / loss - 1) < 0.25


def test_jpeg_of_high_quality_keeps_the_image_and_lower_ones_lose_more():
    gray = photo(96).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert (jpeg(gray, 100) - gray).abs().max() < 0.2 / 255  # without colour there is nothing to subsample
    image = photo(96)
    losses = [(jpeg(image, quality) - image).square().mean().item() for quality in (99, 95, 85, 70, 50, 30, 10)]
    assert losses == sorted(losses)
    assert losses[0] < 1e-3


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (1, 5)])
def test_jpeg_of_a_batch_is_that_of_its_images(size):
    images = torch.rand(3, 3, *size, generator=generator())
    qualities = torch.tensor([30.0, 60.5, 95.0])
    made = jpeg(images, qualities)
    assert made.shape == images.shape
    for i, quality in enumerate(qualities.tolist()):
        torch.testing.assert_close(made[i : i + 1], jpeg(images[i : i + 1], quality))
    assert qualities.tolist() == [30, 60.5, 95]


# --- draws -------------------------------------------------------------------------------------------------------------


def test_how_often_what_happens_to_a_batch():
    source = generator()
    n = N // 4
    draws = [draw(PAPER, 1, source) for _ in range(n)]
    for steps, (up, down, keep), (low, high) in (
        ([d.first for d in draws], PAPER.resize_prob, PAPER.resize_range),
        ([d.second for d in draws], PAPER.resize_prob2, PAPER.resize_range2),
    ):
        factor = torch.tensor([step.factor for step in steps])
        check_share(factor > 1, up)
        check_share(factor < 1, down)
        check_share(factor == 1, keep)
        check_uniform(factor[factor > 1], 1, high)
        check_uniform(factor[factor < 1], low, 1)
        check_share([step.noise == "gaussian" for step in steps], 0.5)
        check_share(torch.cat([step.gray for step in steps]), 0.4)
        check_uniform(torch.cat([step.quality for step in steps]), 50, 95)
        for mode in ("area", "bilinear", "bicubic"):
            check_share([step.mode == mode for step in steps], 1 / 3)
    assert all(d.first.blur for d in draws)
    check_share([d.second.blur is not None for d in draws], 0.8)
    check_share([d.jpeg_last for d in draws], 0.5)
    check_share(torch.cat([d.final_blur.size for d in draws]) > 1, 0.8)
    for noise, low, high in (("gaussian", 1, 20), ("poisson", 0.05, 2)):
        check_uniform(torch.cat([d.second.strength for d in draws if d.second.noise == noise]), low, high)
    assert len({d.noise_seed for d in draws}) == n


def test_each_image_has_its_own_strength_and_the_batch_one_kind():
    drawn = draw(PAPER, 1000, generator())
    check_uniform(drawn.first.quality, 50, 95)
    check_share(drawn.first.gray, 0.4)
    assert len(drawn.first.strength.unique()) == 1000
    told = [drawn.describe(i) for i in range(1000)]
    assert len({image["resize 1"] for image in told}) == 1
    assert len({image["jpeg 1"] for image in told}) > 20


def test_a_batch_is_a_function_of_seed_iteration_and_rank():
    images = photo(96).repeat(2, 1, 1, 1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    lq, told = degrade(images, PAPER, 4, batch_generator(3, 17, 1))
    again, told_again = degrade(images, PAPER, 4, batch_generator(3, 17, 1))
    assert torch.equal(lq, again)
    assert [told[0].describe(i) for i in range(2)] == [told_again[0].describe(i) for i in range(2)]
    for other in ((4, 17, 1), (3, 18, 1), (3, 17, 0)):
        assert not torch.equal(lq, degrade(images, PAPER, 4, batch_generator(*other))[0])
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])


@pytest.mark.parametrize("per_sample", [False, True])
def test_what_comes_out(per_sample):
    images = photo(96).repeat(3, 1, 1, 1)
    for step in range(8):
        lq, drawn = degrade(images, PAPER, 4, batch_generator(0, step), per_sample)
        told = [one.describe() for one in drawn] if per_sample else [drawn[0].describe(i) for i in range(3)]
        assert lq.shape == (3, 3, 24, 24)
        assert torch.equal(lq, (lq * 255).round() / 255)
        assert 0 <= lq.min() <= lq.max() <= 1
        assert not torch.equal(lq[0], lq[1])
        assert [len(steps) for steps in told] == [10, 10, 10]
        assert list(told[0])[-1] in ("jpeg 2", "blur 3")
    shared = Counter(steps["resize 1"] for steps in told)
    assert len(shared) == (3 if per_sample else 1)


def test_each_image_of_a_per_sample_batch_is_a_batch_of_its_own():
    images = torch.cat([photo(96), photo(96, "pagoda")])
    lq, drawn = degrade(images, PAPER, 4, generator(5), per_sample=True)
    source = generator(5)
    first, second = draw(PAPER, 1, source), draw(PAPER, 1, source)
    for k, one in enumerate((first, second)):
        rendered = {name: tensor.float() for name, tensor in render_draw(one, PAPER).items()}
        assert torch.equal(lq[k : k + 1], apply(images[k : k + 1], one, rendered, 4))
    assert [one.describe() for one in drawn] == [first.describe(), second.describe()]


def test_without_any_degradation_only_resizing_is_left():
    options = DegradationOptions(
        sinc_prob=0, sinc_prob2=0, final_sinc_prob=0, blur_sigma=(0.01, 0.01), blur_sigma2=(0.01, 0.01),
        betag_range=(1, 1), betag_range2=(1, 1), kernel_prob=[1, 0, 0, 0, 0, 0], kernel_prob2=[1, 0, 0, 0, 0, 0],
        resize_prob=(0, 0, 1), resize_prob2=(0, 0, 1), gaussian_noise_prob=1, gaussian_noise_prob2=1,
        noise_range=(0, 0), noise_range2=(0, 0), jpeg_range=(100, 100), jpeg_range2=(100, 100),
    )  # fmt: skip
    image = photo(128).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    for seed in range(6):
        lq, _ = degrade(image, options, 4, generator(seed))
        mode = draw(options, 1, generator(seed)).second.mode
        expected = F.interpolate(image, scale_factor=0.25, mode=mode).clamp(0, 1)
        assert (lq - expected).abs().max() < 1 / 255


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_do_the_same_but_for_the_noise(device):
    if not getattr(torch, device).is_available():
        pytest.skip(f"no {device} device")
    images = torch.cat([photo(96), photo(96, "pagoda")])
    silent = PAPER.model_copy(update={"noise_range": (0, 0), "noise_range2": (0, 0)})
    silent = silent.model_copy(update={"gaussian_noise_prob": 1.0, "gaussian_noise_prob2": 1.0})
    for step in range(10):
        expected, _ = degrade(images, silent, 4, batch_generator(0, step))
        made, _ = degrade(images.to(device), silent, 4, batch_generator(0, step))
        # A coefficient of the JPEG may be rounded to the other side.
        assert (made.cpu() - expected).abs().mean() < 0.5 / 255
        lq, _ = degrade(images.to(device), PAPER, 4, batch_generator(0, step))
        assert torch.equal(lq, degrade(images.to(device), PAPER, 4, batch_generator(0, step))[0])


def test_the_smallest_side_can_be_degraded_whatever_is_drawn():
    assert smallest_side(PAPER, 4) == 55
    hardest = PAPER.model_copy(update={"resize_prob": (0, 1, 0), "resize_range": (0.2, 0.2), "second_blur_prob": 1})
    assert degrade(torch.rand(1, 3, 56, 56), hardest, 4, generator())[0].shape == (1, 3, 14, 14)


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
def test_resize(mode):
    image = photo(64)
    assert resize(image, mode, 0.77).shape[-2:] == (49, 49)
    assert resize(image, mode, size=(20, 30)).shape[-2:] == (20, 30)
    torch.testing.assert_close(resize(image, mode, 1.0), image)


# --- crops and pool ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_sample", [False, True])
def test_crops_are_aligned(per_sample):
    # Every pixel tells where it is: LR pixel k is the HR pixel 4 k.
    gt = torch.arange(80 * 96.0).view(1, 1, 80, 96).repeat(6, 3, 1, 1)
    lq = gt[..., ::4, ::4].contiguous()
    corners = set()
    for seed in range(40):
        places = draw_corners(6 if per_sample else 1, 20, 24, 8, generator(seed))
        first, small = paired_crop(gt, lq, places, 32, 4)
        assert first.shape == (6, 3, 32, 32)
        assert torch.equal(first[..., ::4, ::4], small)
        positions = small[:, 0, 0, 0].tolist()
        assert (len(set(positions)) > 1) == per_sample
        corners |= {(int(p) // 96 // 4, int(p) % 96 // 4) for p in positions}
    rows, columns = zip(*corners, strict=True)
    assert (min(rows), max(rows), min(columns), max(columns)) == (0, 12, 0, 16)


def numbered(first: int, n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs whose pixels are their numbers."""
    value = torch.arange(first, first + n).float().div(255).view(n, 1, 1, 1)
    return value.expand(n, 3, 2, 2), value.expand(n, 3, 8, 8)


def test_pool_stores_first_and_then_exchanges():
    pool = TrainingPool(12, 3)
    inside: set[int] = set()
    given = []
    for step in range(20):
        lq, gt = numbered(3 * step)
        out_lq, out_gt = pool.exchange(lq, gt, pool.draw_places(batch_generator(0, step)))
        numbers = [round(value * 255) for value in out_lq[:, 0, 0, 0].tolist()]
        assert torch.equal(out_lq, lq.new_tensor(numbers).div(255).view(-1, 1, 1, 1).expand_as(lq))
        assert torch.equal(out_gt[:, :, :2, :2], out_lq)
        new = set(range(3 * step, 3 * step + 3))
        if step < 4:
            assert set(numbers) == new
            inside |= new
        else:
            assert set(numbers) <= inside
            inside = (inside - set(numbers)) | new
            given += numbers
        assert len(pool) == min(12, 3 * step + 3)
    assert len(given) == len(set(given)), "a pair was handed out twice"


@pytest.mark.parametrize("held", [0, 2, 4, 7])
def test_pool_continues_from_its_state(held):
    def steps(pool, first, last):
        return [pool.exchange(*numbered(3 * k), pool.draw_places(batch_generator(0, k))) for k in range(first, last)]

    pool = TrainingPool(12, 3)
    steps(pool, 0, held)
    saved = {name: images.clone() for name, images in pool.images.items()}
    assert all(images.dtype == torch.uint8 for images in saved.values())
    expected = steps(pool, held, held + 8)
    resumed = TrainingPool(12, 3)
    resumed.load(saved)
    for (lq, gt), (lq_resumed, gt_resumed) in zip(expected, steps(resumed, held, held + 8), strict=True):
        assert torch.equal(lq, lq_resumed)
        assert torch.equal(gt, gt_resumed)


def test_pool_refuses():
    pool = TrainingPool(12, 3)
    pool.exchange(*numbered(0), pool.draw_places(generator()))
    with pytest.raises(ValueError, match="holds 3 pairs"):
        TrainingPool(12, 4).load(pool.images)
