"""The recipes in configs/, and the schema."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from aesop.options.config import TestConfig, TrainConfig, json_schema
from aesop.options.pipeline import plan
from aesop.options.read import load_config

REPO = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPO / "configs").glob("*.yml"))
GOLDEN = Path(os.environ.get("AESOP_GOLDEN") or REPO.parent / "shared" / "golden")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_recipes_resolve_without_notes(path):
    text = path.read_text()
    verb = re.search(rf"^#   aesop (\w+) configs/{path.name}", text, re.M)
    assert verb, "the first lines of a recipe give its command"
    if verb[1] == "pipeline":
        assert all(isinstance(step, TrainConfig) for step in plan(path).values())
        return
    config, notes = load_config(path)
    assert notes == []
    assert isinstance(config, TestConfig) == (verb[1] == "test")
    assert config.path.pretrain_network_g or verb[1] != "test"


def test_there_are_recipes():
    names = {path.stem for path in CONFIGS}
    assert {"psnr_rrdb", "autoencoder_rrdb", "aesop_rrdb", "pipeline_compact", "test_rrdb"} <= names


@pytest.mark.parametrize(
    ("recipe", "published"),
    [
        ("aesop_rrdb", "train/AESOP/train_Synthetic_AESOP_RRDB.yml"),
        ("autoencoder_rrdb", "train/AutoEncoder/train_Synthetic_AE_RRDB_LRrecon1.yml"),
    ],
)
def test_recipes_train_as_the_published_files_do(write, recipe, published):
    if not (GOLDEN / "options.json").is_file():
        pytest.skip(f"no options.json in {GOLDEN} (set AESOP_GOLDEN)")
    theirs = json.loads((GOLDEN / "options.json").read_text())[published]["yaml"]
    theirs, _ = load_config(write(yaml.safe_dump(theirs)))
    ours, _ = load_config(REPO / "configs" / f"{recipe}.yml")
    assert ours.network_g == theirs.network_g
    assert ours.network_d == theirs.network_d
    trained = []
    for config in (ours, theirs):
        assert config.train.scheduler.gamma == 1 or not config.train.scheduler.milestones
        # Where weights are, a schedule whose factor is 1, and the warm-up of our average make no difference.
        options = config.train.model_dump(exclude={"scheduler": True, "ema_warmup": True, "aesop_opt": {"autoencoder_load"}})
        trained.append(options)
    assert trained[0] == trained[1]
    for name in ("gt_size", "batch_size_per_gpu", "use_flip", "use_rot"):
        assert getattr(ours.datasets.train, name) == getattr(theirs.datasets.train, name), name


def test_every_option_is_documented_in_the_schema():
    groups = json_schema()["$defs"]
    assert {"TrainConfig", "TestConfig", "TrainOptions", "PathOptions"} < groups.keys()
    assert len(groups) > 15
    undocumented = [
        f"{group}.{option}"
        for group, described in groups.items()
        for option, entry in described.get("properties", {}).items()
        if not entry.get("description", "").strip()
    ]
    assert undocumented == []


def test_the_schema_refuses_unknown_options():
    groups = json_schema()["$defs"]
    assert all(groups[name]["additionalProperties"] is False for name in ("TrainConfig", "TestConfig", "TrainOptions"))
