"""The front of a training: its index in the state, its files on the disk, and the early stop."""

import itertools
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from test_faults import Spoiler, at
from tiny_runs import RRDB, options, run

from aesop.check.dry_run import dry_run_report
from aesop.commands.pipeline import run_pipeline, run_step
from aesop.data.measured_pairs import digest
from aesop.options.pipeline import plan
from aesop.options.read import build_config
from aesop.system.signals import Interrupted
from aesop.training import checkpoint, kept_front, validation
from aesop.training.run_logger import RunLogger

METRICS = {"psnr": {}, "ssim": {}}
FRONT = {"distortion": "psnr", "perception": "ssim", "keep": 3}


def recipe(photos: Path, root: Path, total: int, name: str = "run", **val) -> dict:
    raw = options("psnr", photos, root, total, name, ema_decay=0)
    raw["val"] |= {"val_freq": 1, "metrics": METRICS, "front": FRONT, **val}
    return raw


def state(folder: Path, iteration: int) -> dict:
    return json.loads((folder / "state" / f"{iteration:08d}" / "state.json").read_text())


def files(folder: Path) -> set[int]:
    return {int(file.stem[6:]) for file in (folder / "models" / "front").iterdir()}


def iterations(index: list[dict]) -> set[int]:
    return {entry["iteration"] for entry in index}


