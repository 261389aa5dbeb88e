"""channels_last, compile and cuda_graphs: the same step, and a warning where one of them cannot be used."""

import shutil

import pytest
import torch
from tiny_runs import all_tensors, options, run

from aesop.archs.rrdbnet import RRDB
from aesop.options.read import build_config
from aesop.system.device import _pays, reason_against_bf16
from aesop.system.distributed import World
from aesop.training import build_stage as build_stage_module
from aesop.training.acceleration import accelerate
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.build_stage import build_stage
from aesop.training.stage import Stage


def built(raw: dict, **switches) -> Stage:
    config = build_config(raw | switches, "test")[0]
    stage = build_stage(config, World())
    accelerate(stage, config.channels_last, config.compile, config.cuda_graphs)
    return stage


def images(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 32, 32, generator=generator)


def steps(stage: Stage, count: int, first: int = 1) -> list[dict[str, float]]:
    found = []
    for iteration in range(first, first + count):
        rate = stage.set_learning_rate(iteration)
        scalars = stage.step(*images(iteration), iteration)
        found.append({"rate": rate, "skipped": stage.skipped, **scalars})
    return [{name: float(value) for name, value in step.items()} for step in found]


def weights(stage: Stage) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name, net in stage.networks.items() for key, value in net.state_dict().items()}


@pytest.mark.parametrize("kind", ["psnr", "autoencoder", "adversarial"])
def test_channels_last_changes_the_layout_and_not_the_step(kind, photos, tmp_path):
    raw = options(kind, photos, tmp_path, 3)
    plain, changed = built(raw), built(raw, channels_last=True)
    kernels = [p for p in changed.net_g.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in kernels)
    if isinstance(changed, AdversarialStage):
        autoencoder = changed.terms["aesop_opt"].loss.autoencoder
        inner = next(p for p in autoencoder.decoder.parameters() if p.ndim == 4)
        assert inner.is_contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(steps(changed, 3), steps(plain, 3), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_channels_last_resumes_exactly(photos, tmp_path):
    raw = options("adversarial", photos, tmp_path, 5, "whole") | {"channels_last": True}
    run(raw)
    run(options("adversarial", photos, tmp_path, 3, "parts") | {"channels_last": True})
    run(options("adversarial", photos, tmp_path, 5, "parts") | {"channels_last": True}, resume=True)
    whole, parts = (all_tensors(tmp_path / name / "state" / "00000005") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_networks_make_the_same_step(photos, tmp_path, caplog):
    raw = options("psnr", photos, tmp_path, 2)
    plain, compiled = built(raw), built(raw, compile=True)
    for ours, theirs in zip(steps(compiled, 2), steps(plain, 2), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    run(raw | {"compile": True})  # with a validation
    assert "falling back" not in caplog.text


def test_a_compiler_that_fails_is_said_once_and_left_out(photos, tmp_path, caplog, monkeypatch):
    def broken(function, mode):
        def fast(*args, **kwargs):
            raise RuntimeError("no C++ compiler\nand a long story")

        return fast

    raw = options("psnr", photos, tmp_path, 3)
    expected = steps(built(raw), 3)
    monkeypatch.setattr(torch, "compile", broken)
    assert steps(built(raw, compile=True), 3) == expected
    (line,) = [record.message for record in caplog.records if "compile" in record.message]
    assert line == "compile: falling back to eager mode, because RuntimeError: no C++ compiler"


def test_what_the_compiler_is_not_to_blame_for_is_raised(photos, tmp_path, caplog, monkeypatch):
    def refusing(*args):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch, "compile", lambda function, mode: refusing)
    with pytest.raises(torch.OutOfMemoryError):
        steps(built(options("psnr", photos, tmp_path, 3), compile=True), 1)
    assert "falling back" not in caplog.text


def test_graphs_without_cuda_are_ignored_with_a_warning(photos, tmp_path, caplog):
    raw = options("psnr", photos, tmp_path, 3)
    expected = steps(built(raw), 2)
    assert steps(built(raw, cuda_graphs=True), 2) == expected
    assert "cuda_graphs is ignored: it needs CUDA, but this is cpu" in caplog.text


def test_cuda_graphs_are_those_of_the_compiler_and_every_step_is_marked(photos, tmp_path, monkeypatch):
    """On the CPU with a stand-in for the compiler: CUDA itself was not run."""
    raw = options("adversarial", photos, tmp_path, 3)
    plain, stage = built(raw), built(raw)
    events = []

    def compiler(function, mode):
        events.append(mode)
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("step"))
    stage.world = World(device=torch.device("cuda"))
    step = accelerate(stage, cuda_graphs=True)
    stage.world = World()
    assert set(events) == {"reduce-overhead"}
    events.clear()
    for iteration in (1, 2, 3):
        assert step(*images(iteration), iteration) == plain.step(*images(iteration), iteration)
    assert events == ["step"] * 3


@pytest.mark.parametrize("processes", [1, 2])
def test_networks_whose_processes_exchange_statistics_are_not_compiled(processes, photos, tmp_path, monkeypatch):
    stage = built(options("adversarial", photos, tmp_path, 3))
    assert isinstance(stage, AdversarialStage)
    stage.net_d.add_module("norm", torch.nn.BatchNorm2d(3))
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, mode: compiled.append(function.__self__) or function)
    stage.world = World(size=processes)
    accelerate(stage, compile=True)
    assert (stage.net_d in compiled) == (processes == 1)
    assert any(isinstance(part, RRDB) for part in compiled)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["psnr", "autoencoder", "adversarial"])
