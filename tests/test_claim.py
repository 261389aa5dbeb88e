"""reproduction/claim.py: its statistics against closed forms, and the whole at toy size."""

import json
import math
import os
import sys
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch

from aesop.commands.pipeline import run_step
from aesop.evaluation.measure import measure
from aesop.evaluation.methods import predict
from aesop.images import pack
from aesop.images.read import ImageFile
from aesop.images.write import write_image
from aesop.metrics.build import make_metrics
from aesop.options.pipeline import plan
from aesop.options.validation import MetricOptions
from aesop.system.distributed import World
from aesop.weights.load import load_autoencoder, load_generator

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduction"))

import claim
import lanes
import record
import ship

SHARED = Path(os.environ.get("AESOP_SHARED", "../shared"))

TOY = [
    "device=cpu",
    "datasets.train.gt_size=48",
    "datasets.train.batch_size_per_gpu=2",
    "stages.adversarial.network_d.num_feat=4",
    "stages.adversarial.train.total_iter=10",
    "stages.adversarial.val.val_freq=0",
    "stages.adversarial.logger.save_checkpoint_freq=1",
    "stages.adversarial.logger.readings_freq=5",
]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# --- statistics ----------------------------------------------------------------------------------------------------------


def made(psnr: float, lpips: float, images: int = 3, start: bool = False, **more: float) -> list[claim.Point]:
    """A run whose networks lie on straight lines from the PSNR net (30 dB, LPIPS 0.4) to its end, and its blend on them."""

    def point(at: int, share: float, name: str, part: float) -> claim.Point:
        values = {
            "psnr": 30 + part * (psnr - 30),
            "lrpsnr": 40 + 2 * part * (psnr - 30),
            "lpips": 0.4 + part * (lpips - 0.4),
        }
        values |= {"se": 1e-4, "ve": 2e-4} | more
        return claim.Point(at, share, name, {metric: [value] * images for metric, value in values.items()})

    if start:
        return [point(0, 0.0, name, 0) for name in claim.SETS]
    way = [point(200 * k, 1.0, claim.FOLLOWED, k / claim.STEPS) for k in range(1, claim.STEPS + 1)]
    return [
        *way,
        point(1000, 1.0, "BSDS_test50", 1),
        *(point(1000, claim.SHARE, name, claim.SHARE) for name in claim.SETS),
    ]


def test_what_aesop_has_more_at_equal_lpips():
    """On straight lines a run has 30 + (30 - end) * (0.4 - level) / (end - 0.4) dB at a level."""
    ends = {
        "aesop_0": (28.0, 0.2),
        "aesop_1": (28.2, 0.2),
        "pixel_0": (27.0, 0.2),
        "pixel_1": (27.6, 0.1),
        "pixel_2": (27, 0.1),
    }
    measured = {"start": made(0, 0, start=True)} | {name: made(*end) for name, end in ends.items()}
    level = 0.2
    at = {name: 30 + (psnr - 30) * (0.4 - level) / (0.4 - lpips) for name, (psnr, lpips) in ends.items()}
    differences = [at["aesop_0"] - at["pixel_0"], at["aesop_1"] - at["pixel_1"]]
    head, _, psnr, lrpsnr = claim.at_equal_lpips(measured, "BSDS_test50").splitlines()
    assert head.startswith("| BSDS_test50, LPIPS 0.2000: AESOP has more than |")
    middle = mean(differences)
    half = 12.706 * stdev(differences) / math.sqrt(2)  # Student's t of 97.5 % with one degree of freedom, from a table
    low, high = f"{middle - half:+.2f}", f"{middle + half:+.2f}"
    cells = [cell.strip() for cell in psnr.strip("|").split("|")]
    assert cells[:2] == ["pixel L1, weight 1: PSNR", f"{middle:+.3f}"]
    assert [f"{float(end):+.2f}" for end in cells[2].split(" to ")] == [low, high]
    assert cells[3:] == [f"{middle:+.3f} to {middle:+.3f}", "2"]  # all images are alike; pixel_2 has no partner
    assert f"| {2 * middle:+.3f} |" in lrpsnr


def test_images_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    measured = {"start": made(0, 0, 50, start=True), "aesop_0": made(28, 0.2, 50), "pixel_0": made(28, 0.2, 50)}
    gain = rng.normal(0.5, 1, 50)
    for point in measured["aesop_0"]:
        point.values["psnr"] = [value + each for value, each in zip(point.values["psnr"], gain, strict=True)]
    cells = [cell.strip() for cell in claim.at_equal_lpips(measured, "Set14").splitlines()[2].strip("|").split("|")]
    low, high = (float(end) for end in cells[3].split(" to "))
    expected = 1.96 * gain.std() / math.sqrt(50)
    assert float(cells[1]) == pytest.approx(gain.mean(), abs=1e-3)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.1)
    assert cells[2] == ""  # one seed says nothing about seeds


