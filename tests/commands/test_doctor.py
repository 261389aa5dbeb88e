"""Every kind of fault, planted into a data set that is in order, is found and named, and nothing else is said of it."""

import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from aesop.check import time_and_memory as estimating
from aesop.check.image_audit import OTHERWISE, audit, look
from aesop.check.time_and_memory import Estimate, estimate
from aesop.cli import app
from aesop.commands import doctor
from aesop.commands.doctor import Finding, examine
from aesop.data.find_pairs import Pair
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.options.datasets import PairedDataset
from aesop.options.read import load_config
from aesop.weights import pretrained

PHOTOGRAPHS = Path(str(resources.files("aesop"))) / "assets" / "photos"
TINY = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 32}
SIDE = 32


def photograph(number: int, height: int = 48, width: int = 56) -> np.ndarray:
    """A part, with detail in it, of one of the package's photographs."""
    path = sorted((PHOTOGRAPHS / "train").glob("*.jpg"))[number]
    image = np.asarray(Image.open(path).convert("RGB"))
    return image[100 : 100 + height, 100 : 100 + width].copy()


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Four pairs to train on and two others to validate on, all in order."""
    for number in range(6):
        section = "train" if number < 4 else "val"
        hr = photograph(number)
        write(tmp_path / section / "HR" / f"img{number}.png", hr)
        write(tmp_path / section / "LR" / f"img{number}.png", imresize(hr, 1 / 4))
    return tmp_path


def options(folder: Path, **changes: object) -> Path:
    """An option file for the pairs in `folder`; a change `a__b=1` sets a.b."""
    raw: dict = {
        "name": "run",
        "device": "cpu",
        "network_g": dict(TINY),
        "datasets": {
            "train": {"gt_size": SIDE, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0},
            "val": {},
        },
        "path": {"experiments_root": str(folder / "experiments"), "results_root": str(folder / "results")},
        "train": {"total_iter": 4, "pixel_opt": {"type": "L1Loss"}},
    }
    for section, data in raw["datasets"].items():
        data |= {"dataroot_gt": str(folder / section / "HR"), "dataroot_lq": str(folder / section / "LR")}
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = raw
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    path = folder / "options.yml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def adversarial(folder: Path, **changes: object) -> Path:
    """The AESOP stage, starting from files that are not there."""
    gan = {
        "stage": "adversarial",
        "network_d": {"type": "UNetDiscriminatorSN", "num_feat": 8},
        "path__pretrain_network_g": str(folder / "psnr.safetensors"),
        "train": {
            "total_iter": 4,
            "aesop_opt": {"autoencoder_load": {"path": str(folder / "autoencoder.safetensors")}},
            "perceptual_opt": {"layer_weights": {"conv1_2": 1.0}, "vgg_path": str(folder / "vgg.pth")},
            "gan_opt": {},
        },
    }
    return options(folder, **gan, **changes)


def worth_saying(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """(mark, part, about) of all that is not in order, but for this machine, which the tests know nothing of."""
    return [(f.mark, f.part, f.about) for f in findings if f.mark != "ok" and f.part != "environment"]


def found(path: Path, *overrides: str) -> list[Finding]:
    return [f for f in examine((path, list(overrides)), measure=False) if f.part != "environment"]


def run(*arguments: object) -> tuple[int, str]:
    logging.getLogger("aesop").handlers.clear()
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_nothing_is_said_of_what_is_in_order(sets):
    findings = found(options(sets))
    assert worth_saying(findings) == []
    said = {(f.part, f.about): f.text for f in findings}
    assert said["datasets.train", "images"] == "4 images, 56x48 on average"
    assert said["datasets.val", "downscaling"].endswith("(it differs by 0.00 grey levels or less)")
    assert len({f.part for f in findings}) == 3  # the configuration and two sets


def cut_short(folder: Path) -> Path:
    path = folder / "train/HR/img1.png"
    path.write_bytes(path.read_bytes()[:-500])
    return path


def lr_removed(folder: Path) -> Path:
    (folder / "train/LR/img2.png").unlink()
    return folder / "train/HR/img2.png"


def lr_alone(folder: Path) -> Path:
    return write(folder / "val/LR/img9.png", photograph(9, 12, 14))


def another_size(folder: Path) -> Path:
    return write(folder / "val/LR/img4.png", read(folder / "val/LR/img4.png")[:-1])


def too_small(folder: Path) -> Path:
    hr = photograph(7, SIDE + 3, SIDE - 1)
    write(folder / "train/LR/small.png", imresize(mod_crop(hr, 4), 1 / 4))
    return write(folder / "train/HR/small.png", hr)


def gray_lr(folder: Path) -> Path:
    path = folder / "train/LR/img0.png"
    return write(path, np.asarray(Image.open(path).convert("L")))


def exchanged_channels(folder: Path) -> Path:
    path = folder / "train/LR/img0.png"
    return write(path, read(path)[..., ::-1])


def other_downscaling(folder: Path) -> Path:
    hr = read(folder / "train/HR/img3.png")
    return write(folder / "train/LR/img3.png", cv2.resize(hr, (14, 12), interpolation=cv2.INTER_AREA))


def one_twice(folder: Path) -> Path:
    write(folder / "train/LR/again.png", read(folder / "train/LR/img1.png"))
    return write(folder / "train/HR/again.png", read(folder / "train/HR/img1.png"))


def validated_on(folder: Path) -> Path:
    """The pixels decide: the file is another one."""
    write(folder / "val/LR/other.png", read(folder / "train/LR/img1.png"))
    return write(folder / "val/HR/other.bmp", read(folder / "train/HR/img1.png"))


PLANTED: list[tuple[Callable[[Path], Path], tuple[str, str, str]]] = [
    (cut_short, ("fault", "datasets.train", "unreadable")),
    (lr_removed, ("fault", "datasets.train", "without LR")),
    (lr_alone, ("advice", "datasets.val", "without HR")),
    (another_size, ("fault", "datasets.val", "size")),
    (too_small, ("fault", "datasets.train", "too small")),
    (gray_lr, ("fault", "datasets.train", "colours")),
    (exchanged_channels, ("fault", "datasets.train", "colours")),
    (other_downscaling, ("advice", "datasets.train", "downscaling")),
    (one_twice, ("advice", "datasets.train", "twice")),
    (validated_on, ("fault", "datasets.val", "in training")),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_what_is_wrong_with_a_file_is_found_and_the_file_named(sets, plant, expected):
    file = plant(sets)
    findings = found(options(sets))
    assert worth_saying(findings) == [expected]
    finding = next(f for f in findings if f.mark != "ok")
    assert str(file) in finding.text
    assert len(finding.details["files"]) == 1
    assert str(file) in finding.details["files"][0]


def test_bad_images_that_training_leaves_out_are_advice(sets):
    cut_short(sets)
    too_small(sets)
    findings = found(options(sets, datasets__train__bad_images="skip"))
    part = "datasets.train"
    assert worth_saying(findings) == [("advice", part, "unreadable"), ("advice", part, "too small")]
    for path in (sets / "train/HR").iterdir():
        path.write_bytes(b"no image")
    assert ("fault", part, "unreadable") in worth_saying(found(options(sets, datasets__train__bad_images="skip")))


def test_pairs_of_another_scale_are_recognised(sets):
    findings = found(options(sets, scale=2))
    sizes = [f.text for f in findings if f.about == "size"]
    assert len(sizes) == 2
    assert sizes[0].startswith("4 of 4 images do not match (all are x4 pairs: should scale 2 change?): ")
    assert sizes[0].endswith("; and 1 more")


def test_a_folder_that_is_not_there_is_told_once(sets):
    path = options(sets, datasets__val__dataroot_gt="YOUR_HR_PATH", datasets__test={"dataroot_gt": str(sets / "nowhere")})
    findings = found(path)
    assert worth_saying(findings) == [("fault", "datasets.val", "folder"), ("advice", "datasets.test", "folder")]
    assert next(f.text for f in findings if f.mark == "fault") == (
        "datasets.val.dataroot_gt: YOUR_HR_PATH has to be filled in"
    )


DOWNSCALINGS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    # Rounded once at the end, as BasicSR's does it.
    "rounded once": lambda hr, s: np.clip(np.round(imresize(hr.astype(np.float64), 1 / s)), 0, 255).astype(np.uint8),
    "Pillow": lambda hr, s: np.asarray(
        Image.fromarray(hr).resize((hr.shape[1] // s, hr.shape[0] // s), Image.Resampling.BICUBIC)
    ),
    "Lanczos": lambda hr, s: np.asarray(
        Image.fromarray(hr).resize((hr.shape[1] // s, hr.shape[0] // s), Image.Resampling.LANCZOS)
    ),
    "area": lambda hr, s: cv2.resize(hr, None, fx=1 / s, fy=1 / s, interpolation=cv2.INTER_AREA),
    "linear": lambda hr, s: cv2.resize(hr, None, fx=1 / s, fy=1 / s, interpolation=cv2.INTER_LINEAR),
    "cubic": lambda hr, s: cv2.resize(hr, None, fx=1 / s, fy=1 / s, interpolation=cv2.INTER_CUBIC),
    "JPEG": lambda hr, s: cv2.imdecode(cv2.imencode(".jpg", imresize(hr, 1 / s), [cv2.IMWRITE_JPEG_QUALITY, 95])[1], 1),
}


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("way", DOWNSCALINGS)
def test_how_lr_was_made_shows_on_every_photograph(tmp_path, way, scale):
    for number in range(0, 13, 3):
        hr = photograph(number, 400, 400)
        pair = Pair(
            ImageFile.at(write(tmp_path / "hr.png", hr)),
            ImageFile.at(write(tmp_path / "lr.png", DOWNSCALINGS[way](hr, scale))),
            "hr",
        )
        difference = look(pair, scale).difference
        assert difference is not None
        assert (difference > OTHERWISE) == (way not in ("rounded once", "Pillow")), (number, difference)


def test_the_border_may_have_been_continued_otherwise(sets):
    hr, path = read(sets / "train/HR/img0.png"), sets / "train/LR/img0.png"
    lr = imresize(hr, 1 / 4)
    write(path, np.pad(lr[2:-2, 2:-2], ((2, 2), (2, 2), (0, 0))))
    pair = Pair(ImageFile.at(sets / "train/HR/img0.png"), ImageFile.at(path), "img0")
    assert look(pair, 4).difference == 0
    write(path, np.pad(lr[3:-3, 3:-3], ((3, 3), (3, 3), (0, 0))))
    difference = look(pair, 4).difference
    assert difference is not None
    assert difference > OTHERWISE


def test_lr_that_a_degradation_made_is_not_compared(sets):
    other_downscaling(sets)
    noise = np.random.default_rng(8).integers(-20, 20, (12, 14, 3))
    lr = imresize(read(sets / "val/HR/img4.png"), 1 / 4)
    write(sets / "val/LR/img4.png", (lr + noise).clip(0, 255).astype(np.uint8))
    path = options(
        sets,
        degradation={"crop_pad_size": 400},
        datasets__train={
            "type": "RealESRGANDataset",
            "dataroot_gt": str(sets / "train/HR"),
            "gt_size": SIDE,
            "batch_size_per_gpu": 2,
        },
    )
    assert worth_saying(found(path)) == []


def test_a_sample_is_spread_evenly_and_always_the_same(sets):
    data = PairedDataset(dataroot_gt=str(sets / "train/HR"), dataroot_lq=str(sets / "train/LR"))
    for _ in range(2):
        looked = audit(data, "val", 4, at_most=2)
        assert looked.found == 4
        assert [item.pair.name for item in looked.items] == ["img0", "img2"]


def test_all_faults_of_the_options_are_found(sets):
    path = options(sets, train__total_itr=3, network_g__num_feet=3)
    findings = found(path)
    assert [f.mark for f in findings] == ["fault", "fault"]
    assert "num_feet: unknown option; did you mean num_feat?" in findings[0].text
    assert "total_itr: unknown option; did you mean total_iter?" in findings[1].text


def test_files_to_start_from_that_are_not_there_are_faults(sets):
    findings = found(adversarial(sets))
    faults = [f.text for f in findings if f.mark == "fault"]
    assert faults == [
        f"path.pretrain_network_g: {sets}/psnr.safetensors does not exist",
        f"train.aesop_opt.autoencoder_load: {sets}/autoencoder.safetensors does not exist",
        f"train.perceptual_opt.vgg_path: {sets}/vgg.pth does not exist",
    ]


def test_a_former_run_is_told(sets):
    (sets / "experiments/run/state/00000003").mkdir(parents=True)
    path = options(sets)
    assert worth_saying(found(path)) == [("advice", f"configuration {path}", "former run")]


def test_a_network_that_other_programs_do_not_load_brings_advice(sets):
    path = options(sets, network_g__num_grow_ch=16)
    assert worth_saying(findings := found(path)) == [("advice", f"configuration {path}", "note")]
    assert any("growth is 16" in finding.text and "aesop convert --portable" in finding.text for finding in findings)


def test_a_test_file_is_examined_as_one(sets):
    raw = yaml.safe_load(options(sets).read_text())
    del raw["train"], raw["datasets"]["train"]
    path = sets / "test.yml"
    path.write_text(yaml.safe_dump(raw | {"val": {"metrics": {"psnr": {}}}}))
    findings = list(examine((path, []), measure=True))  # there is nothing to measure
    assert worth_saying(findings) == [("fault", f"configuration {path}", "options")]
    assert "path.pretrain_network_g: (not given)" in next(f.text for f in findings if f.mark == "fault")


def test_stages_share_the_sets_that_are_the_same(sets):
    raw = yaml.safe_load(options(sets).read_text())
    train = raw.pop("train")
    other = {"train": train, "datasets": {"train": {"dataroot_gt": str(sets / "val/HR"), "dataroot_lq": None}}}
    gan = {"network_d": {"type": "UNetDiscriminatorSN"}, "train": {"total_iter": 2, "gan_opt": {}}}
    raw["datasets"]["val"] = None
    path = sets / "pipeline.yml"
    path.write_text(yaml.safe_dump(raw | {"stages": {"psnr": {"train": train}, "autoencoder": other, "adversarial": gan}}))
    findings = found(path, "stages.adversarial.datasets.train.gt_size=40")
    images = {f.part: f.text for f in findings if f.about == "images"}
    assert images.keys() == {"datasets.train", "autoencoder datasets.train"}
    assert worth_saying(findings) == []
    # The largest crop of the stages counts.
    findings = found(path, "stages.adversarial.datasets.train.gt_size=56")
    assert worth_saying(findings) == [("fault", "datasets.train", "too small")]


def test_the_environment_lists_all_known_weights_with_a_remedy(monkeypatch):
    monkeypatch.setattr(pretrained, "_places", lambda name: [])
    findings = {f.about: f for f in examine(None)}
    for name in pretrained._KNOWN:
        finding = findings[f"weights {name}"]
        assert finding.mark == "advice"
        assert "pip install" in finding.text
        assert "\n" not in finding.text
    assert {"aesop", "libraries", "PyTorch", "cpu", "wandb", "lmdb", "pyiqa"} <= findings.keys()


def test_with_an_option_file_only_weights_that_it_needs_are_mentioned(sets, monkeypatch):
    monkeypatch.setattr(pretrained, "_places", lambda name: [])
    path = options(sets, val={"val_freq": 1, "metrics": {"psnr": {}, "lpips": {}}})
    said = [f for f in examine((path, []), measure=False) if "no weights for" in f.text]
    assert [(f.mark, f.about) for f in said] == [("fault", "options")]
    assert said[0].text.startswith("val.metrics.lpips: no weights for alexnet")


@pytest.mark.parametrize(("several", "mark"), [(0.3, "advice"), (0.001, "ok")])
def test_threads_that_wait_for_each_other_are_found(several, mark, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(doctor, "small_convolution", lambda threads: 0.001 if threads == 1 else several)
    (finding,) = [f for f in doctor.environment() if f.about == "threads"]
    assert finding.mark == mark
    assert ("OMP_NUM_THREADS=1" in finding.text) == (mark == "advice")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not [f for f in doctor.environment() if f.about == "threads"]


def test_the_exit_code_and_the_json_file(sets):
    path, output = options(sets), sets / "found.json"
    code, text = run("doctor", "--no-run", path, "--json", output)
    assert code == 0
    assert "\ndatasets.train\n  ok      images: 4 images" in text
    content = json.loads(output.read_text())
    assert content["faults"] == 0
    validated_on(sets)
    code, text = run("doctor", "--no-run", "--quick", "-opt", path, "logger.print_freq=7", "--json", output)
    assert code == 1
    assert "\n  fault   in training: 1 image also used for training" in text
    content = json.loads(output.read_text())
    assert content["faults"] == 1
    assert [f["about"] for f in content["findings"] if f["mark"] == "fault"] == ["in training"]
    assert text.rstrip().splitlines()[-1].startswith("1 fault, ")
    assert run("doctor", "--no-run", sets / "nowhere.yml")[0] == 1
    assert run("doctor")[0] == 0


def test_a_short_run_measures_and_leaves_nothing_behind(sets, monkeypatch):
    (sets / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(sets / "temporary"))
    path = adversarial(sets)
    before = sorted(sets.rglob("*"))
    encoder = {"type": "AutoEncoder_RRDBNet", "scale": 4, "dec_opt": TINY}
    measured, missing = estimate(load_config(path)[0], encoder, seconds=0.5)
    assert sorted(sets.rglob("*")) == before
    assert missing == ["path.pretrain_network_g", "train.aesop_opt.autoencoder_load", "train.perceptual_opt.vgg_path"]
    assert 0 < measured.computing < 60
    assert 0 < measured.loading < 10
    assert measured.seconds == measured.computing + measured.loading  # no workers
    assert measured.model == sum(np.prod(p.shape) * 4 for p in doctor_network())
    assert measured.memory is None or 1e5 < measured.memory < 2e9


def doctor_network():
    from aesop.archs import build_network

    return build_network({**TINY, "scale": 4}).state_dict().values()


def killed(*_: object) -> None:
    """What a system does to a process that wants too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def too_large(*_: object) -> torch.Tensor:
    return torch.empty(10**15)


