"""Steps of NaN, full disks, images and loader processes that go, memory that runs out: a training survives or says why.

Started by torchrun as a script, this file is a training of several processes, of which the second one gets batches of NaN.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tiny_runs import all_tensors, options, run
from torch import Tensor

from aesop.data.loader import LoaderDied, batches
from aesop.data.training_crops import TrainingCrops, image_number
from aesop.options.datasets import TrainDataset
from aesop.options.read import build_config, load_config
from aesop.system.distributed import World
from aesop.system.signals import Interrupted
from aesop.training import checkpoint, validation
from aesop.training import train as training
from aesop.training.build_stage import build_stage
from aesop.training.checkpoint import refuse_broken_weights
from aesop.training.stage import Stage


def small(stage: str, photos: Path, root: Path, total_iter: int, name: str = "run", **train_options) -> dict:
    raw = options(stage, photos, root, total_iter, name, **train_options)
    if stage != "autoencoder":
        raw["network_g"] = {"type": "RRDBNet", "num_feat": 4, "num_block": 1, "num_grow_ch": 2}
    raw["datasets"]["train"] |= {"gt_size": 16, "batch_size_per_gpu": 2}
    raw["val"]["val_freq"] = 0
    return raw


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- NaN ---------------------------------------------------------------------------------------------------------------


def stage_of(kind: str, photos: Path, root: Path) -> Stage:
    raw = small(kind, photos, root, 10)
    if kind == "adversarial":
        raw["network_d"] = {"type": "VGGStyleDiscriminator128", "num_feat": 2}
        raw["datasets"]["train"]["gt_size"] = 128
    torch.manual_seed(0)
    return build_stage(build_config(raw, "test")[0], World())


def content(stage: Stage) -> dict[str, Tensor]:
    found = {f"{name}/{key}": t.clone() for name, net in stage.networks.items() for key, t in net.state_dict().items()}
    for name, optimizer in stage.optimizers.items():
        for number, entry in optimizer.state_dict()["state"].items():
            found |= {f"{name}/{number}/{key}": value.clone() for key, value in entry.items()}
    return found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["psnr", "autoencoder", "adversarial"])
def test_a_step_of_nan_leaves_everything_as_it_was(kind, value, photos, tmp_path):
    stage = stage_of(kind, photos, tmp_path)
    side = 128 if kind == "adversarial" else 32
    lq, gt = torch.rand(2, 3, side // 4, side // 4), torch.rand(2, 3, side, side)
    stage.step(lq, gt, 1)
    assert stage.skipped == 0
    before = content(stage)
    bad_lq, bad_gt = lq.clone(), gt.clone()
    bad_lq[1, 0, 3, 3] = bad_gt[1, 0, 3, 3] = value
    stage.step(bad_lq, bad_gt, 2)
    assert stage.skipped == 1
    after = content(stage)
    assert after.keys() == before.keys()
    for name in before:
        if name.startswith("net_g_ema/"):
            assert after[name].isfinite().all()  # goes on towards net_g
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(before[name], after[name]), name
    scalars = stage.step(lq, gt, 3)
    assert stage.skipped == 0
    assert all(value.isfinite() for value in scalars.values())
    moved = content(stage)
    for name, optimizer in stage.optimizers.items():
        assert any(not torch.equal(moved[key], after[key]) for key in after if key.startswith(f"{name}/"))
        assert {entry["step"].item() for entry in optimizer.state_dict()["state"].values()} == {2}


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return grads[0] * float("nan")


def test_a_gradient_of_nan_under_a_finite_loss_is_skipped_too(photos, tmp_path):
    stage = stage_of("psnr", photos, tmp_path)
    term, before = stage.terms["pixel_opt"], content(stage)
    stage.terms["pixel_opt"] = replace(term, loss=lambda sr, gt: term.loss(_NoGradient.apply(sr), gt))
    scalars = stage.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), 1)
    assert scalars["l_pix"].isfinite()
    assert stage.skipped == 1
    after = content(stage)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("net_g/"))


def test_an_infinite_loss_with_a_finite_gradient_is_skipped_too(photos, tmp_path):
    stage = stage_of("psnr", photos, tmp_path)
    term, before = stage.terms["pixel_opt"], content(stage)
    stage.terms["pixel_opt"] = replace(term, loss=lambda sr, gt: term.loss(sr, gt) + float("inf"))
    stage.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), 1)
    assert stage.skipped == 1
    after = content(stage)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("net_g/"))


class Spoiler:
    """Takes the place of `to_device` in the training loop: batches of chosen iterations arrive as NaN."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spoils):
        self.real, self.spoils, self.seen = training.to_device, spoils, []
        monkeypatch.setattr(training, "to_device", self)

    def __call__(self, batch: Tensor, device: torch.device) -> Tensor:
        images = self.real(batch, device)
        self.seen.append(images.sum().item())
        return images * float("nan") if self.spoils(len(self.seen)) else images


