"""The verdict on run folders with readings made here. benchmarks/diagnosis_plants.py plants the causes in real trainings."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from aesop.cli import app
from aesop.diagnosis.balance import balance, described, recipes
from aesop.diagnosis.causes import CAUSES, Finding
from aesop.diagnosis.run_record import read_run
from aesop.diagnosis.verdict import diagnose
from aesop.options.read import build_config

AESOP = {"autoencoder_load": {"path": "ae.safetensors"}}
GAN: dict[str, Any] = {"aesop_opt": AESOP, "artifacts_opt": {}, "gan_opt": {}}
HEALTHY = {
    "update/g": 1e-3, "update/d": 2e-3, "ema/distance": 0.01, "psnr": 26.0, "gain": 0.5, "ema/psnr": 26.2, "detail": 0.7,
    "ema/detail": 0.65, "checkerboard": 0.7, "wrong_pairs": 0.0, "colour/r": 0.001, "colour/g": -0.001, "colour/b": 0.002,
    "weights/aesop": 1.0, "weights/artifacts": 0.5, "weights/gan": 0.4, "weights_cos/aesop+artifacts": 0.4,
    "weights_cos/aesop+gan": -0.1, "weights_cos/artifacts+gan": 0.0, "d/gap": 2.0, "d/accuracy": 0.85, "d/saturation": 0.1,
    "d/loss": 0.5, "se": 1e-3, "ve": 2e-3, "cross": 0.0, "mse": 3e-3, "ae/psnr": 28.0, "ae/colour": 0.95,
    "ae/lr_equal": 0.985, "ae/lr_fit": 0.998, "ae/lr_shift": 0.01, "ae/lr_width": -0.1,
}  # fmt: skip
FAULTY = {
    "swapped_pairs": {"wrong_pairs": 0.9},
    "autoencoder_colour": {"ae/colour": 0.02},
    "autoencoder_bottleneck": {"ae/lr_equal": -1.0, "ae/lr_fit": 0.3},
    "autoencoder_kernel": {"ae/lr_equal": 0.85, "ae/lr_fit": 0.99, "ae/lr_shift": 0.4},
    "learning_rate_high": {"update/g": 0.2, "psnr": 8.0, "gain": -12.0},
    "learning_rate_low": {"update/g": 1e-7},
    "discriminator_wins": {"d/loss": 1e-4, "d/accuracy": 1.0, "d/saturation": 1.0, "d/gap": 30.0},
    "discriminator_blind": {"d/loss": 1.0, "d/accuracy": 0.5, "d/saturation": 0.0, "d/gap": 0.0, "update/d": 1e-8},
    "gan_drowned": {"weights/gan": 1e-5},
    "gan_drowning": {"weights/gan": 1e3},
    "losses_opposed": {"weights/gan": 1.0, "weights_cos/aesop+gan": -0.9},
    "colour_drift": {"colour/r": 0.06, "colour/b": -0.04},
    "checkerboard": {"checkerboard": 4.0},
    "blur": {"detail": 0.1, "weights/aesop": 5000.0},
}


def run_folder(root: Path, readings: dict[str, float], iterations: int = 400, **train: Any) -> Path:
    raw = {
        "name": "run", "stage": "adversarial", "device": "cpu", "network_g": {"type": "RRDBNet"},
        "network_d": {"type": "UNetDiscriminatorSN"}, "datasets": {"train": {"dataroot_gt": "photos", "gt_size": 64}},
        "path": {"experiments_root": str(root), "pretrain_network_g": "psnr.safetensors"},
        "train": {"total_iter": iterations, "ema_decay": 0.98, **GAN, **train},
    }  # fmt: skip
    config, _ = build_config(raw, "test")
    folder = root / "run"
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(config.to_yaml())
    rows = [{"iter": k, "l_g_gan": 0.7} for k in (1, iterations)]
    rows += [{"iter": k, **{f"read/{name}": value for name, value in readings.items()}} for k in (1, 100, 200, 300, 400)]
    (folder / "scalars.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows if row["iter"] <= iterations))
    return folder


@pytest.mark.parametrize("cause", FAULTY)
def test_each_cause_is_named_first_with_its_evidence(cause, tmp_path):
    verdict = diagnose(read_run(run_folder(tmp_path, HEALTHY | FAULTY[cause])))
    assert verdict.status == "found"
    first = verdict.findings[0]
    assert first.cause == cause, [finding.cause for finding in verdict.findings]
    assert first.excess >= 1
    assert any(character.isdigit() for character in first.evidence)
    assert "train." in first.change or "network" in first.change or "datasets." in first.change


@pytest.mark.parametrize("cause", [cause for cause in FAULTY if cause.startswith("autoencoder_")])
def test_advice_on_an_autoencoder_fits_a_pipeline_too(cause, tmp_path):
    change = diagnose(read_run(run_folder(tmp_path, HEALTHY | FAULTY[cause]))).findings[0].change
    how, pipeline = change.split(" In a pipeline, ")
    assert how.startswith("Train ")
    assert how.endswith(".")
    assert "stages.autoencoder" in pipeline
    assert pipeline.endswith("otherwise name the new file in train.aesop_opt.autoencoder_load.path.")


@pytest.mark.parametrize(("excess", "words"), [(1.24, "1.2 times past its threshold"), (2831.0, "far past its threshold")])
def test_a_huge_excess_is_not_counted(excess, words):
    assert Finding("blur", "Collapse to blur", excess, "", "").past == words


def test_every_cause_has_a_test():
    assert {*FAULTY, "average_too_slow"} == {cause.name for cause in CAUSES}


def test_a_kernel_that_differs_only_in_smooth_pictures(tmp_path):
    found = diagnose(read_run(run_folder(tmp_path, HEALTHY | {"ae/lr_width": -0.9}))).findings
    assert [finding.cause for finding in found] == ["autoencoder_kernel"]
    assert "sharper" in found[0].evidence


@pytest.mark.parametrize(
    ("reds", "drifts"),
    [
        ((0.0, 0.04, 0.05, 0.06, 0.05), True),
        ((0.0, 0.1, -0.06, 0.12, -0.07), False),  # no direction
        ((0.3, 0.2, 0.05, 0.05, 0.04), False),  # a network from scratch learns its colours
        ((0.0, 0.01, 0.012, 0.01, 0.011), False),  # less than one sees
    ],
)
def test_colours_drift_if_they_are_off_in_one_direction_and_stay_so(reds, drifts, tmp_path):
    folder = run_folder(tmp_path, HEALTHY)
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    for row, red in zip([row for row in rows if "read/psnr" in row], reds, strict=True):
        row["read/colour/r"] = red
    (folder / "scalars.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert [finding.cause for finding in diagnose(read_run(folder)).findings] == ["colour_drift"] * drifts


def test_a_healthy_run_gets_no_alarm(tmp_path):
    verdict = diagnose(read_run(run_folder(tmp_path, HEALTHY)))
    assert verdict.status == "healthy"
    assert verdict.headline == "Healthy"
    assert not verdict.findings


def test_an_average_that_keeps_its_initial_weights(tmp_path):
    behind = HEALTHY | {"psnr": 26.0, "ema/psnr": 20.0}
    found = diagnose(read_run(run_folder(tmp_path / "a", behind, ema_decay=0.9999))).findings
    assert found[0].cause == "average_too_slow"
    assert "96%" in found[0].evidence  # 0.9999 ** 400
    assert not diagnose(read_run(run_folder(tmp_path / "b", HEALTHY, ema_decay=0.999))).findings


def test_too_early_to_say(tmp_path):
    run = run_folder(tmp_path / "a", HEALTHY | FAULTY["gan_drowned"], iterations=30)
    verdict = diagnose(read_run(run))
    assert (verdict.status, verdict.headline) == ("too early", "Too early to say")
    assert any("can be judged after iteration 30" in note for note in verdict.notes)
    # Images and auto-encoders can be judged at once.
    run = run_folder(tmp_path / "b", HEALTHY | FAULTY["swapped_pairs"], iterations=30)
    assert diagnose(read_run(run)).findings[0].cause == "swapped_pairs"


def test_a_run_before_its_first_reading(tmp_path):
    verdict = diagnose(read_run(run_folder(tmp_path, {}, iterations=60)))
    assert (verdict.status, verdict.headline) == ("too early", "Too early to say")
    assert verdict.notes == ["the first reading is taken at iteration 100 (logger.readings_freq)"]


def test_a_run_without_readings_says_what_it_lacks(tmp_path):
    folder = run_folder(tmp_path, {})
    verdict = diagnose(read_run(folder))
    assert verdict.status == "no readings"
    assert "logger.readings_freq" in verdict.notes[0]
    (folder / "faults.jsonl").write_text('{"iter": 6, "skipped": ["l_g_gan"]}\n' * 12 + '{"iter": 4, "went_back": "NaN"}\n')
    assert diagnose(read_run(folder)).findings[0].cause == "learning_rate_high"


def test_broken_and_missing_files(tmp_path):
    folder = run_folder(tmp_path, HEALTHY)
    lines = folder / "scalars.jsonl"
    lines.write_text('not json\n{"iter": "x"}\n' + lines.read_text().replace("0.95", "null") + '{"iter": 500, "read/ps')
    run = read_run(folder)
    assert run.iteration == 400
    assert run.notes == ["2 damaged lines of scalars.jsonl were left out"]
    assert np.isnan(run.late("ae/colour"))
    lines.unlink()
    assert "scalars.jsonl has no values" in diagnose(read_run(folder)).notes[0]
    with pytest.raises(FileNotFoundError, match=r"did you mean .*run"):
        read_run(tmp_path / "rum")
    with pytest.raises(FileNotFoundError, match="it contains the runs run"):
        read_run(tmp_path)
    (folder / "config.yml").write_text("stage: [")
    with pytest.raises(ValueError, match=r"config\.yml"):
        read_run(folder)


def test_the_command_writes_a_page_and_json(tmp_path):
    folder = run_folder(tmp_path, HEALTHY | FAULTY["gan_drowned"])
    for iteration in (100, 200):
        image = folder / "visualization" / f"{iteration:08d}" / "val" / "bird.png"
        image.parent.mkdir(parents=True)
        cv2.imwrite(str(image), np.full((40, 50, 3), iteration, np.uint8))
    result = CliRunner().invoke(app, ["diagnose", str(folder), "--json", str(tmp_path / "verdict.json")])
    assert result.exit_code == 0, result.output
    assert "1. The GAN term is drowned" in result.output
    assert json.loads((tmp_path / "verdict.json").read_text())["findings"][0]["cause"] == "gan_drowned"
    page = (folder / "diagnosis.html").read_text()
    assert page.count("data:image/png") == 2
    assert "Movement of weights" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_a_missing_run_is_one_message(tmp_path):
    result = CliRunner().invoke(app, ["diagnose", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "does not exist" in result.output


def test_weights_bring_the_shares_to_the_recipe(tmp_path):
    shares = recipes()["synthetic"]["shares"]
    assert {"aesop", "artifacts", "gan"} <= shares.keys()
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
    readings = HEALTHY | {"weights/aesop": 2.0, "weights/artifacts": 1e-3, "weights/gan": 5.0}
    found = balance(read_run(run_folder(tmp_path, readings, gan_opt={"loss_weight": 0.5})))
    weights = {each.loss: each.new_weight for each in found.losses}
    # With the new weights, a gradient is as much larger as its weight.
    norms = {each.loss: readings[f"weights/{each.loss}"] * weights[each.loss] / each.weight for each in found.losses}
    for name, norm in norms.items():
        assert norm / norms["aesop"] == pytest.approx(shares[name] / shares["aesop"], rel=1e-6)
    text = "\n".join(described(found))
    assert "gan_opt:" in text
    assert "train.gan_opt.loss_weight=" in text


def test_weights_need_readings(tmp_path):
    with pytest.raises(ValueError, match=r"logger\.readings_freq"):
        balance(read_run(run_folder(tmp_path, {})))
