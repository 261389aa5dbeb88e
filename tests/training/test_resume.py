"""Resuming: what a state may lack or have too much of, and what is said about it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import all_tensors, options, run

from aesop.check.dry_run import check_inputs
from aesop.options.read import build_config
from aesop.system.distributed import World
from aesop.training.checkpoint import newest_state, states
from aesop.weights.errors import WeightsError


def test_a_state_after_the_end_of_the_training_is_refused_and_stays(photos, tmp_path):
    run(options("psnr", photos, tmp_path, 4))
    before = sorted(tmp_path.joinpath("run").rglob("*"))
    with pytest.raises(WeightsError, match=r"state of iteration 4, but this training ends at 2: raise train\.total_iter"):
        run(options("psnr", photos, tmp_path, 2), resume=True)
    assert set(before) <= set(tmp_path.joinpath("run").rglob("*"))


def test_an_average_that_begins_on_resume_starts_from_the_net(photos, tmp_path, caplog):
    run(options("psnr", photos, tmp_path, 2, ema_decay=0))
    final = run(options("psnr", photos, tmp_path, 3, ema_decay=0.9, ema_warmup=False), resume=True)
    assert "the average starts from net_g" in caplog.text
    before = load_file(tmp_path / "run" / "state" / "00000002" / "net_g.safetensors")
    after = load_file(tmp_path / "run" / "state" / "00000003" / "net_g.safetensors")
    averaged = load_file(final)
    for name, tensor in before.items():
        torch.testing.assert_close(averaged[name], 0.9 * tensor + 0.1 * after[name])


def test_options_that_changed_are_named(photos, tmp_path, caplog):
    run(options("psnr", photos, tmp_path, 2))
    raw = options("psnr", photos, tmp_path, 3)
    raw["train"]["optim_g"] = {"lr": 5e-4}
    raw["logger"]["print_freq"] = 2
    run(raw, resume=True)
    (line,) = [record.message for record in caplog.records if "other options" in record.message]
    assert "train.optim_g.lr: 0.001, now 0.0005" in line
    assert "print_freq" not in line


def test_weights_to_start_from_may_be_gone_once_there_is_a_state(photos, tmp_path):
    start = run(options("psnr", photos, tmp_path, 1, "start"))
    raw = options("psnr", photos, tmp_path, 2)
    raw["path"]["pretrain_network_g"] = str(start)
    run(raw)
    start.unlink()
    raw["train"]["total_iter"] = 3
    config, _ = build_config(raw, "test")
    with pytest.raises(ValueError, match="does not exist"):
        check_inputs(config, "test")
    check_inputs(config, "test", resume=True)
    assert run(raw, resume=True).is_file()


def test_a_state_of_basicsr_is_named_for_what_it_is(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 2)
    raw["path"]["resume_state"] = str(tmp_path / "5000.state")
    Path(raw["path"]["resume_state"]).write_bytes(b"\x80\x02}")
    with pytest.raises(WeightsError, match=r"BasicSR's training state, a pickle.*path\.pretrain_network_g"):
        run(raw)


def test_weights_of_another_scale_say_how_to_load_what_fits(photos, tmp_path):
    start = run(options("psnr", photos, tmp_path, 1, "x4"))
    raw = options("psnr", photos, tmp_path, 1, "x2") | {"scale": 2}
    raw["path"]["pretrain_network_g"] = str(start)
    with pytest.raises(WeightsError, match=r"set path\.strict_load_g: false"):
        run(raw)
    raw["path"]["strict_load_g"] = False
    assert run(raw).is_file()


def test_a_state_is_never_missing_while_it_is_written_again(photos, tmp_path, monkeypatch):
    """Whatever the step at which the second writing stops, a state of the iteration can be loaded."""
    raw = options("psnr", photos, tmp_path, 2)
    run(raw)
    folder = tmp_path / "run" / "state"
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    # The first rename has happened, the second has not.
    (folder / "00000002").rename(folder / ".00000002.replaced.tmp")
    assert states(folder) == []
    assert newest_state(folder, World()) == folder / "00000002"
    assert all_tensors(folder / "00000002").keys() == all_tensors(kept / "00000002").keys()
    # Both have happened: the newer one stays.
    shutil.copytree(folder / "00000002", folder / ".00000002.replaced.tmp")
    (folder / "00000002" / "marker").touch()
    newest_state(folder, World())
    assert (folder / "00000002" / "marker").exists()
    # A whole run removes what is left.
    (folder / "00000002" / "marker").unlink()
    raw["train"]["total_iter"] = 3
    run(raw, resume=True)
    assert not list(folder.glob(".*"))


def test_saving_over_a_state_keeps_the_former_until_the_new_one_is_there(photos, tmp_path, monkeypatch):
    from aesop.training.checkpoint import Checkpoints

    raw = options("psnr", photos, tmp_path, 2)
    run(raw)
    folder = tmp_path / "run" / "state" / "00000002"
    before = json.loads((folder / "state.json").read_text())["sha256"]
    renames = []
    rename = Path.rename

    def stopping(self, target):
        renames.append((self.name, Path(target).name))
        if self.name == ".00000002.tmp":
            raise OSError("disk full")
        return rename(self, target)

    from aesop.training.build_stage import build_stage
    from aesop.training.checkpoint import as_begun

    config = as_begun(build_config(raw, "test")[0], folder)
    checkpoints = Checkpoints(config, World(), build_stage(config, World(), resuming=True))
    checkpoints.start(folder)
    monkeypatch.setattr(Path, "rename", stopping)
    checkpoints.save(must=False)
    monkeypatch.undo()
    assert renames[0] == ("00000002", ".00000002.replaced.tmp")
    found = newest_state(folder.parent, World())
    assert found == folder
    assert json.loads((found / "state.json").read_text())["sha256"] == before


def test_only_the_newest_models_are_kept(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 6)
    raw["logger"]["keep_models"] = 2
    final = run(raw)
    names = {file.name for file in (tmp_path / "run" / "models").iterdir()}
    assert names == {"net_g_00000004.safetensors", "net_g_00000006.safetensors", "net_g_best.safetensors"}
    assert final.name in names