def test_a_process_that_the_system_ends_wanted_too_much_memory(sets, monkeypatch):
    monkeypatch.setattr(estimating, "_short_run", killed)
    path = options(sets, datasets__train__batch_size_per_gpu=6, train__accumulate=2)
    findings = list(doctor.durations({"psnr": load_config(path)[0]}))
    assert worth_saying(findings) == [("fault", "estimate of the psnr stage", "memory")]
    assert "train.accumulate=3, network_g.use_checkpoint=true, datasets.train.batch_size_per_gpu=3" in findings[0].text


def test_memory_that_cannot_be_had_is_told_as_such(sets, monkeypatch):
    monkeypatch.setattr(estimating, "_short_run", too_large)
    with pytest.raises(MemoryError, match="allocate memory"):
        estimate(load_config(options(sets))[0])


def test_a_machine_too_slow_for_a_batch_measures_a_part_of_it(sets, monkeypatch):
    config = load_config(options(sets, datasets__train__batch_size_per_gpu=6, train__accumulate=2))[0]
    measured = estimating._short_run(config, 1e-9)
    assert measured.images == 2
    assert measured.memory is None
    monkeypatch.setattr(estimating, "_loading_time", lambda *_: 0.1)
    measured = estimating._short_run(config, 60.0)  # a few steps end it, long before
    assert measured.images == 6
    assert measured.loading == 0.1


