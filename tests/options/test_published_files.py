"""The 23 published option files, unchanged: each is read, resolved at full size, and reaches its first step or image."""

import csv
import re

import pytest
from typer.testing import CliRunner

from aesop.cli import app
from aesop.options.read import build_config, load_config
from aesop.weights.load import load_network
from published_lib import Substitutes, option_files, write

FILES = option_files()
NONE = pytest.param(None, id="none", marks=pytest.mark.skip(reason="no golden folder with the published option files"))
ALL = [pytest.param(name, id=name) for name in FILES] or [NONE]
TESTS = [pytest.param(name, id=name) for name in FILES if name.startswith("test/")] or [NONE]
TRAININGS = [pytest.param(name, id=name) for name in FILES if name.startswith("train/")] or [NONE]


@pytest.fixture(scope="module")
def substitutes(tmp_path_factory):
    return Substitutes(tmp_path_factory.mktemp("published"))


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("name", ALL)
def test_is_read_and_resolves_to_a_configuration_that_reads_the_same(name):
    config, _ = build_config(FILES[name], name)
    again, notes = build_config(yaml_of(config), name)
    assert again == config
    assert not notes
    published = FILES[name]["network_g"]
    ours = config.network_g.model_dump()
    kept = {key: value for key, value in published.items() if key in ours and key not in ("type", "enc_opt", "dec_opt")}
    assert {key: ours[key] for key in kept} == kept


def yaml_of(config):
    import yaml

    return yaml.safe_load(config.to_yaml())


@pytest.mark.parametrize("name", TESTS)
def test_reaches_its_first_test_image(name, substitutes, tmp_path):
    file = write(FILES[name], tmp_path / "published.yml")
    overrides = substitutes.overrides(FILES[name])
    result = run("test", "-opt", str(file), *overrides)
    assert result.exit_code == 0, result.output
    config, _ = load_config(file, overrides)
    images = list((config.results_folder / "images").rglob("*.png"))
    assert len(images) == len(config.datasets.measured("test"))
    for table in config.results_folder.glob("*.csv"):
        with table.open() as opened:
            rows = list(csv.DictReader(opened))
        # The auto-encoder's file tests on images alone and asks for no figures.
        measured = [row["psnr"] for row in rows if "AutoEncoder" not in config.name]
        assert all(float(value) > 0 for value in measured)
        assert bool(measured) == bool(FILES[name]["val"].get("metrics"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_reaches_its_first_training_step(name, substitutes, tmp_path):
    file = write(FILES[name], tmp_path / "published.yml")
    overrides = substitutes.overrides(FILES[name])
    result = run("train", "-opt", str(file), *overrides)
    assert result.exit_code == 0, result.output
    config, _ = load_config(file, overrides)
    net, info = load_network(config.run_folder / "models" / "net_g_00000001.safetensors")
    assert info.scale == 4
    assert sum(p.numel() for p in net.parameters()) > 0


@pytest.mark.usefixtures("no_count_of_memory")
@pytest.mark.parametrize("name", TRAININGS)
def test_dry_run_lists_every_path_to_fill_in_and_resolves_the_full_size(name, tmp_path):
    file = write(FILES[name], tmp_path / "published.yml")
    result = run("train", str(file), "--dry-run")
    assert result.exit_code == 1
    assert re.search(r"network_g: \w+, [\d,]{9,} parameters", result.output)
    lazily = run("train", str(file))
    assert lazily.exit_code == 1
    for option, value in (("datasets.train.dataroot_gt", FILES[name]["datasets"]["train"]["dataroot_gt"]),):
        assert re.search(rf"{option}: {re.escape(value)} (has to be filled in|does not exist)", lazily.output)
    assert not (tmp_path / "experiments").exists()
