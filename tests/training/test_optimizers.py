"""Adan and schedule-free AdamW: their formulas, skipped steps, exact resume, what is saved for use."""

import importlib
import json
import math

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import RRDB, all_tensors, options, run
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.options.error_messages import ConfigError
from aesop.options.read import build_config
from aesop.options.training import OptimizerOptions, TrainOptions
from aesop.training.optimizers import AdamWScheduleFree, Adan, make_optimizer, moments, restore_moments
from aesop.training.skipped_steps import step_unless_broken
from aesop.training.stage import Stage

OWN = ["Adan", "AdamWScheduleFree"]
LR, DECAY, EPS = 0.01, 0.1, 1e-8


def net_and_average() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1, bias=False))
    average = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1, bias=False))
    average.load_state_dict(net.state_dict())
    return net, average


def gradients(net: nn.Module, count: int) -> list[list[Tensor]]:
    drawn = torch.Generator().manual_seed(3)
    return [[torch.randn(p.shape, generator=drawn) * 10.0 ** (k % 3 - 2) for p in net.parameters()] for k in range(count)]


def stepped(optimizer: torch.optim.Optimizer, net: nn.Module, steps: list[list[Tensor]]) -> None:
    for step in steps:
        for parameter, gradient in zip(net.parameters(), step, strict=True):
            parameter.grad = gradient.clone()
        step_unless_broken(optimizer, [p.grad for p in net.parameters()])


def adan_by_the_paper(theta: Tensor, steps: list[Tensor]) -> Tensor:
    """Algorithm 1 in the paper's beta, with the bias corrections of the authors' code, in float64."""
    b1, b2, b3 = 0.02, 0.08, 0.01
    m = v = n = torch.zeros_like(theta)
    for k, g in enumerate(steps, 1):
        d = torch.zeros_like(g) if k == 1 else g - steps[k - 2]
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * d
        n = (1 - b3) * n + b3 * (g + (1 - b2) * d) ** 2
        eta = LR / ((n / (1 - (1 - b3) ** k)).sqrt() + EPS)
        theta = (theta - eta * (m / (1 - (1 - b1) ** k) + (1 - b2) * v / (1 - (1 - b2) ** k))) / (1 + DECAY * LR)
    return theta


def schedule_free_by_the_paper(x: Tensor, steps: list[Tensor], rates: list[float]) -> tuple[Tensor, Tensor]:
    """Algorithm 1 in float64, with the average weighted by squared rates; returns y and x."""
    z, v, y, total = x, torch.zeros_like(x), x, 0.0
    for t, (g, rate) in enumerate(zip(steps, rates, strict=True), 1):
        v = 0.99 * v + 0.01 * g**2
        z = z - rate * g / ((v / (1 - 0.99**t)).sqrt() + EPS) - rate * DECAY * y
        weight = max(rates[:t]) ** 2
        total += weight
        x = (1 - weight / total) * x + weight / total * z
        y = 0.1 * z + 0.9 * x
    return y, x


def test_adan_is_that_of_the_paper():
    net, _ = net_and_average()
    steps = gradients(net, 20)
    expected = [
        adan_by_the_paper(p.detach().double(), [step[k].double() for step in steps]) for k, p in enumerate(net.parameters())
    ]
    stepped(make_optimizer(OptimizerOptions(type="Adan", lr=LR, weight_decay=DECAY), net), net, steps)
    for parameter, value in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value.float(), rtol=1e-5, atol=1e-6)


