"""Real-world training pairs: crops as published, batches that follow from their numbers, a pool that survives a restart."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aesop.archs import build_network
from aesop.data.degradation.degrader import Degrader
from aesop.data.degradation.operations import usm_sharpen
from aesop.data.loader import batches
from aesop.data.training_crops import HRCrops
from aesop.images.resize import imresize
from aesop.options.config import TrainConfig
from aesop.options.datasets import TrainDataset
from aesop.options.read import build_config
from aesop.system.distributed import World
from aesop.training.build_stage import build_stage
from aesop.training.checkpoint import Checkpoints
from aesop.training.train import train
from aesop.weights.errors import WeightsError
from aesop.weights.save import save_weights

SIDE = 48
# (height, width): larger than SIDE, smaller both ways, smaller one way, below half of it.
SIZES = [(60, 72), (40, 44), (64, 30), (20, 90)]
# Small crops will do with these: blurs of at most 7 pixels, nothing reduced below a half.
SMALL = {"blur_kernel_size": 7, "blur_kernel_size2": 7, "resize_range": [0.5, 1.5], "crop_pad_size": SIDE}
# Hardly anything happens.
MILD = {
    "sinc_prob": 0,
    "sinc_prob2": 0,
    "final_sinc_prob": 0,
    "kernel_list": ["iso"],
    "kernel_prob": [1],
    "kernel_list2": ["iso"],
    "kernel_prob2": [1],
    "blur_sigma": [0.1, 0.1],
    "blur_sigma2": [0.1, 0.1],
    "resize_prob": [0, 0, 1],
    "resize_prob2": [0, 0, 1],
    "gaussian_noise_prob": 1,
    "gaussian_noise_prob2": 1,
    "noise_range": [0, 0],
    "noise_range2": [0, 0],
    "jpeg_range": [100, 100],
    "jpeg_range2": [100, 100],
}
RRDB = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Four images of pure noise, any window of which occurs once."""
    folder = tmp_path_factory.mktemp("hr")
    for index, (height, width) in enumerate(SIZES):
        image = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"img{index}.png")
    return folder


def crops(root: Path, seed: int = 7, **changes) -> HRCrops:
    options = {"dataroot_gt": str(root), "type": "RealESRGANDataset", "batch_size_per_gpu": 4, "num_worker_per_gpu": 0}
    return HRCrops(TrainDataset(**options | changes), SIDE, seed)


def array(sample: dict) -> np.ndarray:
    return sample["gt"].permute(1, 2, 0).numpy()


# --- crops -------------------------------------------------------------------------------------------------------------


def possible_crops(image: np.ndarray, hflip: bool, vflip: bool, turn: bool) -> set[bytes]:
    """Every crop that the published data set can make of an image: turned, continued at the bottom and right, cut."""
    for code, chosen in ((1, hflip), (0, vflip)):
        image = cv2.flip(image, code) if chosen else image
    image = cv2.transpose(image) if turn else image
    height, width = image.shape[:2]
    image = cv2.copyMakeBorder(image, 0, max(0, SIDE - height), 0, max(0, SIDE - width), cv2.BORDER_REFLECT_101)
    places = itertools.product(range(image.shape[0] - SIDE + 1), range(image.shape[1] - SIDE + 1))
    return {image[top : top + SIDE, left : left + SIDE].tobytes() for top, left in places}


@pytest.mark.parametrize(("flip", "rot"), list(itertools.product((True, False), repeat=2)))
def test_a_crop_is_turned_then_continued_by_reflection_then_cut(root, flip, rot):
    dataset = crops(root, use_flip=flip, use_rot=rot)
    images = [cv2.cvtColor(cv2.imread(str(pair.gt.path)), cv2.COLOR_BGR2RGB) for pair in dataset.pairs]
    allowed = list(itertools.product((True, False) if flip else (False,), *[(True, False) if rot else (False,)] * 2))
    expected = [{turned: possible_crops(image, *turned) for turned in allowed} for image in images]
    seen = set()
    for k in range(80):
        sample = dataset[k]["gt"]
        assert (sample.dtype, sample.shape) == (torch.uint8, (3, SIDE, SIDE))
        data = array(dataset[k]).tobytes()
        found = [(i, turned) for i, by_turn in enumerate(expected) for turned, all_of in by_turn.items() if data in all_of]
        assert len(found) == 1, f"sample {k} is no crop of an image"
        seen.add(found[0])
    assert len(seen) > 0.7 * len(images) * len(allowed)  # every image, turned in every way


