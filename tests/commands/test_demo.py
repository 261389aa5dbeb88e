"""The demo: its parts quickly, the whole with a few iterations a stage (slow)."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import aesop
from aesop.commands.demo import SCALE, compressed_views, halved_views, make_stages, read_losses, run
from aesop.images.listing import list_images
from aesop.images.photograph import PHOTOGRAPH

ASSETS = Path(aesop.__file__).parent / "assets"


def test_photographs_are_enough_and_credited():
    trained, held_out = (list_images(ASSETS / "photos" / part) for part in ("train", "heldout"))
    assert len(trained) >= 8
    assert len(held_out) >= 3
    credits = (ASSETS / "photos" / "CREDITS.md").read_text()
    for image in (*trained, *held_out):
        assert image.name in credits
        assert all(side % 24 == 0 for side in image.size())


def test_the_two_gans_differ_in_one_loss(tmp_path):
    stages = make_stages(tmp_path)
    dumps = [stages[name].model_dump(mode="json") for name in ("AESOP GAN", "Pixel-loss GAN")]
    assert dumps[0]["train"].pop("aesop_opt")["loss_weight"] == 1.0
    assert dumps[0]["train"].pop("pixel_opt") is None
    assert dumps[1]["train"].pop("aesop_opt") is None
    assert dumps[1]["train"].pop("pixel_opt")["loss_weight"] == 1.0
    assert dumps[0].pop("name") != dumps[1].pop("name")
    assert dumps[0] == dumps[1]


def test_the_web_model_draws_no_lines_into_the_flat_parts_of_a_compressed_picture():
    hr = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))[:200, :280]
    views = compressed_views(hr)
    assert list(views) == ["Bicubic", "Clean model", "Web model", "HR"]
    flat = cv2.erode((cv2.blur(np.abs(cv2.Laplacian(hr, cv2.CV_32F)).max(2), (9, 9)) < 6).astype(np.uint8), np.ones((9, 9)))
    assert flat.mean() > 0.1

    def lines(view: np.ndarray) -> float:
        """Steps across the borders of the JPEG file's blocks, relative to steps elsewhere; both in flat parts."""
        steps = np.abs(np.diff(view.astype(np.float32).mean(2), axis=1))
        at_borders = np.isin(np.arange(1, view.shape[1]) % (8 * SCALE), [0, 1, 8 * SCALE - 1])
        is_flat = flat[:, 1:] > 0
        return float(steps[is_flat & at_borders].mean() / steps[is_flat & ~at_borders].mean())

    drawn = {title: lines(view) for title, view in views.items()}
    assert drawn["Clean model"] > 1.5
    assert abs(drawn["Web model"] - drawn["HR"]) < (drawn["Clean model"] - drawn["HR"]) / 4
    errors = {title: np.abs(view.astype(np.float32) - hr).mean(2)[flat > 0].mean() for title, view in views.items()}
    assert errors["Web model"] < min(errors["Clean model"], errors["Bicubic"])


def test_the_x2_model_is_nearer_to_the_original_than_bicubic():
    hr = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))[:200, :280]
    views = halved_views(hr)
    assert list(views) == ["Bicubic", "x2 model", "HR"]
    error = {title: np.abs(view.astype(int) - hr)[4:-4, 4:-4].mean() for title, view in views.items()}
    assert 0 == error["HR"] < error["x2 model"] < error["Bicubic"]


@pytest.mark.slow
def test_quick_demo_writes_the_page_and_repeats_nothing(tmp_path):
    console = Console(record=True, width=160)
    page = run(tmp_path / "out", console, quick=True)["page"]
    text = page.read_text(encoding="utf-8")
    shown = ("AESOP GAN", "Pixel-loss GAN", "PSNR net", "Bundled model", "Web model", "x2 model", "AE(SR)", "Photographs")
    for words in shown:
        assert words in text
    losses = read_losses(tmp_path / "out" / "runs" / "demo_quick" / "1_psnr" / "scalars.jsonl")
    assert len(losses["l_pix"]) == 2  # the first and the last iteration
    state = next((tmp_path / "out").glob("**/3_adversarial/state/*/state.json"))
    before = state.stat().st_mtime_ns
    assert json.loads(state.read_text())["iteration"] == 3
    run(tmp_path / "out", console, quick=True)
    assert state.stat().st_mtime_ns == before
    assert "already trained" in console.export_text()