@pytest.fixture
def random_values(monkeypatch):
    """Validations find values that look random, but depend on the weights alone."""

    def measure(predict, pairs, metrics, world, save=None):
        number = int(digest(predict(pairs[0].lq, pairs[0].gt))[:16], 16)
        return [{"image": "a", "psnr": number % 1009 / 10, "ssim": number // 1009 % 1013 / 1013}]

    monkeypatch.setattr(validation, "measure", measure)


@pytest.fixture
def values(monkeypatch) -> list[tuple[float, float]]:
    """What the next validations find; PSNR and SSIM."""
    found: list[tuple[float, float]] = []

    def averages(rows):
        return dict(zip(("psnr", "ssim"), found.pop(0), strict=True))

    monkeypatch.setattr(validation, "averages", averages)
    return found


def test_the_index_is_the_front_of_what_validations_found(photos, tmp_path, values):
    found = [(20, 0.5), (19, 0.4), (21, 0.3), (20, 0.5), (20, 0.6), (25, 0.7), (24, 0.8), (23, 0.9)]
    values += found
    run(recipe(photos, tmp_path, len(found)))
    folder = tmp_path / "run"
    index = state(folder, 8)["front"]
    beaten = {
        b for a, b in itertools.permutations(range(8), 2) if all(x >= y for x, y in zip(found[a], found[b], strict=True))
    }
    assert iterations(index) == {k + 1 for k in range(8)} - {k + 1 for k in beaten} == {6, 7, 8}
    assert [entry["values"] for entry in index] == [{"psnr": found[k][0], "ssim": found[k][1]} for k in (5, 6, 7)]
    assert iterations(state(folder, 6)["front"]) == {6}
    assert files(folder) == {6, 7, 8}
    with safe_open(folder / "models" / "front" / "net_g_00000008.safetensors", "pt") as file:
        described = file.metadata()
    assert described["total_iter"] == "8"
    assert json.loads(described["measured"]) == {"psnr": 23, "ssim": 0.9}
    kept, final = (load_file(folder / "models" / part / "net_g_00000008.safetensors") for part in ("front", "."))
    assert all(torch.equal(kept[key], final[key]) for key in final)


def test_a_budget_keeps_both_ends(photos, tmp_path, values):
    values += [(20, 0.9), (22, 0.8), (23, 0.75), (24, 0.3), (26, 0.2)]
    run(recipe(photos, tmp_path, 5))
    assert iterations(state(tmp_path / "run", 5)["front"]) == {1, 3, 5}


def test_an_interrupted_run_has_the_front_of_an_undisturbed_one(photos, tmp_path, random_values, monkeypatch):
    early = {"patience": 30}
    run(recipe(photos, tmp_path, 16, "undisturbed", early_stop=early))
    raw = recipe(photos, tmp_path, 16, early_stop=early)

    class Killed(BaseException):
        pass

    real = validation.Validation.run_if_due

    def killed(self, progress):
        figures = real(self, progress)
        if progress.iteration in stops and not (stops.remove(progress.iteration)):
            raise Killed  # the front has its file, but no state knows it
        return figures

    stops = [3, 7, 9, 13]
    monkeypatch.setattr(validation.Validation, "run_if_due", killed)
    while True:
        try:
            run(raw, resume=True)
            break
        except Killed:
            pass
    assert not stops
    one, other = tmp_path / "undisturbed", tmp_path / "run"
    for number in (14, 16):
        a, b = state(one, number), state(other, number)
        assert all(a[key] == b[key] for key in ("front", "best", "without_news", "validated"))
        for iteration in iterations(a["front"]):
            first, second = (
                load_file(folder / "models" / "front" / f"net_g_{iteration:08d}.safetensors") for folder in (one, other)
            )
            assert all(torch.equal(first[key], second[key]) for key in first)
    assert files(one) == files(other) == iterations(state(one, 14)["front"]) | iterations(state(one, 16)["front"])
    assert len(state(one, 16)["front"]) > 1


def test_a_file_that_no_state_knows_goes_at_the_next_start(photos, tmp_path, values, monkeypatch):
    values += [(20, 0.5), (21, 0.4), (22, 0.6)]
    raw = recipe(photos, tmp_path, 4)
    monkeypatch.setattr(RunLogger, "write_figures", stop_at(3, RunLogger.write_figures))
    with pytest.raises(KeyboardInterrupt):
        run(raw)
    folder = tmp_path / "run"
    assert files(folder) == {1, 2, 3}  # 3 beats both, and was written before a state
    monkeypatch.undo()
    stray = folder / "models" / "front" / ".net_g_00000003.tmp.safetensors"
    stray.touch()
    monkeypatch.setattr(validation.Validation, "run_if_due", lambda self, progress: look.append(files(folder)) or {})
    look: list[set[int]] = []
    run(raw, resume=True)
    assert look[0] == {1, 2} == iterations(state(folder, 2)["front"])
    assert not stray.exists()


def stop_at(iteration: int, real):
    def write(self, number, figures):
        if number == iteration and "val/psnr" in figures:
            raise KeyboardInterrupt
        return real(self, number, figures)

    return write


def test_a_rollback_returns_to_the_front_of_its_state(photos, tmp_path, values, monkeypatch):
    values += [(20, 0.5), (21, 0.4), (22, 0.6), (1, 0.9), (1, 0.1), (19, 0.7)]
    raw = recipe(photos, tmp_path, 4)
    raw["train"]["max_skipped"] = 1
    raw["logger"]["save_checkpoint_freq"] = 2
    Spoiler(monkeypatch, at(4))
    seen: list[set[int]] = []
    real = checkpoint.Checkpoints.drop_newer

    def drop_newer(self):
        real(self)
        seen.append(files(self.folder) if (self.folder / "models" / "front").exists() else set())

    monkeypatch.setattr(checkpoint.Checkpoints, "drop_newer", drop_newer)
    run(raw)
    folder = tmp_path / "run"
    assert seen == [set(), {1, 2}]  # 3 beat both of them, and went like 4 with the steps that were taken back
    assert iterations(state(folder, 4)["front"]) == {1, 2, 4}
    assert state(folder, 4)["front"][2]["values"] == {"psnr": 19, "ssim": 0.7}
    assert files(folder) == {1, 2, 4}


def test_the_front_of_an_older_state_is_whole(photos, tmp_path, values):
    values += [(20, 0.5), (21, 0.4), (22, 0.6), (23, 0.7)]
    raw = recipe(photos, tmp_path, 4)
    run(raw)
    folder = tmp_path / "run"
    assert iterations(state(folder, 4)["front"]) == {4}
    assert files(folder) == {1, 2, 4}
    (folder / "state" / "00000004" / "net_g.safetensors").write_bytes(b"damaged")
    values += [(1, 0.1), (2, 0.1)]
    run(raw, resume=True)
    assert iterations(state(folder, 4)["front"]) == {1, 2}
    assert files(folder) == {1, 2}


def test_a_state_of_another_run_brings_no_front(photos, tmp_path, values, caplog):
    values += [(20, 0.5), (21, 0.4), (1, 0.1), (2, 0.1)]
    run(recipe(photos, tmp_path, 2, "one"))
    raw = recipe(photos, tmp_path, 4, "other")
    raw["path"]["resume_state"] = str(tmp_path / "one" / "state" / "00000002")
    run(raw)
    assert "lacks the models of iterations 1, 2, which leave the front" in caplog.text
    assert iterations(state(tmp_path / "other", 4)["front"]) == files(tmp_path / "other") == {3, 4} - {3}


def test_other_metrics_begin_another_front(photos, tmp_path, values):
    values += [(20, 0.5), (21, 0.6)]
    run(recipe(photos, tmp_path, 2))
    raw = recipe(photos, tmp_path, 3, metrics={"psnr": {}, "other": {"type": "ssim"}}, front=FRONT | {"perception": "other"})
    raw["val"]["best_metric"] = "psnr"
    validation.averages = lambda rows: {"psnr": 1.0, "other": 0.1}  # `values` undoes it
    run(raw, resume=True)
    assert state(tmp_path / "run", 3)["front"] == [{"iteration": 3, "values": {"psnr": 1.0, "other": 0.1}}]


def test_a_full_disk_costs_a_model_of_the_front(photos, tmp_path, values, monkeypatch, caplog):
    values += [(20, 0.5), (21, 0.6), (22, 0.7), (23, 0.4)]
    real, count = kept_front.save_weights, itertools.count(1)

    def full(*arguments):
        if next(count) == 3:
            raise OSError("No space left on device")
        real(*arguments)

    monkeypatch.setattr(kept_front, "save_weights", full)
    run(recipe(photos, tmp_path, 4, front=FRONT))
    assert "the model of iteration 3 could not be added to the front: No space left" in caplog.text
    assert iterations(state(tmp_path / "run", 4)["front"]) == {2, 4}


def test_by_default_there_is_a_front_where_both_kinds_are_measured(photos, tmp_path):
    def axes(**val):
        raw = recipe(photos, tmp_path, 1)
        del raw["val"]["front"]
        raw["val"] |= val
        return kept_front.front_axes(build_config(raw, "test")[0])

    assert axes(metrics={"psnr": {}, "ssim": {}}) is None
    found = axes(metrics={"ssim": {}, "rgb": {"type": "calculate_psnr_pytorch"}, "dists": {}, "lpips": {}})
    assert (found.distortion, found.perception, found.best) == ("rgb", "dists", ("max", "min"))
    assert axes(metrics={"psnr": {}, "lpips": {}}, front={"keep": 0}) is None
    with pytest.raises(ValueError, match=r"val\.early_stop\.watch: a front needs two val\.metrics"):
        axes(metrics={"psnr": {}, "ssim": {}}, early_stop={"patience": 2})
    with pytest.raises(ValueError, match=r"val\.front: a front needs two"):
        axes(metrics={"ssim": {}, "niqe": {}}, front={"perception": "niqe"})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"front": {"distortion": "lpips"}}, r"val\.front\.distortion: 'lpips' is not in val\.metrics \(psnr, ssim\)"),
        ({"front": {"distortion": "psnr", "perception": "psnr"}}, r"val\.front: 'psnr' is both"),
        ({"front": {"keep": 1}}, r"val\.front\.keep: 0 \(no front\) or at least 2"),
        ({"early_stop": {}}, r"val\.early_stop\.patience: missing"),
        ({"early_stop": {"patience": 0}}, r"val\.early_stop\.patience: .*greater than or equal to 1"),
        ({"early_stop": {"patience": 1}, "val_freq": 0}, r"val\.early_stop: it looks at validations"),
        ({"early_stop": {"patience": 1}, "front": {"keep": 0}}, r"val\.early_stop\.watch: there is no front"),
    ],
)
def test_options_that_do_not_fit_are_named(changes, fault, photos, tmp_path):
    with pytest.raises(ValueError, match=fault):
        build_config(recipe(photos, tmp_path, 1, **changes), "test")