def test_crops_reach_both_edges(root, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (SIDE + 2, SIDE + 1, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "one.png")
    dataset = crops(tmp_path, use_flip=False, use_rot=False)
    places = {
        (top, left)
        for k in range(60)
        for top, left in itertools.product(range(3), range(2))
        if np.array_equal(array(dataset[k]), image[top : top + SIDE, left : left + SIDE])
    }
    assert places == set(itertools.product(range(3), range(2)))


def test_a_crop_follows_from_its_number_and_the_seed_alone(root):
    dataset, again, other = crops(root), crops(root), crops(root, seed=8)
    numbers = [5, 3, 900, 3, 0, 12]
    first = {k: dataset[k]["gt"] for k in numbers}
    for k in reversed(numbers):
        assert torch.equal(again[k]["gt"], first[k])
    assert sum(torch.equal(other[k]["gt"], first[k]) for k in first) <= 1
    options = again.options.model_copy(update={"num_worker_per_gpu": 2})
    with batches(again, options, first=2, last=3) as source:
        drawn = list(source)
    for number, batch in enumerate(drawn, 1):
        assert torch.equal(batch["gt"], torch.stack([dataset[4 * number + k]["gt"] for k in range(4)]))


def test_an_epoch_visits_every_image_once(root):
    dataset = crops(root, use_flip=False, use_rot=False)
    images = [cv2.cvtColor(cv2.imread(str(pair.gt.path)), cv2.COLOR_BGR2RGB) for pair in dataset.pairs]
    made_of = [possible_crops(image, False, False, False) for image in images]
    for epoch in range(5):
        drawn = [array(dataset[4 * epoch + k]).tobytes() for k in range(4)]
        assert sorted(next(i for i, all_of in enumerate(made_of) if data in all_of) for data in drawn) == [0, 1, 2, 3]


def test_a_list_of_files_chooses_among_the_images(root, tmp_path):
    for name in ("img0", "img3"):
        (tmp_path / "hr" / "sub").mkdir(parents=True, exist_ok=True)
        Image.open(root / f"{name}.png").save(tmp_path / "hr" / "sub" / f"{name}.png")
        Image.open(root / f"{name}.png").save(tmp_path / "hr" / f"{name}.png")
    (tmp_path / "list.txt").write_text("sub/img3.png (20,90,3)\n\nimg0.png\n")
    dataset = crops(tmp_path / "hr", meta_info=str(tmp_path / "list.txt"))
    assert [pair.gt.name for pair in dataset.pairs] == ["sub/img3.png", "img0.png"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("img0.png\nimg9.png\nimg8.png\n", "2 of 3 names in LIST are not images below dataroot_gt: img9.png; img8.png"),
        ("\n \n", "LIST names no image"),
        (None, "LIST cannot be read"),
    ],
)
def test_a_list_of_files_that_does_not_serve_is_refused(root, tmp_path, content, reason):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=re.escape("datasets.train.meta_info: ") + ".*") as raised:
        crops(root, meta_info=str(path))
    assert reason.replace("LIST", str(path)) in str(raised.value)


# --- degraded batches --------------------------------------------------------------------------------------------------


