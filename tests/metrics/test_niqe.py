"""NIQE: its parts against scipy and distributions whose parameters are known, its whole against hand-made statistics.

The published numbers are compared in tests/golden; nothing here needs the pristine parameters, which are not ours.
"""

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from aesop.images.read import ImageFile
from aesop.images.tensors import to_tensor
from aesop.metrics.luma import rgb_to_y
from aesop.metrics.niqe import BLOCK, FEATURES, NIQE, SHAPES, block_features, check_size, features, fit_aggd, normalise
from aesop.weights import pretrained
from aesop.weights.errors import WeightsError, WeightsNotFound

PHOTOS = Path(str(files("aesop") / "assets" / "photos" / "heldout"))


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """(3, 264, 384): eight whole blocks."""
    return to_tensor(ImageFile.at(PHOTOS / "pagoda.png").read())


@pytest.fixture(scope="module")
def niqe() -> NIQE:
    """Natural by the measure of four photographs."""
    luma = [rgb_to_y(to_tensor(ImageFile.at(path).read()).double())[0].mul(255).round() for path in sorted(PHOTOS.iterdir())]
    rows = torch.cat([features(plane) for plane in luma])
    return NIQE(rows.mean(0), rows.T.cov() + 1e-4 * torch.eye(FEATURES, dtype=torch.float64))


def draw_aggd(shape: float, left: float, right: float, size: int) -> np.ndarray:
    """Asymmetric generalised Gaussian numbers: |x / scale|^shape is Gamma(1 / shape), a side's share is its scale's."""
    generator = np.random.default_rng(0)
    magnitude = generator.gamma(1 / shape, size=size) ** (1 / shape)
    return np.where(generator.random(size) < left / (left + right), -left, right) * magnitude