# `to_device` moves gt, then lq: calls 2 i - 1 and 2 i belong to iteration i.
def at(*iterations: int):
    return lambda call: (call + 1) // 2 in iterations


def test_a_skipped_step_is_counted_and_its_images_named(photos, tmp_path, monkeypatch, caplog):
    raw = small("psnr", photos, tmp_path, 12)
    Spoiler(monkeypatch, at(5, 6, 11))
    run(raw)
    rows = lines(tmp_path / "run" / "faults.jsonl")
    assert [row["iter"] for row in rows] == [5, 6, 11]
    assert all(row["skipped"] == ["l_pix"] for row in rows)
    # Six images, two a step: steps 4 to 6 are the second epoch, in which every image comes once.
    crops = TrainingCrops(TrainDataset(**raw["datasets"]["train"]), 4, 0)
    assert len(set(rows[0]["images"] + rows[1]["images"])) == 4
    for row in rows:
        pictures = {name: (photos / f"{name}.png").is_file() for name in row["images"]}
        assert all(pictures.values())
    assert crops.pairs[0].name in {f"photo_{k}" for k in range(6)}
    assert "l_pix is NaN or infinite at iteration 5, with photo_" in caplog.text
    assert "skipping the step (3 skipped so far)" in caplog.text
    state = json.loads((tmp_path / "run" / "state" / "00000012" / "state.json").read_text())
    assert (state["skipped"], state["in_a_row"], state["rollbacks"]) == (3, 0, 0)
    scalars = lines(tmp_path / "run" / "scalars.jsonl")
    assert [row["l_pix"] is None for row in scalars] == [k in (5, 6, 11) for k in range(1, 13)]


def test_the_images_named_are_those_that_were_loaded(photos, tmp_path, monkeypatch):
    """Photographs of one grey level each: a sample tells which one it is of."""
    for k, file in enumerate(sorted(photos.iterdir())):
        import cv2
        import numpy as np

        cv2.imwrite(str(file), np.full((32, 32, 3), 10 * k, np.uint8))
    spoiler = Spoiler(monkeypatch, at(2, 4))
    run(small("psnr", photos, tmp_path, 5))
    for row in lines(tmp_path / "run" / "faults.jsonl"):
        levels = sum(10 * int(name.removeprefix("photo_")) for name in row["images"])
        assert spoiler.seen[2 * row["iter"] - 2] == pytest.approx(levels / 255 * 3 * 16 * 16, rel=1e-4)


def test_skipped_steps_resume_exactly(photos, tmp_path, monkeypatch):
    made = {}
    for name, stops in (("whole", [8]), ("parts", [2, 5, 8])):
        done = 0
        for stop in stops:
            Spoiler(monkeypatch, at(*(k - done for k in (3, 4, 6))))
            raw = small("psnr", photos, tmp_path, 8, name, max_skipped=4) | {"name": name}
            raw["train"]["total_iter"] = stop
            raw["logger"]["save_checkpoint_freq"] = 100
            run(raw, resume=stop > stops[0])
            monkeypatch.undo()
            done = stop
        folder = tmp_path / name
        made[name] = (
            all_tensors(folder / "state" / "00000008"),
            lines(folder / "faults.jsonl"),
            lines(folder / "scalars.jsonl"),
        )
    (first, *logs), (second, *others) = made.values()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert logs == others