def options(root: Path, folder: Path, stage: str = "psnr", total_iter: int = 1, **degradation) -> dict:
    raw = {
        "name": "run",
        "stage": stage,
        "device": "cpu",
        "network_g": RRDB,
        "datasets": {
            "train": {
                "type": "RealESRGANDataset",
                "dataroot_gt": str(root),
                "gt_size": 32,
                "batch_size_per_gpu": 4,
                "num_worker_per_gpu": 0,
            }
        },
        "degradation": {**SMALL, "queue_size": 8, **degradation},
        "path": {"experiments_root": str(folder), "from_scratch": True},
        "train": {"total_iter": total_iter, "optim_g": {"lr": 1e-3}},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }
    if stage == "adversarial":
        autoencoder = {"type": "AutoEncoder_RRDBNet", "scale": 4, "dec_opt": RRDB}
        path = folder / "ae.safetensors"
        torch.manual_seed(1)
        save_weights(path, build_network(autoencoder).state_dict(), {"network": json.dumps(autoencoder)})
        raw["network_d"] = {"type": "UNetDiscriminatorSN", "num_feat": 8}
        raw["train"] |= {
            "aesop_opt": {"autoencoder_load": {"path": str(path)}},
            "gan_opt": {"loss_weight": 0.1, "relativistic": False},
            "gan_gt_usm": True,
            "optim_d": {"lr": 1e-3},
        }
    else:
        raw["train"] |= {"pixel_opt": {}, "l1_gt_usm": True}
    return raw


def configured(raw: dict) -> TrainConfig:
    return build_config(raw, "test")[0]


def degrader(root: Path, tmp_path: Path, rank: int = 0, **degradation) -> Degrader:
    return Degrader(configured(options(root, tmp_path, **degradation)), rank)