def test_normalising_is_that_of_a_two_dimensional_window(photo):
    ndimage = pytest.importorskip("scipy.ndimage")
    plane = (photo[1] * 255).round().numpy()  # float32, as the published code has it
    distance = np.arange(7) - 3
    window = np.exp(-(distance[:, None] ** 2 + distance**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    mean = ndimage.correlate(plane, window, mode="nearest")
    deviation = np.sqrt(np.abs(ndimage.correlate(plane**2, window, mode="nearest") - mean**2))
    np.testing.assert_allclose(normalise(torch.from_numpy(plane)).numpy(), (plane - mean) / (deviation + 1), atol=1e-5)


@pytest.mark.parametrize(("shape", "left", "right"), [(2.0, 1.0, 1.0), (0.8, 0.4, 1.1), (3.5, 2.0, 0.7)])
def test_the_fit_recovers_what_was_drawn(shape, left, right):
    drawn = torch.from_numpy(draw_aggd(shape, left, right, 400_000)).view(1, 500, 800)
    found = [value.item() for value in fit_aggd(drawn)]
    assert found == pytest.approx([shape, left, right], rel=0.03)


def test_the_fit_is_the_nearest_shape_of_the_grid():
    special = pytest.importorskip("scipy.special")
    grid = np.arange(0.2, 10.001, 0.001)
    known = special.gamma(2 / grid) ** 2 / (special.gamma(1 / grid) * special.gamma(3 / grid))
    x = np.random.default_rng(1).standard_normal((20, 30, 30)) + np.linspace(-0.5, 0.5, 20)[:, None, None]
    for k, (shape, left, right) in enumerate(zip(*fit_aggd(torch.from_numpy(x)), strict=True)):
        values = x[k].ravel()
        sides = [np.sqrt(np.mean(side**2)) for side in (values[values < 0], values[values > 0])]
        skew = sides[0] / sides[1]
        moment = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
        expected = grid[np.argmin((known - moment) ** 2)]
        assert shape.item() == pytest.approx(expected, abs=1e-9)
        spread = np.sqrt(special.gamma(1 / expected) / special.gamma(3 / expected))
        assert [left.item(), right.item()] == pytest.approx([side * spread for side in sides], rel=1e-9)
    assert len(SHAPES) == len(grid)


def test_features_of_products_that_are_known():
    # Beside every drawn number stands a one, so the products of such neighbours are what was drawn.
    drawn = draw_aggd(1.5, 0.6, 0.9, 600 * 300)
    blocks = torch.ones(2, 600, 600, dtype=torch.float64)
    blocks[0, :, ::2] = torch.from_numpy(drawn).view(600, 300)
    blocks[1, ::2] = torch.from_numpy(drawn).view(300, 600)
    rows = block_features(blocks)
    assert rows.shape == (2, 18)
    expected = [1.5, drawn.mean(), 0.6, 0.9]
    assert rows[0, 2:6].tolist() == pytest.approx(expected, rel=0.03)  # right
    for first in (6, 10, 14):  # below, and the diagonals
        assert rows[1, first : first + 4].tolist() == pytest.approx(expected, rel=0.03)
    shape, left, right = fit_aggd(blocks)
    torch.testing.assert_close(rows[:, :2], torch.stack([shape, (left + right) / 2], 1))


def test_values_on_one_side_only():
    shape, left, right = fit_aggd(torch.stack([torch.ones(8, 8), torch.zeros(8, 8), -torch.ones(8, 8)]))
    assert shape.tolist() == pytest.approx([0.2] * 3)
    assert left.isnan().tolist() == [True, True, False]
    assert right.isnan().tolist() == [False, True, True]


def test_each_block_has_its_own_features(photo):
    plane = photo[0] * 255
    rows = features(plane)
    assert rows.shape == (8, FEATURES)
    assert torch.equal(rows, features(plane[: 2 * BLOCK, : 4 * BLOCK]))  # the rest is cut off
    changed = plane.clone()
    changed[BLOCK + 20 : 2 * BLOCK - 20, 20 : BLOCK - 20] = 0  # in row 1, column 0: the fifth block
    assert (features(changed) != rows).any(1).tolist() == [k == 4 for k in range(8)]


def test_the_distance_by_hand():
    generator = np.random.default_rng(2)
    rows = generator.standard_normal((50, FEATURES))
    factor = generator.standard_normal((FEATURES, FEATURES))
    covariance = factor @ factor.T + np.eye(FEATURES)
    mean = generator.standard_normal(FEATURES)
    difference = mean - rows.mean(0)
    expected = math.sqrt(difference @ np.linalg.solve((covariance + np.cov(rows, rowvar=False)) / 2, difference))
    niqe = NIQE(torch.from_numpy(mean), torch.from_numpy(covariance))
    assert niqe.distance(torch.from_numpy(rows)).item() == pytest.approx(expected, rel=1e-9)
    # A block without texture has no spread to add, and what it lacks does not count in the mean.
    gappy = np.vstack([rows, np.where(np.arange(FEATURES) == 3, np.nan, 7.0)])
    difference = mean - np.nanmean(gappy, 0)
    expected = math.sqrt(difference @ np.linalg.solve((covariance + np.cov(rows, rowvar=False)) / 2, difference))
    assert niqe.distance(torch.from_numpy(gappy)).item() == pytest.approx(expected, rel=1e-9)
    assert niqe.distance(torch.from_numpy(gappy[-2:])).isnan()


def test_worse_images_are_farther_from_natural_ones(niqe, photo):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(photo.shape, generator=generator)
    noisy = [niqe(photo + sigma * noise).item() for sigma in (0, 0.03, 0.1)]
    blurred = [niqe(torch.nn.functional.avg_pool2d(photo, k, 1, k // 2)).item() for k in (1, 3, 7)]
    assert noisy == sorted(noisy)
    assert blurred == sorted(blurred)
    assert noisy[2] > 2 * noisy[0]


def test_images_are_luma_rounded_to_whole_levels(niqe, photo):
    value = niqe(photo)
    assert value.shape == (1,)
    assert value.dtype == torch.float64
    jitter = (torch.rand(photo.shape, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.9 / 255
    assert niqe(photo + jitter).item() == value.item()
    luma = (16 + 65.481 * photo[0] + 128.553 * photo[1] + 24.966 * photo[2]).round()
    assert niqe.of_plane(luma).item() == pytest.approx(value.item(), rel=1e-3)
    pair = niqe(torch.stack([photo, photo.flip(2)]))
    assert pair[0].item() == value.item()
    assert pair[1].item() == niqe(photo.flip(2)).item() != value.item()
    assert niqe(photo, crop_border=4).item() == niqe(photo[:, 4:-4, 4:-4]).item() != value.item()


def test_flat_images_have_no_value_and_flat_blocks_are_left_out(niqe, photo):
    assert niqe(torch.full((3, 200, 200), 0.3)).isnan().tolist() == [True]
    partly = photo.clone()
    partly[:, :, BLOCK - 10 :] = 200 / 255
    rows = features((partly[0] * 255).round())
    assert rows.isnan().any(1).tolist() == [False, True, True, True] * 2
    assert niqe(partly).isfinite().all()
    partly[:, BLOCK - 10 :] = 200 / 255  # one block with texture
    assert niqe(partly).isnan().all()


@pytest.mark.parametrize(("height", "width"), [(95, 400), (96, 191), (191, 96), (200, 95)])
def test_images_without_two_blocks(niqe, height, width):
    with pytest.raises(ValueError, match=f"NIQE needs two blocks of 96x96: .* found {width}x{height}"):
        niqe(torch.rand(1, 3, height, width))
    check_size(96, 192)
    check_size(192, 96)


def test_what_is_no_image(niqe):
    with pytest.raises(ValueError, match="RGB images"):
        niqe(torch.rand(1, 200, 200))
    with pytest.raises(ValueError, match="lower crop_border"):
        niqe(torch.rand(3, 200, 200), crop_border=100)


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Path:
    """A machine without the parameters, AESOP_WEIGHTS being a folder on it."""
    monkeypatch.setattr(pretrained, "find_spec", lambda package: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path))
    return tmp_path


def test_parameters_are_found_like_other_weights(nowhere):
    with pytest.raises(WeightsNotFound, match="pip install --no-deps mmagic") as caught:
        NIQE.from_weights()
    assert str(nowhere / "niqe_pris_params.npz") in str(caught.value)
    mean, covariance = np.arange(36.0)[None], np.eye(36)
    np.savez(nowhere / "niqe_pris_params.npz", mu_pris_param=mean, cov_pris_param=covariance, gaussian_window=np.eye(7))
    for niqe in (NIQE.from_weights(), NIQE.from_weights(nowhere / "niqe_pris_params.npz")):
        assert niqe.mean.tolist() == list(range(36))
        assert torch.equal(niqe.covariance, torch.eye(36, dtype=torch.float64))


def test_files_that_are_something_else(nowhere):
    path = nowhere / "niqe_pris_params.npz"
    with pytest.raises(WeightsError, match=r"niqe_pris_params\.npz has no NIQE parameters"):
        NIQE.from_weights(path)
    path.write_text("no archive")
    with pytest.raises(WeightsError, match=r"niqe_pris_params\.npz has no NIQE parameters"):
        NIQE.from_weights()
    np.savez(path, mu_pris_param=np.zeros(35), cov_pris_param=np.eye(35))
    with pytest.raises(WeightsError, match=r"\(mu_pris_param, cov_pris_param\)"):
        NIQE.from_weights()
    np.savez(path, mu_pris_param=np.array([print], dtype=object), cov_pris_param=np.eye(36))  # pickled
    with pytest.raises(WeightsError, match="allow_pickle=False"):
        NIQE.from_weights()