def test_too_many_in_a_row_go_back_to_the_last_state_and_on_with_other_samples(photos, tmp_path, monkeypatch, caplog):
    raw = small("psnr", photos, tmp_path, 14, max_skipped=3)
    raw["logger"]["save_checkpoint_freq"] = 4
    spoiler = Spoiler(monkeypatch, at(6, 7, 8, 9, 10))  # noticed at iteration 8, before it is saved: 9 and 10 are 5 and 6
    run(raw)
    rows = lines(tmp_path / "run" / "faults.jsonl")
    assert [row["iter"] for row in rows] == [6, 7, 8, 4, 5, 6]
    assert "3 consecutive steps were skipped" in rows[3]["went_back"]
    assert "rolling back to iteration 4 and continuing with other samples" in caplog.text
    assert [row["iter"] for row in lines(tmp_path / "run" / "scalars.jsonl")] == list(range(1, 15))
    state = json.loads((tmp_path / "run" / "state" / "00000014" / "state.json").read_text())
    assert (state["skipped"], state["rollbacks"]) == (2, 1)
    assert spoiler.seen[8:16:2] != spoiler.seen[16:24:2]  # the HR of iterations 5 to 8, before and after

    again = small("psnr", photos, tmp_path, 16, max_skipped=3)
    later = Spoiler(monkeypatch, at())
    run(again, resume=True)
    monkeypatch.undo()
    straight = small("psnr", photos, tmp_path, 16, "straight")
    plain = Spoiler(monkeypatch, at())
    run(straight)
    assert later.seen != plain.seen[28:]  # the other samples go on after --resume


def test_it_stops_when_going_back_does_not_help(photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 40, max_skipped=2, max_rollbacks=2)
    Spoiler(monkeypatch, lambda call: call > 9)
    with pytest.raises(FloatingPointError, match=r"already rolled back to iteration 4 2 times\. Lower train.optim_g.lr"):
        run(raw)
    assert sum("went_back" in row for row in lines(tmp_path / "run" / "faults.jsonl")) == 2
    assert all(t.isfinite().all() for t in all_tensors(tmp_path / "run" / "state" / "00000004").values())


def test_without_a_state_to_go_back_to_it_says_so(photos, tmp_path, monkeypatch):
    Spoiler(monkeypatch, lambda call: True)
    raw = small("psnr", photos, tmp_path, 40, max_skipped=2)
    raw["logger"]["save_checkpoint_freq"] = 30
    with pytest.raises(FloatingPointError, match=r"l_pix is NaN .* with photo_\d.* no good state to roll back to"):
        run(raw)


def test_a_state_saved_among_skipped_steps_is_not_gone_back_to(photos, tmp_path, monkeypatch, caplog):
    """Weights that blew up may be finite: what comes after the last good step is no checkpoint."""
    raw = small("psnr", photos, tmp_path, 12, max_skipped=4)
    Spoiler(monkeypatch, at(5, 6, 7, 8))
    real = Stage.set_learning_rate

    def signal_in_the_streak(self: Stage, iteration: int) -> float:
        if iteration == 7 and "stopped" not in caplog.text:
            os.kill(os.getpid(), signal.SIGUSR1)
            caplog.handler.stream.write("stopped")
        return real(self, iteration)

    monkeypatch.setattr(Stage, "set_learning_rate", signal_in_the_streak)
    with pytest.raises(Interrupted):
        run(raw)
    assert "not saving iteration 6, because the last steps were skipped" in caplog.text
    assert [path.name for path in sorted((tmp_path / "run" / "state").iterdir())] == ["00000002", "00000004", "00000007"]
    monkeypatch.undo()
    Spoiler(monkeypatch, at(1))  # iteration 8
    run(raw, resume=True)
    assert "00000007 was saved while steps were skipped, trying the one before it" in caplog.text
    assert "rolling back to iteration 4" in caplog.text


