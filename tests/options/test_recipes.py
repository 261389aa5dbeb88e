"""The recipes in configs/, and the schema."""

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from aesop.options.config import OptionFile, TestConfig, TrainConfig
from aesop.options.file_schema import file_schema
from aesop.options.pipeline import plan, read_stages
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


SCHEMA = REPO / "configs" / "options.schema.json"
PIPELINE = """
name: a
network_g: {type: RRDBNet}
train: {optim_g: {lr: 0.0001}, pixel_opt: {}}
datasets: {train: {dataroot_gt: photos, gt_size: 128}}
stages:
  psnr: {weights: a.pth}
  autoencoder: {train: {total_iter: 9}}
  adversarial: {network_d: {type: UNetDiscriminatorSN}, train: {total_iter: 9, gan_opt: {}}}
"""


def complaints(text: str) -> list[str]:
    """What an editor would say about an option file."""
    return [error.message for error in jsonschema.Draft202012Validator(file_schema()).iter_errors(yaml.safe_load(text))]


def test_the_schema_beside_the_recipes_is_that_of_the_options():
    assert json.loads(SCHEMA.read_text()) == file_schema(), f"aesop schema {SCHEMA.relative_to(REPO)} writes it"
    jsonschema.Draft202012Validator.check_schema(file_schema())


@pytest.mark.parametrize("path", [*CONFIGS, REPO / "src/aesop/assets/demo.yml"], ids=lambda path: path.stem)
def test_editors_find_the_schema_and_accept_the_recipes(path):
    text = path.read_text()
    if path in CONFIGS:
        named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert path.parent / named == SCHEMA
    assert complaints(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "name: a",  # no network
        "{name: a, network_g: {type: RRDBNet}, trian: {}}",
        "{name: a, network_g: {type: RRDBNet, num_feats: 3}}",
        "{name: a, network_g: {type: RRDBNet}, train: {}}",  # no total_iter
        "{name: a, network_g: {type: RRDBNet}, scale: four}",
        "{name: [a], network_g: {type: RRDBNet}}",
        PIPELINE.replace("psnr:", "psnrr:"),
        PIPELINE.replace("network_d:", "networkd:"),
    ],
)
def test_editors_and_the_reader_refuse_the_same(text, write):
    assert complaints(text)
    with pytest.raises(ValueError):
        read_stages(write(text), [])


def test_a_file_may_name_its_schema(write, tmp_path):
    (tmp_path / "a.pth").touch()
    own = "$schema: options.schema.json\n"
    for text in (PIPELINE.replace("a.pth", str(tmp_path / "a.pth")), "name: a\nnetwork_g: {type: RRDBNet}"):
        assert complaints(own + text) == []
        assert "$schema" not in repr(read_stages(write(own + text), [])[0])
    with pytest.raises(ValueError, match=r"path\.\$schema: unknown option"):
        load_config(write("{name: a, network_g: {type: RRDBNet}, path: {$schema: x}}"))


def test_every_option_is_documented_in_the_schema():
    schema = file_schema()
    groups = {**schema["$defs"], "OptionFile": schema}
    assert len(groups) > 15
    undocumented = [
        f"{group}.{option}"
        for group, described in groups.items()
        for option, entry in described.get("properties", {}).items()
        if not entry.get("description", "").strip()
    ]
    assert undocumented == []


def test_the_schema_refuses_unknown_options():
    assert OptionFile.model_json_schema()["additionalProperties"] is False


def test_the_schema_has_the_options_of_both_kinds_of_files():
    options = OptionFile.model_fields.keys()
    assert options == TrainConfig.model_fields.keys() == {*TestConfig.model_fields, "train"}
