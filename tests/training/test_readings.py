"""Readings: the values against other ways to compute them, and that they change nothing."""

import copy
import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from cases import CASES
from tiny_runs import all_tensors, make_autoencoder, options, run
from torch import Tensor

from aesop.check.step_count import StepCounter
from aesop.images.resize import imresize
from aesop.training.image_readings import (
    checkerboard,
    colour_kept,
    colour_probe,
    detail,
    likeness,
    lr_fit,
    split_of_the_error,
)
from aesop.training.progress import step_seed
from aesop.training.readings import Readings
from aesop.training.stage import Stage, StepImages

CPU = torch.device("cpu")


def readings_of(stage: Stage, every: int = 1) -> Readings:
    config = SimpleNamespace(
        logger=SimpleNamespace(readings_freq=every), path=SimpleNamespace(autoencoder_for_readings=None),
        scale=4, train=stage.options, degradation=None, compile=False, cuda_graphs=False,
    )  # fmt: skip
    return Readings(config, stage)  # ty: ignore[invalid-argument-type]


def smooth_images(count: int, side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.nn.functional.interpolate(torch.rand(count, 3, 9, 9, generator=generator), (side, side), mode="bicubic")
    hr = (hr + 0.05 * torch.randn(hr.shape, generator=generator)).clamp(0, 1)
    return imresize(hr, 1 / 4), hr


STAGES = {
    "psnr": "fp32", "psnr, no average": "fp32", "autoencoder": "fp32", "autoencoder, frozen decoder": "bf16",
    "autoencoder, sigma": "fp32", "adversarial": "bf16", "adversarial, VGG style": "fp32", "adversarial, D alone": "fp32",
    "adversarial, SwinIR": "fp32", "adversarial, accumulate": "fp32",
}  # fmt: skip


@pytest.mark.parametrize(("name", "precision"), STAGES.items())
def test_readings_change_nothing(name, precision):
    """BatchNorm, spectral norm, stochastic depth, moments, averages: all tensors are the same, bit for bit."""
    case = CASES[name]
    lq, gt = smooth_images(2, case.side)
    ends = []
    for every in (0, 1):
        torch.manual_seed(0)
        stage = case.stage(CPU, precision)
        readings = readings_of(stage, every)
        for iteration in (1, 2):
            torch.manual_seed(step_seed(0, iteration, 0))
            readings.before(iteration)
            stage.step(lq, gt, iteration)
            after = torch.get_rng_state()
            values = readings.after(iteration, lq, gt)
            assert torch.equal(after, torch.get_rng_state())
        assert bool(values) == bool(every)
        ends.append(
            [tensor for net in stage.networks.values() for tensor in net.state_dict().values()]
            + [t for o in stage.optimizers.values() for each in o.state.values() for t in each.values()]
        )
    assert len(ends[0]) == len(ends[1])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("name", ["adversarial", "adversarial, VGG style", "adversarial, not relativistic", "psnr"])
def test_gradients_are_those_of_plain_autograd(name):
    case = CASES[name]
    lq, gt = smooth_images(2, case.side)
    torch.manual_seed(0)
    twin = case.stage(CPU, "fp32")
    twin.step(lq, gt, 1)
    torch.manual_seed(0)
    stage = case.stage(CPU, "fp32")
    readings = readings_of(stage)
    readings.before(1)
    stage.step(lq, gt, 1)
    values = readings.after(1, lq, gt)

    # No leaves: one graph through the generator and all losses.
    images = StepImages({"lq": lq, "gt": gt, "gt_usm": gt}, twin.make_image)
    images.output = lambda name, image: images.setdefault(name, image)  # ty: ignore[invalid-assignment]
    weights = list(twin.net_g.parameters())
    vectors: dict[str, dict[str, Tensor]] = {"sr": {}, "weights": {}}
    for option, term in twin.terms.items():
        loss = twin.weighted_loss(term, images)
        at_sr, *in_weights = torch.autograd.grad(loss, [images["sr"], *weights], retain_graph=True)
        label = readings.names[option]
        vectors["sr"][label] = at_sr.flatten()
        vectors["weights"][label] = torch.cat([gradient.flatten() for gradient in in_weights])
    assert {"gan", "aesop"} <= vectors["sr"].keys() or name == "psnr"
    for where, named in vectors.items():
        for label, vector in named.items():
            assert values[f"read/{where}/{label}"] == pytest.approx(float(vector.norm()), rel=1e-4)
        for a, b in itertools.combinations(named, 2):
            expected = float(torch.cosine_similarity(named[a], named[b], dim=0))
            assert values[f"read/{where}_cos/{a}+{b}"] == pytest.approx(expected, abs=1e-4)


def test_movement_of_weights_and_average():
    torch.manual_seed(0)
    stage = CASES["adversarial"].stage(CPU, "fp32")
    lq, gt = smooth_images(2, 32)
    before = {
        name: torch.cat([p.detach().flatten() for p in stage.networks[name].parameters()]) for name in ("net_g", "net_d")
    }
    readings = readings_of(stage)
    readings.before(1)
    stage.step(lq, gt, 1)
    values = readings.after(1, lq, gt)
    for name, then in before.items():
        now = torch.cat([p.detach().flatten() for p in stage.networks[name].parameters()])
        # Large tensors are sampled.
        assert values[f"read/update/{name[-1]}"] == pytest.approx(float((now - then).norm() / then.norm()), rel=0.1)
    ema, net = (
        torch.cat([p.detach().flatten() for p in n.parameters()]) for n in (stage.networks["net_g_ema"], stage.net_g)
    )
    assert values["read/ema/distance"] == pytest.approx(float((ema - net).norm() / net.norm()), rel=0.1)


def test_discriminator_readings():
    torch.manual_seed(0)
    stage = CASES["adversarial, not relativistic"].stage(CPU, "fp32")
    lq, gt = smooth_images(2, 32)
    stage.networks["net_d"].forward = lambda x: torch.where(torch.equal(x, gt) * torch.ones(2, 1) > 0, 6.0, -2.0)
    values = readings_of(stage)._discriminator(StepImages({"lq": lq, "gt": gt}, stage.make_image))
    assert float(values["d/gap"]) == 8
    assert float(values["d/accuracy"]) == 1
    assert float(values["d/saturation"]) == 0.5
    softplus = torch.nn.functional.softplus(torch.tensor([-6.0, -2.0]))
    assert float(values["d/loss"]) == pytest.approx(float(softplus.sum() / (2 * torch.log(torch.tensor(2.0)))), rel=1e-5)


def test_the_split_sums_to_the_error():
    sr, hr, ae_sr, ae_hr = torch.rand(4, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    split = {name: float(value) for name, value in split_of_the_error(sr, hr, ae_sr, ae_hr).items()}
    assert split["se"] + split["ve"] + split["cross"] == pytest.approx(split["mse"], rel=1e-9)
    assert split["mse"] == pytest.approx(float(torch.nn.functional.mse_loss(sr, hr)), rel=1e-9)
    assert split["se"] == pytest.approx(float(torch.nn.functional.mse_loss(ae_sr, ae_hr)), rel=1e-9)


@pytest.mark.parametrize("stage", ["psnr", "autoencoder", "adversarial"])
def test_a_resumed_run_reads_the_same(stage, photos, tmp_path):
    lines, ends = [], []
    for name, stops in (("whole", [4]), ("parts", [2, 4])):
        for stop in stops:
            raw = options(stage, photos, tmp_path, stop, name)
            raw["logger"]["readings_freq"] = 2
            if stage == "psnr":
                raw["path"]["autoencoder_for_readings"] = str(make_autoencoder(tmp_path))
            run(raw, resume=stop > stops[0])
        lines.append((tmp_path / name / "scalars.jsonl").read_text())
        ends.append(all_tensors(tmp_path / name / "state" / "00000004"))
    assert lines[0] == lines[1]
    rows = [json.loads(line) for line in lines[0].splitlines()]
    read = [row for row in rows if any(key.startswith("read/") for key in row)]
    assert [row["iter"] for row in read] == [2, 4]
    assert all("read/se" in row for row in read) == (stage != "autoencoder")
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.slow
def test_no_higher_peak_of_memory():
    case = copy.copy(CASES["adversarial, VGG style"])
    case.batch = 4
    peaks = []
    for every in (0, 1):
        torch.manual_seed(0)
        lq, gt = smooth_images(4, case.side)
        with StepCounter() as counter:
            stage = case.stage(CPU, "fp32")
            readings = readings_of(stage, every)
            for iteration in (1, 2):
                counter.restart()
                readings.before(iteration)
                stage.step(lq, gt, iteration)
                readings.after(iteration, lq, gt)
        peaks.append(counter.peak)
    assert peaks[1] <= peaks[0]


def test_an_auto_encoder_for_readings_is_checked_before_the_first_step(photos, tmp_path):
    raw = options("psnr", photos, tmp_path, 2)
    raw["path"]["autoencoder_for_readings"] = str(photos / "photo_0.png")
    with pytest.raises(ValueError, match=r"path\.autoencoder_for_readings"):
        run(raw)
    assert not (tmp_path / "run" / "scalars.jsonl").exists()


def test_blur_loses_detail():
    _, hr = smooth_images(2, 64)
    blurred = torch.nn.functional.avg_pool2d(hr, 5, 1, 2, count_include_pad=False)
    assert float(detail(hr, hr)) == 1
    assert float(detail(blurred, hr)) < 0.3


def test_detail_of_a_flat_picture_says_nothing():
    hr = torch.full((1, 3, 16, 16), 0.5)
    assert detail(hr + 0.05 * torch.rand(hr.shape), hr).isnan()


def test_a_pattern_of_the_grid_is_found_and_other_errors_are_not():
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, 64, 64, generator=generator)
    pattern = 0.02 * torch.randn(4, 4, generator=generator).repeat(16, 16)
    noise = 0.02 * torch.randn(hr.shape, generator=generator)
    blurred = torch.nn.functional.avg_pool2d(hr, 5, 1, 2, count_include_pad=False)
    assert float(checkerboard(hr + pattern, hr, 4)) > 1e4
    # Noise alone: the geometric mean of exponentially distributed energies is exp(-0.577) of their mean; fewer vary than 9.
    assert 0.5 < float(checkerboard(hr + noise, hr, 4)) < 1.1
    assert 0.4 < float(checkerboard(blurred, hr, 4)) < 1.1
    # The pattern's energy is 16 ** 2 times that of a frequency in noise of the same energy, over 15 frequencies.
    assert float(checkerboard(hr + pattern + noise, hr, 4)) > 10
    assert float(checkerboard(hr + pattern.roll((1, 2), (0, 1)) + noise, hr, 4)) > 10
    assert torch.isnan(checkerboard(hr[..., :24, :24], hr[..., :24, :24] * 0.9, 4))  # too small
    assert torch.isnan(checkerboard(hr * 0.9, hr, 1))


def test_lost_colours_are_found():
    probe = colour_probe(4)
    assert probe.shape == (1, 3, 96, 96)
    assert float(colour_kept(probe, probe)) == pytest.approx(1, abs=1e-5)
    gray = probe.mean(1, keepdim=True).expand_as(probe)
    assert float(colour_kept(probe, gray)) < 1e-5
    assert float(colour_kept(probe, probe * torch.tensor([1, 1, 0.3])[:, None, None])) == pytest.approx(0.3, abs=1e-5)
    # A mixture of colours that can be undone loses none.
    assert float(colour_kept(probe, probe[:, [2, 0, 1]])) == pytest.approx(1, abs=1e-5)


def test_an_lr_image_of_another_kernel_is_told_from_no_lr_image():
    lq, _ = smooth_images(2, 96)
    same = lr_fit(lq, lq)
    assert float(same["equal"]) == 1
    assert float(same["fit"]) > 0.99
    assert float(same["shift"]) < 0.01
    assert float(same["width"]) == pytest.approx(0, abs=0.01)
    shifted = lr_fit(lq.roll(1, -1), lq)
    assert float(shifted["shift"]) == pytest.approx(1, abs=0.05)
    assert float(shifted["equal"]) < 0.9 < 0.99 < float(shifted["fit"])
    other = lr_fit(torch.rand(lq.shape, generator=torch.Generator().manual_seed(1)), lq)
    assert float(other["fit"]) < 0.2
    # The kernel (1, 2, 1) / 4 along both axes has a variance of 0.5; its inverse has about as much less.
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    blurred = torch.nn.functional.conv2d(torch.nn.functional.pad(lq, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    assert float(lr_fit(blurred, lq)["width"]) == pytest.approx(0.5, abs=0.02)
    assert float(lr_fit(lq, blurred)["width"]) < -0.4
    flat = lr_fit(torch.full_like(lq, 0.4), lq)
    assert float(flat["fit"]) < 0.5
    assert torch.isnan(lr_fit(lq[..., :6, :6], lq[..., :6, :6])["fit"])  # too few pixels


def test_pictures_that_do_not_belong_together():
    lq, hr = smooth_images(3, 64)
    assert bool((likeness(lq, hr, 4) > 0.9).all())
    assert float(likeness(lq.roll(1, 0), hr, 4).max()) < 0.5
    assert float(likeness(torch.full_like(lq, 0.5), hr, 4).min()) == 1