def test_every_stage_and_the_degradation_run(sets):
    recipe = options(
        sets,
        degradation={"crop_pad_size": 64, "queue_size": 2, "resize_range": [0.5, 1.5], "resize_range2": [0.5, 1.2]}
        | {"blur_kernel_size": 7, "blur_kernel_size2": 7},
        datasets__train={
            "type": "RealESRGANDataset",
            "dataroot_gt": str(sets / "train/HR"),
            "gt_size": SIDE,
            "batch_size_per_gpu": 2,
            "num_worker_per_gpu": 0,
        },
        train__l1_gt_usm=True,
    )
    assert estimating._short_run(load_config(recipe)[0], 0.1).computing > 0
    encoder = {"type": "AutoEncoder_RRDBNet", "dec_opt": TINY}
    path = options(sets, stage="autoencoder", network_g=encoder, path__from_scratch=True, train__freeze_decoder=2)
    assert estimating._short_run(load_config(path)[0], 0.1).computing > 0


def judged(path: Path, monkeypatch: pytest.MonkeyPatch, **figures: object) -> dict[str, Finding]:
    usual = {"computing": 1.0, "loading": 0.5, "workers": 2, "images": 2, "memory": 10**6, "model": 10**6, "state": 10**6}
    monkeypatch.setattr(doctor, "estimate", lambda *_: (Estimate(**usual | figures), []))  # ty: ignore[invalid-argument-type]
    monkeypatch.setattr(doctor, "usable_cores", lambda: 4)
    monkeypatch.setattr(doctor, "memory_by_stage", lambda stages: [])
    return {f.about: f for f in doctor.durations({"psnr": load_config(path)[0]})}


