"""What all verbs have in common: -q and -v, --json, exit codes, completion."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from results_lib import method, results

import aesop
from aesop.cli import app
from aesop.commands import completion, upscale_progress
from aesop.commands.json_report import json_report
from aesop.commands.table import RENDERERS
from aesop.commands.upscale_video import FORMATS as VIDEO_FORMATS
from aesop.conversion.targets import TARGETS
from aesop.inference import upscaler
from aesop.inference.models import known_models
from aesop.inference.runtimes import RUNTIMES
from aesop.inference.shipped_models import MODELS, shipped_model
from aesop.pictures.write import WRITABLE
from aesop.system import terminal
from aesop.system.exit_codes import ExitCode, markdown_table
from test_cli import REPO, VERBS, _fresh_log, plain, refused, run, smooth, succeeded, write_rgb  # noqa: F401


@pytest.fixture(autouse=True)
def _speaking():
    yield
    terminal.set_verbosity()


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(results(method("base"), method("better", 1)).to_json())
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    return write_rgb(tmp_path / "in" / "photo.png", smooth(1, 12, 16))


def commands() -> dict[str, typer.core.TyperCommand]:
    """All verbs, with those of groups as `models info`."""
    found, waiting = {}, [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        children = getattr(command, "commands", {})
        waiting += [(f"{name} {child}".strip(), each) for child, each in children.items()]
        found[name] = command
    return found


COMMANDS = commands()
WITH_JSON = sorted(name for name, command in COMMANDS.items() if any("--json" in param.opts for param in command.params))


# --- quiet and verbose -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_takes_the_common_options_and_no_option_has_two_meanings(name):
    options = [text for param in COMMANDS[name].params for text in (*param.opts, *param.secondary_opts)]
    assert {"-q", "--quiet", "-v", "--verbose"} <= set(options)
    assert len(options) == len(set(options))


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_leaves_the_table_and_the_errors(place, table, tmp_path):
    def quiet(*words):
        return run("-q", *words) if place == "before" else run(*words, "-q")

    shown = quiet("table", table)
    assert "PSNR" in shown.stdout
    written = quiet("table", table, "-o", tmp_path / "table.md")
    assert (written.exit_code, written.output) == (0, "")
    assert (tmp_path / "table.md").read_text().startswith("|") or "base" in (tmp_path / "table.md").read_text()
    assert "written: " in succeeded("table", table, "-o", tmp_path / "other.md")  # the next command speaks again
    mistake = quiet("table", tmp_path / "none.json")
    assert mistake.exit_code == 1
    assert mistake.stdout == ""
    assert plain(mistake.stderr).startswith("error: ")


def test_quiet_upscaling_prints_only_what_failed(photo, tmp_path):
    (tmp_path / "in" / "broken.png").write_bytes(photo.read_bytes()[:60])
    result = run("upscale", tmp_path / "in", "-o", tmp_path / "out", "--device", "cpu", "-q", "--progress", "plain")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = plain(result.stderr).splitlines()
    assert line.startswith("failed: ")
    assert "broken.png" in line
    speaking = run("upscale", tmp_path / "in", "-o", tmp_path / "out", "--device", "cpu", "--overwrite")
    assert "upscaled 1 of 2 images" in speaking.stdout
    assert "the bundled model that suits each picture" in speaking.stderr


def test_the_log_keeps_to_warnings_when_quiet_and_tells_details_when_verbose(capsys):
    log = logging.getLogger("aesop")
    for options, shown in (({"quiet": True}, "w"), ({}, "iw"), ({"verbose": True}, "diw")):
        log.handlers.clear()
        terminal.set_verbosity(**options)
        log.debug("d")
        log.info("i")
        log.warning("w")
        out, err = capsys.readouterr()
        assert (out + err).replace("\n", "") == shown
        assert (out == "") == ("quiet" in options)  # standard output is for the result


def test_verbose_shows_where_a_mistake_was_found(tmp_path):
    result = run("table", tmp_path / "none.json", "-v")
    assert result.exit_code == 1
    text = plain(result.stderr)
    assert "Traceback (most recent call last)" in text
    assert text.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in run("table", tmp_path / "none.json").stderr


def test_verbose_names_the_network(photo, tmp_path):
    text = succeeded("upscale", photo, "-o", tmp_path / "a.png", "--device", "cpu", "-v")
    assert f"{shipped_model()}: " in text.replace("\n", "")
    assert '"type": "RRDBNet"' in text


@pytest.mark.parametrize("words", [("-q", "-v", "models"), ("models", "-qv"), ("table", "x.json", "-q", "--verbose")])
def test_quiet_and_verbose_exclude_each_other(words):
    result = run(*words)
    assert result.exit_code == ExitCode.USAGE
    assert "exclude each other" in " ".join(plain(result.stderr).split())


# --- JSON --------------------------------------------------------------------------------------------------------------


def report_of(name: str, *words: object, code: int = 0, folder: Path) -> dict:
    """What a command writes; tests/commands/test_json_keys.py compares the keys with the documentation."""
    file = folder / "new folder" / "report.json"
    result = run(*name.split(), *words, "--json", file)
    assert result.exit_code == code, result.output
    report = json.loads(file.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert [path.name for path in file.parent.iterdir()] == ["report.json"]
    assert list(report)[:2] == ["aesop", "command"]
    assert (report["aesop"], report["command"]) == (aesop.__version__, name)
    file.unlink()
    return report


def test_upscale_reports_each_file_also_when_some_fail(photo, tmp_path):
    broken = tmp_path / "in" / "broken.png"
    broken.write_bytes(photo.read_bytes()[:60])
    out = tmp_path / "out"
    report = report_of("upscale", tmp_path / "in", "-o", out, "--device", "cpu", code=1, folder=tmp_path)
    failed, done = report["results"]
    assert (failed["source"], failed["size"]) == (str(broken), None)
    assert "broken.png" in failed["error"]
    assert done == {
        "source": str(photo),
        "target": str(out / "photo_x4.png"),
        "error": None,
        "notes": [],
        "skipped": False,
        "kind": "image",
        "size": list(Image.open(out / "photo_x4.png").size),
        "map": None,
        "model": "aesop_compact_x4",
    }
    words = (photo, "-o", out, "--device", "cpu", "--skip-existing")
    (again,) = report_of("upscale", *words, folder=tmp_path)["results"]
    assert again == {**done, "skipped": True, "model": None}


def test_table_reports_what_its_json_format_prints(table, tmp_path):
    printed = json.loads(succeeded("table", table, "-f", "json"))
    assert report_of("table", table, folder=tmp_path)["comparison"] == printed


def test_measure_reports_its_results_file(photo, tmp_path):
    write_rgb(tmp_path / "sr" / "photo.png", smooth(2, 12, 16))
    words = (tmp_path / "sr", "--hr", photo.parent, "--metrics", "psnr", "--no-cache", "--device", "cpu", "--crop-border", 0)
    report = report_of("measure", *words, "-o", tmp_path / "out", folder=tmp_path)
    assert report["results"] == json.loads((tmp_path / "out" / "results.json").read_text())
    # Finished images that are missing make the command fail, after the report.
    write_rgb(photo.parent / "other.png", smooth(3, 12, 16))
    report = report_of("measure", *words, "-o", tmp_path / "part", code=1, folder=tmp_path)
    assert "other" in " ".join(report["results"]["missing"])


def test_weight_files_are_reported(tmp_path):
    model, bad = shipped_model(), tmp_path / "bad.safetensors"
    bad.write_bytes(b"no weights")
    report = report_of("models verify", model, bad, code=1, folder=tmp_path)
    good, faulty = report["models"]
    assert (good["fault"], faulty["found"]) == (None, None)
    assert "bad.safetensors" in faulty["fault"]
    report = report_of("models info", model, folder=tmp_path)
    assert (report["scale"], report["file"]) == (4, str(model))
    target = tmp_path / "a.pth"
    report = report_of("convert", model, target, folder=tmp_path)
    assert report == {**report, "source": str(model), "target": str(target), "holds": "params_ema", "difference": None}
    report = report_of("blend", model, target, "--alpha", "0.25", "-o", tmp_path / "blend.safetensors", folder=tmp_path)
    assert report["written"] == str(tmp_path / "blend.safetensors")
    assert report["chosen"] == f"0.75 {model} + 0.25 {target}"
    (made,) = report_of("export", target, "--to", "torchscript", "-o", tmp_path / "a.pt", folder=tmp_path)["exported"]
    assert made["files"] == [str(tmp_path / "a.pt")]
    assert 0 <= made["difference"] <= made["limit"]


def test_degrade_reports_what_it_wrote(tmp_path):
    photo = write_rgb(tmp_path / "photo.png", smooth(1, 96, 96))
    report = report_of("degrade", photo, "--set", tmp_path / "set", "--seed", 3, folder=tmp_path)
    assert (report["set"], report["sheet"], report["seed"]) == (str(tmp_path / "set"), None, 3)
    record = json.loads((tmp_path / "set" / "degradations.json").read_text())
    assert report["degradation"] == record["degradation"]


def test_a_report_may_go_to_standard_output_where_nothing_else_goes(photo, table, tmp_path):
    result = run("upscale", photo, "-o", tmp_path / "a.png", "--device", "cpu", "--json", "-")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["results"][0]["target"] == str(tmp_path / "a.png")
    assert "upscaled 1 of 1 image" in result.stderr
    assert "upscaled 1 of 1 image" in run("upscale", photo, "-o", tmp_path / "b.png", "--device", "cpu").stdout
    both = "would both go to standard output"
    assert both in refused("upscale", photo, "-o", "-", "--json", "-")
    assert both in refused("table", table, "-f", "csv", "--json", "-")


@pytest.mark.parametrize("kind", ["folder", "below a file", "another file", "not writable"])
@pytest.mark.parametrize("name", WITH_JSON)
def test_where_a_report_cannot_be_written_is_said_before_the_work(name, kind, tmp_path, monkeypatch):
    words = {
        "export": ["x", "--to", "onnx"],
        "measure": ["x", "--hr", "y"],
        "blend": ["x", "y"],
        "convert": ["x", "y.pth"],
        "push": ["x", "y/z"],
        "prepare pack": ["x", "-o", "x.pack"],
        "models": [],
        "demo": [],
    }
    given = words.get(name, ["x.yml"])
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"somebody's picture")
    place = {"folder": tmp_path, "below a file": file / "report.json", "another file": file}.get(kind, tmp_path / "a.json")
    if kind == "not writable":
        monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may run as root
    text = refused(*name.split(), *given, "--json", place)
    assert text.startswith(f"--json {place}"), text
    assert file.read_bytes() == b"somebody's picture"


def test_a_file_for_json_that_would_get_nothing_is_a_mistake(tmp_path):
    file = tmp_path / "a.json"
    result = run("models", "--json", file, "info", shipped_model())
    assert result.exit_code == ExitCode.USAGE
    assert "give --json after info" in " ".join(plain(result.stderr).split())
    assert "give one of them" in refused("figure", "--example", "plane", "--json", file)
    assert not file.exists()


def test_a_dry_run_of_a_test_reports_what_would_stop_it(photo, tmp_path):
    (tmp_path / "x.yml").write_text(
        f"name: x\nnetwork_g: {{type: RRDBNet}}\ndatasets: {{test: {{dataroot_gt: {photo.parent}}}}}\n"
        f"path: {{pretrain_network_g: {tmp_path}/none.pth}}\n"
    )
    (problem,) = report_of("test", tmp_path / "x.yml", "--dry-run", code=1, folder=tmp_path)["problems"]
    assert "none.pth" in problem


def test_a_report_replaces_a_report(table, tmp_path):
    file = tmp_path / "report.json"
    for _ in range(2):
        succeeded("table", table, "--json", file)
    assert "is no report of aesop" in refused("table", table, "--json", table)


def test_what_json_lacks_is_written_as_what_it_has(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")  # no UTF-8
    with json_report("x", tmp_path / "a.json") as found:
        found |= {"values": (np.float64("nan"), float("inf"), 1.5), "file": Path(name), "of": {Path("a"): None}}
    report = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert report["values"] == [None, None, 1.5]
    assert report["file"] == name
    assert report["of"] == {"a": None}


def test_a_report_is_complete_or_not_there(tmp_path):
    with pytest.raises(TypeError), json_report("x", tmp_path / "a.json") as found:
        found["what"] = object()
    assert list(tmp_path.iterdir()) == []
    with contextlib.suppress(KeyboardInterrupt), json_report("x", tmp_path / "a.json") as found:
        found["results"] = [1]
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "a.json").read_text())["results"] == [1]  # what was done before an interruption


# --- exit codes --------------------------------------------------------------------------------------------------------


def program(*words: object, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(REPO / "src"), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "aesop", *map(str, words)], capture_output=True, text=True, timeout=120, env=environment,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], ExitCode.DONE),
        (["table", "none.json"], ExitCode.FAILED),
        (["tabel"], ExitCode.USAGE),
        (["table"], ExitCode.USAGE),
        (["table", "--no-such-option"], ExitCode.USAGE),
        (["table", "a.json", "--json"], ExitCode.USAGE),
        (["-q", "-v", "table", "a.json"], ExitCode.USAGE),
        (["upscale", "a.png", "--tile", "large"], ExitCode.USAGE),
        (["upscale", "a.png", "--quality", "101"], ExitCode.USAGE),
    ],
)
def test_the_program_ends_with_its_code(words, code, tmp_path):
    done = program(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == (code != 0)


@pytest.mark.parametrize(
    "words",
    [
        "measure a --hr b --scale 9",
        "measure a --hr b --crop-border none",
        "bench x.yml --seconds 0",
        "bench x.yml --seconds soon",
        "app --port 99999",
        "degrade a.png --seed 0.5",
        "upscale a.png --scale big",
        "upscale a.png --threads 0",
        "select run --tile 1e3",
        "models info",
        "prepare pack a",
        "prepare unpack",
    ],
)
def test_arguments_of_other_types_are_a_usage_error(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words.split())
    assert result.exit_code == ExitCode.USAGE
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_with_its_code(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("aesop.commands.table.run", interrupted)
    result = run("table", "a.json")
    assert (result.exit_code, plain(result.stderr).strip()) == (ExitCode.INTERRUPTED, "interrupted")


def test_the_page_of_exit_codes_is_the_table():
    page = (REPO / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert markdown_table() in page
    import signal

    for code, name in ((ExitCode.INTERRUPTED, "SIGINT"), (ExitCode.STOPPED_BY_CLUSTER, "SIGUSR1"), (143, "SIGTERM")):
        if sys.platform == "linux":
            assert code == 128 + getattr(signal, name)  # test_signals sends them


# --- completion --------------------------------------------------------------------------------------------------------


def test_completed_names_are_those_that_commands_know(tmp_path, monkeypatch):
    assert completion.PROGRESS == upscale_progress.STYLES
    assert completion.PRECISIONS == upscaler.PRECISIONS
    assert ("pytorch", *RUNTIMES) == completion.RUNTIMES
    assert ("terminal", *RENDERERS) == completion.TABLES
    assert tuple(TARGETS) == completion.EXPORTS
    assert {f".{name}" for name in completion.IMAGE_FORMATS} <= {*WRITABLE, *VIDEO_FORMATS}
    (tmp_path / "mine").mkdir()
    for name in ("b.pth", "a.safetensors", "notes.txt"):
        (tmp_path / "mine" / name).touch()
    monkeypatch.setenv("AESOP_MODELS", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    assert completion.models("") == [*MODELS, *(file.stem for file in known_models()), "mine/"]
    assert completion.models("mine/") == ["mine/a.safetensors", "mine/b.pth"]
    assert completion.models("nothing") == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("upscale a.png -m aesop_compact_x4", ["aesop_compact_x4", "aesop_compact_x4_psnr"]),
        ("upscale a.png -m cl", ["clean"]),
        ("upscale a.png --runtime op", ["openvino"]),
        ("upscale a.png --device c", ["cpu", "cuda"]),
        ("upscale a.png --format w", ["webp", "webm"]),
        ("table a.json -f la", ["latex"]),
        ("export aesop_compact_x4 --to o", ["onnx", "openvino"]),
        ("models info aesop_w", ["aesop_web_x4", "aesop_web_x4_psnr"]),
        ("upscale a.png --qu", ["--quality", "--quiet"]),
    ],
)
def test_the_shell_completes_names_without_pytorch(line, expected, tmp_path):
    script = """
import atexit, sys
from aesop.cli import app
atexit.register(lambda: print("imported:", *{"torch", "numpy", "yaml", "cv2"} & sys.modules.keys()))
app(prog_name="aesop")
"""
    words = f"aesop {line}"
    asked = {"_AESOP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    environment = {**os.environ, "PYTHONPATH": str(REPO / "src"), "XDG_DATA_HOME": str(tmp_path), "AESOP_MODELS": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment | asked, cwd=tmp_path
    )
    *found, imported = [line.strip() for line in done.stdout.splitlines()]
    assert (sorted(found), imported) == (sorted(expected), "imported:"), done.stderr


def test_verbose_lines_stay_out_of_a_picture_on_standard_output(tmp_path):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "in.png")
    command = [sys.executable, "-m", "aesop", "upscale", "-", "-v"]
    made = subprocess.run(command, input=(tmp_path / "in.png").read_bytes(), capture_output=True, check=True)
    (tmp_path / "out.png").write_bytes(made.stdout)
    assert made.stdout.startswith(b"\x89PNG")
    assert Image.open(tmp_path / "out.png").size == (32, 24)
    assert made.stderr
