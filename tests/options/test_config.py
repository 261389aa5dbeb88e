"""Resolved options: immutable, changed only by deriving others; trainings and tests; options of earlier versions."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from aesop.losses.pixel import PixelOptions
from aesop.options.config import TestConfig, TrainConfig, fill_in_defaults
from aesop.options.error_messages import ConfigError
from aesop.options.read import (
    build_config,
    load_config,
    load_test_config,
    load_train_config,
    recorded_config,
    with_former_behaviour,
)

RAW = {
    "name": "tiny",
    "network_g": {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
    "path": {"pretrain_network_g": "net.pth"},
    "datasets": {
        "train": {"dataroot_gt": "hr", "gt_size": 32},
        "val": {"dataroot_gt": "a"},
        "test_1": {"dataroot_gt": "b"},
    },
    "train": {"total_iter": 5, "pixel_opt": {"type": "L1Loss"}},
    "val": {"metrics": {"psnr": {"crop_border": 2}}},
}


def config(**changes) -> TrainConfig:
    built, _ = build_config({**RAW, **changes}, "raw")
    assert isinstance(built, TrainConfig)
    return built


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump(RAW))
    return path


# --- immutable, derived ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["", "path", "train", "train.pixel_opt", "datasets", "datasets.train", "network_g"])
def test_no_option_can_be_set(section):
    options = config()
    for name in section.split(".") if section else []:
        options = getattr(options, name)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(options, next(iter(type(options).model_fields)), "changed")


def test_deriving_leaves_the_original_and_keeps_the_rest():
    original = config()
    before = original.model_dump()
    derived = original.derive(
        {"name": "other", "train.total_iter": 9, "datasets.val": None, "val.metrics.ssim": {}, "logger.wandb.project": "x"}
    )
    assert original.model_dump() == before
    assert (derived.name, derived.train.total_iter) == ("other", 9)
    assert not derived.datasets.measured("val")
    assert list(derived.val.metrics) == ["psnr", "ssim"]
    assert derived.logger.wandb is not None
    assert derived.train.pixel_opt == original.train.pixel_opt
    assert original.derive({}) == original
    assert original.derive({"train.pixel_opt": PixelOptions(loss_weight=2)}).train.pixel_opt == PixelOptions(loss_weight=2)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.totl_iter": 5},
        {"train.total_iter": 0},
        {"datasets.train.gt_size": 30},
        {"scale": 2},
        {"train.pixel_opt": None},
    ],
)
def test_what_is_derived_is_checked(changes):
    with pytest.raises(ValueError):
        config().derive(changes)


def test_filling_in_defaults_changes_nothing_it_is_given():
    raw = {"scale": 2, "network_g": {"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "MSRResNet"}}}
    raw["train"] = {"pixel_opt": {"type": "LRL1Loss"}}
    before = yaml.safe_dump(raw)
    filled = fill_in_defaults(raw)
    assert yaml.safe_dump(raw) == before
    assert filled["network_g"] == {"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "MSRResNet", "upscale": 2}, "scale": 2}
    assert filled["train"] == {"pixel_opt": {"type": "LRL1Loss", "scale": 2}, "ema_warmup": True}
    assert fill_in_defaults(filled) == filled


def test_a_scale_that_a_network_cannot_have_is_a_fault():
    network = {"type": "MSRResNet"}
    with pytest.raises(ConfigError, match=r"network_g.upscale: 8 is none of 2, 3 or 4"):
        config(scale=8, network_g=network)


# --- trainings and tests -----------------------------------------------------------------------------------------------


def test_a_file_with_a_train_section_is_a_training(file):
    assert isinstance(load_config(file)[0], TrainConfig)
    for without in ("train=", "train=null"):
        test, _ = load_config(file, [without])
        assert isinstance(test, TestConfig)
        assert not hasattr(test, "train")


def test_a_training_file_can_be_tested(file):
    training, test = load_train_config(file)[0], load_test_config(file)[0]
    assert isinstance(test, TestConfig)
    assert test.datasets.train is None
    assert list(test.datasets.measured("test")) == ["test_1"]
    for option in ("name", "scale", "network_g", "path", "val", "results_folder"):
        assert getattr(test, option) == getattr(training, option)


def test_testing_a_training_file_reports_the_faults_of_its_training(file):
    with pytest.raises(ConfigError, match=r"(?s)2 faults.*gt_size.*train.totl_iter.*did you mean total_iter"):
        load_test_config(file, ["train.totl_iter=5", "datasets.train.gt_size=large"])


def test_a_test_file_cannot_be_trained(file):
    with pytest.raises(ConfigError, match=r"has no train section: add one to train .*`aesop test"):
        load_train_config(file, ["train="])


# --- options of earlier versions ---------------------------------------------------------------------------------------


def test_a_file_that_an_earlier_version_recorded_is_the_same_training():
    recorded = recorded_config((Path(__file__).parent / "recorded_by_b0ead75.yml").read_text())
    now = config(path={})
    assert recorded != now
    assert with_former_behaviour(now, recorded) == recorded


def test_the_record_of_an_earlier_version_has_its_behaviour():
    text = config(path={}).to_yaml()
    assert "ema_warmup: true" in text
    assert recorded_config(text) == config(path={})
    older = recorded_config(text.replace("  ema_warmup: true\n", ""))
    assert older.train.ema_warmup is None
    assert "ema_warmup" not in older.to_yaml()  # so it stays recognisable as that of an earlier version


def test_a_run_continues_with_the_behaviour_it_began_with():
    now = config(path={})
    older = recorded_config(now.to_yaml().replace("  ema_warmup: true\n", ""))
    assert with_former_behaviour(now, older) == older
    assert with_former_behaviour(config(path={}, train=RAW["train"] | {"ema_warmup": False}), older) == older
    for recorded in (True, False):  # a version with the option recorded it: what is asked for now holds
        same = now.derive({"train.ema_warmup": recorded})
        assert with_former_behaviour(now, recorded_config(same.to_yaml())) == now


@pytest.mark.parametrize("text", ["", "just words", "name: x\nnetwork_g: {type: RRDBNet}", "train: {warp: 3}", "a: [1"])
def test_a_record_that_cannot_be_read_names_its_file(text):
    with pytest.raises(ConfigError, match="state/net_g"):
        recorded_config(text, "state/net_g")