@pytest.mark.parametrize(("level", "value"), [(0.35, 29.5), (0.3, 29), (0.25, 28.5), (0.1, math.nan), (0.5, math.nan)])
def test_values_at_a_level(level, value):
    assert claim.at_level(np.array([0.4, 0.3, 0.2]), np.array([30, 29, 28]), level) == pytest.approx(value, nan_ok=True)


def test_tables_of_ends_and_ways():
    runs = {"aesop_0": (28, 0.2), "aesop_1": (29, 0.2), "pixel_0": (27, 0.1)}
    measured = {"start": made(0, 0, start=True)} | {name: made(*end) for name, end in runs.items()}
    rows = claim.at_the_end(measured, "Set14").splitlines()
    assert rows[2] == "| PSNR net | 30.00 | 40.00 | 0.4000 | 1.000 | 2.000 | 1 |"
    assert rows[3] == (
        "| AESOP, weight 1 | 28.50 ± 0.71 | 37.00 ± 1.41 | 0.2000 ± 0.0000 | 1.000 ± 0.000 | 2.000 ± 0.000 | 2 |"
    )
    last = claim.last_fifth(measured).splitlines()
    assert last[2] == "| AESOP, weight 1 | -16.7 %, -16.7 % |"  # from 0.24 to 0.2
    way = claim.on_the_way(measured).splitlines()
    assert len(way) == 2 + 1 + claim.STEPS
    assert way[-1] == "| 1000 | 1.00 / 2.00 | 1.00 / 2.00 |"


@pytest.fixture
def config(monkeypatch):
    """AESOP's run of the claim."""
    monkeypatch.chdir(Path(claim.__file__).parents[1])
    return plan(claim.QUEUE.with_name("claim.yml"), [])["adversarial"]


def test_readings_of_a_run(config, tmp_path):
    def row(at: int, cosine: float) -> dict:
        norms = {"read/sr/aesop": 1.0, "read/sr/percep": 3.0, "read/weights/aesop": 1.0, "read/weights/percep": 1.0}
        percep = {"read/sr_cos/aesop+percep": cosine, "read/weights_cos/aesop+percep": -cosine}
        return {"iter": at, **norms, **percep, **{f"read/{where}_cos/aesop+gan": 0.5 for where in ("sr", "weights")}}

    rows = [{"iter": 1, "l_g_aesop": 1.0}, row(2, 0.1), row(4, 0.3), {"iter": 5, "val/psnr": 1}]
    (tmp_path / "scalars.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    (tmp_path / "config.yml").write_text(config.to_yaml())
    found = claim.readings(tmp_path)
    assert found == pytest.approx(
        {"share_sr": 0.25, "share_weights": 0.5, "sr+percep": 0.2, "sr+gan": 0.5, "weights+percep": -0.2, "weights+gan": 0.5}
    )
    table = claim.of_gradients({"aesop_0": found})
    assert table.splitlines()[2] == "| AESOP, weight 1 | 0.2500 | 0.200 | 0.500 | 0.5000 | -0.200 | 0.500 |"


def test_the_report_is_about_what_the_runs_start_from(config):
    assert Path(config.path.pretrain_network_g).samefile(claim.START)
    assert Path(config.train.aesop_opt.autoencoder_load.path).samefile(claim.AUTOENCODER)


# --- faults --------------------------------------------------------------------------------------------------------------


def test_a_missing_test_set_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"Set14 does not exist; .* must hold Set14 and BSDS_test50"):
        claim.test_set(tmp_path, "Set14")


def test_folders_that_could_be_mistaken_for_hr_images_are_refused(tmp_path):
    write_image(tmp_path / "Set14" / "a.png", noise(8, 8))
    write_image(tmp_path / "Set14" / "LRx2" / "a.png", noise(4, 4))
    with pytest.raises(ValueError, match=r"Set14 contains LRx2 but no HR folder: move the HR images to .*Set14/HR"):
        claim.test_set(tmp_path, "Set14")


def test_nothing_to_measure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no run of claim_queue\.yml is finished below experiments/lanes/claim: see"):
        claim.finished_runs(lanes.read_queue(claim.QUEUE))