def test_a_dry_run_names_a_front_without_metrics(photos, tmp_path):
    raw = recipe(photos, tmp_path, 1, front={}, early_stop={"patience": 3})
    assert any("a front needs two val.metrics" in fault for fault in dry_run_report(build_config(raw, "test")[0])[1])


# --- early stop --------------------------------------------------------------------------------------------------------


def still(photos: Path, root: Path, total: int = 20, **early) -> dict:
    """A training that learns nothing: only its first validation finds something new."""
    raw = recipe(photos, root, total, val_freq=2, early_stop={"patience": 2, **early})
    raw["train"]["optim_g"] = {"lr": 1e-30}
    raw["logger"]["save_checkpoint_freq"] = 5
    return raw


@pytest.mark.parametrize("watch", ["front", "best"])
def test_a_training_without_news_ends_and_counts_as_finished(watch, photos, tmp_path, caplog):
    raw = still(photos, tmp_path, watch=watch)
    final = run(raw)
    folder = tmp_path / "run"
    assert final == folder / "models" / "net_g_00000020.safetensors"
    with safe_open(final, "pt") as file:
        described = file.metadata()
    assert described["total_iter"] == "6"
    news = "model on the front" if watch == "front" else "best psnr"
    note = f"stopped early at iteration 6 of 20: no new {news} in 2 validations"
    assert described["stopped_early"] == note
    assert note in caplog.text
    last = load_file(folder / "models" / "net_g_00000006.safetensors")
    assert all(torch.equal(value, last[key]) for key, value in load_file(final).items())
    # Neither `--resume` nor a pipeline makes another step.
    caplog.clear()
    before = (folder / "scalars.jsonl").read_text()
    assert run(raw, resume=True) == final
    assert (folder / "scalars.jsonl").read_text() == before
    caplog.set_level("INFO", "aesop")
    assert run_step("psnr", build_config(raw, "test")[0]) == final
    assert f"already finished ({note})" in caplog.text