def test_a_run_does_not_end_with_skipped_steps(photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 8)
    Spoiler(monkeypatch, at(7, 8))
    run(raw)
    rows = lines(tmp_path / "run" / "faults.jsonl")
    assert rows[-1] == {"iter": 6, "went_back": "the last 2 steps were skipped"}
    state = json.loads((tmp_path / "run" / "state" / "00000008" / "state.json").read_text())
    assert (state["rollbacks"], state["in_a_row"]) == (1, 0)


def test_the_last_steps_of_a_run_without_states_do_not_cost_it(photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 6)
    raw["logger"]["save_checkpoint_freq"] = 100
    Spoiler(monkeypatch, at(6))
    with pytest.raises(FloatingPointError, match="the last 1 steps were skipped"):
        run(raw)
    assert (tmp_path / "run" / "models" / "net_g_00000006.safetensors").is_file()
    assert run(raw, resume=True).is_file()


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_as_many_states_are_kept_as_asked_for(keep, photos, tmp_path):
    raw = small("psnr", photos, tmp_path, 7)
    raw["logger"] |= {"save_checkpoint_freq": 1, "keep_states": keep}
    run(raw)
    assert len(list((tmp_path / "run" / "state").iterdir())) == keep


def test_the_only_good_state_outlives_one_saved_among_skipped_steps(photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 12, max_skipped=4)
    raw["logger"]["keep_states"] = 1
    Spoiler(monkeypatch, at(5, 6, 7))
    real = Stage.set_learning_rate

    def signal_in_the_streak(self: Stage, iteration: int) -> float:
        if iteration == 7:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(self, iteration)

    monkeypatch.setattr(Stage, "set_learning_rate", signal_in_the_streak)
    with pytest.raises(Interrupted):
        run(raw)
    assert sorted(path.name for path in (tmp_path / "run" / "state").iterdir()) == ["00000004", "00000007"]


@pytest.mark.parametrize("frequency", [1, 3])
def test_a_signal_is_obeyed_at_a_checkpoint_too(frequency, photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 12)
    raw["logger"]["save_checkpoint_freq"] = frequency
    real = Stage.set_learning_rate

    def interrupt(self: Stage, iteration: int) -> float:
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(self, iteration)

    monkeypatch.setattr(Stage, "set_learning_rate", interrupt)
    with pytest.raises(Interrupted, match="after iteration 3;"):
        run(raw)


