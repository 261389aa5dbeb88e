"""`--json`: each command writes the keys that docs/reference/json.md names, and nothing else to standard output."""

import json
import re
from pathlib import Path

import pytest
import torch
from results_lib import method, results
from tiny_runs import RRDB, make_autoencoder
from tiny_runs import options as tiny_options

from aesop.archs import build_network
from aesop.options.read import build_config
from aesop.weights.description import Description, modelspec
from aesop.weights.save import save_weights
from test_cli import REPO, run, smooth, write_options, write_rgb
from test_manners import COMMANDS, WITH_JSON

TABLE = re.findall(
    r"^\| (`.*?) \| (.*) \|$", (REPO / "docs" / "reference" / "json.md").read_text(encoding="utf-8"), re.MULTILINE
)
ROWS = {name: keys for names, keys in TABLE for name in names.replace("`", "").split(", ")}
# A key's description follows it in parentheses. It may begin with the keys within: `findings` (each with `mark`, `text`).
IN_PARENTHESES = re.compile(r"\([^)]*\)")
WITHIN = re.compile(r"`(\w+)` \(([^)]*?with) (`\w+`[^)]*)\)")

CARD = "--samples photo.png --device cpu --url hf:jane/tiny"
CASES = {
    "upscale": "photo.png -m net.safetensors -o big.png --device cpu",
    "test": "test.yml --launcher slurm",  # prints a note first
    "test with --dry-run": "test.yml --dry-run",
    "measure": "hr --hr hr --metrics psnr --no-cache --device cpu",
    "table": "results.json",
    "select": "run --no-cache --device cpu --best psnr",
    "blend": "net.safetensors other.safetensors -c train.yml --alpha 0,1 --no-cache --device cpu --best psnr",
    "diagnose of a run": "run",
    "diagnose of an auto-encoder": "ae.safetensors --data hr",
    "diagnose with --weights": "run --weights",
    "doctor": "",
    "bench": "train.yml --seconds 0.1",
    "degrade": "photo.png -n 1",
    "convert": "net.safetensors net.pth",
    "export": "net.safetensors --to torchscript",
    "models": "",
    "models info": "net.safetensors",
    "models verify": "net.safetensors",
    "card": f"net.safetensors {CARD} -o card",
    "push": "net.safetensors jane/tiny --dry-run",
    "figure": "figure.yml",
    "demo": "--quick",
    "prepare pack": "hr -o hr.pack",
}
SLOW = ("bench", "demo", "push")
FAILS = ("models verify",)  # an untrained network


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with everything that the commands of CASES read."""
    folder = tmp_path_factory.mktemp("place")
    for seed, (name, side) in enumerate({"hr/a.png": 64, "hr/b.png": 64, "photo.png": 96}.items()):
        write_rgb(folder / name, smooth(seed, side, side))
    network = {**RRDB, "scale": 4}
    about = modelspec(Description("Tiny", "Jane Doe", "CC0-1.0", ("photo",), "For tests.", "2026-11-30"), network)
    for seed, name in enumerate(("net", "other", "run/models/net_g_00000002", "run/models/net_g_00000004")):
        torch.manual_seed(seed)
        file = folder / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_weights(file, build_network(network).state_dict(), {**about, "network": json.dumps(network)})
    make_autoencoder(folder)
    (folder / "results.json").write_text(results(method("base"), method("better", 1)).to_json())
    (folder / "figure.yml").write_text(
        "kind: crops\nhr: hr/a.png\nimages: {a: auto}\nmethods: {b: hr/b.png}\nsize: [16, 12]\n"
    )
    chosen_by = {"metrics": {"psnr": {}, "ssim": {}}, "front": {"distortion": "psnr", "perception": "ssim"}}
    train = {
        stage: tiny_options(stage, folder / "hr", folder, 400) | {"val": chosen_by} for stage in ("psnr", "adversarial")
    }
    write_options(folder, train["psnr"], "train.yml")
    tested = {
        "name": "tested", "device": "cpu", "network_g": RRDB, "datasets": {"test": {"dataroot_gt": str(folder / "hr")}},
        "path": {"pretrain_network_g": str(folder / "net.safetensors"), "results_root": str(folder)},
    }  # fmt: skip
    write_options(folder, tested, "test.yml")
    # A run with readings of a learning rate that is too high.
    config, _ = build_config(train["adversarial"], "test")
    (folder / "run" / "config.yml").write_text(config.to_yaml())
    readings = {
        "update/g": 0.2,
        "psnr": 8.0,
        "gain": -12.0,
        "weights/aesop": 1.0,
        "weights/gan": 0.5,
        "weights/artifacts": 0.1,
    }
    rows = [{"iter": k, **{f"read/{name}": value for name, value in readings.items()}} for k in (1, 100, 200, 300, 400)]
    (folder / "run" / "scalars.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def command_of(name: str) -> str:
    return re.split(" of | with ", name)[0]


def keys_in(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_every_command_that_reports_is_documented_and_has_a_case():
    assert {*CASES} == {*ROWS}
    assert {command_of(name) for name in ROWS} == {*WITH_JSON}
    silent = {name for name, command in COMMANDS.items() if command.callback and name not in WITH_JSON}
    assert silent == {"", "prepare", "app", "schema", "train", "pipeline"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES])
def test_a_report_on_standard_output_is_json_with_the_documented_keys(name, place, monkeypatch):
    monkeypatch.chdir(place)
    command = command_of(name)
    result = run(*command.split(), *CASES[name].split(), "--json", "-")
    assert result.exit_code == (name in FAILS), result.output
    assert result.stderr
    report = json.loads(result.stdout)
    assert report["command"] == command
    assert sorted(report) == sorted(["aesop", "command", *keys_in(IN_PARENTHESES.sub("", ROWS[name]))])
    for key, how, text in WITHIN.findall(ROWS[name]):
        for each in report[key] if how == "each with" else [report[key]]:
            assert sorted(each) == sorted(keys_in(text)), key
        assert report[key], key


def test_files_are_reported_as_they_are_on_the_disk(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)

    def report_of(*words: object) -> dict:
        return json.loads(run(*words, "--json", "-").stdout)

    report = report_of("prepare", "pack", "hr", "-o", tmp_path / "hr.pack")
    assert (report["written"], report["images"]) == (str(tmp_path / "hr.pack"), 2)
    assert report["bytes"] == (tmp_path / "hr.pack").stat().st_size
    report = report_of("card", "net.safetensors", *CARD.split(), "-o", tmp_path / "card")
    files = [file for file in (tmp_path / "card").rglob("*") if file.is_file()]
    assert report["sizes"] == {file.relative_to(tmp_path / "card").as_posix(): file.stat().st_size for file in files}
    assert report["notes"] == []
    report = report_of("figure", "figure.yml", "-o", tmp_path / "a.png")
    assert report["files"] == [str(path) for path in tmp_path.glob("*.png")]
    assert report["regions"]["a"][2:] == [16, 12]
