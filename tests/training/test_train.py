"""Training: what a run leaves, exact resume, accumulation, pass counts, several processes."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_runs import AUTOENCODER, RRDB, all_tensors, make_autoencoder, options, run
from torch import nn

from aesop.archs import build_network
from aesop.commands.pipeline import is_finished, run_step
from aesop.data.training_crops import TrainingCrops
from aesop.losses import build_losses
from aesop.losses.aesop import AESOPLoss
from aesop.losses.perceptual import PerceptualLoss
from aesop.options.read import build_config
from aesop.options.training import TrainOptions
from aesop.system.files import sha256_of
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.autoencoder_stage import AutoEncoderStage
from aesop.training.checkpoint import _checksum_of
from aesop.training.ema import ema_decay
from aesop.training.progress import step_seed
from aesop.training.stage import Stage
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network
from aesop.weights.save import save_weights


@pytest.mark.parametrize("stage", ["psnr", "autoencoder", "adversarial"])
def test_resumed_run_is_bit_identical(stage, photos, tmp_path):
    extra = {"freeze_decoder": 3} if stage == "autoencoder" else {}
    whole = options(stage, photos, tmp_path, 6, "whole", **extra)
    run(whole)
    run(options(stage, photos, tmp_path, 2, "parts", **extra))
    for stop in (4, 6):
        run(options(stage, photos, tmp_path, stop, "parts", **extra), resume=True)
    states = [tmp_path / name / "state" / "00000006" for name in ("whole", "parts")]
    first, second = (all_tensors(state) for state in states)
    assert first.keys() == second.keys()
    assert any(key.startswith("optimizer_g/") for key in first)
    for name in first:
        assert torch.equal(first[name], second[name]), name
    lines = [
        [json.loads(line) for line in (tmp_path / name / "scalars.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert lines[0] == lines[1]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")
def test_another_number_of_loaders_and_stops_change_nothing(photos, tmp_path):
    made = {}
    for name, parts in (("whole", [(6, 0)]), ("parts", [(1, 2), (3, 0), (4, 1), (6, 3)])):
        for stop, workers in parts:
            raw = options("adversarial", photos, tmp_path, stop, name)
            raw["datasets"]["train"]["num_worker_per_gpu"] = workers
            run(raw, resume=stop != parts[0][0])
        made[name] = all_tensors(tmp_path / name / "state" / "00000006")
    assert all(torch.equal(made["whole"][key], made["parts"][key]) for key in made["whole"])


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no cuda device")
def test_resume_on_cuda(deterministic, photos, tmp_path):
    """Bit-identical with deterministic algorithms; else the runs differ as two undisturbed ones do."""
    for name, stops in (("whole", [6]), ("again", [6]), ("parts", [2, 4, 6])):
        for stop in stops:
            raw = options("adversarial", photos, tmp_path, stop, name) | {"device": "cuda", "deterministic": deterministic}
            run(raw, resume=stop != stops[0])
    whole, again, parts = (all_tensors(tmp_path / name / "state" / "00000006") for name in ("whole", "again", "parts"))
    if deterministic:
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
        return
    nets = [key for key in whole if key.startswith("net_g/")]
    apart, natural = (sum((whole[k] - other[k]).double().pow(2).sum() for k in nets) for other in (parts, again))
    assert apart <= 10 * natural + 1e-12


def test_deterministic_algorithms_are_chosen_for_a_run_only(photos, tmp_path, monkeypatch):
    seen, step = [], Stage.step

    def look(self, *arguments):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(self, *arguments)

    monkeypatch.setattr(Stage, "step", look)
    for name, chosen in (("usual", False), ("strict", True)):
        run(options("psnr", photos, tmp_path, 1, name) | {"deterministic": chosen})
        assert not torch.are_deterministic_algorithms_enabled()
    assert seen == [False, True]


TINY = {"img_size": 8, "window_size": 4, "depths": [2, 2], "embed_dim": 12, "num_heads": [2, 2]}
TINY |= {"upsampler": "pixelshuffle", "drop_path_rate": 0.5}
TRANSFORMERS = [{"type": "SwinIR", **TINY}, {"type": "DRCT", "gc": 4, **TINY}]


@pytest.mark.parametrize("network", TRANSFORMERS, ids=["SwinIR", "DRCT"])
def test_transformers_train_with_aesop_and_resume_bit_identically(network, photos, tmp_path):
    """Their stochastic depth is drawn anew in each step, so it resumes exactly too."""
    made = {}
    for name, stops in (("whole", [4]), ("parts", [2, 4])):
        for stop in stops:
            raw = options("adversarial", photos, tmp_path, stop, name) | {"network_g": network}
            raw["datasets"]["train"]["batch_size_per_gpu"] = 2
            run(raw, resume=stop > stops[0])
        made[name] = all_tensors(tmp_path / name / "state" / "00000004")
    first, second = made["whole"], made["parts"]
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key
    rows = [json.loads(line) for line in (tmp_path / "whole" / "scalars.jsonl").read_text().splitlines()]
    assert all(row["l_g_aesop"] > 0 for row in rows if "l_g_aesop" in row)
    net, info = load_network(tmp_path / "whole" / "models" / "net_g_00000004.safetensors")
    assert (info.arch, info.scale) == (network["type"], 4)
    assert net(torch.rand(1, 3, 9, 7)).shape == (1, 3, 36, 28)


def test_dropout_is_drawn_anew_in_each_step_and_process():
    seeds = {step_seed(seed, iteration, rank) for seed in (0, 1) for iteration in (1, 2) for rank in (0, 1)}
    assert len(seeds) == 8
    assert step_seed(0, 1, 0) == step_seed(0, 1, 0)


def test_a_generator_whose_output_has_another_size_than_hr_is_refused():
    stage = Stage(TrainOptions(total_iter=1, pixel_opt={"type": "L1Loss"}), build_network(RRDB | {"scale": 2}))
    with pytest.raises(
        ValueError, match=r"network_g: RRDBNet returns \(4, 3, 16, 16\) for LR images .* HR has \(4, 3, 32, 32\)"
    ):
        stage.step(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 32, 32), 1)


@pytest.mark.parametrize("kind", ["AutoEncoder_MSRResNet", "BicubicDown_RRDBNet", "ProbabilisticAutoEncoder_RRDBNet"])
def test_ablation_auto_encoders_train_and_serve_their_losses(kind, photos, tmp_path):
    decoder = {"type": "MSRResNet", "num_feat": 8, "num_block": 1} if "MSRResNet" in kind else RRDB
    probabilistic = kind.startswith("Probabilistic")
    extra = {"sigmabranch_opt": {"type": "L1Loss"}} if probabilistic else {}
    raw = options("autoencoder", photos, tmp_path, 2, "ae", **extra) | {"network_g": {"type": kind, "dec_opt": decoder}}
    path = run(raw)
    net, info = load_network(path)
    assert info.arch == kind
    fresh = build_network({**info.options})
    moved = [name for name, value in net.state_dict().items() if "decoder" in name and value.ndim > 1]
    assert any(not torch.equal(net.state_dict()[name], fresh.state_dict()[name]) for name in moved)

    losses = {"AutoEncoderLoss": "l1"}
    if probabilistic:
        losses |= {"ProbabilisticAutoEncoderReverseKLDivergenceLoss": "reverse"}
    if kind != "BicubicDown_RRDBNet":
        losses |= {"AutoEncoderBottleneckLoss": "l1"}
    for number, (loss, criterion) in enumerate(losses.items()):
        aesop = {"type": loss, "criterion": criterion, "autoencoder_load": {"path": str(path)}}
        run(options("adversarial", photos, tmp_path, 1, f"gan_{number}", aesop_opt=aesop))
        row = json.loads((tmp_path / f"gan_{number}" / "scalars.jsonl").read_text().splitlines()[0])
        assert row["l_g_aesop"] > 0, loss


def test_the_divergence_loss_refuses_an_auto_encoder_without_a_scale(photos, tmp_path):
    aesop = {
        "type": "ProbabilisticAutoEncoderReverseKLDivergenceLoss",
        "criterion": "reverse",
        "autoencoder_load": {"path": str(make_autoencoder(tmp_path))},
    }
    with pytest.raises(ValueError, match=r"autoencoder_load: .* needs a ProbabilisticAutoEncoder, found AutoEncoder"):
        run(options("adversarial", photos, tmp_path, 1, aesop_opt=aesop))


def test_lr_space_loss_takes_the_files_scale(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 1) | {"scale": 2, "network_g": RRDB | {"scale": 2}}
    raw["train"]["pixel_opt"] = {"type": "LRL1Loss"}
    config, _ = build_config(raw, "test")
    stage = Stage(config.train, build_network(config.network_g.model_dump()))
    lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        sr = stage.net_g(lq)
    small = [nn.functional.interpolate(x, scale_factor=0.5, mode="bicubic") for x in (sr, gt)]
    assert stage.step(lq, gt, 1)["l_pix"].item() == pytest.approx((small[0] - small[1]).abs().mean().item(), rel=1e-6)


@pytest.mark.parametrize("chosen", [(), ("l1_gt_usm",), ("percep_gt_usm",), ("gan_gt_usm",), ("aesop_gt_usm",)])
def test_each_usm_option_moves_its_own_losses_only(chosen):
    affected = {"l1_gt_usm": {"l_g_pix"}, "percep_gt_usm": {"l_g_percep"}, "aesop_gt_usm": {"l_g_aesop"}}
    affected["gan_gt_usm"] = {"l_g_gan", "l_d_real", "out_d_real"}
    raw = {
        "total_iter": 1,
        "pixel_opt": {"type": "L1Loss"},
        "perceptual_opt": {"layer_weights": {"conv1_2": 1.0}},
        "gan_opt": {},
        "aesop_opt": {},
    }

    def scalars(**flags: bool) -> dict[str, float]:
        torch.manual_seed(0)
        nets = [build_network(RRDB | {"scale": 4}), build_network({"type": "UNetDiscriminatorSN", "num_feat": 4})]
        autoencoder = build_network(AUTOENCODER | {"scale": 4})
        train_options = TrainOptions(**raw, **flags)
        ready = {"aesop_opt": AESOPLoss(autoencoder), "perceptual_opt": PerceptualLoss({"conv1_2": 1.0})}
        stage = AdversarialStage(train_options, *nets, losses=build_losses(train_options, ready=ready))
        gt = torch.rand(2, 3, 32, 32)
        values = stage.step(torch.rand(2, 3, 8, 8), gt, 1, gt.square())
        return {name: value.item() for name, value in values.items()}

    plain, sharpened = scalars(), scalars(**dict.fromkeys(chosen, True))
    moved = {name for name in plain if plain[name] != sharpened[name]}
    # The discriminator's second pair of terms comes after the generator's step, which hardly moves within one iteration.
    assert moved - {"l_d_fake", "out_d_fake"} == set().union(*(affected[name] for name in chosen))


def test_averaged_generator_gets_the_statistics_of_batch_norm():
    net = nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3), nn.Upsample(scale_factor=4))
    stage = Stage(TrainOptions(total_iter=1, pixel_opt={"type": "L1Loss"}), net)
    stage.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), 1)
    assert stage.net_g_ema is not None
    assert torch.equal(stage.net_g_ema[1].running_mean, stage.net_g[1].running_mean)
    assert stage.net_g[1].running_mean.abs().sum() > 0


def test_the_averages_decay_follows_from_the_iteration_alone():
    train = TrainOptions(total_iter=1, ema_decay=0.99, ema_warmup=True)
    assert [ema_decay(train, i) for i in (1, 2, 90, 10_000)] == [2 / 11, 3 / 12, 91 / 100, 0.99]
    for off in (False, None):
        assert ema_decay(train.model_copy(update={"ema_warmup": off}), 1) == 0.99


def test_the_average_is_the_closed_form_of_its_decays():
    torch.manual_seed(0)
    net = build_network({**RRDB, "scale": 4})
    train = {"total_iter": 3, "pixel_opt": {}, "optim_g": {"lr": 1e-2}, "ema_decay": 0.2, "ema_warmup": True}
    stage = Stage(TrainOptions.model_validate(train), net)
    expected = net.conv_first.weight.detach().clone()
    for iteration, decay in ((1, 2 / 11), (2, 0.2), (3, 0.2)):
        stage.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), iteration)
        expected = decay * expected + (1 - decay) * stage.net_g.conv_first.weight.detach()
    assert torch.allclose(stage.net_g_ema.conv_first.weight, expected, atol=1e-7)


@pytest.mark.slow
def test_after_200_iterations_the_averaged_net_is_as_good_as_the_raw_one(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 200)
    raw["logger"] |= {"save_checkpoint_freq": 200}
    raw["val"]["val_freq"] = 0
    run(raw)
    crops, net = TrainingCrops(build_config(raw, "test")[0].datasets.train, 4, seed=1), build_network({**RRDB, "scale": 4})
    gt, lq = (torch.stack([crops[k][part] for k in range(24)]).float() / 255 for part in ("gt", "lq"))
    error = {}
    for name in ("net_g", "net_g_ema"):
        net.load_state_dict(load_file(tmp_path / "run" / "state" / "00000200" / f"{name}.safetensors"))
        with torch.no_grad():
            error[name] = (net(lq) - gt).square().mean().item()
    assert 10 * math.log10(error["net_g_ema"] / error["net_g"]) < 0.2  # dB; without warm-up 5.7


def as_by_an_earlier_version(folder: Path) -> None:
    """Take the option that it did not have out of all that a run wrote."""
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            metadata = weights.metadata()
        lines = metadata.get("config", "").splitlines(keepends=True)
        save_weights(file, load_file(file), metadata | {"config": "".join(x for x in lines if "ema_warmup" not in x)})
    for file in folder.rglob("state.json"):
        content = json.loads(file.read_text())
        del content["sha256"]
        content["files"] = {name: sha256_of(file.parent / name) for name in content["files"]}
        file.write_text(json.dumps({"sha256": _checksum_of(content), **content}))


def test_a_run_begun_by_a_version_without_ema_warmup_goes_on_without(photos, tmp_path):
    whole = options("psnr", photos, tmp_path, 4, "whole", ema_warmup=False)
    run(whole)
    run(options("psnr", photos, tmp_path, 2, "parts", ema_warmup=False))
    as_by_an_earlier_version(tmp_path / "parts")
    raw = options("psnr", photos, tmp_path, 4, "parts")
    config, _ = build_config(raw, "test")
    assert config.train.ema_warmup is True
    for _ in range(2):  # the second time it is finished
        run_step("psnr", config)
        first, second = (all_tensors(tmp_path / name / "state" / "00000004") for name in ("whole", "parts"))
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert "ema_warmup" not in (tmp_path / "parts" / "config.yml").read_text()


def test_a_stage_finished_by_a_version_without_ema_warmup_is_finished(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 2)
    run(raw)
    config, _ = build_config(raw, "test")
    assert is_finished(config)
    without, _ = build_config(options("psnr", photos, tmp_path, 2, ema_warmup=False), "test")
    with pytest.raises(ValueError, match="ema_warmup: true"):
        is_finished(without)
    as_by_an_earlier_version(tmp_path / "run")
    assert is_finished(config)
    assert is_finished(without)


def test_run_leaves_what_the_documentation_says(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 4)
    raw["val"]["save_img"] = True
    raw["logger"]["use_tb_logger"] = True
    final = run(raw)
    folder = tmp_path / "run"
    assert final == folder / "models" / "net_g_00000004.safetensors"
    net, info = load_network(final)
    assert info.arch == "RRDBNet"
    assert info.scale == 4
    assert info.metadata["total_iter"] == "4"
    assert net(torch.rand(1, 3, 5, 7)).shape == (1, 3, 20, 28)
    for made in ("config.yml", "train.log", "scalars.jsonl", "tensorboard", "models/net_g_best.safetensors"):
        assert (folder / made).exists(), made
    assert len(list((folder / "visualization" / "00000004" / "val").glob("*.png"))) == 6
    assert [path.name for path in sorted((folder / "state").iterdir())] == ["00000002", "00000004"]
    best = json.loads((folder / "state" / "00000004" / "state.json").read_text())["best"]
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    assert best["psnr"] == max(row["val/psnr"] for row in rows if "val/psnr" in row)


@pytest.mark.parametrize(("stage", "growth", "expected"), [("psnr", 8, 1), ("psnr", 32, 0), ("autoencoder", 8, 0)])
def test_the_end_says_if_other_programs_do_not_load_the_network(stage, growth, expected, photos, tmp_path, caplog):
    raw = options(stage, photos, tmp_path, 1)
    network = raw["network_g"].get("dec_opt", raw["network_g"]) | {"num_grow_ch": growth}
    raw["network_g"] = network if stage == "psnr" else raw["network_g"] | {"dec_opt": network}
    run(raw)
    assert sum("aesop convert --portable" in record.message for record in caplog.records) == expected


def test_existing_run_is_not_overwritten(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 2)
    run(raw)
    with pytest.raises(ValueError, match="--resume"):
        run(raw)


def test_damaged_newest_state_falls_back_to_the_one_before(photos, tmp_path):
    run(options("psnr", photos, tmp_path, 4))
    newest = tmp_path / "run" / "state" / "00000004" / "net_g.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    run(options("psnr", photos, tmp_path, 6), resume=True)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "00000004 cannot be used" in log
    assert "continuing from" in log
    assert "00000002" in log


def test_state_of_another_stage_is_refused(photos, tmp_path):
    run(options("psnr", photos, tmp_path, 2))
    with pytest.raises(WeightsError, match="stage psnr"):
        run(options("autoencoder", photos, tmp_path, 4), resume=True)


@pytest.mark.parametrize("kind", [Stage, AutoEncoderStage])
def test_accumulation_gives_the_same_step(kind):
    torch.manual_seed(0)
    net = build_network(RRDB if kind is Stage else AUTOENCODER)
    lq, gt = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 32, 32)
    results = []
    for parts in (1, 2):
        train_options = TrainOptions(total_iter=1, accumulate=parts, pixel_opt={"type": "L1Loss"})
        stage = kind(train_options, copy.deepcopy(net))
        scalars = stage.step(lq, gt, 1)
        results.append((stage.net_g.state_dict(), scalars["l_pix"]))
    torch.testing.assert_close(results[0][1], results[1][1])
    # Adam's first step is lr * sign(g): rounding moves only weights whose gradient is rounding noise.
    flat = [torch.cat([t.ravel() for t in state.values()]) for state, _ in results]
    start = torch.cat([t.ravel() for t in net.state_dict().values()])
    assert (flat[0] - flat[1]).norm() < 0.02 * (flat[0] - start).norm()


class Counting(nn.Module):
    """Counts forward passes, and how many of them built a graph."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.passes, self.graphs = net, 0, 0

    def forward(self, x):
        y = self.net(x)
        self.passes += 1
        self.graphs += y.requires_grad
        return y