def test_what_a_killed_process_left_is_cleared(photos, tmp_path):
    run(small("psnr", photos, tmp_path, 2))
    left = tmp_path / "run" / "state" / ".00000004.123.tmp"
    left.mkdir()
    (tmp_path / "run" / "models" / ".net_g_00000004.123.tmp.safetensors").write_bytes(b"half")
    run(small("psnr", photos, tmp_path, 4), resume=True)
    assert not [path for path in (tmp_path / "run").rglob(".*")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_that_cannot_be_written_does_not_end_a_run(photos, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.log").symlink_to("/dev/full")
    assert run(small("psnr", photos, tmp_path, 2)).is_file()


def test_a_network_with_nan_in_it_is_never_saved(photos, tmp_path, monkeypatch):
    """As a fault of the device would leave it; the run goes back, and on."""
    raw, broken = small("psnr", photos, tmp_path, 6), []

    def break_it(stage: Stage, iteration: int) -> None:
        if iteration == 4 and not broken:
            broken.append(next(stage.net_g.parameters()).data.flatten()[0].fill_(float("nan")))
        refuse_broken_weights(stage, iteration)

    monkeypatch.setattr(checkpoint, "refuse_broken_weights", break_it)
    run(raw)
    assert "net_g has NaN or infinite weights at iteration 4" in (tmp_path / "run" / "train.log").read_text()
    assert all(t.isfinite().all() for t in all_tensors(tmp_path / "run" / "state" / "00000006").values())


@pytest.mark.slow
def test_several_processes_skip_and_go_back_together(photos, tmp_path):
    raw = small("psnr", photos, tmp_path, 14, max_skipped=3)
    raw["logger"]["save_checkpoint_freq"] = 4
    raw["datasets"]["train"]["batch_size_per_gpu"] = 1
    file = tmp_path / "run.yml"
    file.write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = lines(tmp_path / "run" / "faults.jsonl")
    assert [row["iter"] for row in rows] == [2, 6, 7, 8, 4]
    images = TrainingCrops(TrainDataset(**raw["datasets"]["train"]), 4, 0)
    for row in rows[:4]:
        assert row["skipped"] == ["l_pix"]
        second = 2 * (row["iter"] - 1) + 1  # the sample that the second process had
        assert row["images"] == [images.pairs[image_number(0, second, 6)].name]
    state = json.loads((tmp_path / "run" / "state" / "00000014" / "state.json").read_text())
    assert (state["skipped"], state["in_a_row"], state["rollbacks"]) == (1, 0, 1)


# --- loader processes and images ---------------------------------------------------------------------------------------


def dataset(photos: Path, workers: int) -> tuple[TrainingCrops, TrainDataset]:
    crops = TrainDataset(dataroot_gt=str(photos), gt_size=16, batch_size_per_gpu=2, num_worker_per_gpu=workers)
    return TrainingCrops(crops, 4, 0), crops


def test_a_killed_loader_process_costs_nothing(photos, caplog):
    images, crops = dataset(photos, 2)
    with batches(images, dataset(photos, 0)[1], 3, 30) as source:
        undisturbed = list(source)
    others, got = set(multiprocessing.active_children()), []
    with batches(images, crops, 3, 30) as source:
        for batch in source:
            got.append(batch)
            if len(got) in (1, 20):
                (victim, *_) = set(multiprocessing.active_children()) - others
                victim.kill()
                time.sleep(0.2)  # the signal of its end arrives here, in the main program, and must not raise
    assert len(got) == 28
    for a, b in zip(undisturbed, got, strict=True):
        assert torch.equal(a["gt"], b["gt"])
        assert torch.equal(a["lq"], b["lq"])
    assert "a loader process was ended by the system" in caplog.text
    assert "lower datasets.train.num_worker_per_gpu (now 2)" in caplog.text


class _Faulty(torch.utils.data.Dataset):
    def __getitem__(self, index: int) -> dict:
        raise RuntimeError("a DataLoader worker is not at fault")


def test_an_error_in_a_loader_process_is_not_taken_for_its_end(photos):
    with batches(_Faulty(), dataset(photos, 1)[1], 1, 9) as source, pytest.raises(RuntimeError, match="is not at fault"):
        next(source)


def test_loader_processes_that_are_killed_while_they_hand_on_a_batch(photos):
    """Wherever it is hit: in a queue, before it, in a file that is shared."""
    images, crops = dataset(photos, 2)
    with batches(images, dataset(photos, 0)[1], 1, 60) as source:
        undisturbed = [batch["gt"].sum() for batch in source]
    others, got = set(multiprocessing.active_children()), []
    with batches(images, crops, 1, 60) as source:
        for batch in source:
            got.append(batch["gt"].sum())
            if len(got) in (3, 17, 31, 45):
                (victim, *_) = set(multiprocessing.active_children()) - others
                victim.kill()
    assert got == undisturbed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyTorch's iterator, not fully made
def test_loaders_that_cannot_all_be_started_leave_none_behind(photos, monkeypatch):
    monkeypatch.setattr("aesop.data.loader.MOST_DEATHS", 0)
    real, begun = multiprocessing.process.BaseProcess.start, []

    def start(self) -> None:
        begun.append(self)
        if len(begun) == 2:
            raise OSError(12, "Cannot allocate memory")
        real(self)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start)
    images, crops = dataset(photos, 2)
    with batches(images, crops, 1, 9) as source, pytest.raises(LoaderDied, match="before iteration 1 "):
        next(source)
    assert not begun[0].is_alive()


class _Deadly(torch.utils.data.Dataset):
    def __getitem__(self, index: int) -> dict:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


def test_loader_processes_that_are_killed_again_and_again(photos, monkeypatch):
    monkeypatch.setattr("aesop.data.loader.MOST_DEATHS", 1)
    _, crops = dataset(photos, 1)
    with (
        batches(_Deadly(), crops, 7, 9) as source,
        pytest.raises(LoaderDied, match=r"ended by the system before iteration 7 .* It happened 2 times"),
    ):
        next(source)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["vanished", "damaged", "smaller", "folder", "unreadable"])