def test_what_was_measured_is_judged(sets, monkeypatch):
    path = options(sets, train__total_iter=10_000)
    findings = judged(path, monkeypatch)
    assert {f.mark for f in findings.values()} == {"ok"}
    assert findings["time"].text.startswith("0:16:40 for 1000 iterations, 2:46:40 for all 10000")
    assert findings["data"].text.startswith("0% of the time")
    assert findings["time"].details["whole"] == 10_000

    waiting = judged(path, monkeypatch, computing=0.5, loading=2.0)["data"]
    assert waiting.mark == "advice"
    assert waiting.text.startswith("75% of the time is spent waiting for data: cut large images")
    assert judged(path, monkeypatch, workers=0, loading=1.0)["data"].text.startswith("50%")
    assert "set datasets.train.num_worker_per_gpu=4" in judged(path, monkeypatch, workers=9)["workers"].text
    assert judged(path, monkeypatch, computing=1000.0)["time"].mark == "advice"
    assert "scaled from 1 image)" in judged(path, monkeypatch, images=1)["time"].text
    assert judged(path, monkeypatch, memory=None)["memory"].text == "not measured"
    tight = judged(path, monkeypatch, memory=10**18)["memory"]
    assert tight.mark == "advice"
    assert "to use less, set train.accumulate=2" in tight.text
    disk = judged(path, monkeypatch, model=10**18)["disk"]
    assert disk.mark == "advice"
    assert "2 saved networks" in disk.text


