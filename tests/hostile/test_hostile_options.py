"""Hostile option files: only clean errors, nothing run, nothing written elsewhere."""

import os
from pathlib import Path

import mutations
import pytest
import sandbox
import yaml
from attempts import command

from aesop.archs import build_network, size_limits
from aesop.options.config import TestConfig
from aesop.options.error_messages import ConfigError
from aesop.options.read import build_config, load_config

COUNT = int(os.environ.get("AESOP_HOSTILE_OPTIONS", "60"))
SEED = int(os.environ.get("AESOP_HOSTILE_SEED", "0"))
RECIPE = {"name": "run", "network_g": {"type": "RRDBNet", "num_block": 1}}


def config(**changes: object) -> TestConfig:
    return build_config({**RECIPE, **changes}, "options.yml")[0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux does")
def test_mutated_option_files():
    report = sandbox.run("option_file", SEED, COUNT)
    assert report.failures == []
    assert report.total["refused"] > COUNT / 2
    assert report.total["accepted"] > 0


def test_a_mutation_can_be_repeated():
    assert [mutations.option_file(5, n) for n in range(40)] == [mutations.option_file(5, n) for n in range(40)]
    assert len({mutations.option_file(5, n) for n in range(40)}) == 40


def test_the_canary_appears_where_a_tag_is_obeyed(tmp_path, monkeypatch):
    """So that its absence elsewhere means something."""
    monkeypatch.chdir(tmp_path)
    text = f'name: !!python/object/apply:os.system ["touch {mutations.CANARY}"]'
    Path("options.yml").write_text(text)
    with pytest.raises(ConfigError):
        load_config("options.yml")
    assert not Path(mutations.CANARY).exists()
    yaml.unsafe_load(text)
    assert Path(mutations.CANARY).exists()


@pytest.mark.parametrize(
    "name", ["../../x", "..", "a/../../x", "/etc/x", "~/x", "..\\..\\x", "", ".", "a//b", "a\nb", "a\0b"]
)
def test_names_that_lead_elsewhere(name):
    for changes in (
        {"name": name},
        {"val": {"suffix": name or "/"}},
        {"datasets": {f"val/{name.strip('~')}": {"dataroot_gt": "x"}}},
    ):
        with pytest.raises(ConfigError, match="part of a path"):
            config(**changes)


def test_ordinary_names_stay(tmp_path):
    roots = {"experiments_root": str(tmp_path / "e"), "results_root": str(tmp_path / "r")}
    for name in ("a/b", "Größe 图像", "-x", "a..b", "run~", "x:y"):
        options = config(name=name, path=roots)
        assert options.run_folder.resolve().is_relative_to(tmp_path / "e")
        assert options.results_folder.resolve().is_relative_to(tmp_path / "r")
    assert config(val={"suffix": ""}).val.suffix == ""


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ({"type": "RRDBNet", "num_feat": 10**9}, "num_feat"),
        ({"type": "RRDBNet", "num_block": 10**6}, "num_block"),
        ({"type": "RRDBNet", "num_feat": 8000, "num_block": 8000, "num_grow_ch": 1000}, "num_"),
        ({"type": "RRDBNet", "scale": 0}, "scale"),
        ({"type": "RRDBNet", "scale": 3.5}, "scale"),
        ({"type": "RRDBNet", "scale": 10**6}, "scale"),
        ({"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "RRDBNet", "num_feat": 10**9}}, "num_feat"),
        ({"type": "SwinIR", "depths": [10**6] * 4}, "depths"),
        ({"type": "SwinIR", "embed_dim": 1e30}, "embed_dim"),
    ],
)
def test_networks_of_absurd_size(network, named):
    with pytest.raises(ConfigError, match=rf"network_g(.|\n)*{named}"):
        config(network_g=network)
    with pytest.raises(ValueError):
        build_network({**network})


@pytest.mark.parametrize(
    "network",
    [
        {"type": "RRDBNet", "num_feat": 1500, "num_block": 100},
        {"type": "RRDBNet", "num_feat": 1, "num_grow_ch": 1, "num_block": 50},
        {"type": "UNetDiscriminatorSN", "num_feat": 1500},
    ],
)
def test_networks_that_grow_beyond_bounds_are_not_built(network, monkeypatch):
    monkeypatch.setattr(size_limits, "MAX_TENSORS", 1000)
    monkeypatch.setattr(size_limits, "MAX_PARAMETERS", 30_000_000)
    with pytest.raises(ValueError, match="million parameters"):
        build_network(network)


@pytest.mark.parametrize("sizes", [{"window_size": 150}, {"window_size": [8, 150]}, {"window_size": 20, "img_size": 1000}])
def test_windows_whose_tables_fill_the_memory(sizes):
    with pytest.raises(ValueError, match=r"window_size .* is too large"):
        build_network({"type": "SwinIR", "depths": [2], "num_heads": [1], "embed_dim": 6, **sizes})


@pytest.mark.parametrize("size", [{"gt_size": 10**9}, {"num_worker_per_gpu": 10**6}])
def test_other_absurd_sizes(size):
    with pytest.raises(ConfigError, match=next(iter(size))):
        config(datasets={"train": {"dataroot_gt": "x", **size}})


def test_the_command_names_the_file_and_shows_no_traceback(tmp_path):
    for number in range(8):
        file = tmp_path / f"-{number} größe.yml"
        file.write_bytes(mutations.option_file(0, number)[1])
        text = command("train", "-opt", file, "--dry-run")
        assert file.name in text or "this would not run" in text
