"""Real training processes that get signals, are killed, or find a damaged state: nothing is lost."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from damage import damage_states
from kills import STAGES, kill_runs, start
from tiny_runs import options, run

from aesop.options.read import build_config
from aesop.system.distributed import World
from aesop.training.build_stage import build_stage
from aesop.training.checkpoint import load_state, states
from aesop.weights.errors import WeightsError

TOTAL = 40


def write(photos: Path, root: Path, name: str, **changes) -> Path:
    raw = options("psnr", photos, root, TOTAL, name)
    raw["network_g"] = {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
    raw["datasets"]["train"] |= {"gt_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 1}
    raw["val"]["val_freq"] = 10
    raw["logger"]["save_checkpoint_freq"] = 5
    path = root / f"{name}.yml"
    path.write_text(yaml.safe_dump(raw | changes))
    return path


def wait_for_step(folder: Path, process: subprocess.Popen, step: int) -> None:
    """Until the run has logged that step."""
    for _ in range(1200):
        log = folder / "scalars.jsonl"
        if process.poll() is not None or (log.exists() and f'"iter": {step},' in log.read_text()):
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was never reached")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_saves_the_state_and_leaves_with_its_code(number, photos, tmp_path):
    """The whole group gets it, loaders included, as Ctrl-C and a cluster's pre-emption send it."""
    config = write(photos, tmp_path, "stopped")
    process = start(config, f"train.total_iter={10**6}", "logger.save_checkpoint_freq=1000000", "val.val_freq=0")
    folder = tmp_path / "stopped"
    wait_for_step(folder, process, 3)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert f"stopped by {number.name} after iteration" in output
    assert "--resume continues" in output
    (state,) = states(folder / "state")
    assert f"after iteration {int(state.name)};" in " ".join(output.split())
    assert "Traceback" not in output
    log = (folder / "train.log").read_text()
    assert f"INFO stopped by {number.name} after iteration {int(state.name)}; the state is saved, --resume" in log
    assert "ERROR" not in log
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_moments_it_ends_as_the_undisturbed_run(stage, tmp_path):
    """SIGKILL, SIGTERM and SIGINT, at the start, in steps, validations and while checkpoints are written."""
    kills, seed = (int(os.environ.get(name, usual)) for name, usual in (("AESOP_KILLS", "2"), ("AESOP_KILL_SEED", "0")))
    survived = kill_runs(tmp_path, kills, seed, (stage,))[stage]
    assert survived.kills.total() + survived.missed > 0


@pytest.mark.parametrize("stage", ["psnr", "realworld"])
def test_a_state_damaged_at_any_byte_is_refused_and_the_one_before_is_used(stage, tmp_path):
    tried = damage_states(tmp_path, int(os.environ.get("AESOP_DAMAGES", "60")), 0, stage)
    names = {file for file, _ in tried}
    assert names >= {"net_g.safetensors", "net_g_ema.safetensors", "optimizer_g.safetensors", "state.json"}
    assert ("pool_0.safetensors" in names) == (stage == "realworld")


def test_a_state_with_a_missing_file_is_refused(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 2)
    run(raw)
    config, _ = build_config(raw, "test")
    newest = tmp_path / "run" / "state" / "00000002"
    (newest / "net_g.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"net_g.safetensors cannot be read"):
        load_state(newest, build_stage(config, World()), config)
