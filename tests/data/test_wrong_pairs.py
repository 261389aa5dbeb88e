"""Noticing that HR and LR do not show the same picture."""

import cv2
import numpy as np
import pytest

from aesop.check.image_audit import look
from aesop.data.find_pairs import find_pairs
from aesop.data.wrong_pairs import UNLIKE, likeness, warn_of_wrong_pairs
from aesop.images.resize import imresize
from aesop.options.datasets import PairedDataset


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (96, 80), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def pairs(tmp_path):
    for kind in ("HR", "LR"):
        (tmp_path / kind).mkdir()
    for k in range(4):
        cv2.imwrite(str(tmp_path / "HR" / f"{k}.png"), picture(k))
        cv2.imwrite(str(tmp_path / "LR" / f"{k}.png"), imresize(picture(k), 1 / 4))
    return PairedDataset(dataroot_gt=str(tmp_path / "HR"), dataroot_lq=str(tmp_path / "LR"))


def test_it_is_the_correlation_of_the_small_pictures():
    hr = picture(0)
    small = cv2.resize(cv2.cvtColor(hr, cv2.COLOR_RGB2GRAY), (24, 20), interpolation=cv2.INTER_AREA)
    other = cv2.cvtColor(imresize(picture(1), 1 / 4), cv2.COLOR_RGB2GRAY)
    expected = np.corrcoef(small.ravel(), other.ravel())[0, 1]
    assert likeness(hr, imresize(picture(1), 1 / 4)) == pytest.approx(expected)
    assert likeness(hr, imresize(hr, 1 / 4)) > 0.95
    assert likeness(hr, 255 - imresize(hr, 1 / 4)) < -0.95
    assert likeness(np.full_like(hr, 7), imresize(hr, 1 / 4)) == 1  # nothing to tell by


def test_heavy_degradation_is_no_wrong_pair():
    hr = picture(2)
    lr = imresize(cv2.GaussianBlur(hr, (0, 0), 4), 1 / 4).astype(float)
    noisy = (lr + np.random.default_rng(0).normal(0, 30, lr.shape)).clip(0, 255).astype(np.uint8)
    lr = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
    assert likeness(hr, lr) > UNLIKE


def test_swapped_files_are_named_and_others_are_not(pairs, tmp_path, caplog):
    warn_of_wrong_pairs(find_pairs(pairs, "train"), 4)
    assert not caplog.records
    first, second = tmp_path / "LR" / "0.png", tmp_path / "LR" / "1.png"
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    found = find_pairs(pairs, "train")
    warn_of_wrong_pairs(found, 4)
    assert "2 of 4 pairs" in caplog.text
    assert str(first) in caplog.text
    assert str(second) in caplog.text
    assert [look(pair, 4).unlike for pair in found] == [*(f"{pair.gt} and {pair.lq}" for pair in found[:2]), None, None]
