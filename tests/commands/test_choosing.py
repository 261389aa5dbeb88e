"""`aesop select` and `aesop blend`: what they measure, choose, write, and refuse."""

import io
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_runs import RRDB, options, run
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.cli import app
from aesop.commands import candidates
from aesop.commands.blend import read_alphas
from aesop.commands.measure import Request, measure
from aesop.commands.select import find_candidates
from aesop.evaluation.results import Results
from aesop.weights.save import save_weights

OPTIONS = {"metrics": {"psnr": {}, "ssim": {}}, "front": {"distortion": "psnr", "perception": "ssim"}}
SCALED = RRDB | {"scale": 4}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for k in range(3):
        coarse = cv2.resize(rng.random((9, 10, 3)).astype(np.float32), (56, 48), interpolation=cv2.INTER_CUBIC)
        image = np.clip(coarse + 0.1 * rng.standard_normal((48, 56, 3)), 0, 1)
        cv2.imwrite(str(folder / f"photo_{k}.png"), (image * 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """The folder of a run with models 2, 4, 6 and its front."""
    raw = options("psnr", photos, tmp_path_factory.mktemp("runs"), 6, ema_decay=0)
    raw["val"] |= OPTIONS
    return run(raw).parents[1]


@pytest.fixture
def trained_copy(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def refused(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


def metadata(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as content:
        return content.metadata()


def values_of(file: Path, photos: Path, metrics: str = "psnr,ssim") -> dict[str, float]:
    """Means as `aesop measure` finds them."""
    found = measure(Request([str(file)], [str(photos)], metrics=metrics), Console(file=io.StringIO()))
    rows = list(next(iter(found.methods[0].values.values())).values())
    return {metric: float(np.mean([row[metric] for row in rows])) for metric in rows[0]}


def equal(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def net(path: Path, seed: int, **changes) -> Path:
    torch.manual_seed(seed)
    described = SCALED | changes
    save_weights(path, build_network(described).state_dict(), {"network": json.dumps(described)})
    return path


# --- select ------------------------------------------------------------------------------------------------------------


def test_select_measures_every_checkpoint_and_writes_the_chosen_one(trained_copy, photos):
    models = trained_copy / "models"
    before = {file: file.read_bytes() for file in models.rglob("*.safetensors")}
    output = invoke("select", trained_copy, "--best", "psnr")
    results = Results.from_json((trained_copy / "selection" / "results.json").read_text())
    assert [method.name for method in results.methods] == ["2", "4", "6"]
    expected = {number: values_of(models / f"net_g_{number:08d}.safetensors", photos) for number in (2, 4, 6)}
    for method, values in zip(results.methods, expected.values(), strict=True):
        rows = list(method.values["val"].values())
        assert np.mean([row["psnr"] for row in rows]) == pytest.approx(values["psnr"])
    best = max(expected, key=lambda number: expected[number]["psnr"])
    selected = models / "net_g_selected.safetensors"
    assert equal(selected, models / f"net_g_{best:08d}.safetensors")
    assert f"chosen (best psnr): {models}/net_g_{best:08d}.safetensors" in output
    described = metadata(selected)
    assert {key: described[key] for key in ("network", "config", "total_iter")} == {
        key: metadata(models / f"net_g_{best:08d}.safetensors")[key] for key in ("network", "config", "total_iter")
    }
    about = json.loads(described["selected"])
    assert (about["file"], about["rule"], about["of"]) == (f"models/net_g_{best:08d}.safetensors", "best psnr", 3)
    assert about["values"] == pytest.approx(expected[best])
    assert about["measured_on"]["images"] == 3
    assert all(file.read_bytes() == content for file, content in before.items())
    for name in ("values.csv", "plane.yml", "plane.png", "plane.pdf"):
        assert (trained_copy / "selection" / name).is_file()
    front = {
        number
        for number, own in expected.items()
        if not any(all(v[k] >= own[k] for k in own) and v != own for v in expected.values())
    }
    labels = yaml.safe_load((trained_copy / "selection" / "plane.yml").read_text())["labels"]
    assert {int(name) for name, label in labels.items() if label} == front | {best}
    # The file that was written is no candidate of the next call.
    invoke("select", trained_copy, "--best", "ssim")
    assert len(Results.from_json((trained_copy / "selection" / "results.json").read_text()).methods) == 3


def test_what_was_measured_once_is_not_computed_again(trained_copy, monkeypatch):
    from aesop.evaluation import methods

    invoke("select", trained_copy)

    def computes(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr(methods, "predict", computes)
    invoke("select", trained_copy, "--best", "psnr")


def test_the_same_weights_are_measured_once(trained_copy):
    found = find_candidates(trained_copy, Console(file=io.StringIO()))
    files = [file.relative_to(trained_copy / "models").as_posix() for file in found.values()]
    assert files == [f"net_g_{number:08d}.safetensors" for number in (2, 4, 6)]
    # Pruned checkpoints are found in the front or as the best, another model of an iteration beside the first.
    torch.manual_seed(5)
    for file in ("net_g_00000002.safetensors", "front/net_g_00000004.safetensors", "net_g_final.safetensors"):
        save_weights(trained_copy / "models" / file, build_network(SCALED).state_dict(), {"network": json.dumps(SCALED)})
    (trained_copy / "models" / "net_g_00000006.safetensors").write_bytes(b"damaged")
    said = io.StringIO()
    found = find_candidates(trained_copy, Console(file=said, width=1000))
    assert list(found)[:4] == ["2", "4", "4 (front)", "6"]
    assert found["6"].parent.name == "front"
    assert set(list(found)[4:]) <= {"best", "final"}
    assert f"note: left out: {trained_copy}/models/net_g_00000006.safetensors is" in said.getvalue()


def test_other_images_and_another_file(trained_copy, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "other" / "HR")
    target = tmp_path / "picked.safetensors"
    (trained_copy / "config.yml").unlink()
    text = refused("select", trained_copy)
    assert "config.yml does not exist: give --hr FOLDER" in text
    arguments = ("select", trained_copy, "--hr", tmp_path / "other" / "HR", "--metrics", "psnr,niqe", "-o", target)
    assert "a front needs psnr or lrpsnr, and lpips" in refused(*arguments)


def test_limits_that_nothing_reaches_write_nothing(trained_copy):
    text = refused("select", trained_copy, "--best", "ssim", "--at-least", "psnr=99")
    assert "none of the 3 models has psnr at least 99; best found: psnr" in text
    assert not (trained_copy / "models" / "net_g_selected.safetensors").exists()


def test_folders_that_are_no_run_say_what_to_give(trained_copy, tmp_path):
    assert "has no folder models: give the folder of a training" in refused("select", tmp_path / "run" / "models")
    assert "give the folder of one of its stages (run)" in refused("select", tmp_path)
    shutil.rmtree(trained_copy / "models")
    (trained_copy / "models").mkdir()
    assert "has no net_g_*.safetensors" in refused("select", trained_copy)


def test_an_existing_file_is_kept(trained_copy, tmp_path):
    target = tmp_path / "there.safetensors"
    target.write_bytes(b"mine")
    assert "--overwrite" in refused("select", trained_copy, "-o", target)
    assert target.read_bytes() == b"mine"


def test_a_checkpoint_that_computes_nan_is_left_out(trained_copy):
    file = trained_copy / "models" / "net_g_00000004.safetensors"
    state, described = load_file(file), metadata(file)
    state["conv_last.bias"][:] = math.nan
    save_weights(file, state, described)
    shutil.rmtree(trained_copy / "models" / "front")
    output = invoke("select", trained_copy)
    assert "note: 4 is left out: val, photo_0, 4:" in output


def test_without_matplotlib_it_says_how_to_draw(trained_copy, monkeypatch):
    monkeypatch.setattr(candidates, "find_spec", lambda name: None)
    output = invoke("select", trained_copy)
    assert 'the plane is not drawn without matplotlib: pip install "aesop-sr[figures]", then aesop figure' in output
    assert not (trained_copy / "selection" / "plane.png").exists()


# --- blend -------------------------------------------------------------------------------------------------------------


def test_one_blend_needs_no_images(tmp_path):
    a, b = net(tmp_path / "a.safetensors", 1), net(tmp_path / "b.safetensors", 2)
    target = tmp_path / "c.safetensors"
    for alpha, expected in (("0", a), ("1", b)):
        invoke("blend", a, b, "--alpha", alpha, "-o", target, "--overwrite")
        assert equal(target, expected)
    invoke("blend", a, b, "--alpha", "0.25", "-o", target, "--overwrite")
    first, second, mixed = (load_file(file) for file in (a, b, target))
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * second[name])
    shares = json.loads(metadata(target)["blend"])
    assert [(each["file"], each["share"]) for each in shares] == [("a.safetensors", 0.75), ("b.safetensors", 0.25)]
    invoke("blend", a, a, a, "-o", target, "--overwrite")
    assert equal(target, a)
    invoke("blend", a, b, "-o", target, "--overwrite")
    torch.testing.assert_close(load_file(target)["conv_last.bias"], (first["conv_last.bias"] + second["conv_last.bias"]) / 2)


def test_a_sweep_is_measured_and_the_best_blend_written(trained, photos, tmp_path):
    a, b = (trained / "models" / f"net_g_{number:08d}.safetensors" for number in (2, 6))
    target = tmp_path / "c.safetensors"
    output = invoke("blend", a, b, "--config", trained / "config.yml", "--alpha", "0,0.5,1", "--best", "psnr", "-o", target)
    results = Results.from_json((tmp_path / "c" / "results.json").read_text())
    assert [method.name for method in results.methods] == ["0", "0.5", "1"]
    assert results.methods[1].source == f"0.5 {a} + 0.5 {b}"
    found = {method.name: np.mean([row["psnr"] for row in method.values["val"].values()]) for method in results.methods}
    assert found["0"] == pytest.approx(values_of(a, photos)["psnr"])
    assert found["1"] == pytest.approx(values_of(b, photos)["psnr"])
    assert values_of(target, photos)["psnr"] == pytest.approx(max(found.values()))
    assert "chosen (best psnr):" in output
    assert (tmp_path / "c" / "plane.png").is_file()


def test_an_average_is_measured_beside_its_parts(trained, tmp_path):
    files = [trained / "models" / f"net_g_{number:08d}.safetensors" for number in (2, 4, 6)]
    invoke("blend", *files, "--config", trained / "config.yml", "-o", tmp_path / "c.safetensors")
    results = Results.from_json((tmp_path / "c" / "results.json").read_text())
    assert [method.name for method in results.methods] == [*(file.stem for file in files), "average"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", [0.5]),
        ("0,.1,...,1", [k / 10 for k in range(11)]),
        ("0, 0.25, ..., 1", [0, 0.25, 0.5, 0.75, 1]),
        (".2,.3,...,.5", [0.2, 0.3, 0.4, 0.5]),
        ("1,0,1", [1, 0]),
    ],
)
def test_alphas(text, expected):
    assert read_alphas(text) == expected


@pytest.mark.parametrize(
    "text", ["", "a", "0,...,1", "0,.3,...,1", "0,.1,...", "1.5", "-0.1", "0,0,...,1", "nan", "0,1e-9,...,1"]
)
def test_alphas_that_are_none(text):
    with pytest.raises(ValueError, match=f"--alpha {text}: "):
        read_alphas(text)


def test_what_blend_refuses(tmp_path):
    a, b = net(tmp_path / "a.safetensors", 1), net(tmp_path / "b.safetensors", 2)
    wide, target = net(tmp_path / "wide.safetensors", 3, num_feat=24), tmp_path / "c.safetensors"
    common = ("-o", target)
    assert "give at least two weight files" in refused("blend", a, *common)
    assert "3 files are averaged" in refused("blend", a, b, b, "--alpha", "0.5", *common)
    assert "to choose between 2 blends, give images" in refused("blend", a, b, "--alpha", "0,1", *common)
    assert "give images: --hr FOLDER or --config FILE" in refused("blend", a, b, "--best", "psnr", *common)
    assert "a blend is written as .safetensors" in refused("blend", a, b, "-o", tmp_path / "c.pth")
    text = refused("blend", a, wide, *common)
    assert f"{a} has num_feat 16, {wide} has num_feat 24 (the first tensor that differs is conv_first.weight" in text
    assert "does not exist" in refused("blend", a, tmp_path / "none.safetensors", *common)
    assert not target.exists()
    target.write_bytes(b"mine")
    assert "--overwrite" in refused("blend", a, b, *common)
    assert target.read_bytes() == b"mine"