def test_schedule_free_adamw_is_that_of_the_paper():
    net, average = net_and_average()
    steps, rates = gradients(net, 20), [LR * min(1, (k + 1) / 5) for k in range(20)]
    expected = [
        schedule_free_by_the_paper(p.detach().double(), [step[k].double() for step in steps], rates)
        for k, p in enumerate(net.parameters())
    ]
    optimizer = make_optimizer(OptimizerOptions(type="AdamWScheduleFree", lr=LR, weight_decay=DECAY), net, average)
    for step, rate in zip(steps, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        stepped(optimizer, net, [step])
    for parameter, averaged, (y, x) in zip(net.parameters(), average.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), y.float(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(averaged.detach(), x.float(), rtol=1e-5, atol=1e-6)


def installed(package: str):
    try:
        return importlib.import_module(package)
    except ImportError:
        pytest.skip(f"{package} is not installed")


def test_adan_agrees_with_a_package():
    package = installed("pytorch_optimizer")
    (net, other), steps = net_and_average(), gradients(net_and_average()[0], 20)
    stepped(make_optimizer(OptimizerOptions(type="Adan", lr=LR, weight_decay=DECAY), net), net, steps)
    stepped(package.Adan(other.parameters(), lr=LR, weight_decay=DECAY), other, steps)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_schedule_free_adamw_agrees_with_its_authors():
    package = installed("schedulefree")
    (net, average), (other, _) = net_and_average(), net_and_average()
    steps = gradients(net, 20)
    stepped(make_optimizer(OptimizerOptions(type="AdamWScheduleFree", lr=LR, weight_decay=DECAY), net, average), net, steps)
    theirs = package.AdamWScheduleFree(other.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=DECAY)
    theirs.train()
    stepped(theirs, other, steps)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    theirs.eval()
    for a, b in zip(average.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [*OWN, "Adam", "AdamW"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_gradient_changes_nothing_wherever_it_comes(kind, value):
    """The steps around it are those of a run without it, bit for bit: at the very first step, too."""
    found = []
    for broken_before in ((), (0,), (2, 5)):
        net, average = net_and_average()
        optimizer = make_optimizer(OptimizerOptions(type=kind, lr=LR, weight_decay=DECAY), net, average)
        for number, step in enumerate(gradients(net, 6)):
            if number in broken_before:
                bad = [gradient.clone() for gradient in gradients(net, 1)[0]]
                bad[1][0] = value
                stepped(optimizer, net, [bad])
            stepped(optimizer, net, [step])
        found.append({**net.state_dict(), **{f"x.{k}": v for k, v in average.state_dict().items()}, **moments(optimizer)})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, tensor in other.items():
            assert torch.equal(tensor, found[0][name]), name


@pytest.mark.parametrize(
    ("stage", "kind", "of_d"),
    [("psnr", "Adan", None), ("autoencoder", "AdamWScheduleFree", None), ("adversarial", "AdamWScheduleFree", "Adan")],
)
def test_a_resumed_run_is_bit_identical(stage, kind, of_d, photos, tmp_path):
    """With a validation before the stop, a warm-up, and a decoder that is released afterwards."""
    extra = {"freeze_decoder": 2} if stage == "autoencoder" else {}
    extra |= {"optim_g": {"type": kind, "lr": 1e-3, "weight_decay": 0.01}, "warmup_iter": 3}
    extra |= {"optim_d": {"type": of_d, "lr": 1e-3}} if of_d else {}
    run(options(stage, photos, tmp_path, 4, "whole", **extra))
    for stop in (2, 4):
        run(options(stage, photos, tmp_path, stop, "parts", **extra), resume=stop > 2)
    whole, parts = (all_tensors(tmp_path / name / "state" / "00000004") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name
    lines = [(tmp_path / name / "scalars.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1]


def test_the_average_of_schedule_free_adamw_is_the_network_for_use(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 4, optim_g={"type": "AdamWScheduleFree", "lr": 1e-2})
    final = load_file(run(raw))
    state = tmp_path / "run" / "state" / "00000004"
    trained, averaged = (load_file(state / f"{name}.safetensors") for name in ("net_g", "net_g_ema"))
    z = {int(k.split(".")[0]): v for k, v in load_file(state / "optimizer_g.safetensors").items() if k.endswith(".z")}
    names = [name for name, _ in build_network(RRDB | {"scale": 4}).named_parameters()]
    for number, name in enumerate(names):
        assert torch.equal(final[name], averaged[name])
        assert not torch.equal(final[name], trained[name])
        torch.testing.assert_close(trained[name], 0.1 * z[number] + 0.9 * averaged[name])  # y, where gradients are taken
    rows = [json.loads(line) for line in (tmp_path / "run" / "scalars.jsonl").read_text().splitlines()]
    measured = [row["val/psnr"] for row in rows if "val/psnr" in row]
    assert measured
    raw = options("psnr", photos, tmp_path, 1, "again")  # the average alone, measured
    raw["path"]["pretrain_network_g"] = str(state / "net_g_ema.safetensors")
    raw["train"] |= {"optim_g": {"lr": 1e-30}, "ema_decay": 0}
    raw["val"]["val_freq"] = 1
    run(raw)
    again = [json.loads(line) for line in (tmp_path / "again" / "scalars.jsonl").read_text().splitlines()]
    assert [row["val/psnr"] for row in again if "val/psnr" in row] == pytest.approx(measured[-1:])


@pytest.mark.parametrize(
    ("optimizers", "fault"),
    [
        ({"optim_g": {"type": "AdamWScheduleFree"}, "ema_decay": 0.999}, r"train\.ema_decay: .*leave ema_decay out"),
        ({"optim_d": {"type": "AdamWScheduleFree"}}, r"train\.optim_d\.type"),
        ({"optim_g": {"type": "Adan", "betas": [0.9, 0.99]}}, r"train\.optim_g.*Adan has 3 decay rates, found 2"),
        ({"optim_g": {"betas": [0.9, 0.99, 0.9]}}, r"train\.optim_g.*Adam has 2 decay rates, found 3"),
        ({"optim_g": {"betas": [0.9, 1]}}, r"train\.optim_g\.betas.*less than 1"),
    ],
)
def test_options_that_do_not_fit_are_named(optimizers, fault, photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 1)
    raw["train"] |= optimizers
    with pytest.raises(ConfigError, match=fault):
        build_config(raw, "test")


def test_the_artifact_loss_takes_the_average_of_the_optimizer(photos, tmp_path):
    raw = options("adversarial", photos, tmp_path, 1, optim_g={"type": "AdamWScheduleFree"})
    config, _ = build_config(raw, "test")
    assert config.train.ema_decay == 0
    again, _ = build_config(config.model_dump(mode="json", exclude_none=True), "test")
    assert again.train == config.train


def test_moments_of_another_optimizer_are_left_out_with_a_line(photos, tmp_path, caplog):
    run(options("psnr", photos, tmp_path, 2))
    run(options("psnr", photos, tmp_path, 3, optim_g={"type": "Adan"}), resume=True)
    assert "optimizer_g.safetensors holds the moments of another optimizer: those of Adan begin at 0" in caplog.text


@pytest.mark.parametrize("kind", OWN)
def test_moments_are_restored_whole(kind):
    net, average = net_and_average()
    optimizer = make_optimizer(OptimizerOptions(type=kind), net, average)
    stepped(optimizer, net, gradients(net, 3))
    other = make_optimizer(OptimizerOptions(type=kind), net, average)
    restore_moments(other, moments(optimizer))
    saved, restored = moments(optimizer), moments(other)
    assert saved.keys() == restored.keys()
    assert all(torch.equal(saved[name], restored[name]) for name in saved)
    assert isinstance(other, (Adan, AdamWScheduleFree))


def test_a_frozen_tensor_stays_in_the_average_too():
    torch.manual_seed(0)
    net = build_network(RRDB | {"scale": 4})
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    train = TrainOptions(total_iter=1, pixel_opt={}, optim_g={"type": "AdamWScheduleFree"}, freeze=["conv_first.*"])
    stage = Stage(train, net)
    for iteration in (1, 2):
        stage.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), iteration)
    for name, tensor in stage.network_for_use.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("conv_first.")
