"""Training: what a run leaves, exact resume, accumulation, pass counts, several processes."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from aesop.archs import build_network
from aesop.config import TrainOptions
from aesop.engine.stages import AdversarialStage, AutoEncoderStage, PSNRStage
from aesop.engine.train import train
from aesop.option_file import build_config
from aesop.weights import WeightsError, load_network, save_weights

RRDB = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "dec_opt": RRDB}


def options(stage: str, photos: Path, root: Path, total_iter: int, name: str = "run", **train_options) -> dict:
    raw = {
        "name": name,
        "stage": stage,
        "device": "cpu",
        "network_g": AUTOENCODER if stage == "autoencoder" else RRDB,
        "datasets": {
            "train": {"dataroot_gt": str(photos), "gt_size": 32, "batch_size_per_gpu": 4, "num_worker_per_gpu": 0},
            "val": {"dataroot_gt": str(photos)},
        },
        "path": {"experiments_root": str(root), "from_scratch": True},
        "train": {"total_iter": total_iter, "optim_g": {"lr": 1e-3}, **train_options},
        "val": {"val_freq": 2, "save_img": False},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }
    if stage == "adversarial":
        raw["network_d"] = {"type": "UNetDiscriminatorSN", "num_feat": 8}
        raw["train"] = {"gan_opt": {}, "artifacts_opt": {}, "optim_d": {"lr": 1e-3}, **raw["train"]}
        raw["train"].setdefault("aesop_opt", {"autoencoder_load": {"path": str(make_autoencoder(root))}})
    else:
        raw["train"]["pixel_opt"] = {"type": "L1Loss"}
    return raw


def make_autoencoder(folder: Path) -> Path:
    path = folder / "ae.safetensors"
    if not path.exists():
        torch.manual_seed(1)
        described = {**AUTOENCODER, "scale": 4}
        save_weights(path, build_network(described).state_dict(), {"network": json.dumps(described)})
    return path


def run(raw: dict, resume: bool = False) -> Path:
    config, _ = build_config(raw, "test")
    return train(config, resume)


def all_tensors(state: Path) -> dict[str, torch.Tensor]:
    return {f"{file.stem}/{k}": v for file in sorted(state.glob("*.safetensors")) for k, v in load_file(file).items()}


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


@pytest.mark.parametrize("kind", [PSNRStage, AutoEncoderStage])
def test_accumulation_gives_the_same_step(kind):
    torch.manual_seed(0)
    net = build_network(RRDB if kind is PSNRStage else AUTOENCODER)
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
    stage = AdversarialStage(train_options, *nets)
    stage.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), 1)
    net_g, net_d, autoencoder = nets
    assert (net_g.passes, net_g.graphs) == (1, 1)
    assert (net_d.passes, net_d.graphs) == (4, 3)  # HR without a graph for the generator, and both for D
    assert (autoencoder.passes, autoencoder.graphs) == (2, 1)
    assert stage.net_g_ema.passes == (1 if artifacts else 0)


def test_bf16_runs_and_keeps_weights_and_losses_in_fp32():
    stage = PSNRStage(TrainOptions(total_iter=1, pixel_opt={}), build_network(RRDB), precision="bf16")
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
    """Same samples, averaged gradients: float summation order is the only difference.

    The GAN is the plain one: the relativistic one's means are each process's own.
    """
    extra = {"gan_opt": {"relativistic": False}} if stage == "adversarial" else {}
    one = run(options(stage, photos, tmp_path, 4, "one", **extra))
    raw = options(stage, photos, tmp_path, 4, "two", **extra)
    raw["datasets"]["train"]["batch_size_per_gpu"] = 2
    config, _ = build_config(raw, "test")
    (tmp_path / "two.yml").write_text(config.to_yaml())
    torchrun(["train", str(tmp_path / "two.yml")])
    logs = [
        [json.loads(line) for line in (tmp_path / name / "scalars.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for a, b in zip(*logs, strict=True):
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
