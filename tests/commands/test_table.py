"""`aesop table`: files in, tables out."""

import csv
import io
import json
import subprocess
import sys

import pytest
from results_lib import PROTOCOL, method, results, without
from rich.console import Console

from aesop.commands.table import run
from aesop.evaluation.comparison import Comparison
from test_cli import plain, refused, succeeded
from test_cli import run as run_command

NAMES = {".md": "| base |", ".tex": "\\begin{tabular}", ".csv": "set,images,method", ".json": '"name": "test"'}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(results(method("base"), method("better", 1)).to_json())
    return path


def test_the_terminal_shows_a_table_for_each_set(file):
    text = succeeded("table", file, "--against", "base")
    for words in (
        "Set5 (5 images, coverage",
        "Set14 (14 images",
        "Urban100 (60 images)",
        "PSNR ↑",
        "LPIPS ↓",
        "wins : losses",
    ):
        assert words in text
    assert "Difference to base" in " ".join(text.split())


def test_trainings_of_one_method_are_one_row(file):
    rows = list(csv.DictReader(io.StringIO(succeeded("table", file, "--seeds", "ours=base,better", "--format", "csv"))))
    assert {(row["method"], row["trainings"]) for row in rows} == {("ours", "2")}
    assert "give NAME=METHOD,METHOD" in refused("table", file, "--seeds", "base,better")


def test_marks_are_bold_and_underlined(file):
    text = io.StringIO()
    run([file], Console(file=text, force_terminal=True, width=120), metrics=["psnr"], sets=["Urban100"], mark="always")
    (best,) = (line for line in text.getvalue().splitlines() if "better" in line and "28" in line)
    assert "\x1b[1m" in best
    assert "\x1b[4m" in next(line for line in text.getvalue().splitlines() if "base" in line)


@pytest.mark.parametrize("ending", NAMES)
def test_the_ending_of_the_output_is_the_format(file, tmp_path, ending):
    output = tmp_path / f"new/table{ending}"
    assert str(output) in succeeded("table", file, "-o", output).replace("\n", "")
    assert NAMES[ending] in output.read_text()
    assert "exists" in refused("table", file, "-o", output)
    succeeded("table", file, "-o", output, "--overwrite", "--mark", "never")


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_standard_output_holds_nothing_but_the_table(file, form):
    result = run_command("table", file, "--format", form, "--against", "base")
    assert result.exit_code == 0
    if form == "json":
        assert Comparison.model_validate(json.loads(result.stdout)).reference == "base"
    if form == "csv":
        assert len(list(csv.DictReader(io.StringIO(result.stdout)))) == 12
    assert "−" not in result.stdout or form == "markdown"
    assert not result.stderr


def test_the_input_is_never_overwritten(file):
    before = file.read_bytes()
    assert "exists" in refused("table", file, "-o", file, "--overwrite")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "html"], "--format html: give one of terminal, markdown, latex, csv, json"),
        (["-o", "table.docx"], "for -o a file that ends in .md"),
        (["-o", "table.md", "--format", "terminal"], "for -o a file that ends in .md"),
        (["--mark", "sometimes"], "--mark sometimes: give one of significant, always, never"),
        (["--against", "nobody"], "--against nobody: there is none; there are base, better"),
        (["--metric", "fid"], "--metric fid: there is none; there are psnr, lpips"),
    ],
)
def test_wrong_options_are_named(file, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(refused("table", file, *arguments).split())
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_file_is_named(tmp_path):
    assert "none.json" in refused("table", tmp_path / "none.json")


def test_options_choose_what_is_shown(file):
    text = succeeded(
        "table", file, "--method", "better", "--set", "set14", "--metric", "psnr", "--no-intervals", "-f", "markdown"
    )
    lines = text.splitlines()
    assert lines[0] == "|  | Set14 (14 images)<br>PSNR ↑ |"
    assert [line.partition(" |")[0] for line in lines[2:4]] == ["| better", ""]


def test_warnings_reach_the_table_and_stderr(tmp_path):
    protocol = {"metrics": {"psnr": PROTOCOL["metrics"]["psnr"] | {"crop_border": 0}}}
    no_paper = {"metrics": PROTOCOL["metrics"] | {"lpips": PROTOCOL["metrics"]["lpips"] | {"crop_border": 4}}}
    for name, content in {
        "x": results(method("a"), missing=("c: no file",), protocol=PROTOCOL | no_paper),
        "y": results(without(method("b"), "Set14", "img_002"), protocol=protocol),
    }.items():
        (tmp_path / f"{name}.json").write_text(content.to_json())
    files = [tmp_path / "x.json", tmp_path / "y.json"]
    assert "b lacks img_002" in refused("table", *files)
    result = run_command("table", *files, "--common-images", "--format", "markdown", "--published", "--metric", "lpips")
    assert result.exit_code == 0
    for words in ("crop_border: 4 and 0", "x.json: c: no file", "no published figures fit"):
        assert words in plain(result.stderr)
        assert words.replace("_", r"\_") in result.stdout
    assert "PARTIAL" in result.stdout
    assert "Set14: only the 13 of 14 images" in result.stdout


def test_the_command_starts_without_pytorch(file):
    table = f"app(['table', {str(file)!r}], standalone_mode=False)"
    code = f"import sys; from aesop.cli import app; {table}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