@pytest.mark.parametrize("artifacts", [True, False])
def test_each_network_runs_as_often_as_the_mathematics_needs(artifacts):
    train_options = TrainOptions(
        total_iter=1,
        gan_opt={},
        aesop_opt={},
        artifacts_opt={} if artifacts else None,
    )
    nets = [Counting(build_network(o)) for o in (RRDB, {"type": "UNetDiscriminatorSN", "num_feat": 8}, AUTOENCODER)]
    net_g, net_d, autoencoder = nets
    losses = build_losses(train_options, ready={"aesop_opt": AESOPLoss(autoencoder)})
    stage = AdversarialStage(train_options, net_g, net_d, losses=losses)
    stage.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), 1)
    assert (net_g.passes, net_g.graphs) == (1, 1)
    assert (net_d.passes, net_d.graphs) == (4, 3)  # HR without a graph for the generator, and both for D
    assert (autoencoder.passes, autoencoder.graphs) == (2, 1)
    assert stage.net_g_ema.passes == (1 if artifacts else 0)


def test_bf16_runs_and_keeps_weights_and_losses_in_fp32():
    stage = Stage(TrainOptions(total_iter=1, pixel_opt={}), build_network(RRDB), precision="bf16")
    scalars = stage.step(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 16, 16), 1)
    assert scalars["l_pix"].dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in stage.net_g.parameters())


