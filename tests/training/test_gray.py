"""Networks of one channel: trained on luma, at every stage, with the losses and metrics of RGB images."""

import json

import cv2
import numpy as np
import pytest
import torch
from tiny_runs import AUTOENCODER, RRDB, options, run

from aesop.archs import build_network
from aesop.archs.gray import in_gray, is_gray
from aesop.images.resize import imresize
from aesop.inference.upscaler import Upscaler
from aesop.options.error_messages import ConfigError
from aesop.options.read import build_config
from aesop.options.training import TrainOptions
from aesop.training.stage import Stage
from aesop.weights.load import load_network

GRAY = RRDB | {"num_in_ch": 1, "num_out_ch": 1}


def gray_options(stage: str, photos, root, total_iter: int = 2) -> dict:
    raw = options(stage, photos, root, total_iter, stage)
    raw["network_g"] = AUTOENCODER | {"dec_opt": GRAY} if stage == "autoencoder" else GRAY
    raw["val"]["metrics"] = {"psnr": {"test_y_channel": False, "crop_border": 0}}
    return raw


def test_all_stages_train_and_the_result_upscales_a_gray_picture(photos, tmp_path):
    psnr = run(gray_options("psnr", photos, tmp_path))
    raw = gray_options("autoencoder", photos, tmp_path)
    raw["path"]["pretrain_network_decoder"] = str(psnr)
    autoencoder = run(raw)
    assert is_gray(load_network(autoencoder)[0])
    for channels in (1, 3):
        raw = gray_options("adversarial", photos, tmp_path)
        raw["name"] = f"adversarial{channels}"
        raw["network_d"]["num_in_ch"] = channels
        raw["path"]["pretrain_network_g"] = str(psnr)
        raw["train"]["aesop_opt"] = {"autoencoder_load": {"path": str(autoencoder)}}
        final = run(raw)
    made = Upscaler(final, device="cpu")(np.full((9, 7), 100, np.uint8))
    assert made.shape == (36, 28)


def test_a_step_is_that_of_the_network_on_luma():
    torch.manual_seed(0)
    net = build_network(GRAY | {"scale": 4})
    lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    weights = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = (net((lq * weights).sum(1, keepdim=True)) - (gt * weights).sum(1, keepdim=True)).abs().mean()
    stage = Stage(TrainOptions(total_iter=1, pixel_opt={"type": "L1Loss"}), net)
    torch.testing.assert_close(stage.step(lq, gt, 1)["l_pix"], expected)
    torch.testing.assert_close(in_gray(gt)[:, 1], (gt * weights).sum(1))


def test_validation_compares_gray_with_gray(photos, tmp_path):
    """A bicubic-like network is judged by the gray picture, not by the colours that it cannot know."""
    raw = gray_options("psnr", photos, tmp_path)
    final = run(raw)
    (figure,) = [json.loads(line)["val/psnr"] for line in (tmp_path / "psnr" / "scalars.jsonl").read_text().splitlines()
                 if "val/psnr" in line]  # fmt: skip
    net, errors = load_network(final)[0], []
    for file in sorted(photos.iterdir()):
        colour = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        image, lr = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (colour, imresize(colour, 1 / 4)))
        with torch.no_grad():
            sr = net(torch.from_numpy(lr)[None, None].float() / 255)[0, 0].mul(255).round().clamp(0, 255).numpy()
        errors.append(20 * np.log10(255) - 10 * np.log10(((sr - image.astype(np.float64)) ** 2).mean()))
    assert figure == pytest.approx(np.mean(errors), abs=0.01)


@pytest.mark.parametrize(
    ("network", "discriminator", "expected"),
    [
        ({"num_in_ch": 2, "num_out_ch": 2}, {}, "network_g: 2 channels in and 2 out; use 3"),
        ({"num_in_ch": 3, "num_out_ch": 1}, {}, "network_g: 3 channels in and 1 out"),
        ({}, {"num_in_ch": 1}, "network_d.num_in_ch: 1 does not fit images of 3"),
        ({"num_in_ch": 1, "num_out_ch": 1}, {"num_in_ch": 4}, "network_d.num_in_ch: 4 does not fit images of 1"),
    ],
)
def test_other_numbers_of_channels_are_refused_before_the_start(network, discriminator, expected, photos, tmp_path):
    raw = options("adversarial", photos, tmp_path, 1)
    raw["network_g"] = RRDB | network
    raw["network_d"] |= discriminator
    with pytest.raises(ConfigError, match=expected):
        build_config(raw, "test")