def test_cuda_graphs_make_the_same_steps(kind, photos, tmp_path, caplog):
    """With two kinds of steps, a rate that grows after the graphs are recorded, and NaN in one step."""
    changes = {"adversarial": {"net_d_iters": 2}, "autoencoder": {"freeze_decoder": 5}}.get(kind, {})
    schedule = {"type": "MultiStepLR", "milestones": [12], "gamma": 100}
    raw = options(kind, photos, tmp_path, 20, scheduler=schedule, optim_g={"lr": 1e-5}, **changes) | {"device": "cuda"}
    ends, skipped = [], []
    for switched in (False, True):
        config = build_config(raw | {"cuda_graphs": switched}, "test")[0]
        stage = build_stage(config, World(device=torch.device("cuda")))
        step = accelerate(stage, config.channels_last, config.compile, config.cuda_graphs)
        before = {name: value.clone() for name, value in weights(stage).items()}
        for iteration in range(1, 17):
            lq, gt = (image.cuda() for image in images(iteration))
            stage.set_learning_rate(iteration)
            step(lq, gt * float("nan") if iteration == 14 else gt, iteration)
            skipped.append(bool(stage.skipped))
        ends.append({name: value - before[name] for name, value in weights(stage).items() if name.startswith("net_g.")})
    assert "falling back" not in caplog.text
    assert skipped == [iteration == 14 for _ in range(2) for iteration in range(1, 17)]
    for name, moved in ends[0].items():
        assert (ends[1][name] - moved).abs().max() <= 0.1 * moved.abs().max()


def test_bf16_where_it_would_be_slower_is_said_once_and_left_out(photos, tmp_path, caplog, monkeypatch):
    raw = options("psnr", photos, tmp_path, 2)
    expected = steps(built(raw), 2)
    monkeypatch.setattr("aesop.system.device.reason_against_bf16", lambda device: "it has no instructions for it")
    _pays.cache_clear()
    try:
        assert steps(built(raw | {"precision": "bf16"}), 2) == expected
    finally:
        _pays.cache_clear()
    assert [record.message for record in caplog.records if "bf16" in record.message] == [
        "precision: falling back from bf16 to fp32: it has no instructions for it"
    ]


@pytest.mark.skipif(bool(without := reason_against_bf16(torch.device("cpu"))), reason=f"bf16: {without}")
def test_bf16_steps_stay_near_those_of_fp32_and_are_others(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 2)
    found, expected = steps(built(raw | {"precision": "bf16"}), 2), steps(built(raw), 2)
    assert found != expected
    assert all(ours == pytest.approx(theirs, rel=2e-2) for ours, theirs in zip(found, expected, strict=True))


def test_recomputing_random_blocks_is_reported_before_the_start(photos, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(build_stage_module.STAGES, "psnr", lambda *args, **options: None)  # no GPU is there
    monkeypatch.setattr(build_stage_module, "build_losses", lambda *args: {})
    small = {"img_size": 8, "window_size": 4, "depths": [2], "embed_dim": 12, "num_heads": [2], "upsampler": "pixelshuffle"}
    swinir = {"type": "SwinIR", "upscale": 4, **small}

    def messages(device: str, **network) -> list[str]:
        caplog.clear()
        config = build_config(options("psnr", photos, tmp_path, 3) | {"network_g": swinir | network}, "test")[0]
        build_stage(config, World(device=torch.device(device)))
        return caplog.messages

    (message,) = messages("cuda", use_checkpoint=True)
    assert "with drop_path_rate," in message
    assert "set network_g.drop_path_rate=0," in message
    assert not messages("cuda", use_checkpoint=True, drop_path_rate=0.0)
    assert not messages("cuda")
    assert not messages("cpu", use_checkpoint=True)
