"""Reading option files: overrides, values, round trips, published files."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from option_texts import ADVERSARIAL, AUTOENCODER, PSNR, faults, message, resolved

from aesop.archs import AutoEncoderOptions
from aesop.archs.rrdbnet import RRDBNetOptions
from aesop.options.config import TestConfig
from aesop.options.read import build_config, load_config

REPO = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("AESOP_GOLDEN") or REPO.parent / "shared" / "golden")


def test_overrides_are_read_as_yaml_of_every_type(write):
    config = resolved(
        write(PSNR),
        "name=other",
        "train.total_iter=5e3",
        "train.optim_g.lr=3e-4",
        "datasets.train.use_flip=false",
        "datasets.train.dataroot_gt=[a, b]",
        "datasets.train.dataroot_lq=",
        "train.scheduler={milestones: [2, 3], gamma: 0.5}",
        "val.suffix=a=b",
    )
    assert config.name == "other"
    assert config.train.total_iter == 5000
    assert config.train.optim_g.lr == 3e-4
    assert config.datasets.train.use_flip is False
    assert config.datasets.train.dataroot_gt == ["a", "b"]
    assert config.datasets.train.dataroot_lq is None
    assert config.train.scheduler.milestones == [2, 3]
    assert config.val.suffix == "a=b"
    assert config.network_g.num_feat == 8  # the rest stays


def test_overrides_make_groups_that_are_not_there(write):
    config = resolved(write(PSNR), "datasets.val_faces.dataroot_gt=faces", "val.metrics.ssim.crop_border=2")
    assert config.datasets.measured("val")["val_faces"].dataroot_gt == "faces"
    assert config.val.metrics["ssim"].crop_border == 2


@pytest.mark.parametrize("override", ["train.total_iter", "=5", ""])
def test_an_override_without_key_or_value_shows_the_form(write, override):
    assert message(write(PSNR), override) == (
        f"override {override!r} must look like key.path=value, e.g. train.total_iter=1000"
    )


def test_an_unknown_override_is_named_with_the_nearest_option(write):
    assert faults(write(PSNR), "train.totl_iter=5") == ["line 7: train.totl_iter: unknown option; did you mean total_iter?"]


def test_numbers_that_yaml_takes_for_words(write):
    # YAML 1.1 wants a dot and a sign: 1e-4 and 5e3 arrive as strings.
    text = PSNR.replace("total_iter: 5", "total_iter: 5e3\n  optim_g: {lr: 1e-4}\n  scheduler: {milestones: [1e3]}")
    assert yaml.safe_load(text)["train"]["total_iter"] == "5e3"
    config = resolved(write(text))
    assert (config.train.total_iter, config.train.optim_g.lr) == (5000, 1e-4)
    assert config.train.scheduler.milestones == [1000]


def test_the_scale_is_filled_into_the_networks(write):
    config = resolved(write(PSNR), "scale=2")
    assert config.network_g.scale == 2
    ae = resolved(write(AUTOENCODER), "scale=2").network_g
    assert isinstance(ae, AutoEncoderOptions)
    assert (ae.scale, ae.dec_opt.scale) == (2, 2)


def test_scales_that_differ_are_all_reported(write):
    assert faults(write(PSNR), "network_g.scale=2") == ["line 2: network_g.scale: 2 differs from the file's scale 4"]
    found = faults(write(AUTOENCODER), "network_g.scale=2", "network_g.dec_opt.scale=3")
    assert [fault.partition(": ")[2] for fault in found] == [
        "network_g.scale: 2 differs from the file's scale 4",
        "network_g.dec_opt.scale: 3 differs from the file's scale 4",
    ]


@pytest.mark.parametrize(
    ("model_type", "text"),
    [("SRModel", PSNR), ("AEModel", AUTOENCODER), ("AesopESRGANArtifactsDisModel", ADVERSARIAL)],
)
def test_published_model_types_give_the_stage(write, model_type, text):
    without_stage = re.sub(r"^stage: .*\n", "", text, flags=re.M)
    assert resolved(write(without_stage), f"model_type={model_type}").stage == resolved(write(text)).stage


def test_defaults_are_not_shared_between_files(write):
    first, second = resolved(write(PSNR)), resolved(write(PSNR), "scale=2")
    assert isinstance(first.network_g, RRDBNetOptions)
    assert (first.network_g.scale, second.network_g.scale) == (4, 2)
    first.val.metrics["extra"] = first.val.metrics["psnr"]
    assert "extra" not in resolved(write(PSNR)).val.metrics


positive = st.floats(1e-12, 1e6)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    name=words.map(lambda word: "n" + re.sub(r"[./~\\]", "_", word)),
    roots=words | st.lists(words, min_size=1, max_size=3),
    lr=positive,
    ema=st.floats(0, 0.9999),
    milestones=st.lists(st.integers(0, 10**7), max_size=4),
    seed=st.integers(0, 2**40),
    key=st.none() | words,
    metrics=st.dictionaries(words, st.fixed_dictionaries({}, optional={"crop_border": st.integers(0, 9)}), max_size=3),
)
def test_the_resolved_file_reads_back_to_the_same_configuration(name, roots, lr, ema, milestones, seed, key, metrics):
    raw: dict[str, Any] = yaml.safe_load(ADVERSARIAL)
    raw |= {"name": name, "manual_seed": seed, "val": {"metrics": metrics}}
    raw["datasets"]["val_1"] = {"dataroot_gt": roots}
    raw["path"] |= {"param_key_g": key, "param_key_d": key, "param_key_decoder": key}
    raw["train"] |= {"optim_g": {"lr": lr}, "scheduler": {"milestones": milestones}, "artifacts_opt": None}
    raw["train"]["ema_decay"] = ema
    config, _ = build_config(raw, "generated")
    again, notes = build_config(yaml.safe_load(config.to_yaml()), "resolved")
    assert again == config
    assert notes == []
    assert again.train.optim_g.lr == lr


@pytest.mark.parametrize("text", [PSNR, AUTOENCODER, ADVERSARIAL])
def test_the_resolved_file_can_be_written_and_loaded(write, text):
    config = resolved(write(text))
    assert resolved(write(config.to_yaml(), "resolved.yml")) == config


PLACEHOLDER_NOTES = {
    "num_gpu",
    "dist_params",
    "datasets.train.prefetch_mode",
    "datasets.train.dataset_enlarge_ratio",
    "datasets.train.use_shuffle",
}


@pytest.mark.parametrize(
    ("name", "stage", "meaningless"),
    [
        (
            "train/AESOP/train_Synthetic_AESOP_RRDB.yml",
            "adversarial",
            PLACEHOLDER_NOTES | {"train.aesop_opt.autoencoder_arch"},
        ),
        (
            "train/AutoEncoder/train_Synthetic_AE_RRDB_LRrecon1.yml",
            "autoencoder",
            PLACEHOLDER_NOTES | {"network_g.enc_opt.placeholder"},
        ),
        (
            "train/AutoEncoder/train_Realworld_AE_RRDB_DecoderFreeze.yml",
            "autoencoder",
            PLACEHOLDER_NOTES | {"network_g.enc_opt.placeholder", "find_unused_parameters"},
        ),
    ],
)
def test_published_training_files_resolve(write, name, stage, meaningless):
    if not (GOLDEN / "options.json").is_file():
        pytest.skip(f"no options.json in {GOLDEN} (set AESOP_GOLDEN)")
    published = json.loads((GOLDEN / "options.json").read_text())[name]["yaml"]
    config, notes = load_config(write(yaml.safe_dump(published)))
    assert config.stage == stage
    assert {note.partition(" ")[0] for note in notes} == meaningless
    assert all("is ignored: " in note for note in notes)
    # Every value that is left must have arrived: compare with the file itself, leaf by leaf.
    dumped = config.model_dump(mode="json") | {"model_type": published["model_type"]}
    for path, value in leaves(published):
        if not any(path == key or path.startswith(f"{key}.") for key in meaningless):
            assert look_up(dumped, path) == value, path
    assert load_config(write(config.to_yaml(), "resolved.yml")) == (config, [])


@pytest.mark.parametrize("name", ["test_Synthetic_AESOP_RRDB128.yml", "test_Synthetic_AESOP_RRDB256.yml"])
def test_published_test_files_resolve(write, name):
    if not (GOLDEN / "options.json").is_file():
        pytest.skip(f"no options.json in {GOLDEN} (set AESOP_GOLDEN)")
    published = json.loads((GOLDEN / "options.json").read_text())[f"test/AESOP/main/{name}"]["yaml"]
    config = resolved(write(yaml.safe_dump(published)))
    assert isinstance(config, TestConfig)
    assert [data.name for data in config.datasets.measured("test").values()] == [
        published["datasets"][section]["name"] for section in published["datasets"]
    ]


def leaves(node: Any, prefix: str = ""):
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, node


def look_up(node: Any, path: str) -> Any:
    for part in path.split("."):
        node = node[part]
    return node