def torchrun(arguments: list[str], processes: int = 2) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "-m", "aesop", *arguments], check=True, env=environment, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["psnr", "autoencoder", "adversarial"])
def test_two_processes_equal_one_with_the_doubled_batch(stage, photos, tmp_path):
    """Same samples, averaged gradients: float summation order is the only difference."""
    one = run(options(stage, photos, tmp_path, 4, "one"))
    raw = options(stage, photos, tmp_path, 4, "two")
    raw["datasets"]["train"]["batch_size_per_gpu"] = 2
    config, _ = build_config(raw, "test")
    (tmp_path / "two.yml").write_text(config.to_yaml())
    torchrun(["train", str(tmp_path / "two.yml")])
    logs = [
        [json.loads(line) for line in (tmp_path / name / "scalars.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for a, b in zip(*logs, strict=True):
        for row in (a, b):  # a relativistic loss has no gradient for D's last bias, which these show: Adam rounds there
            row.pop("out_d_real", None), row.pop("out_d_fake", None)
        assert a == pytest.approx(b, rel=2e-3), "the losses differ, so the samples or gradients do"
    start = load_file(one.with_name("net_g_00000002.safetensors"))
    ends = [load_file(tmp_path / name / "models" / one.name) for name in ("one", "two")]
    moved = sum((ends[0][k] - start[k]).pow(2).sum() for k in start)
    apart = sum((ends[0][k] - ends[1][k]).pow(2).sum() for k in start)
    assert apart < 1e-3 * moved


@pytest.mark.slow
def test_pipeline_on_two_processes(photos, tmp_path):
    stages = {stage: options(stage, photos, tmp_path, 2) for stage in ("psnr", "autoencoder", "adversarial")}
    for raw in stages.values():
        raw["datasets"]["train"]["batch_size_per_gpu"] = 2
        del raw["name"], raw["stage"]
    stages["adversarial"]["train"]["aesop_opt"] = {}
    (tmp_path / "pipeline.yml").write_text(yaml.safe_dump({"name": "both", "stages": stages}))
    torchrun(["pipeline", str(tmp_path / "pipeline.yml")])
    assert (tmp_path / "both" / "3_adversarial" / "models" / "net_g_00000002.safetensors").is_file()