def hr_batch(seed: int, detail: float = 0.05) -> torch.Tensor:
    """Four smooth 8-bit images with some detail."""
    rng = np.random.default_rng(seed)
    coarse = [cv2.resize(rng.random((6, 6, 3)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for _ in range(4)]
    images = np.clip(np.stack(coarse) + detail * rng.standard_normal((4, SIDE, SIDE, 3)), 0, 1)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().mul(255).round().div(255)


def same(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_batch_follows_from_iteration_and_rank(root, tmp_path, per_sample):
    gt = hr_batch(0)
    make = degrader(root, tmp_path, queue_size=0, per_sample=per_sample)
    first = make(gt, 3)
    lq, hr = first
    assert lq.shape == (4, 3, 8, 8)
    assert hr.shape == (4, 3, 32, 32)
    assert torch.equal((lq * 255).round() / 255, lq)
    torch.manual_seed(99)  # no global random state is looked at
    make(gt, 4)
    assert same(make(gt, 3), first)
    assert same(degrader(root, tmp_path, queue_size=0, per_sample=per_sample)(gt, 3), first)
    assert not same(make(gt, 4), first)
    assert not same(degrader(root, tmp_path, rank=1, queue_size=0, per_sample=per_sample)(gt, 3), first)


# (SHA-256 of HR, sums of the LR images in grey levels) by (options, seed, rank, iteration).
BATCHES = {
    ("batch", 0, 1, 6): ("4b443f1bcf73", [28741, 23710, 23348, 24882]),
    ("batch", 3, 0, 4): ("04bbc08c3f24", [24595, 28248, 28214, 24123]),
    ("batch", 3, 1, 7): ("198ef222a98d", [23284, 25131, 22949, 24074]),
    ("per_sample", 0, 1, 6): ("de7f8b5a6182", [23734, 25589, 22859, 24166]),
    ("per_sample", 3, 0, 4): ("e9bfdc27bcc1", [25204, 25782, 25197, 22877]),
    ("per_sample", 3, 1, 7): ("883a78806c03", [24625, 26991, 25073, 24019]),
    ("pool", 0, 1, 6): ("cb032a088f84", [23461, 26743, 22646, 22674]),
    ("pool", 3, 0, 4): ("5c3712137840", [23339, 23732, 25024, 22733]),
    ("pool", 3, 1, 7): ("549fbc5cc759", [29754, 22165, 27581, 22026]),
}


@pytest.mark.parametrize("case", BATCHES, ids=lambda case: "-".join(map(str, case)))
def test_batches_are_those_of_commit_ffb3189(root, tmp_path, case):
    """What a seed gives stays, so that a training can be repeated and resumed with a later version."""
    name, seed, rank, last = case
    make = degrader(root, tmp_path, rank, queue_size=8 if name == "pool" else 0, per_sample=name == "per_sample")
    make.seed = seed
    for iteration in range(1, last + 1):
        lq, hr = make(hr_batch(iteration), iteration)
    digest, sums = BATCHES[case]
    assert hashlib.sha256((hr * 255).round().byte().numpy().tobytes()).hexdigest()[:12] == digest
    # Another processor may round some pixels or JPEG coefficients otherwise; another draw changes sums by hundreds.
    np.testing.assert_allclose((lq * 255).round().sum((1, 2, 3)), sums, atol=20)


def test_lr_and_hr_show_the_same_place(root, tmp_path):
    gt = hr_batch(1, detail=0)[:, :1].expand(-1, 3, -1, -1)  # gray: JPEG halves the colours' resolution
    sharp = (usm_sharpen(gt) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for iteration in range(1, 9):
        lq, hr = degrader(root, tmp_path, queue_size=0, per_sample=True, **MILD)(gt, iteration)
        for k in range(4):
            windows = np.lib.stride_tricks.sliding_window_view(gt[k].numpy(), (3, 32, 32))[0]
            where = np.argwhere((windows == hr[k].numpy()).all((-3, -2, -1)))
            assert len(where) == 1, "HR is a window of the unsharpened image"
            (top, left), inner = where[0], slice(1, -1)
            assert (top % 4, left % 4) == (0, 0)
            plain = imresize(sharp[k, top : top + 32, left : left + 32], 1 / 4).astype(float)
            error = np.abs(lq[k].permute(1, 2, 0).numpy() * 255 - plain)[inner, inner].mean()
            shifts = [np.abs(np.roll(plain, 1, axis) - plain)[inner, inner].mean() for axis in (0, 1)]
            assert error < 6
            assert error < 0.5 * min(shifts)


def test_the_pool_passes_batches_through_until_it_is_full_and_mixes_them_then(root, tmp_path):
    with_pool, without = degrader(root, tmp_path, queue_size=8), degrader(root, tmp_path, queue_size=0)
    plain = [without(hr_batch(k), k) for k in range(1, 7)]
    pooled = [with_pool(hr_batch(k), k) for k in range(1, 7)]
    assert same(pooled[0], plain[0])
    assert same(pooled[1], plain[1])
    put_in = [(lq, gt) for batch in plain for lq, gt in zip(*batch, strict=True)]
    taken = [pair for batch in pooled[2:] for pair in zip(*batch, strict=True)]
    places = [[i for i, pair in enumerate(put_in) if same(pair, one)] for one in taken]
    assert all(len(found) == 1 for found in places)  # LR and HR still belong together
    assert len({found[0] for found in places}) == len(taken)  # and no pair comes twice
    for batch in range(4):  # out of the pairs that were in before
        assert all(found[0] < 4 * (batch + 2) for found in places[4 * batch : 4 * batch + 4])


def test_the_pool_continues_where_it_was_saved(root, tmp_path):
    whole = degrader(root, tmp_path)
    for k in (1, 2, 3):
        whole(hr_batch(k), k)
    parts = degrader(root, tmp_path)
    parts.load_state_dict(whole.state_dict(), "cpu")
    for k in (4, 5, 6):
        assert same(whole(hr_batch(k), k), parts(hr_batch(k), k))


def test_a_state_without_the_pool_of_this_process_is_continued_with_a_warning(root, tmp_path, caplog):
    config = configured(options(root, tmp_path, total_iter=2))
    train(config)
    state = tmp_path / "run" / "state" / "00000002"
    assert (state / "pool_0.safetensors").is_file()
    second = World(rank=1)
    make = Degrader(config, 1)
    make(hr_batch(0), 1)
    Checkpoints(config, second, build_stage(config, second), make).load(state)
    assert f"{state} has no pool of degraded pairs for process 1: it starts empty" in caplog.text
    assert make.state_dict() == {}
    caplog.clear()
    without = configured(options(root, tmp_path, total_iter=2, queue_size=0))
    Checkpoints(without, second, build_stage(without, second), Degrader(without, 1)).load(state)
    assert "pool" not in caplog.text


def test_a_pool_that_does_not_fit_starts_empty_and_a_damaged_one_is_refused(root, tmp_path, caplog):
    train(configured(options(root, tmp_path, total_iter=2)))
    file = tmp_path / "run" / "state" / "00000002" / "pool_0.safetensors"

    def load(raw: dict) -> Degrader:
        raw["train"]["total_iter"] = 2
        config = configured(raw)
        degrader = Degrader(config, 0)
        Checkpoints(config, World(), build_stage(config, World()), degrader).load(file.parent)
        return degrader

    assert load(options(root, tmp_path)).state_dict()
    assert not load(options(root, tmp_path, queue_size=4)).state_dict()
    assert f"{file}: the saved pool holds 8 pairs, which do not fit queue_size 4" in caplog.text
    raw = options(root, tmp_path)
    raw["datasets"]["train"]["gt_size"] = 28
    assert not load(raw).state_dict()
    assert f"{file}: the saved pairs have gt_size 32, but this file sets 28. The pool starts empty" in caplog.text
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=f"^{file.parent} is not a complete state, .*: {file.name} is damaged"):
        load(options(root, tmp_path))


@pytest.mark.parametrize(
    ("changes", "smallest"),
    [
        ({}, 28),  # the last blur, of LR, needs 4 times 4; sharpening 26
        ({"blur_kernel_size2": 21}, 44),  # 4 times 11
        ({"resize_range": [0.05, 1.5]}, 80),  # 20 times 4
    ],
)
def test_crops_too_small_for_the_degradation_are_refused(root, tmp_path, changes, smallest):
    raw = options(root, tmp_path, **changes, crop_pad_size=smallest - 4)
    raw["datasets"]["train"]["gt_size"] = 16
    raw["train"] = {name: value for name, value in raw["train"].items() if not name.endswith("usm")}
    with pytest.raises(ValueError, match=r"degradation.crop_pad_size: .* must be at least \d+, found"):
        Degrader(configured(raw), 0)
    raw["degradation"]["crop_pad_size"] = smallest
    make = Degrader(configured(raw), 0)
    for iteration in range(1, 13):
        make(torch.rand(4, 3, smallest, smallest), iteration)


# --- whole trainings ---------------------------------------------------------------------------------------------------


def all_tensors(state: Path) -> dict[str, torch.Tensor]:
    return {f"{file.stem}/{k}": v for file in sorted(state.glob("*.safetensors")) for k, v in load_file(file).items()}


@pytest.mark.parametrize(
    ("stage", "degradation"),
    [("psnr", {}), ("psnr", {"queue_size": 0, "per_sample": True}), ("adversarial", {})],
    ids=["psnr", "psnr without pool", "adversarial"],
)
def test_a_resumed_training_is_bit_identical(stage, degradation, root, tmp_path):
    def run(name: str, total_iter: int, resume: bool = False) -> None:
        train(configured(options(root, tmp_path, stage, total_iter, **degradation) | {"name": name}), resume)

    run("whole", 6)
    for stop in (2, 3, 6):  # before the pool is full, at its first exchange, after it
        run("parts", stop, resume=True)
    whole, parts = (all_tensors(tmp_path / name / "state" / "00000006") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert ("pool_0/lq" in whole) == (degradation == {})
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name
    lines = [(tmp_path / name / "scalars.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1]
    leftover = [path.name for path in (tmp_path / "parts" / "state").iterdir() if not path.name.isdigit()]
    assert leftover == []


@pytest.mark.slow
def test_two_processes_have_a_pool_each_and_continue_exactly(root, tmp_path):
    def run(name: str, total_iter: int) -> None:
        path = tmp_path / f"{name}.yml"
        path.write_text(configured(options(root, tmp_path, "psnr", total_iter) | {"name": name}).to_yaml())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "aesop"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "train", str(path), "--resume"], check=True, env=environment, timeout=300)

    run("whole", 6)
    run("parts", 3)
    run("parts", 6)
    whole, parts = (all_tensors(tmp_path / name / "state" / "00000006") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() >= {"pool_0/lq", "pool_1/lq"}
    assert not torch.equal(whole["pool_0/lq"], whole["pool_1/lq"])
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


def test_what_cannot_be_sharpened_is_said_by_the_options(root, tmp_path):
    raw = options(root, tmp_path)
    raw["datasets"]["train"]["gt_size"] = 24
    with pytest.raises(ValueError, match=r"train\.\w+_gt_usm: sharpening needs crops of at least 26 pixels; raise gt_size"):
        configured(raw)
