"""Real training processes that get signals, are killed, or find a damaged state: nothing is lost."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_train import options, run

from aesop.engine.checkpoint import load_newest_state, load_state, states
from aesop.engine.distributed import World
from aesop.engine.stages import build_stage
from aesop.option_file import build_config
from aesop.weights import WeightsError

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


def start(config: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "aesop", "train", str(config), *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_step(folder: Path, process: subprocess.Popen, step: int) -> None:
    """Until the run has logged that step."""
    for _ in range(1200):
        log = folder / "scalars.jsonl"
        if process.poll() is not None or (log.exists() and f'"iter": {step},' in log.read_text()):
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was never reached")


def final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    state = folder / "state" / f"{TOTAL:08d}"
    return {f"{file.stem}/{k}": v for file in state.glob("*.safetensors") for k, v in load_file(file).items()}


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    assert len(first) > 0
    for key in first:
        assert torch.equal(first[key], second[key]), key


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


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_weights_of_the_undisturbed_run(photos, tmp_path):
    """SIGKILL, SIGTERM and SIGINT, in steps, validations and while checkpoints are written."""
    undisturbed = write(photos, tmp_path, "undisturbed")
    assert start(undisturbed).wait(timeout=120) == 0
    config = write(photos, tmp_path, "killed")
    folder = tmp_path / "killed"
    draw = random.Random(int(os.environ.get("AESOP_KILL_SEED", "0")))
    begun = time.perf_counter()
    for _ in range(int(os.environ.get("AESOP_KILLS", "6"))):
        done = [int(state.name) for state in states(folder / "state")]
        if TOTAL in done:
            break
        process = start(config, "--resume")
        step = max(done, default=0) + draw.randint(1, 6)
        wait_for_step(folder, process, step) if draw.random() < 0.8 else time.sleep(draw.random() * 4)
        time.sleep(draw.random() * 0.2)
        number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.communicate(timeout=60)
        for state in states(folder / "state"):
            assert json.loads((state / "state.json").read_text())["iteration"] == int(state.name)
    assert time.perf_counter() - begun > 1
    finishing = start(config, "--resume")
    output, _ = finishing.communicate(timeout=120)
    assert finishing.returncode == 0, output
    assert "cannot be used" not in output  # no checkpoint was ever unreadable
    assert_same(final_tensors(folder), final_tensors(tmp_path / "undisturbed"))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_state_damaged_at_any_byte_is_refused_and_the_one_before_is_used(damage, photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 4)
    raw["network_g"] = {"type": "RRDBNet", "num_feat": 4, "num_block": 1, "num_grow_ch": 2}
    raw["val"]["val_freq"] = 0
    run(raw)
    config, _ = build_config(raw, "test")
    stage = build_stage(config, World())
    folder = tmp_path / "run" / "state"
    newest = folder / "00000004"
    assert load_state(newest, stage, config).iteration == 4
    draw = random.Random(0)
    for file in sorted(newest.iterdir()):
        whole = file.read_bytes()
        for place in [0, 1, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(12))]:
            flipped = whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
            file.write_bytes(whole[:place] if damage == "cut" else flipped)
            with pytest.raises(WeightsError, match=r"damaged|no complete state folder"):
                load_state(newest, stage, config)
        progress, used, notes = load_newest_state(folder, stage, config)
        assert (progress.iteration, used) == (2, folder / "00000002")
        assert str(newest) in notes[0]
        assert "trying the one before it" in notes[0]
        file.write_bytes(whole)
    assert load_state(newest, stage, config).iteration == 4
    (newest / "net_g.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"net_g.safetensors cannot be read"):
        load_state(newest, stage, config)
