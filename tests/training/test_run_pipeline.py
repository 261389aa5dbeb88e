"""`aesop pipeline`: which stages are finished, continue, or are refused."""

import signal
from pathlib import Path

import pytest
import yaml
from tiny_runs import RRDB

from aesop.commands.pipeline import dry_run_pipeline, run_pipeline
from aesop.options.pipeline import plan
from aesop.system.signals import Interrupted
from aesop.training import train as training


@pytest.fixture
def pipeline(photos, tmp_path) -> Path:
    """A pipeline of tiny stages that save every iteration."""
    file = tmp_path / "pipeline.yml"
    raw = {
        "name": "run",
        "device": "cpu",
        "network_g": RRDB,
        "path": {"experiments_root": str(tmp_path / "runs")},
        "datasets": {"train": {"dataroot_gt": str(photos), "gt_size": 32, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}},
        "val": {"val_freq": 0},
        "logger": {"save_checkpoint_freq": 1, "use_tb_logger": False},
        "train": {"ema_decay": 0},
        "stages": {
            "psnr": {"train": {"total_iter": 2, "pixel_opt": {"type": "L1Loss"}}},
            "autoencoder": {"train": {"total_iter": 2, "pixel_opt": {"type": "L1Loss"}}},
            "adversarial": {
                "network_d": {"type": "UNetDiscriminatorSN", "num_feat": 4},
                "train": {"total_iter": 1, "aesop_opt": {}, "gan_opt": {}},
            },
        },
    }
    file.write_text(yaml.safe_dump(raw))
    return file


def times(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")}


def test_a_finished_stage_does_not_mind_options_that_decide_nothing(pipeline, tmp_path):
    final = run_pipeline(plan(pipeline))
    before = times(tmp_path / "runs")
    harmless = ["logger.print_freq=7", "val.val_freq=9", "datasets.train.num_worker_per_gpu=1", "device=auto"]
    assert run_pipeline(plan(pipeline, harmless)) == final
    assert times(tmp_path / "runs") == before
    moved = tmp_path / "elsewhere"
    (tmp_path / "runs").rename(moved)
    assert run_pipeline(plan(pipeline, [f"path.experiments_root={moved}"])).is_relative_to(moved)
    assert len(times(moved)) == len(before)


def test_a_finished_stage_with_other_options_says_how_to_keep_it(pipeline, tmp_path):
    run_pipeline(plan(pipeline))
    with pytest.raises(ValueError, match=r"optim_g\.lr: 0\.0001, now 0\.5.*stages\.psnr\.weights=.*_00000002"):
        run_pipeline(plan(pipeline, ["stages.psnr.train.optim_g.lr=0.5"]))
    weights = tmp_path / "runs" / "run" / "1_psnr" / "models" / "net_g_00000002.safetensors"
    run_pipeline(plan(pipeline, [f"stages.psnr.weights={weights}"]))


def test_a_stage_that_would_go_on_from_other_weights_is_refused_before_anything_is_trained(pipeline, tmp_path):
    run_pipeline(plan(pipeline))
    before = times(tmp_path / "runs")
    for changes in (
        ["stages.psnr.train.total_iter=3"],
        ["stages.psnr.train.total_iter=3", "stages.autoencoder.train.total_iter=9"],
    ):
        with pytest.raises(ValueError, match=r"pretrain_network_decoder: .*net_g_00000002.*, now .*net_g_00000003"):
            run_pipeline(plan(pipeline, changes))
        assert times(tmp_path / "runs") == before


def test_a_dry_run_is_short_and_finds_what_the_run_would(pipeline, tmp_path):
    lines, faults = dry_run_pipeline(plan(pipeline))
    assert not faults
    assert len(lines) < 120
    assert "  total_iter: 2" in lines
    assert not any("max_rollbacks" in line for line in lines)  # a default
    run_pipeline(plan(pipeline))
    lines, faults = dry_run_pipeline(plan(pipeline))
    assert not faults
    assert sum(line.startswith("finished, uses ") for line in lines) == 3
    _, (of_autoencoder, of_gan) = dry_run_pipeline(plan(pipeline, ["stages.psnr.train.total_iter=3"]))
    assert "autoencoder: " in of_autoencoder
    assert 'net_g_00000002.safetensors", now' in of_autoencoder
    assert "adversarial: " in of_gan


def test_an_interrupted_pipeline_says_that_the_same_command_continues(pipeline, tmp_path, monkeypatch, caplog):
    """On the screen and, without a traceback, in train.log."""
    caplog.set_level("INFO", "aesop")
    numbers = iter([0, 0, signal.SIGINT])  # after the auto-encoder's first iteration
    monkeypatch.setattr(training, "agreed_signal", lambda *_: next(numbers, 0))
    with pytest.raises(Interrupted) as stop:
        run_pipeline(plan(pipeline))
    assert str(stop.value) == "stopped by SIGINT after iteration 1; the state is saved, the same command continues"
    text = (tmp_path / "runs" / "run" / "2_autoencoder" / "train.log").read_text()
    assert text.splitlines()[-1].endswith(f"INFO {stop.value}")
    assert "Traceback" not in text
    caplog.clear()
    run_pipeline(plan(pipeline))
    stages = [message for message in caplog.messages if message.startswith(("stage", "starting", "continuing"))]
    assert stages[0].startswith("stage 1 of 3, psnr: already finished, using ")
    assert stages[1] == "stage 2 of 3, autoencoder: continuing"
    assert stages[2].startswith("continuing from ")
    assert stages[3:] == ["stage 3 of 3, adversarial: starting", "starting at iteration 1"]


def test_a_stage_may_be_lengthened_if_nothing_follows_from_it_yet(pipeline, tmp_path):
    run_pipeline(plan(pipeline))
    final = run_pipeline(plan(pipeline, ["stages.adversarial.train.total_iter=2"]))
    assert final.name == "net_g_00000002.safetensors"
