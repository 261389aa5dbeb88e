"""`aesop figure` from the command line."""

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aesop.cli import app
from aesop.evaluation.figures.spec import read_spec
from aesop.images.write import write_image

pytest.importorskip("matplotlib")
SPEC = "kind: crops\nhr: hr.png\nimages: {hr: auto}\nmethods: {a: a.png}\nsize: [16, 12]\nwidth: 8.8\ndpi: 100\n"


@pytest.fixture
def spec(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("hr", "a")):
        write_image(Path(f"{name}.png"), np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    path = Path("fig.yml")
    path.write_text(SPEC)
    return path


def run(*words: object):
    return CliRunner().invoke(app, ["figure", *map(str, words)])


def test_both_files_are_written_once(spec):
    result = run(spec)
    assert result.exit_code == 0, result.output
    assert {path.name for path in Path().glob("fig.*")} == {"fig.yml", "fig.pdf", "fig.png"}
    assert Path("fig.pdf").read_bytes().startswith(b"%PDF")
    assert "hr: [" in result.output  # the region that was chosen, to be kept in the file
    before = Path("fig.pdf").read_bytes()
    result = run(spec)
    assert result.exit_code == 1
    assert "fig.pdf, fig.png exists: choose another name with -o, or add --overwrite" in result.output
    Path("fig.yml").write_text(SPEC.replace("auto", "[0, 0, 16, 12]"))
    assert run(spec, "--overwrite").exit_code == 0
    assert Path("fig.pdf").read_bytes() != before


def test_one_file_is_written_where_asked(spec):
    assert run(spec, "-o", "out/figure.png").exit_code == 0
    assert [path.name for path in Path("out").iterdir()] == ["figure.png"]
    assert not Path("fig.pdf").exists()


def test_a_fault_names_the_file_and_leaves_nothing(spec):
    Path("a.png").unlink()
    result = run(spec)
    assert result.exit_code == 1
    assert "fig.yml: methods.a" in result.output
    assert {path.name for path in Path().iterdir()} == {"fig.yml", "hr.png"}


def test_without_matplotlib_one_line_says_what_to_install(spec, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(spec)
    assert result.exit_code == 1
    assert 'pip install "aesop-sr[figures]"' in result.output
    assert not Path("fig.pdf").exists()


@pytest.mark.parametrize("kind", ["plane", "crops"])
def test_examples_are_printed(spec, kind):
    result = run("--example", kind)
    assert result.exit_code == 0
    Path("example.yml").write_text(result.stdout)
    assert read_spec(Path("example.yml")).kind == kind


def test_a_spec_is_needed(spec):
    result = run()
    assert result.exit_code == 1
    assert "name a file: aesop figure SPEC.yml" in result.output