def test_a_pipeline_has_one_heading_for_each_stage_and_a_sum(sets, monkeypatch):
    raw = yaml.safe_load(options(sets).read_text())
    train = raw.pop("train") | {"total_iter": 1000}
    gan = {"network_d": {"type": "UNetDiscriminatorSN"}, "train": {"total_iter": 880, "gan_opt": {}}}
    stages = {"psnr": {"train": train}, "autoencoder": {"train": dict(train)}, "adversarial": gan}
    path = sets / "pipeline.yml"
    path.write_text(yaml.safe_dump(raw | {"stages": stages}))
    measured = Estimate(computing=1.0, loading=0.5, workers=2, images=2, memory=10**6, model=10**6, state=10**6)
    monkeypatch.setattr(doctor, "estimate", lambda *_: (measured, []))
    monkeypatch.setattr(doctor, "memory_by_stage", lambda stages: [(stage, "batches that fit: 2") for stage in stages])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, text = run("doctor", path)
    for stage in ("psnr", "autoencoder", "adversarial"):
        assert text.count(f"estimate of the {stage} stage\n") == 1
    assert "  ok      all stages: 0:48:00\n" in text
    assert "batches that fit" not in text
    _, text = run("doctor", path, "-v")
    assert text.count("estimate of the psnr stage\n") == 1
    assert text.count("memory on a GPU: batches that fit: 2\n") == 3


def test_no_run_is_made_on_images_that_cannot_be_trained_on(sets):
    cut_short(sets)
    findings = list(examine((options(sets), []), measure=True))
    assert worth_saying(findings) == [("fault", "datasets.train", "unreadable"), ("advice", "estimate", "run")]


def test_what_stops_the_run_is_a_fault(sets):
    broken = sets / "weights.safetensors"
    broken.write_text("no weights")
    findings = list(doctor.durations({"psnr": load_config(options(sets, path__pretrain_network_g=str(broken)))[0]}))
    assert worth_saying(findings) == [("fault", "estimate of the psnr stage", "run")]
    assert f"path.pretrain_network_g: {broken} is text, not weights" in findings[0].text