def test_an_image_that_goes_bad_during_the_training(fault, workers, photos, tmp_path, monkeypatch):
    """What was trained so far is saved, and after a repair the run ends as if nothing had been."""
    raw = small("psnr", photos, tmp_path, 12)
    raw["datasets"]["train"]["num_worker_per_gpu"] = workers
    raw["logger"]["save_checkpoint_freq"] = 100
    run(raw | {"name": "undisturbed"})
    victim, safe = photos / "photo_3.png", tmp_path / "safe.png"
    shutil.copy(victim, safe)
    real, count = Stage.set_learning_rate, []

    def spoil(self: Stage, iteration: int) -> float:
        count.append(iteration)
        if len(count) == 4:
            victim.unlink()
            if fault == "damaged":
                victim.write_bytes(safe.read_bytes()[:-400])
            elif fault == "smaller":
                import cv2

                cv2.imwrite(str(victim), cv2.imread(str(safe))[:12, :40])
            elif fault == "folder":
                victim.mkdir()
            elif fault == "unreadable":
                victim.symlink_to(victim)  # root may read everything but this
        return real(self, iteration)

    monkeypatch.setattr(Stage, "set_learning_rate", spoil)
    with pytest.raises((ValueError, OSError), match=r"photo_3\.png") as caught:
        run(raw)
    assert {"smaller": "has become smaller than the crop", "damaged": "damaged"}.get(fault, "") in str(caught.value)
    (state,) = (tmp_path / "run" / "state").iterdir()
    assert int(state.name) == count[-1] >= 4
    victim.rmdir() if fault == "folder" else victim.unlink(missing_ok=True)
    shutil.copy(safe, victim)
    monkeypatch.undo()
    run(raw, resume=True)
    whole, mended = (all_tensors(tmp_path / name / "state" / "00000012") for name in ("undisturbed", "run"))
    assert all(torch.equal(whole[key], mended[key]) for key in whole)


def test_a_validation_that_fails_costs_no_steps(photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 12)
    raw["val"]["val_freq"] = 5
    raw["logger"]["save_checkpoint_freq"] = 100

    def fail(*_):
        raise ValueError("no such thing")

    monkeypatch.setattr(validation, "measure", fail)
    with pytest.raises(ValueError, match="no such thing"):
        run(raw)
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["00000005"]
    monkeypatch.undo()
    run(raw, resume=True)
    rows = [row for row in lines(tmp_path / "run" / "scalars.jsonl") if "val/psnr" in row]
    assert [row["iter"] for row in rows] == [5, 10, 12]


def test_a_validation_that_fails_at_the_end_is_made_up_for(photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 4)
    raw["val"]["val_freq"] = 4

    def fail(*_):
        raise ValueError("no such thing")

    monkeypatch.setattr(validation, "measure", fail)
    with pytest.raises(ValueError, match="no such thing"):
        run(raw)
    monkeypatch.undo()
    run(raw, resume=True)
    assert (tmp_path / "run" / "models" / "net_g_best.safetensors").is_file()


# --- memory ------------------------------------------------------------------------------------------------------------


def test_a_step_that_does_not_fit_names_what_needs_less(photos, tmp_path, monkeypatch):
    raw = small("psnr", photos, tmp_path, 4)
    raw["datasets"]["train"]["batch_size_per_gpu"] = 4
    monkeypatch.setattr(Stage, "make_image", lambda *_: torch.empty(10**15))
    with pytest.raises(MemoryError) as caught:
        run(raw)
    text = str(caught.value)
    assert text.startswith("out of memory on cpu (")
    assert "in a step of 4 images of 16 px" in text
    assert "These options need less memory: train.accumulate=2, " in text
    assert "datasets.train.batch_size_per_gpu=2" in text


