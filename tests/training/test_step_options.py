"""Options of a step: clipping, freezing, the AESOP loss without a discriminator, mixed data sets, lines by the clock."""

import copy
import logging

import numpy as np
import pytest
import torch
from tiny_runs import AUTOENCODER, RRDB, all_tensors, make_autoencoder, options, run

from aesop.archs import build_network
from aesop.data.training_crops import TrainingCrops
from aesop.losses import build_losses
from aesop.losses.aesop import AESOPLoss
from aesop.options.datasets import TrainDataset
from aesop.options.error_messages import ConfigError
from aesop.options.read import build_config
from aesop.options.training import SchedulerOptions, TrainOptions
from aesop.training import heartbeat
from aesop.training.lr_schedule import learning_rate, schedule_mismatch
from aesop.training.stage import Stage


def stepped(net, **train) -> tuple[Stage, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    stage = Stage(TrainOptions(total_iter=1, pixel_opt={"type": "L1Loss"}, **train), copy.deepcopy(net))
    return stage, stage.step(lq, gt, 1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build_network(RRDB | {"scale": 4})


def test_clipping_is_that_of_pytorch_and_norms_are_logged(net):
    plain, scalars = stepped(net)
    assert "norm_g" not in scalars
    gradients = [p.grad.clone() for p in plain.net_g.parameters()]
    norm = torch.nn.utils.get_total_norm(gradients)
    for limit in (0.5 * norm.item(), 2 * norm.item()):
        clipped, scalars = stepped(net, optim_g={"clip_norm": limit})
        torch.testing.assert_close(scalars["norm_g"], norm)
        for p, g in zip(plain.net_g.parameters(), gradients, strict=True):
            p.grad = g.clone()
        torch.nn.utils.clip_grad_norm_(plain.net_g.parameters(), limit)
        for a, b in zip(clipped.net_g.parameters(), plain.net_g.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)


def test_a_step_with_nan_is_skipped_with_clipping_too(net):
    stage = Stage(TrainOptions(total_iter=1, pixel_opt={"type": "L1Loss"}, optim_g={"clip_norm": 1.0}), copy.deepcopy(net))
    gt = torch.rand(2, 3, 32, 32)
    gt[0, 0, 0, 0] = torch.nan
    stage.step(torch.rand(2, 3, 8, 8), gt, 1)
    assert stage.skipped
    for a, b in zip(stage.net_g.parameters(), net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_tensors_stay_and_a_pattern_without_any_is_refused(net):
    stage, _ = stepped(net, freeze=["conv_first.*", "body.0.rdb?.conv1.weight"])
    both = zip(stage.net_g.named_parameters(), net.parameters(), strict=True)
    moved = {name for (name, after), before in both if not torch.equal(after, before)}
    stayed = {name for name, _ in net.named_parameters()} - moved
    assert stayed == {"conv_first.weight", "conv_first.bias", *(f"body.0.rdb{k}.conv1.weight" for k in (1, 2, 3))}
    with pytest.raises(ValueError, match=r"no tensor is named 'conv_frist\.\*'; RRDBNet has conv_first\.\*, body\.\*"):
        stepped(net, freeze=["conv_frist.*"])
    with pytest.raises(ValueError, match="leaves nothing to train"):
        stepped(net, freeze=["*"])


def test_a_frozen_decoder_tensor_stays_frozen_when_the_decoder_is_released(photos, tmp_path):
    raw = options("autoencoder", photos, tmp_path, 3, freeze_decoder=1, freeze=["decoder.conv_last.*"])
    run(raw)
    first, last = (all_tensors(tmp_path / "run" / "state" / f"0000000{k}") for k in (2, 3))
    moved = {name for name in first if name.startswith("net_g/decoder.") and not torch.equal(first[name], last[name])}
    assert moved
    assert not any("conv_last" in name for name in moved)


def test_aesop_trains_without_a_discriminator(photos, tmp_path):
    """In the psnr stage, and in the adversarial one of a pipeline without gan_opt and network_d, alike."""
    aesop = {"autoencoder_load": {"path": str(make_autoencoder(tmp_path))}}
    states = []
    for stage in ("psnr", "adversarial"):
        raw = options(stage, photos, tmp_path, 2, stage)
        raw["train"] = {"total_iter": 2, "aesop_opt": aesop}
        raw.pop("network_d", None)
        run(raw)
        states.append(all_tensors(tmp_path / stage / "state" / "00000002"))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    raw["train"]["gan_opt"] = {}
    with pytest.raises(ConfigError, match="give both, or neither"):
        build_config(raw, "test")


def test_aesop_alone_has_the_gradient_of_the_loss(net):
    torch.manual_seed(2)
    loss = AESOPLoss(build_network(AUTOENCODER | {"scale": 4}))
    lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    train = TrainOptions(total_iter=1, aesop_opt={})
    stage = Stage(train, copy.deepcopy(net), losses=build_losses(train, ready={"aesop_opt": loss}))
    scalars = stage.step(lq, gt, 1)
    expected = loss(net(lq), gt)
    expected.backward()
    torch.testing.assert_close(scalars["l_aesop"], expected.detach())
    for a, b in zip(stage.net_g.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_folders_are_drawn_in_the_given_ratio(photos, tmp_path):
    folders = []
    for name, count in (("a", 5), ("b", 1)):
        folder = tmp_path / name / "HR"
        folder.mkdir(parents=True)
        for file in sorted(photos.iterdir())[:count]:
            (folder / file.name).write_bytes(file.read_bytes())
        folders.append(str(folder))
    data = {"dataroot_gt": folders, "gt_size": 32}
    crops = TrainingCrops(TrainDataset(**data, dataroot_weights=[1, 3]), 4, seed=0)
    assert [pair.name for pair in crops.pairs][:1] == ["a/HR/photo_0"]  # one name in both folders is no fault
    drawn = [crops.pairs[crops.number_of(sample)].folder for sample in range(4000)]
    assert np.mean(drawn) == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 4000) ** 0.5)
    images = np.bincount([crops.number_of(sample) for sample in range(4000)])
    assert images[:5].min() > 140  # of about 200
    again = TrainingCrops(TrainDataset(**data, dataroot_weights=[1, 3]), 4, seed=0)
    assert [again.number_of(k) for k in range(50)] == [crops.number_of(k) for k in range(50)]
    with pytest.raises(ValueError, match="dataroot_weights has 1 numbers, dataroot_gt 2 folders"):
        TrainDataset(**data, dataroot_weights=[1])


def test_a_line_is_shown_after_a_silence(photos, tmp_path, monkeypatch, caplog):
    raw = options("psnr", photos, tmp_path, 4)
    raw["logger"]["print_freq"] = 100
    raw["val"]["val_freq"] = 0
    for silence, expected in ((0.0, [1, 2, 3, 4]), (1e9, [1, 4])):
        monkeypatch.setattr(heartbeat, "SILENCE", silence)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            run(raw | {"name": f"silent{silence:g}"})
        lines = [record.message for record in caplog.records if "img/s" in record.message]
        assert [int(line.split("] ")[1].split("/")[0]) for line in lines] == expected


def test_a_validation_is_capped_and_shows_where_it_is(photos, tmp_path, monkeypatch, caplog):
    raw = options("psnr", photos, tmp_path, 2)
    raw["val"] |= {"max_images": 3, "save_img": True}
    monkeypatch.setattr(heartbeat, "SILENCE", 0.0)
    with caplog.at_level(logging.INFO):
        run(raw)
    assert "validation val: image 3 of 3" in caplog.text
    saved = sorted(file.stem for file in (tmp_path / "run" / "visualization" / "00000002" / "val").iterdir())
    assert saved == ["photo_0", "photo_2", "photo_4"]


def test_cosine_annealing_is_that_of_pytorch():
    options = SchedulerOptions(type="CosineAnnealingLR", T_max=7, eta_min=1e-5)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7, eta_min=1e-5)
    for iteration in range(1, 20):
        assert learning_rate(options, 1e-3, iteration) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("kind", ["CosineAnnealingRestartLR", "CosineAnnealingLR"])
def test_a_cosine_without_a_length_follows_the_training(kind, photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 30)
    raw["train"]["scheduler"] = {"type": kind}
    schedule = build_config(raw, "test")[0].train
    assert (schedule.scheduler.periods or [schedule.scheduler.T_max]) == [30]
    assert schedule_mismatch(schedule) is None
    raw["train"]["scheduler"] |= {"periods": [20]} if kind == "CosineAnnealingRestartLR" else {"T_max": 50}
    assert "train.scheduler" in str(schedule_mismatch(build_config(raw, "test")[0].train))
