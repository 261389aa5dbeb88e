"""Pairs and training samples: the same samples for any workers, processes and resumes; crops, flips, missing partners."""

import json
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aesop.data.find_pairs import find_pairs, find_singles
from aesop.data.loader import batches, sample_numbers, to_device
from aesop.data.measured_pairs import MeasuredPairs
from aesop.data.training_crops import HRCrops, TrainingCrops, augment
from aesop.images.errors import ImageError
from aesop.images.resize import imresize
from aesop.options.datasets import PairedDataset, TrainDataset

REPO = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("AESOP_GOLDEN") or REPO.parent / "shared" / "golden")
SCALE, SIDE = 4, 16
SIZES = [(40, 52), (32, 32), (35, 45), (48, 20), (28, 64)]  # height, width


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def put(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """HR/ with five images of pure noise, any window of which occurs once; LR/ with noise as well, so that it is plain
    whether LR was read or made."""
    folder = tmp_path_factory.mktemp("pairs")
    for index, (height, width) in enumerate(SIZES):
        put(folder / "HR" / f"img{index}.png", noise(index, height, width))
        put(folder / "LR" / f"img{index}.png", noise(100 + index, height // SCALE, width // SCALE))
    return folder


def crops(root: Path, lq: bool = True, **changes) -> TrainDataset:
    options = {"dataroot_gt": str(root / "HR"), "gt_size": SIDE, "batch_size_per_gpu": 4, "num_worker_per_gpu": 0}
    return TrainDataset(**options | {"dataroot_lq": str(root / "LR") if lq else None} | changes)


def all_batches(options: TrainDataset, last: int, first: int = 1, rank: int = 0, size: int = 1) -> list[dict]:
    with batches(TrainingCrops(options, SCALE, 7), options, first, last, rank, size) as source:
        return list(source)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() == {"lq", "gt"} and all(torch.equal(a[name], b[name]) for name in a)


def locate(window: np.ndarray, images: list[np.ndarray]) -> list[tuple[int, int, int]]:
    """Where a window is found: (image, top, left)."""
    found = []
    for index, image in enumerate(images):
        for top, left in product(*(range(n - m + 1) for n, m in zip(image.shape[:2], window.shape[:2], strict=True))):
            if np.array_equal(image[top : top + window.shape[0], left : left + window.shape[1]], window):
                found.append((index, top, left))
    return found


def as_image(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(1, 2, 0).numpy()


# --- the same samples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lq", [True, False])
def test_workers_never_change_the_samples(root, lq):
    alone = all_batches(crops(root, lq), 5)
    for workers in (1, 2):
        shared = all_batches(crops(root, lq, num_worker_per_gpu=workers), 5)
        assert len(shared) == len(alone) == 5
        assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert alone[0]["gt"].shape == (4, 3, SIDE, SIDE)
    assert alone[0]["lq"].shape == (4, 3, SIDE // SCALE, SIDE // SCALE)
    assert alone[0]["gt"].dtype == alone[0]["lq"].dtype == torch.uint8
    assert not same(alone[0], alone[1])


def test_two_processes_of_half_the_batch_see_the_same_samples(root):
    alone = all_batches(crops(root), 4)
    ranks = [all_batches(crops(root, batch_size_per_gpu=2), 4, rank=rank, size=2) for rank in (0, 1)]
    for batch, left, right in zip(alone, *ranks, strict=True):
        assert same(batch, {name: torch.cat([left[name], right[name]]) for name in batch})


@pytest.mark.parametrize("first", [2, 4, 6])
def test_a_resumed_loader_goes_on_with_the_same_batches(root, first):
    full = all_batches(crops(root), 5)
    resumed = all_batches(crops(root), 5, first=first)
    assert len(resumed) == 6 - first
    assert all(same(a, b) for a, b in zip(full[first - 1 :], resumed, strict=True))


def test_samples_follow_from_the_number_and_the_seed_alone(root):
    data = TrainingCrops(crops(root), SCALE, seed=7)
    forwards = [data[k] for k in range(12)]
    backwards = [TrainingCrops(crops(root, cache=True), SCALE, seed=7)[k] for k in reversed(range(12))]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    other = TrainingCrops(crops(root), SCALE, seed=8)
    assert sum(same(forwards[k], other[k]) for k in range(12)) == 0


def test_the_cache_gives_the_same_samples_without_reading_again(root, tmp_path):
    shutil.copytree(root / "HR", tmp_path / "HR")
    cached = TrainingCrops(crops(tmp_path, lq=False, cache=True), SCALE, seed=7)
    before = [cached[k] for k in range(10)]  # two epochs
    shutil.rmtree(tmp_path / "HR")
    assert all(same(cached[k], before[k]) for k in range(10))
    fresh = TrainingCrops(crops(root, lq=False), SCALE, seed=7)
    assert all(same(fresh[k], before[k]) for k in range(10))


def test_the_steps_of_all_processes_cover_every_number_once():
    steps = [list(sample_numbers(1, 3, 2, rank, 3)) for rank in range(3)]
    assert [number for step in zip(*steps, strict=True) for batch in step for number in batch] == list(range(18))
    assert list(sample_numbers(8, 7, 2)) == []


# --- what a sample is --------------------------------------------------------------------------------------------------


def test_each_epoch_visits_every_image_once_in_an_order_of_its_own(root):
    data = TrainingCrops(crops(root, use_flip=False, use_rot=False), SCALE, seed=7)
    images = [np.asarray(Image.open(pair.gt.path)) for pair in data.pairs]
    orders = []
    for epoch in range(4):
        hits = [locate(as_image(data[epoch * len(images) + i]["gt"]), images) for i in range(len(images))]
        assert all(len(hit) == 1 for hit in hits)
        orders.append([hit[0][0] for hit in hits])
    assert all(sorted(order) == list(range(len(SIZES))) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("lq", [True, False])
def test_the_lr_crop_is_the_crop_of_the_full_lr(root, lq):
    data = TrainingCrops(crops(root, lq, use_flip=False, use_rot=False), SCALE, seed=3)
    images = [np.asarray(Image.open(pair.gt.path)) for pair in data.pairs]
    for k in range(20):
        ((index, top, left),) = locate(as_image(data[k]["gt"]), images)
        assert top % SCALE == left % SCALE == 0
        if lq:
            full = np.asarray(Image.open(root / "LR" / f"img{index}.png"))
        else:
            height, width = (n // SCALE * SCALE for n in images[index].shape[:2])
            full = imresize(images[index][:height, :width], 1 / SCALE)
        small = full[top // SCALE : (top + SIDE) // SCALE, left // SCALE : (left + SIDE) // SCALE]
        np.testing.assert_array_equal(as_image(data[k]["lq"]), small)


def test_crops_reach_every_position_up_to_both_edges(tmp_path):
    put(tmp_path / "HR" / "a.png", noise(0, 24, 20))
    data = TrainingCrops(crops(tmp_path, lq=False, use_flip=False, use_rot=False), SCALE, seed=0)
    image = np.asarray(Image.open(tmp_path / "HR" / "a.png"))
    seen = {locate(as_image(data[k]["gt"]), [image])[0][1:] for k in range(200)}
    assert seen == set(product((0, 4, 8), (0, 4)))


@pytest.mark.parametrize(
    ("flip", "rot", "expected"),
    [(True, True, 8), (True, False, 2), (False, True, 4), (False, False, 1)],
)
def test_orientations_that_are_asked_for_all_occur(tmp_path, flip, rot, expected):
    put(tmp_path / "HR" / "a.png", noise(0, SIDE, SIDE))
    put(tmp_path / "LR" / "a.png", noise(1, SIDE // SCALE, SIDE // SCALE))
    data = TrainingCrops(crops(tmp_path, use_flip=flip, use_rot=rot), SCALE, seed=0)
    seen: dict[bytes, set[bytes]] = {}
    for k in range(120):
        sample = data[k]
        seen.setdefault(sample["gt"].numpy().tobytes(), set()).add(sample["lq"].numpy().tobytes())
    assert len(seen) == expected
    # HR and LR turn together: one LR orientation to each of HR's, and all of them different.
    assert all(len(partners) == 1 for partners in seen.values())
    assert len(set().union(*seen.values())) == expected


def test_hr_and_lr_turn_the_same_way(tmp_path):
    # LR is every 4th pixel of HR's 4x4 blocks of one colour: that holds in every orientation.
    small = noise(5, 7, 9)
    put(tmp_path / "LR" / "a.png", small)
    put(tmp_path / "HR" / "a.png", small.repeat(SCALE, 0).repeat(SCALE, 1))
    data = TrainingCrops(crops(tmp_path), SCALE, seed=1)
    for k in range(24):
        assert torch.equal(data[k]["gt"][:, ::SCALE, ::SCALE], data[k]["lq"])


# By hand: [[0, 1, 2], [3, 4, 5]] flipped left-right, then up-down, then transposed.
EIGHT = {
    (False, False, False): [[0, 1, 2], [3, 4, 5]],
    (True, False, False): [[2, 1, 0], [5, 4, 3]],
    (False, True, False): [[3, 4, 5], [0, 1, 2]],
    (True, True, False): [[5, 4, 3], [2, 1, 0]],
    (False, False, True): [[0, 3], [1, 4], [2, 5]],
    (True, False, True): [[2, 5], [1, 4], [0, 3]],
    (False, True, True): [[3, 0], [4, 1], [5, 2]],
    (True, True, True): [[5, 2], [4, 1], [3, 0]],
}


@pytest.mark.parametrize(("decision", "expected"), EIGHT.items())
def test_the_eight_orientations_by_hand(decision, expected):
    image = np.arange(6).reshape(2, 3, 1)
    np.testing.assert_array_equal(augment(image, *decision)[..., 0], expected)
    np.testing.assert_array_equal(image[..., 0], [[0, 1, 2], [3, 4, 5]])  # untouched


def golden_case() -> dict:
    if not (GOLDEN / "golden.json").is_file():
        pytest.skip(f"no golden.json in {GOLDEN} (set AESOP_GOLDEN)")
    cases = json.loads((GOLDEN / "golden.json").read_text())["cases"]
    case = next((case for case in cases if "augment" in case.get("callable", "")), None)
    if case is None:
        pytest.skip(f"no case of paired_random_crop and augment in {GOLDEN}")
    return case["values"]


def test_the_eight_orientations_against_the_published_code():
    (outcomes,) = (value for key, value in golden_case().items() if key.startswith("all eight outcomes"))
    assert len(outcomes) == 8
    image = np.arange(6, dtype=np.float64).reshape(2, 3, 1)
    for key, expected in outcomes.items():
        np.testing.assert_array_equal(augment(image, *json.loads(key.lower()))[..., 0], expected)


def test_crop_and_orientation_against_the_published_code():
    (cases,) = (value for key, value in golden_case().items() if key.startswith("paired_random_crop(gt 80x96"))
    assert len(cases) > 3
    gt, lq = (np.arange(h * w).reshape(h, w, 1).repeat(3, axis=2) for h, w in ((80, 96), (20, 24)))
    for case in cases:
        (top, left), decision = case["lq_top_left"], case["hflip_vflip_rot90"]
        small = augment(lq[top : top + 8, left : left + 8], *decision)
        large = augment(gt[4 * top : 4 * top + 32, 4 * left : 4 * left + 32], *decision)
        assert list(small.shape) == case["lq_shape_after"]
        assert (small[0, 0, 0], large[0, 0, 0]) == (case["lq_corner_after"], case["gt_corner_after"])


# --- finding pairs -----------------------------------------------------------------------------------------------------


def test_missing_partners_are_counted_and_named(root, tmp_path):
    shutil.copytree(root / "LR", tmp_path / "LR")
    for index in range(4):
        (tmp_path / "LR" / f"img{index}.png").unlink()
    with pytest.raises(ValueError) as error:
        find_pairs(crops(root, dataroot_lq=str(tmp_path / "LR")), "train")
    text = str(error.value)
    assert "datasets.train: 4 of 5 HR images have no LR image named '{}'" in text
    assert "filename_tmpl" in text
    assert all(f"{root}/HR/img{index}.png has no partner in {tmp_path}/LR" in text for index in range(3))
    assert "; and 1 more. Set filename_tmpl" in text
    assert "img3.png" not in text


def test_names_by_template_suffix_and_sub_folder(tmp_path):
    for name in ("a", "below/b"):
        put(tmp_path / "HR" / f"{name}.png", noise(0, 8, 8))
        put(tmp_path / "LR" / f"{name}x4.bmp", noise(1, 2, 2))
    options = PairedDataset(dataroot_gt=f"{tmp_path}/HR/", dataroot_lq=f"{tmp_path}/LR", filename_tmpl="{}x4", name="Two")
    pairs = find_pairs(options, "val")
    assert [pair.name for pair in pairs] == ["a", "below/b"]
    assert [pair.lq.path for pair in pairs] == [tmp_path / "LR" / "ax4.bmp", tmp_path / "LR" / "below" / "bx4.bmp"]
    measured = MeasuredPairs.find(options, "val", SCALE)
    assert (measured.name, len(measured)) == ("Two", 2)
    assert measured[1].name == "below/b"
    np.testing.assert_array_equal(measured[1].lq, noise(1, 2, 2))
    with pytest.raises(ValueError, match=r"2 of 2 HR images have no LR image named '\{\}'"):
        find_pairs(options.model_copy(update={"filename_tmpl": "{}"}), "val")


def test_several_folders_are_one_dataset(root, tmp_path):
    put(tmp_path / "HR" / "more.png", noise(9, 32, 32))
    put(tmp_path / "LR" / "more.png", noise(10, 8, 8))
    both = {"dataroot_gt": [f"{root}/HR", f"{tmp_path}/HR"], "dataroot_lq": [f"{root}/LR", f"{tmp_path}/LR"]}
    pairs = find_pairs(crops(root, **both), "train")
    assert [pair.gt.path.name for pair in pairs] == [*(f"img{i}.png" for i in range(5)), "more.png"]
    assert pairs[5].lq.path == tmp_path / "LR" / "more.png"
    assert len(find_pairs(crops(root, lq=False, dataroot_gt=both["dataroot_gt"]), "train")) == 6
    with pytest.raises(
        ValueError, match=r"datasets\.train: dataroot_gt and dataroot_lq must name the same number of folders"
    ):
        find_pairs(crops(root, dataroot_gt=both["dataroot_gt"]), "train")


def test_images_without_hr(root, tmp_path):
    put(tmp_path / "LR" / "below" / "odd.png", noise(9, 7, 5))
    options = PairedDataset(type="SingleImageDataset", dataroot_lq=[f"{root}/LR", f"{tmp_path}/LR/"], name="Alone")
    measured = MeasuredPairs.find(options, "test_1", SCALE)
    assert (measured.name, len(measured), measured.has_reference) == ("Alone", 6, False)
    sample = measured[5]
    assert (sample.name, sample.gt) == (f"{tmp_path.name}/LR/below/odd", None)
    np.testing.assert_array_equal(sample.lq, noise(9, 7, 5))  # whole, whatever its size
    assert measured.pairs[5].source.path == tmp_path / "LR" / "below" / "odd.png"
    paired = MeasuredPairs.find(PairedDataset(dataroot_gt=str(root / "HR")), "val", SCALE)
    assert paired.has_reference
    assert paired.pairs[0].source.path == root / "HR" / "img0.png"
    with pytest.raises(ImageError, match=r"datasets\.test_1\.dataroot_lq: .*nowhere"):
        find_singles(options.model_copy(update={"dataroot_lq": f"{root}/nowhere"}), "test_1")
    with pytest.raises(ValueError, match=r"datasets\.test_1\.dataroot_lq: give the folder of images"):
        find_singles(options.model_copy(update={"dataroot_lq": None}), "test_1")


def test_folders_of_one_name_are_told_apart_by_what_precedes_it(tmp_path):
    for number in (1, 2):
        put(tmp_path / f"x{number}" / "HR" / "a.png", noise(number, 32, 32))
    pairs = find_pairs(PairedDataset(dataroot_gt=[f"{tmp_path}/x1/HR", f"{tmp_path}/x2/HR/"]), "train")
    assert [(pair.name, pair.folder) for pair in pairs] == [("x1/HR/a", 0), ("x2/HR/a", 1)]
    with pytest.raises(ImageError, match="are both named"):
        find_pairs(PairedDataset(dataroot_gt=[f"{tmp_path}/x1/HR"] * 2), "train")


@pytest.mark.parametrize("separator", [", ", ","])
def test_a_list_of_pairs_needs_no_equal_names(separator, tmp_path):
    for name in ("one.png", "below/two.png", "three.png"):
        put(tmp_path / "data" / "gt" / name, noise(0, 32, 32))
        put(tmp_path / "data" / "lq" / name.replace(".png", "_small.png"), noise(1, 8, 8))
    lines = ["gt\\below\\two.png" + separator + "lq\\below\\two_small.png", "gt/one.png" + separator + "lq/one_small.png"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    both = {"dataroot_gt": f"{tmp_path}/data", "dataroot_lq": f"{tmp_path}/data"}
    options = TrainDataset(**both, gt_size=32, meta_info=f"{tmp_path}/pairs.txt")
    pairs = TrainingCrops(options, SCALE, 0).pairs
    assert [(pair.gt.name, pair.lq.name) for pair in pairs] == [
        ("gt/below/two.png", "lq/below/two_small.png"),
        ("gt/one.png", "lq/one_small.png"),
    ]
    (tmp_path / "pairs.txt").write_text("gt/one.png, lq/gone.png\n")
    with pytest.raises(ImageError, match=r"1 of 1 names in .*pairs\.txt are not an image below .*: gt/one\.png, lq/gone"):
        TrainingCrops(options, SCALE, 0)


def test_a_list_of_names_may_have_backslashes(tmp_path):
    put(tmp_path / "HR" / "below" / "two.png", noise(0, 32, 32))
    (tmp_path / "names.txt").write_text("below\\two.png\n")
    options = TrainDataset(dataroot_gt=f"{tmp_path}/HR", gt_size=32, meta_info=f"{tmp_path}/names.txt")
    assert [pair.name for pair in TrainingCrops(options, SCALE, 0).pairs] == ["below/two"]


def test_two_images_of_one_name_would_overwrite_each_other(tmp_path):
    put(tmp_path / "HR" / "a.png", noise(0, 8, 8))
    put(tmp_path / "HR" / "a.bmp", noise(1, 8, 8))
    text = r"datasets\.test: .*a\.(bmp|png) and .*a\.(bmp|png) are both named 'a': rename one, or its folder"
    with pytest.raises(ValueError, match=text):
        find_pairs(PairedDataset(dataroot_gt=f"{tmp_path}/HR"), "test")
    with pytest.raises(ValueError, match=text):
        find_singles(PairedDataset(type="SingleImageDataset", dataroot_lq=f"{tmp_path}/HR"), "test")


def test_a_home_folder_is_expanded(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    assert len(find_pairs(PairedDataset(dataroot_gt="~/HR", dataroot_lq="~/LR"), "val")) == 5


@pytest.mark.parametrize("given", ["", []])
def test_an_empty_folder_option_is_refused(given):
    with pytest.raises(ValueError, match=r"datasets\.test_1\.dataroot_gt: give the folder of HR images"):
        find_pairs(PairedDataset(dataroot_gt=given), "test_1")


def test_measured_pairs_are_whole_images_in_order(root):
    made = MeasuredPairs.find(PairedDataset(dataroot_gt=str(root / "HR")), "val", SCALE)
    read = MeasuredPairs.find(PairedDataset(dataroot_gt=str(root / "HR"), dataroot_lq=str(root / "LR")), "val", SCALE)
    assert made.name == "val"
    for index, (height, width) in enumerate(SIZES):
        hr = noise(index, height, width)[: height // SCALE * SCALE, : width // SCALE * SCALE]
        for data in (made, read):
            assert data[index].name == f"img{index}"
            np.testing.assert_array_equal(data[index].gt, hr)
        np.testing.assert_array_equal(made[index].lq, imresize(hr, 1 / SCALE))
        np.testing.assert_array_equal(read[index].lq, noise(100 + index, height // SCALE, width // SCALE))


def test_sizes_that_do_not_fit_name_both_files(root, tmp_path):
    shutil.copytree(root / "LR", tmp_path / "LR")
    put(tmp_path / "LR" / "img2.png", noise(0, 8, 12))
    options = crops(root, dataroot_lq=str(tmp_path / "LR"))
    with pytest.raises(ImageError) as error:
        _ = MeasuredPairs.find(options, "val", SCALE)[2].lq
    expected = f"{root}/HR/img2.png (44x32 after cutting to multiples of 4) is not 4 times {tmp_path}/LR/img2.png (12x8)"
    assert expected in str(error.value)
    with pytest.raises(ImageError, match="wrong partner or wrong scale"):
        TrainingCrops(options, SCALE, seed=7)  # from the headers, before anything is trained


def test_images_smaller_than_the_crop_are_counted_before_the_first_step(root):
    with pytest.raises(ImageError) as error:
        TrainingCrops(crops(root, gt_size=36), SCALE, seed=7)
    text = str(error.value)
    # 35x45 has 32 usable rows, 48x20 too few columns, 32x32 and 28x64 are too small as well.
    small = [f"{root}/HR/{name} is smaller than the crop (gt_size 36)" for name in ("img1.png (32x32)", "img2.png (45x35)")]
    assert text.startswith(f"4 of 5 training images cannot be used: {small[0]}; {small[1]}; ")
    assert "; and 1 more. Remove them, lower datasets.train.gt_size if they are too small, or set" in text
    assert len(TrainingCrops(crops(root, gt_size=20), SCALE, seed=7).pairs) == 5


@pytest.fixture
def partly_bad(tmp_path):
    """Five good images, one without a readable header, one whose end is missing (its header is in order), a small one."""
    for k in range(5):
        put(tmp_path / f"good{k}.png", noise(k, 40, 44))
    put(tmp_path / "small.png", noise(9, 20, 44))
    put(tmp_path / "cut.png", noise(10, 40, 44))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-400])
    (tmp_path / "page.png").write_text("<html>not found</html>")
    return tmp_path


@pytest.mark.parametrize("make", ["TrainingCrops", "HRCrops"])
def test_a_bad_image_among_good_ones_stops_by_default_and_is_named(partly_bad, make):
    def open_set(folder):
        options = crops(folder, lq=False, gt_size=32, dataroot_gt=str(folder))
        return HRCrops(options, 48, 7) if make == "HRCrops" else TrainingCrops(options, SCALE, seed=7)

    with pytest.raises(ImageError, match=r"of 8 training images cannot .*page.png .*datasets.train.bad_images: skip"):
        open_set(partly_bad)
    (partly_bad / "page.png").unlink()
    (partly_bad / "small.png").unlink()
    data = open_set(partly_bad)
    with pytest.raises(ImageError, match=r"cut.png .*bad_images: skip"):
        [data[k] for k in range(len(data.pairs))]


@pytest.mark.parametrize("make", ["TrainingCrops", "HRCrops"])
def test_bad_images_are_left_out_by_choice_and_named(partly_bad, make, caplog):
    options = crops(partly_bad, lq=False, gt_size=32, bad_images="skip", dataroot_gt=str(partly_bad))
    data = HRCrops(options, 48, 7) if make == "HRCrops" else TrainingCrops(options, SCALE, seed=7)
    assert "page.png" in caplog.text
    # An image smaller than the crop is continued by reflection for the degradation, and left out of ordinary training.
    assert len(data.pairs) == (7 if make == "HRCrops" else 6)
    samples = [data[k] for k in range(2 * len(data.pairs))]
    assert "cut.png" in caplog.text
    assert {tuple(sample["gt"].shape) for sample in samples} == {(3, 48, 48) if make == "HRCrops" else (3, 32, 32)}
    assert all(same(a, data[k]) for k, a in enumerate(samples) if "lq" in a)


def test_when_no_image_is_left_the_error_says_so(tmp_path):
    put(tmp_path / "a.png", noise(0, 40, 44))
    options = crops(tmp_path, lq=False, gt_size=32, bad_images="skip", dataroot_gt=str(tmp_path))
    data = TrainingCrops(options, SCALE, seed=7)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match="no training image can be read any more"):
        data[0]


def test_batches_become_floats_on_the_device():
    batch = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert torch.equal(to_device(batch, torch.device("cpu")), torch.tensor([[0.0, 0.2, 1.0]]))
    assert batch.dtype == torch.uint8
