"""The pages that docs/reference.py makes cover the code, and docs/pixel_loss.py computes what its page says."""

import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import aesop
from aesop.cli import app
from aesop.options.config import TestConfig, TrainConfig
from aesop.system.exit_codes import markdown_table
from aesop.system.option_types import Options
from aesop.system.signals import Interrupted

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

import pixel_loss
import reference

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference")
    reference.write_pages(folder)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def subclasses(of: type) -> set[type]:
    return {cls for direct in of.__subclasses__() for cls in (direct, *subclasses(direct))}


def test_every_option_is_described(pages):
    text = re.sub(r"\\([<*\[\]|])", r"\1", pages["options.md"] + pages["figure-files.md"])
    # Those that others extend are described with them, and OptionFile stands for a training's file and a test's.
    sections = {cls for cls in subclasses(Options) if cls.__module__.startswith("aesop.") and not cls.__subclasses__()}
    sections -= {TrainConfig, TestConfig}
    assert len(sections) > 30
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} has no text"
            entry = rf"```\{{confval\}} (\S*\.)?{name}\n(:.*\n)+\n{re.escape(' '.join(field.description.split()))}"
            assert re.search(entry, text), f"{section.__name__}.{name}"


def sections_of(page: str) -> dict[str, str]:
    return dict(re.findall(r"(?ms)^## (aesop[ \w-]*)\n(.*?)(?=^## |\Z)", page))


def test_every_command_is_described(pages):
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    commands = {f"aesop {group}".strip() for group in ("", *groups)}
    for group, of in {"": app, **groups}.items():
        for command in of.registered_commands:
            name = command.name or command.callback.__name__
            commands.add(" ".join(filter(None, ("aesop", group, name))))
    assert set(sections_of(pages["commands.md"])) == commands


@pytest.mark.slow
def test_every_option_of_the_help_is_described(pages):
    for name, section in sections_of(pages["commands.md"]).items():
        shown = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "300"})
        assert shown.exit_code == 0
        for line in shown.output.splitlines():
            if words := re.match(r"[│\s*]*((?:-\w+|--[\w-]+)(?:[,/ ]+(?:-\w+|--[\w-]+))*)", line):
                for word in re.findall(r"-[\w-]+", words[1]):
                    assert word in section or word == "--help", f"{name} {word}"


def test_every_metric_exit_code_and_class_is_named(pages):
    from aesop.metrics import METRICS

    assert set(re.findall(r"(?m)^\| `(\w+)` \|", pages["metrics.md"])) == set(METRICS)
    exit_codes = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert markdown_table() in exit_codes
    codes = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", exit_codes)}
    misspelt = CliRunner().invoke(app, ["trian"]).exit_code
    stopped = Interrupted(signal.SIGTERM, 1).exit_code
    assert codes >= {0, 1, misspelt, 130, stopped}
    assert set(re.findall(r"autoclass:: aesop\.(\w+)", pages["python.md"])) == set(aesop.__all__) - {"__version__"}


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (0, 0.5), (0.6, -0.3), (1, 0.5)])
def test_costs_of_the_unknown_phase(a, b):
    u, v = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, 400_000))
    error = a * np.sin(v) + b - np.sin(u)
    assert pixel_loss.pixel_l1(a, b) == pytest.approx(abs(error).mean(), abs=4e-3)
    assert pixel_loss.pixel_l2(a, b) == pytest.approx((error**2).mean(), abs=8e-3)
    x = np.linspace(0, 1, 64, endpoint=False)  # one LR pixel: its mean is what the auto-encoder returns
    assert pixel_loss.autoencoded(a, b) == pytest.approx(abs((a * np.sin(2 * np.pi * x + 1) + b).mean()), abs=1e-12)


def test_page_shows_these_costs():
    page = (DOCS / "explanation" / "pixel-loss.md").read_text(encoding="utf-8")
    for a, b in ((0, 0), (1, 0), (0, 0.5)):
        assert f"≈ {pixel_loss.pixel_l1(a, b):.2f}" in page