def test_another_error_of_pytorch_stays_what_it_is(photos, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(Stage, "make_image", fail)
    with pytest.raises(RuntimeError, match="something else"):
        run(small("psnr", photos, tmp_path, 4))


# --- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    # Lazily: a thread of TensorBoard that a full disk stopped leaves its file open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def start(raw: dict, file: Path, file_limit: int | None = None) -> tuple[int, str]:
    """Exit code and what was said by `aesop train --resume`, where files may not grow beyond `file_limit` bytes."""
    file.write_text(yaml.safe_dump(raw))

    def lower() -> None:
        assert file_limit is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    command = [sys.executable, "-m", "aesop", "train", str(file), "--resume"]
    done = subprocess.run(
        command,
        preexec_fn=lower if file_limit else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, " ".join(done.stdout.split())


def fill(folder: Path) -> Path:
    """Leave no room at all."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


def test_a_full_disk_costs_checkpoints_and_nothing_else(photos, tmp_path, small_disk, monkeypatch, caplog):
    """Full from iteration 3 to 7: neither states, nor logs, nor images, nor the best weights can be written."""

    def recipe(root: Path) -> dict:
        raw = small("psnr", photos, root, 10)
        raw["logger"] |= {"use_tb_logger": True, "keep_states": 1}
        raw["val"] |= {"val_freq": 3, "save_img": True}
        return raw

    run(recipe(tmp_path / "undisturbed"))
    real, kept, state = Stage.set_learning_rate, [], small_disk / "run" / "state"

    def disturb(self: Stage, iteration: int) -> float:
        if iteration == 3:
            fill(small_disk)
        elif iteration in (5, 7):
            kept.append([path.name for path in state.iterdir()])
            all_tensors(state / "00000002")
        elif iteration == 8:
            (small_disk / "ballast").unlink()
        return real(self, iteration)

    monkeypatch.setattr(Stage, "set_learning_rate", disturb)
    caplog.clear()
    run(recipe(small_disk))
    assert kept == [["00000002"]] * 2
    said = caplog.text
    assert "could not save iteration 4" in said
    assert "No space left on device" in said
    assert "The newest state is that of iteration 2. Training continues and saves again at iteration 6" in said
    assert "the best weights of iteration 3 could not be saved" in said
    whole, late = (all_tensors(root / "run" / "state" / "00000010") for root in (tmp_path / "undisturbed", small_disk))
    assert all(torch.equal(whole[key], late[key]) for key in whole)
    rows = [lines(root / "run" / "scalars.jsonl") for root in (tmp_path / "undisturbed", small_disk)]
    assert [row for row in rows[0] if row in rows[1]] == rows[1]  # some are missing, none is half


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["continue", "stop"])
def test_a_checkpoint_that_cannot_be_written(choice, photos, tmp_path):
    raw = small("psnr", photos, tmp_path, 2)
    raw["logger"]["on_failed_save"] = choice
    run(raw)
    folder = tmp_path / "run"
    before = all_tensors(folder / "state" / "00000002")
    largest = (folder / "state" / "00000002" / "optimizer_g.safetensors").stat().st_size
    raw["train"]["total_iter"] = 7
    code, said = start(raw, tmp_path / "a.yml", largest - 1)
    assert code == 1, said
    assert "could not save iteration 4" in said
    assert "File too large" in said
    assert "The newest state is that of iteration 2" in said
    went_on = "Training continues and saves again at iteration 6" in said
    assert went_on == (choice == "continue")
    assert ("could not save iteration 6" in said) == (choice == "continue")
    assert f"could not save iteration {7 if choice == 'continue' else 4}" in said.partition("error: ")[2]
    assert "Free some space and continue with --resume" in said
    assert "Traceback" not in said
    assert [path.name for path in (folder / "state").iterdir()] == ["00000002"]
    after = all_tensors(folder / "state" / "00000002")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert start(raw, tmp_path / "a.yml")[0] == 0
    assert (folder / "state" / "00000007").is_dir()


if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        Spoiler(pytest.MonkeyPatch(), at(2, 6, 7, 8))
    training.train(load_config(Path(sys.argv[1]))[0])
