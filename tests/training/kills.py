"""The kill harness: real `aesop train` processes, killed at chosen kinds of moments, started again with `--resume`.

A run that was killed any number of times has to end with the state (weights, EMA, moments, pool) and the log of the run
that was left alone. Used by test_interruption.py, and with more kills by benchmarks/robustness.py.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from aesop.archs import build_network
from aesop.training.checkpoint import states
from aesop.weights.save import save_weights

TOTAL = 40  # iterations of a run
FREQUENCY = 5  # iterations between checkpoints
VALIDATION = 7
STAGES = ("psnr", "autoencoder", "adversarial", "realworld")
MOMENTS = ("a step", "a validation", "the writing of a checkpoint", "the start")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 120.0
RRDB = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 4}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "scale": 4, "dec_opt": RRDB}


@dataclass
class Survived:
    """What was done to a run, and what it cost."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By moment and signal."""
    runs: int = 0
    """How many were killed, and ended as the one left alone."""
    starts: int = 0
    repeated: list[int] = field(default_factory=list)
    """Steps that had been made and were not in the state found, at each kill."""
    missed: int = 0
    """Signals that came too late: the run had ended."""


def write_photos(folder: Path) -> None:
    """Six smooth random colour images of 72x80 pixels, with detail."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(6):
        coarse = cv2.resize(rng.random((9, 10, 3)).astype(np.float32), (80, 72), interpolation=cv2.INTER_CUBIC)
        image = np.clip(coarse + 0.1 * rng.standard_normal((72, 80, 3)), 0, 1)
        cv2.imwrite(str(folder / f"photo_{k}.png"), (image * 255).astype(np.uint8))


def recipe(stage: str, photos: Path, root: Path, name: str, total_iter: int) -> Path:
    """An option file of a tiny training with loaders, validation and frequent checkpoints."""
    raw = {
        "name": name,
        "stage": "psnr" if stage == "realworld" else stage,
        "device": "cpu",
        "network_g": AUTOENCODER if stage == "autoencoder" else RRDB,
        "datasets": {
            "train": {"dataroot_gt": str(photos), "gt_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 1},
            "val": {"dataroot_gt": str(photos)},
        },
        "path": {"experiments_root": str(root), "from_scratch": True},
        "train": {"total_iter": total_iter, "optim_g": {"lr": 1e-3}},
        "val": {
            "val_freq": VALIDATION,
            "save_img": True,
            "metrics": {"psnr": {}, "ssim": {}},
            "front": {"distortion": "psnr", "perception": "ssim"},
            "early_stop": {"patience": TOTAL},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": FREQUENCY, "use_tb_logger": False},
    }
    if stage == "adversarial":
        autoencoder = root / "ae.safetensors"
        torch.manual_seed(1)
        save_weights(autoencoder, build_network(AUTOENCODER).state_dict(), {"network": json.dumps(AUTOENCODER)})
        raw["network_d"] = {"type": "UNetDiscriminatorSN", "num_feat": 4}
        raw["train"] |= {"gan_opt": {}, "artifacts_opt": {}, "optim_d": {"lr": 1e-3}}
        raw["train"]["aesop_opt"] = {"autoencoder_load": {"path": str(autoencoder)}}
    else:
        raw["train"]["pixel_opt"] = {"type": "L1Loss"}
    if stage == "autoencoder":
        raw["train"]["freeze_decoder"] = total_iter // 2
    if stage == "realworld":
        raw["datasets"]["train"] |= {"type": "RealESRGANDataset", "gt_size": 32}
        raw["degradation"] = {"crop_pad_size": 64, "queue_size": 8, "blur_kernel_size": 7, "blur_kernel_size2": 7}
        raw["degradation"] |= {"resize_range": [0.5, 1.5], "resize_range2": [0.5, 1.2]}
    path = root / f"{name}.yml"
    path.write_text(yaml.safe_dump(raw))
    return path


def start(config: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "aesop", "train", str(config), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def steps_done(folder: Path) -> int:
    """The last iteration that the run has logged."""
    log = folder / "scalars.jsonl"
    whole = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")] if log.exists() else []
    return json.loads(whole[-1])["iter"] if whole else 0


def log_file(folder: Path) -> int:
    """Which file the log is: a run that goes on begins with a new one."""
    log = folder / "scalars.jsonl"
    return log.stat().st_ino if log.exists() else 0


def wait_for(moment: str, folder: Path, process: subprocess.Popen, former_log: int, after: int, draw: random.Random) -> None:
    """Until the run is beyond iteration `after` and in the middle of what `moment` says, or has ended."""
    deadline = time.monotonic() + PATIENCE
    if moment == "the start":
        time.sleep(draw.uniform(0, 4))
        return
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {moment} in {PATIENCE} s after iteration {after}")
        if log_file(folder) != former_log and steps_done(folder) > after:
            break
        time.sleep(0.01)
    pictures = set((folder / "visualization").glob("*"))
    while process.poll() is None and time.monotonic() < deadline:
        if moment == "a step":
            time.sleep(draw.uniform(0, 0.1))
            return
        if moment == "a validation" and set((folder / "visualization").glob("*")) - pictures:
            time.sleep(draw.uniform(0, 0.02))
            return
        if moment == "the writing of a checkpoint" and any((folder / "state").glob(".*.tmp")):
            time.sleep(draw.uniform(0, 0.01))
            return
        time.sleep(0.0005)


def survive(config: Path, folder: Path, kills: int, draw: random.Random, survived: Survived) -> None:
    """Kill the run until it is done, or there were so many kills in all; then let it end.

    Raises:
        AssertionError: when a state was unreadable, more than FREQUENCY steps were lost, or a signal was not answered.
    """
    while survived.kills.total() < kills:
        done = max((int(state.name) for state in states(folder / "state")), default=0)
        if done >= TOTAL:
            break
        former_log = log_file(folder)
        process = start(config, "--resume")
        survived.starts += 1
        moment, number = draw.choice(MOMENTS), draw.choice(SIGNALS)
        wait_for(moment, folder, process, former_log, done + draw.randint(0, 3), draw)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=PATIENCE)
        assert "cannot be used" not in output, f"an unreadable state:\n{output}"
        if process.returncode == 0:
            survived.missed += 1
            continue
        survived.kills[moment, number.name] += 1
        newest = max((int(state.name) for state in states(folder / "state")), default=0)
        if number == signal.SIGKILL:
            assert process.returncode == -number, output
        elif "the state is saved" in output:
            assert process.returncode == 128 + number, f"{number.name}, code {process.returncode}:\n{output}"
            assert f"after iteration {newest};" in " ".join(output.split()), output
        else:  # before its loop is entered and after it is left, a signal has its usual effect
            assert moment == "the start" or newest == TOTAL, output
            assert process.returncode in (-number, 128 + number), f"{number.name}, code {process.returncode}:\n{output}"
        survived.repeated.append(steps_done(folder) - newest)
        assert survived.repeated[-1] <= FREQUENCY, f"{survived.repeated[-1]} steps lost"
    process = start(config, "--resume")
    survived.starts += 1
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "cannot be used" not in output, output


def assert_as_if_undisturbed(folder: Path, undisturbed: Path) -> None:
    """The same tensors in all files of the last state and of the front, the same progress, the same lines in the log."""
    first, second = (path / "state" / f"{TOTAL:08d}" for path in (undisturbed, folder))
    names = sorted(file.name for file in first.glob("*.safetensors"))
    assert names == sorted(file.name for file in second.glob("*.safetensors"))
    assert "optimizer_g.safetensors" in names
    known = [json.loads((state / "state.json").read_text()) for state in (first, second)]
    for key in ("best", "front", "without_news", "validated"):
        assert known[0][key] == known[1][key], key
    assert known[0]["front"]
    front = [f"../../models/front/net_g_{entry['iteration']:08d}.safetensors" for entry in known[0]["front"]]
    for name in [*names, *front]:
        a, b = load_file(first / name), load_file(second / name)
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), f"{name}: {key}"
    assert (undisturbed / "scalars.jsonl").read_text() == (folder / "scalars.jsonl").read_text()


def kill_runs(root: Path, kills: int, seed: int, stages: tuple[str, ...] = STAGES) -> dict[str, Survived]:
    """For each stage: a run left alone, and as many as take its share of the kills; they have to end the same."""
    photos = root / "photos"
    write_photos(photos)
    found = {}
    for number, stage in enumerate(stages):
        share = kills // len(stages) + (number < kills % len(stages))
        undisturbed = recipe(stage, photos, root, f"{stage}_undisturbed", TOTAL)
        process = start(undisturbed)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        found[stage], draw = Survived(), random.Random(f"{seed} {stage}")
        while found[stage].kills.total() < share:
            name = f"{stage}_{found[stage].runs}"
            survive(recipe(stage, photos, root, name, TOTAL), root / name, share, draw, found[stage])
            assert_as_if_undisturbed(root / name, root / f"{stage}_undisturbed")
            found[stage].runs += 1
    return found
