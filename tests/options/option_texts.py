"""Option files of each kind, and what reading one gives."""

from pathlib import Path

import pytest

from aesop.options.config import TrainConfig
from aesop.options.error_messages import ConfigError
from aesop.options.read import load_config

PSNR = """\
name: tiny
network_g: {type: RRDBNet, num_feat: 8, num_block: 1, num_grow_ch: 4}
datasets:
  train:
    dataroot_gt: hr
    gt_size: 32
train:
  total_iter: 5
  pixel_opt: {type: L1Loss}
"""
ADVERSARIAL = """\
name: tiny
stage: adversarial
network_g: {type: RRDBNet, num_feat: 8, num_block: 1, num_grow_ch: 4}
network_d: {type: VGGStyleDiscriminator128}
path: {pretrain_network_g: psnr.pth}
datasets: {train: {dataroot_gt: hr, gt_size: 128}}
train:
  total_iter: 5
  aesop_opt: {autoencoder_load: {path: ae.pth}}
  artifacts_opt: {type: L1Loss}
  gan_opt: {gan_type: vanilla}
"""
AUTOENCODER = """\
name: tiny
stage: autoencoder
network_g: {type: AutoEncoder_RRDBNet, dec_opt: {type: RRDBNet, num_feat: 16, num_block: 1}}
path: {pretrain_network_decoder: psnr.pth}
datasets: {train: {dataroot_gt: hr, gt_size: 32}}
train: {total_iter: 5, pixel_opt: {type: L1Loss}}
"""
PIPELINE = """\
name: run
network_g: {type: RRDBNet, num_feat: 16, num_block: 1, num_grow_ch: 4}
datasets:
  train: {dataroot_gt: hr, gt_size: 32}
path: {experiments_root: exp}
stages:
  psnr:
    train: {total_iter: 5, pixel_opt: {type: L1Loss}}
  autoencoder:
    train: {total_iter: 6, pixel_opt: {type: L1Loss}}
  adversarial:
    network_d: {type: UNetDiscriminatorSN}
    train: {total_iter: 7, gan_opt: {}, aesop_opt: {loss_weight: 2}}
"""


def resolved(path: Path, *overrides: str) -> TrainConfig:
    return load_config(path, overrides)[0]


def message(path: Path, *overrides: str, read=load_config) -> str:
    with pytest.raises(ConfigError) as error:
        read(path, overrides)
    return str(error.value)


def faults(path: Path, *overrides: str, read=load_config) -> list[str]:
    """The faults a file is refused for, one line each; the first line must name the file and count them."""
    heading, *lines = message(path, *overrides, read=read).splitlines()
    assert heading.startswith(f"{path}: {len(lines)} fault"), heading
    return [line.strip() for line in lines]
