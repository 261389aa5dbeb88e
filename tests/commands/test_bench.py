"""`aesop bench`: what it measures, not how fast."""

import json

import pytest
import torch

from aesop.check.time_and_memory import time_parts
from aesop.options.read import build_config
from aesop.system.distributed import World
from aesop.training.build_stage import build_stage
from test_cli import options, run, smooth, write_options, write_rgb


@pytest.fixture
def photos(tmp_path):
    for seed in (1, 2):
        write_rgb(tmp_path / "photos" / f"{seed}.png", smooth(seed))
    return tmp_path / "photos"


def test_the_parts_are_all_losses_and_networks_of_a_step(tmp_path, photos):
    changes = {
        "path__from_scratch": True,
        "train__gan_opt": {},
        "train__artifacts_opt": {},
        "train__optim_d": {},
        "train__pixel_opt": {"loss_weight": 0.01},
    }
    raw = options(tmp_path, photos, **changes) | {"stage": "adversarial"}
    raw["network_d"] = {"type": "UNetDiscriminatorSN", "num_feat": 4}
    stage = build_stage(build_config(raw, "test")[0], World())
    lq, gt = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)
    losses = {name for name in stage.step(lq, gt, 1) if name.startswith("l_g")}
    found = time_parts(stage, lq, gt, 0.01)
    assert set(found) == losses | {"net_g", "net_d", "optimizers, EMA"}
    assert all(seconds > 0 for seconds in found.values())


def test_the_command_prints_and_writes(tmp_path, photos):
    file = write_options(tmp_path, options(tmp_path, photos))
    result = run("bench", file, "--seconds", "0.1", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert "images/s" in result.output
    assert "net_g" in result.output
    content = json.loads((tmp_path / "out.json").read_text())
    assert set(content["parts"]) == {"net_g", "l_pix", "optimizers, EMA"}
    assert content["computing"] > 0
    assert not (tmp_path / "runs").exists()


def test_options_that_cannot_be_used_are_said(tmp_path, photos):
    result = run(
        "bench", write_options(tmp_path, options(tmp_path, photos)), "--seconds", "0.1", "cuda_graphs=true", "device=cpu"
    )
    assert result.exit_code == 0, result.output
    assert result.output.count("note: cuda_graphs is ignored: it needs CUDA, but this is cpu") == 1


@pytest.mark.parametrize("option", ["device=tpu", "precision=fp16"])
def test_what_is_not_there_is_named(option, tmp_path, photos):
    result = run("bench", write_options(tmp_path, options(tmp_path, photos)), option)
    assert result.exit_code == 1
    assert option.partition("=")[0] in result.stderr
