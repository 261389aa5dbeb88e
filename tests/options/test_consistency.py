"""Options that do not go together in a training file."""

import pytest
from option_texts import ADVERSARIAL, AUTOENCODER, PSNR, faults, resolved


@pytest.mark.parametrize(
    ("text", "overrides", "option", "remedy"),
    [
        (PSNR, ["train.pixel_opt="], "train.pixel_opt", "pixel_opt: {type: L1Loss}"),
        (PSNR, ["datasets.train="], "datasets.train", "dataroot_gt"),
        (PSNR, ["stage=autoencoder", "path.from_scratch=true"], "network_g.type", "AutoEncoder_RRDBNet"),
        (AUTOENCODER, ["stage=psnr"], "network_g.type", "a generator"),
        (AUTOENCODER, ["path={}"], "path.pretrain_network_decoder", "aesop pipeline"),
        (AUTOENCODER, ["path={}"], "path.pretrain_network_decoder", "path.from_scratch: true"),
        (AUTOENCODER, ["train.pixel_opt="], "train.pixel_opt", "pixel_opt: {type: L1Loss}"),
        (ADVERSARIAL, ["path={}"], "path.pretrain_network_g", "aesop pipeline"),
        (ADVERSARIAL, ["path={}"], "path.pretrain_network_g", "path.from_scratch: true"),
        (ADVERSARIAL, ["network_d="], "network_d", "give both, or neither"),
        (ADVERSARIAL, ["train.gan_opt="], "train.gan_opt", "give both, or neither"),
        (ADVERSARIAL, ["train.gan_opt=", "network_d="], "train.artifacts_opt", "needs a discriminator"),
        (ADVERSARIAL, ["train.aesop_opt={}"], "train.aesop_opt.autoencoder_load", "{path: autoencoder.safetensors}"),
        (ADVERSARIAL, ["train.ema_decay=0"], "train.artifacts_opt", "set train.ema_decay > 0"),
        (ADVERSARIAL, ["datasets.train.gt_size=256"], "network_d.type", "UNetDiscriminatorSN"),
        (ADVERSARIAL, ["datasets.train.gt_size=28"], "network_d.type", "datasets.train.gt_size"),
        (ADVERSARIAL, ["network_d.type=UNetDiscriminatorSN", "datasets.train.gt_size=36"], "network_d.type", "of 8"),
        (PSNR, ["datasets.train.gt_size=30"], "datasets.train.gt_size", "no multiple of the scale 4"),
    ],
)
def test_stage_rules_name_the_option_and_the_remedy(write, text, overrides, option, remedy):
    path = write(text)
    resolved(path)  # fine without the overrides
    (fault,) = faults(path, *overrides)
    assert option in fault
    assert remedy in fault


@pytest.mark.parametrize("text", [AUTOENCODER, ADVERSARIAL])
def test_starting_from_scratch_must_be_asked_for(write, text):
    assert resolved(write(text), "path={from_scratch: true}").path.from_scratch


def test_rules_are_reported_together(write):
    overrides = ["path={}", "train.aesop_opt={}", "train.ema_decay=0", "datasets.train.gt_size=30", "network_g.scale=2"]
    assert len(faults(write(ADVERSARIAL), *overrides)) == 6  # gt_size 30 fits neither the scale nor the discriminator


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (PSNR, [], True),
        (AUTOENCODER, [], True),  # its decoder is trained, its encoder fresh
        (ADVERSARIAL, [], False),  # its generator is trained
        (PSNR, ["path.pretrain_network_g=net.pth"], False),
        (PSNR, ["model_type=SRModel"], False),
        (PSNR, ["train.ema_warmup=false"], False),
        (ADVERSARIAL, ["train.ema_warmup=true"], True),
        (PSNR, ["model_type=SRModel", "train.ema_warmup=true"], True),
    ],
)
def test_the_average_warms_up_where_weights_are_fresh(write, text, overrides, expected):
    config = resolved(write(text), *overrides)
    assert config.train.ema_warmup is expected
    assert f"ema_warmup: {str(expected).lower()}" in config.to_yaml()
