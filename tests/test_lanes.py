"""reproduction/lanes.py with a training made of nothing but its files: queue, resumption, pause, stop, losses, failures."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from aesop.options.config import STAGES, TrainConfig
from aesop.options.pipeline import plan

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduction"))

import lanes

REPO = Path(__file__).resolve().parents[1]

# `python -m aesop pipeline FILE key=value ...` that writes what a training leaves, a step each 0.02 seconds; it fails while
# there is a file `broken`.
STAND_IN = """
import json, pathlib, signal, sys, time
options = dict(argument.split("=", 1) for argument in sys.argv[3:])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
if pathlib.Path("broken").exists():
    sys.exit(1)
for stage, folder in {"psnr": "1_psnr", "autoencoder": "2_autoencoder", "adversarial": "3_adversarial"}.items():
    if f"stages.{stage}.weights" in options:
        continue
    run = pathlib.Path(options["path.experiments_root"], options["name"], folder)
    (run / "state").mkdir(parents=True, exist_ok=True)
    (run / "models").mkdir(exist_ok=True)
    total = int(options.get("train.total_iter", 10))
    (run / "config.yml").write_text(f"train: {{total_iter: {total}}}")
    begin = max((int(path.name) for path in (run / "state").iterdir()), default=0)
    for step in range(begin + 1, total + 1):
        time.sleep(0.02)
        with (run / "scalars.jsonl").open("a") as file:
            file.write(json.dumps({"iter": step, "l_pix": 1 / step}) + chr(10))
        if stopped:
            (run / "state" / f"{step:08d}").mkdir()
            sys.exit(143)
    (run / "state" / f"{total:08d}").mkdir(exist_ok=True)
    (run / "models" / f"net_g_{total:08d}.safetensors").write_text("")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty place to train in, with the stand-in for the package."""
    (tmp_path / "package" / "aesop").mkdir(parents=True)
    (tmp_path / "package" / "aesop" / "__init__.py").write_text("")
    (tmp_path / "package" / "aesop" / "__main__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "package"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yml").write_text("")
    yield tmp_path
    lanes.stop(["1", "2"])


def queue(folder: Path, **runs: list[dict]) -> Path:
    file = folder / "queue.yml"
    file.write_text(yaml.safe_dump({lane[1:]: entries for lane, entries in runs.items()}))
    return file


def entry(name: str, total: int = 10, **more: object) -> dict:
    return {"run": name, "file": "a.yml", "set": [f"train.total_iter={total}"], **more}


def happened(*names: str) -> list[tuple[str, str]]:
    return [(event["run"], event["event"]) for event in lanes.events() if not names or event["event"] in names]


def wait_for(condition, seconds: float = 120) -> None:
    assert lanes._wait_for(condition, seconds), lanes.events()


def step(name: str, stage: str) -> int:
    rows = lanes.rows_of(lanes.ROOT / name / stage)
    return int(rows[-1]["iter"]) if rows else 0


def test_two_lanes_train_all_that_is_due_in_order(folder, monkeypatch):
    file = queue(folder, _1=[entry("a"), entry("b")], _2=[entry("c", 200), entry("d")])
    lanes.start(file, ["1", "2"])
    wait_for(lambda: len(happened("finished")) == 4)
    wait_for(lambda: lanes.group_of("1") is None and lanes.group_of("2") is None)
    begun = [run for run, _ in happened("started")]
    assert set(begun[:2]) == {"a", "c"}
    assert begun[2:] == ["b", "d"]  # lane 1 goes on, and then takes one of lane 2
    assert {event["run"]: event["lane"] for event in lanes.events()} == {"a": "1", "b": "1", "c": "2", "d": "1"}


def test_stop_saves_and_start_continues_and_is_idempotent(folder, capsys):
    file = queue(folder, _1=[entry("a", 300)])
    lanes.start(file, ["1"])
    wait_for(lambda: step("a", "1_psnr") > 3)
    lanes.start(file, ["1"])
    assert "lane 1 runs already" in capsys.readouterr().out
    lanes.stop(["1"])
    reached = lanes.step_of(lanes.read_queue(file)["1"][0])
    assert reached[1] >= 3
    lanes.start(file, ["1"])
    wait_for(lambda: step("a", "1_psnr") > reached[1] + 3)
    assert [(event["event"], event["step"]) for event in lanes.events()] == [
        ("started", 0), ("stopped", reached[1]), ("resumed", reached[1])
    ]  # fmt: skip
    lanes.status(lanes.read_queue(file))
    assert "[1] a: running, 0.00 h, 1 resumptions" in capsys.readouterr().out


def test_paused_lanes_stand_still(folder, capsys):
    file = queue(folder, _1=[entry("a", 500)])
    lanes.start(file, ["1"])
    wait_for(lambda: step("a", "1_psnr") > 3)
    lanes.pause(["1", "2"])
    assert "lane 2 does not run" in capsys.readouterr().out
    time.sleep(0.1)
    before = step("a", "1_psnr")
    time.sleep(0.3)
    assert step("a", "1_psnr") == before
    lanes.status(lanes.read_queue(file))
    assert "lane 1: paused" in capsys.readouterr().out
    lanes.resume(["1"])
    wait_for(lambda: step("a", "1_psnr") > before)
    lanes.pause(["1"])
    lanes.stop(["1"])  # one that is paused saves its state as well
    assert lanes.step_of(lanes.read_queue(file)["1"][0])[1] > before


def test_a_lane_that_was_killed_continues_and_says_so(folder):
    file = queue(folder, _1=[entry("a", 300)])
    lanes.start(file, ["1"])
    wait_for(lambda: step("a", "1_psnr") > 3)
    os.killpg(lanes.group_of("1"), signal.SIGKILL)
    wait_for(lambda: lanes.group_of("1") is None)
    lanes.start(file, ["1"])
    wait_for(lambda: len(happened()) == 3)
    assert [event for _, event in happened()] == ["started", "lost", "resumed"]


def test_a_training_whose_lane_died_still_holds_the_lane(folder, capsys):
    file = queue(folder, _1=[entry("a", 100)])
    lanes.start(file, ["1"])
    wait_for(lambda: step("a", "1_psnr") > 3)
    os.kill(lanes.group_of("1"), signal.SIGKILL)  # the lane alone, not its group
    time.sleep(0.1)
    lanes.start(file, ["1"])
    assert "lane 1 runs already" in capsys.readouterr().out.splitlines()[-1]


def test_what_fails_is_tried_again_and_then_passed_over(folder, monkeypatch):
    monkeypatch.setattr(lanes, "WAITS_AFTER_FAILURE", 0)
    (folder / "broken").write_text("")
    program = "import sys; sys.path.insert(0, sys.argv[1]); import lanes; from pathlib import Path; "
    program += "lanes.WAITS_AFTER_FAILURE = 0; lanes.work(Path('queue.yml'), '1')"
    queue(folder, _1=[entry("a"), entry("b")])
    subprocess.run([sys.executable, "-c", program, str(REPO / "reproduction")], check=True, start_new_session=True)
    assert happened("failed") == [("a", "failed")] * 3 + [("b", "failed")] * 3


def test_hours_without_the_pauses():
    def event(hour: float, run: str | None, name: str, lane: str = "1") -> dict:
        return {"time": datetime.fromtimestamp(3600 * hour, UTC).isoformat(), "run": run, "event": name, "lane": lane}

    logged = [
        event(0, "a", "started"), event(1, None, "paused"), event(1.5, None, "paused", "2"), event(3, None, "continued"),
        event(4, "a", "stopped"), event(5, None, "paused"), event(5.5, None, "continued"), event(6, "a", "resumed"),
        event(7, "a", "lost"), event(9, "b", "started", "2"), event(10, "a", "resumed"),
    ]  # fmt: skip
    assert lanes.hours_of("a", logged, 3600 * 11) == pytest.approx(1 + 1 + 1 + 1)
    assert lanes.hours_of("b", logged, 3600 * 11) == pytest.approx(2)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"run": "a"}], "an entry has run and file"),
        ([entry("a", weights="b")], "an entry has run and file"),
        ([entry("a"), entry("a")], "two runs are named a"),
        ([{"run": "a", "file": "none.yml"}], r"none\.yml does not exist"),
    ],
)
def test_faults_of_a_queue(folder, entries, message):
    with pytest.raises(ValueError, match=message):
        lanes.read_queue(queue(folder, _1=entries))


# --- the queues that are committed -----------------------------------------------------------------------------------------

QUEUES = [lanes.read_queue(REPO / "reproduction" / name) for name in ("lanes.yml", "claim_queue.yml")]
RUNS = {run.name: run for queue in QUEUES for runs in queue.values() for run in runs}


def planned(run: lanes.Run) -> dict[str, TrainConfig]:
    steps = plan(run.file, [f"name={run.name}", f"path.experiments_root={lanes.ROOT}", *run.changes])
    return {stage: step for stage, step in steps.items() if isinstance(step, TrainConfig)}


@pytest.mark.parametrize("name", RUNS)
def test_every_run_can_be_planned_and_keeps_20_states_and_those_of_stops(name, monkeypatch):
    monkeypatch.chdir(REPO)
    steps = planned(RUNS[name])
    from_finished_stages = name.startswith(("claim/", "clean"))
    assert list(steps) == (["adversarial"] if from_finished_stages else list(STAGES))
    for stage, step in steps.items():
        assert step.run_folder == RUNS[name].folder / lanes.STAGES[stage]
        assert step.train.total_iter == 20 * step.logger.save_checkpoint_freq
        assert step.val.val_freq % step.logger.save_checkpoint_freq == step.train.total_iter % step.val.val_freq == 0
        assert step.logger.keep_states >= 100
        assert step.train.scheduler.periods == [step.train.total_iter]
        assert "heldout" in str(step.datasets.measured("val")["val"].dataroot_gt)
        assert step.precision == "fp32"


def test_the_claims_runs_differ_in_loss_and_seed_alone(monkeypatch):
    monkeypatch.chdir(REPO)

    def rest(step: TrainConfig) -> dict:
        dump = step.model_dump(mode="json")
        for name in ("aesop_opt", "pixel_opt"):
            del dump["train"][name]
        return {**dump, "name": None, "manual_seed": None}

    claim = {name.removeprefix("claim/"): planned(run)["adversarial"] for name, run in RUNS.items() if "claim/" in name}
    losses = {
        name: (step.train.pixel_opt.type, step.train.pixel_opt.loss_weight) if step.train.pixel_opt else "AESOP"
        for name, step in claim.items()
    }
    expected = {"aesop": "AESOP", "pixel": ("L1Loss", 1.0), "pixel001": ("L1Loss", 0.01)}
    assert losses == {f"{loss}_{seed}": about for loss, about in expected.items() for seed in range(3)} | {
        "lr_pixel_0": ("LRL1Loss", 1.0)
    }
    assert {name: step.manual_seed for name, step in claim.items()} == {name: int(name[-1]) for name in claim}
    for step in claim.values():
        assert (step.train.aesop_opt is None) == (step.train.pixel_opt is not None)
        assert rest(step) == rest(claim["aesop_0"])