# --- the whole -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Two finished runs of the queue, and test sets of one image."""
    if not (SHARED / "weights").is_dir():
        pytest.skip(f"needs the weights of VGG16 and LPIPS in {SHARED / 'weights'}")
    monkeypatch.setenv("AESOP_WEIGHTS", str((SHARED / "weights").resolve()))
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "data" / "Set14" / "HR" / "a.png", noise(96, 96, 1))
    write_image(tmp_path / "data" / "BSDS_test50" / "b.png", noise(96, 120, 2))
    pack.write(tmp_path / "p.pack", [("a.png", noise(96, 120))])
    runs = {run.name: run for lane in lanes.read_queue(claim.QUEUE).values() for run in lane}
    for name in ("claim/aesop_0", "claim/pixel_0"):
        options = [f"name={name}", f"path.experiments_root={lanes.ROOT}", *runs[name].changes, *TOY]
        options += [f"datasets.train.dataroot_gt={tmp_path}/p.pack"]
        options += [f"stages.psnr.weights={claim.START}", f"stages.autoencoder.weights={claim.AUTOENCODER}"]
        run_step("adversarial", plan(claim.QUEUE.with_name("claim.yml"), options)["adversarial"])
    return tmp_path


@pytest.mark.slow
def test_two_runs_at_toy_size(toy, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["claim.py", "--test-data", "data"])
    claim.main()
    folder, first = toy / claim.FOLDER, capsys.readouterr().out
    assert first.count("aesop_0 at ") == claim.STEPS + 1 + 2
    assert "| pixel L1, weight 1: LR-PSNR |" in (folder / "report.md").read_text()
    for picture in ("claim.webp", "crops.webp"):
        assert ImageFile.at(folder / picture).read().std() > 10

    model = folder / "aesop_0" / "3_adversarial" / "models" / "net_g_00000010.safetensors"
    net, cpu = load_generator(model)[0].eval(), torch.device("cpu")
    wanted = {name: MetricOptions() for name in ("psnr", "lpips")}
    judge = load_autoencoder(claim.AUTOENCODER)
    pairs = claim.test_set(toy / "data", "BSDS_test50")
    metrics = make_metrics(wanted, 4, cpu)
    (row,) = measure(lambda lq, gt: predict(net, lq, gt, 4, cpu), pairs, metrics, World(device=cpu))
    kept = json.loads((folder / "measured" / "aesop_0.json").read_text())["points"]
    point = next(claim.Point(**each) for each in kept if (each["share"], each["set"]) == (1, "BSDS_test50"))
    for name in ("psnr", "lpips"):
        assert point.mean(name) == pytest.approx(row[name], abs=1e-4)
    sample = pairs[0]
    hr, sr = (torch.tensor(x).permute(2, 0, 1)[None] / 255 for x in (sample.gt, predict(net, sample.lq, None, 4, cpu)))
    with torch.no_grad():
        bias = judge(sr) - judge(hr)
    assert point.mean("se") == pytest.approx(float((bias**2).mean()), rel=1e-4)
    assert point.mean("ve") == pytest.approx(float(((sr - hr - bias) ** 2).mean()), rel=1e-4)

    claim.main()
    assert " at " not in capsys.readouterr().out.split("| ---")[0].replace("LPIPS at", "")  # nothing is measured twice
    end = model.read_bytes()
    model.write_bytes(model.with_name("net_g_00000008.safetensors").read_bytes())  # as if it had been trained again
    claim.main()
    assert capsys.readouterr().out.count("aesop_0 at ") == claim.STEPS + 1 + 2
    model.write_bytes(end)
    claim.main()
    ship.ship(model, toy / "shipped.safetensors")
    (trained, _), (shipped, info) = (load_generator(file) for file in (model, toy / "shipped.safetensors"))
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor.half().float(), shipped.state_dict()[name])
    assert str(toy) not in "".join(info.metadata.values())
    earlier, between = model.with_name("net_g_00000008.safetensors"), toy / "between.safetensors"
    ship.ship(model, between, (0.25, earlier))
    first, last, made = (load_generator(file)[0].state_dict() for file in (earlier, model, between))
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * last[name], rtol=1e-3, atol=1e-6)
    monkeypatch.setattr(record, "RESULTS", toy)
    monkeypatch.setattr(sys, "argv", ["claim.py", "--test-data", "data", "--record"])
    claim.main()
    (written,) = toy.glob("claim_*_cpu.json")
    for run in (written.parent / claim.FOLDER).glob("pixel_0/3_adversarial/models/net_g_00000010.safetensors"):
        run.unlink()  # as on a machine that trained the other run alone
    monkeypatch.setattr(sys, "argv", ["claim.py", "--test-data", "data", "--add", str(written)])
    report = (folder / "report.md").read_text()
    claim.main()
    assert (folder / "report.md").read_text() == report

    monkeypatch.setattr(sys, "argv", ["claim.py", "--test-data", "data", "--run", "pixel_1"])
    with pytest.raises(SystemExit, match="--run: pixel_1 is not among the finished runs: aesop_0"):
        claim.main()