def test_the_final_model_that_a_kill_prevented_is_made_up_for(photos, tmp_path, monkeypatch):
    raw = still(photos, tmp_path)

    class Killed(BaseException):
        pass

    def killed(self, reason):
        raise Killed

    monkeypatch.setattr(checkpoint.Checkpoints, "save_final", killed)
    with pytest.raises(Killed):
        run(raw)
    monkeypatch.undo()
    final = run(raw, resume=True)
    assert final.is_file()
    assert not (tmp_path / "run" / "models" / "net_g_00000007.safetensors").exists()


def test_an_interrupted_run_stops_where_an_undisturbed_one_does(photos, tmp_path, monkeypatch):
    from aesop.training import train as training

    raw = still(photos, tmp_path)
    numbers = iter([0, 0, 0, 0, 15])  # SIGTERM after iteration 5
    monkeypatch.setattr(training, "agreed_signal", lambda world, number, iteration: next(numbers, 0))
    with pytest.raises(Interrupted):
        run(raw)
    run(raw, resume=True)
    assert state(tmp_path / "run", 6)["without_news"] == {"best": 2, "front": 2}


def test_it_trains_until_min_iter(photos, tmp_path):
    with safe_open(run(still(photos, tmp_path, min_iter=9)), "pt") as file:
        assert file.metadata()["total_iter"] == "9"


def test_more_patience_goes_on_from_an_early_stop(photos, tmp_path, caplog):
    run(still(photos, tmp_path))
    longer = still(photos, tmp_path, patience=20)
    with pytest.raises(ValueError, match=r"was trained with other options \(val\.early_stop\.patience: 2, now 20\)"):
        run_step("psnr", build_config(longer, "test")[0])
    final = run(longer, resume=True)
    assert "the training had stopped early at iteration 6 of 20" in caplog.text
    with safe_open(final, "pt") as file:
        assert file.metadata()["total_iter"] == "20"
        assert "stopped_early" not in file.metadata()


def test_what_was_not_watched_before_was_counted_all_the_same(photos, tmp_path, values):
    """An early stop that a later part of a run asks for does not end it at once while there is news of the other kind."""
    values += [(20 + k, 0.9 - k / 10) for k in range(3)] + [(1, 0.1), (1, 0.1)]
    run(recipe(photos, tmp_path, 3))
    assert state(tmp_path / "run", 3)["without_news"] == {"best": 0, "front": 0}
    raw = recipe(photos, tmp_path, 9, early_stop={"patience": 2})
    with safe_open(run(raw, resume=True), "pt") as file:
        assert file.metadata()["total_iter"] == "5"


def test_a_pipeline_goes_on_from_a_stage_that_stopped_early(photos, tmp_path):
    raw = {
        "name": "run",
        "device": "cpu",
        "network_g": RRDB,
        "path": {"experiments_root": str(tmp_path / "runs")},
        "datasets": {
            "train": {"dataroot_gt": str(photos), "gt_size": 32, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0},
            "val": {"dataroot_gt": str(photos)},
        },
        "val": {"val_freq": 1, "save_img": False, "metrics": METRICS, "front": FRONT},
        "logger": {"save_checkpoint_freq": 4, "use_tb_logger": False},
        "train": {"ema_decay": 0, "total_iter": 6},
        "stages": {
            "psnr": {
                "val": {"early_stop": {"patience": 1}},
                "train": {"optim_g": {"lr": 1e-30}, "pixel_opt": {"type": "L1Loss"}},
            },
            "autoencoder": {"train": {"total_iter": 1, "pixel_opt": {"type": "L1Loss"}}},
            "adversarial": {
                "network_d": {"type": "UNetDiscriminatorSN", "num_feat": 4},
                "train": {"total_iter": 1, "aesop_opt": {}, "gan_opt": {}},
            },
        },
    }
    file = tmp_path / "pipeline.yml"
    file.write_text(yaml.safe_dump(raw))
    final = run_pipeline(plan(file))
    psnr = tmp_path / "runs" / "run" / "1_psnr"
    assert [path.name for path in (psnr / "state").iterdir()] == ["00000002"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert run_pipeline(plan(file)) == final
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
