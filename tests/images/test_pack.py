"""Packs: the same samples as the folder packed, only the crop read, damaged and hostile files refused."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from aesop.cli import app
from aesop.data.loader import batches
from aesop.data.measured_pairs import MeasuredPairs
from aesop.data.training_crops import HRCrops, TrainingCrops
from aesop.images import pack
from aesop.images.errors import ImageError
from aesop.images.listing import list_images
from aesop.options.datasets import PairedDataset, TrainDataset

SCALE = 4


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def put(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def prepare(*words: object) -> str:
    """Output of `aesop prepare pack`, which succeeds."""
    result = CliRunner().invoke(app, ["prepare", "pack", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words: object) -> str:
    result = CliRunner().invoke(app, ["prepare", "pack", *map(str, words)])
    assert result.exit_code == 1
    return result.output


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """HR/ and LR/ of images of every kind, and hr.pack and lr.pack made of them."""
    folder = tmp_path_factory.mktemp("packs")
    kinds = {"img2": (40, 52, 3), "img10": (33, 45, 3), "gray": (36, 36), "below/alpha": (32, 64, 4), "ärger": (48, 32, 3)}
    for seed, (name, shape) in enumerate(kinds.items()):
        put(folder / "HR" / f"{name}.png", noise(seed, *shape))
        put(folder / "LR" / f"{name}.png", noise(9 + seed, shape[0] // SCALE, shape[1] // SCALE, 3))
    deep = np.random.default_rng(8).integers(0, 65536, (40, 40, 3), dtype=np.uint16)
    put(folder / "HR" / "deep.png", deep)
    put(folder / "LR" / "deep.png", noise(99, 10, 10, 3))
    for kind in ("HR", "LR"):
        assert f"6 images, 0.00 GB: {folder}/{kind.lower()}.pack" in prepare(
            folder / kind, "-o", f"{folder}/{kind}.pack".lower()
        )
    return folder


def options(root: Path, packed: bool, lq: bool, **changes) -> TrainDataset:
    hr, lr = ("hr.pack", "lr.pack") if packed else ("HR", "LR")
    given = {"dataroot_gt": str(root / hr), "gt_size": 16, "batch_size_per_gpu": 4, "num_worker_per_gpu": 0}
    return TrainDataset(**given | {"dataroot_lq": str(root / lr) if lq else None} | changes)


def test_images_names_and_order_are_the_folders(root):
    files, packed = list_images(root / "HR"), list_images(root / "hr.pack")
    assert [image.name for image in packed] == [image.name for image in files]
    assert root / "hr.pack" / "below" / "alpha.png" in [image.path for image in packed]
    for file, image in zip(files, packed, strict=True):
        np.testing.assert_array_equal(image.read_uint8(), file.read_uint8())
        assert image.size() == file.size()


@pytest.mark.parametrize("lq", [True, False])
def test_training_crops_are_the_folders(root, lq):
    files, packed = (TrainingCrops(options(root, kind, lq), SCALE, seed=7) for kind in (False, True))
    assert [pair.name for pair in packed.pairs] == [pair.name for pair in files.pairs]
    for k in range(40):
        a, b = files[k], packed[k]
        assert all(torch.equal(a[name], b[name]) for name in ("lq", "gt"))


def test_real_world_crops_are_the_folders(root):
    files, packed = (HRCrops(options(root, kind, False), 40, 7) for kind in (False, True))
    assert all(torch.equal(files[k]["gt"], packed[k]["gt"]) for k in range(24))


def test_measured_pairs_are_the_folders(root):
    files, packed = (
        MeasuredPairs.find(PairedDataset(dataroot_gt=str(root / hr), dataroot_lq=str(root / lr)), "val", SCALE)
        for hr, lr in (("HR", "LR"), ("hr.pack", "lr.pack"))
    )
    for a, b in zip(files, packed, strict=True):
        assert a.name == b.name
        assert np.array_equal(a.lq, b.lq)
        assert np.array_equal(a.gt, b.gt)


def test_worker_processes_read_packs(root):
    alone = options(root, True, True)
    with batches(TrainingCrops(alone, SCALE, 7), alone, 1, 4) as source:
        expected = list(source)
    shared = options(root, True, True, num_worker_per_gpu=2)
    with batches(TrainingCrops(shared, SCALE, 7), shared, 1, 4) as source:
        got = list(source)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(expected, got, strict=True) for name in ("lq", "gt"))


def test_a_pickled_dataset_opens_its_packs_again(root):
    data = TrainingCrops(options(root, True, True), SCALE, 7)
    sample, pickled = data[3], pickle.dumps(data)
    assert len(pickled) < 10_000
    assert torch.equal(pickle.loads(pickled)[3]["gt"], sample["gt"])  # noqa: S301


def test_a_pickled_image_of_a_pack_that_was_replaced_is_refused(tmp_path):
    pack.write(tmp_path / "x.pack", [("a.png", noise(0, 40, 40, 3))])
    (image,) = list_images(tmp_path / "x.pack")
    pickled, pixels = pickle.dumps(image), image.read_uint8()
    for replace in (lambda path: pack.write(path, [("b.png", noise(0, 2, 2, 3))]), Path.unlink):
        replace(tmp_path / "x.pack")
        with pytest.raises(ImageError, match=r"x.pack (was replaced by another pack while in use|cannot be read)"):
            pickle.loads(pickled).read_uint8()  # noqa: S301
        np.testing.assert_array_equal(image.read_uint8(), pixels)  # the file that was listed stays mapped


def test_a_sample_is_a_copy_and_the_pack_is_left_alone(root):
    before = (root / "hr.pack").read_bytes()
    # 1x1 crops, and LR crops without margin, are contiguous whichever way they are turned.
    for side in (4, 16):
        sample = TrainingCrops(options(root, True, True, gt_size=side), SCALE, 7)[0]
        for tensor in sample.values():
            tensor.zero_()
    assert (root / "hr.pack").read_bytes() == before
    assert not any(image.read_uint8().flags.writeable for image in list_images(root / "hr.pack"))


def test_meta_info_names_images_of_a_pack(root, tmp_path):
    (tmp_path / "list.txt").write_text("img10.png (33,45,3)\nbelow/alpha.png\n")
    data = TrainingCrops(options(root, True, True, meta_info=str(tmp_path / "list.txt")), SCALE, 7)
    assert [pair.name for pair in data.pairs] == ["img10", "below/alpha"]


def test_several_folders_in_one_pack_and_a_pack_beside_a_folder(root, tmp_path):
    put(tmp_path / "more" / "img2.png", noise(5, 20, 20, 3))
    prepare(root / "HR", tmp_path / "more", "-o", tmp_path / "both.pack")
    both = TrainingCrops(options(root, False, False, dataroot_gt=str(tmp_path / "both.pack")), SCALE, 7)
    for roots in ([str(root / "HR"), str(tmp_path / "more")], [str(root / "hr.pack"), str(tmp_path / "more")]):
        apart = TrainingCrops(options(root, False, False, dataroot_gt=roots), SCALE, 7)
        assert all(torch.equal(both[k]["gt"], apart[k]["gt"]) for k in range(20))
    put(tmp_path / "other" / "HR" / "img2.png", noise(6, 20, 20, 3))
    text = refused(root / "HR", tmp_path / "other" / "HR", "-o", tmp_path / "clash.pack")
    assert "are both named 'HR/img2.png': rename one, or its folder" in text


# --- writing -----------------------------------------------------------------------------------------------------------


def test_what_is_refused_before_anything_is_written(root, tmp_path):
    assert "a pack's name ends in .pack" in refused(root / "HR", "-o", tmp_path / "x.bin")
    assert "nowhere does not exist" in refused(tmp_path / "nowhere", "-o", tmp_path / "x.pack")
    assert "hr.pack exists: choose another name, or replace it with --overwrite" in refused(
        root / "HR", "-o", root / "hr.pack"
    )
    (tmp_path / "folder.pack").mkdir()
    assert "is a folder" in refused(root / "HR", "-o", tmp_path / "folder.pack")
    put(tmp_path / "bad" / "a.png", noise(0, 8, 8, 3))
    (tmp_path / "bad" / "b.png").write_text("<html>")
    (tmp_path / "bad" / "c.png").write_text("<html>")
    text = refused(tmp_path / "bad", "-o", tmp_path / "x.pack")
    assert "2 of 3 images cannot be read: " in text
    assert "b.png" in text
    assert {path.name for path in tmp_path.iterdir()} == {"bad", "folder.pack"}


def test_too_little_space_is_said_before_writing(root, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("aesop.commands.prepare.shutil.disk_usage", lambda path: usage)
    assert "6 decoded images take 0.0 GB" in refused(root / "HR", "-o", tmp_path / "below" / "x.pack")
    assert not list(tmp_path.iterdir())


def test_a_failure_half_way_leaves_the_former_pack(tmp_path):
    put(tmp_path / "HR" / "a.png", noise(0, 40, 40, 3))
    prepare(tmp_path / "HR", "-o", tmp_path / "x.pack")
    before = (tmp_path / "x.pack").read_bytes()
    put(tmp_path / "HR" / "b.png", noise(1, 40, 40, 3))
    (tmp_path / "HR" / "b.png").write_bytes((tmp_path / "HR" / "b.png").read_bytes()[:-400])  # its header is in order
    assert "b.png is truncated" in refused(tmp_path / "HR", "-o", tmp_path / "x.pack", "--overwrite")
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()} == {"x.pack": len(before)}
    put(tmp_path / "HR" / "b.png", noise(1, 40, 40, 3))
    prepare(tmp_path / "HR", "-o", tmp_path / "x.pack", "--overwrite")
    assert len(list_images(tmp_path / "x.pack")) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def on_a_full_disk(self, *args):
        return open("/dev/full", "wb", buffering=0)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(OSError, match="space"):
        pack.write(tmp_path / "x.pack", [("a.png", noise(0, 8, 8, 3))])
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


# --- files that are no good packs --------------------------------------------------------------------------------------


def forged(path: Path, index: object, pixels: int = 192, version: int = pack.VERSION, **changes) -> Path:
    """A pack whose header fits its index, whatever that says."""
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    fields = {"start": pack.HEADER.size + pixels, "length": len(text), "digest": hashlib.sha256(text).digest()} | changes
    header = pack.HEADER.pack(pack.MAGIC, version, fields["start"], fields["length"], fields["digest"])
    path.write_bytes(header + bytes(pixels) + text)
    return path


def test_a_forged_pack_in_order_is_read(tmp_path):
    (image,) = list_images(forged(tmp_path / "x.pack", [["sub/a.png", 8, 8]]))
    assert image.read_uint8().shape == (8, 8, 3)


HOSTILE = {
    "more than there is": [["a.png", 8, 9]],
    "less than there is": [["a.png", 8, 7]],
    "overlapping the end": [["a.png", 8, 8], ["b.png", 1, 1]],
    "negative": [["a.png", 8, 16], ["b.png", -8, 8]],
    "twice negative": [["a.png", -8, -8]],
    "nothing": [["a.png", 8, 8], ["b.png", 0, 8]],
    "huge": [["a.png", 10**4000, 10**4000]],
    "fractions": [["a.png", 8.0, 8]],
    "truths": [["a.png", True, 64]],
    "no name": [[8, 8, 8]],
    "an empty name": [["", 8, 8]],
    "outside": [["../a.png", 8, 8]],
    "absolute": [["/a.png", 8, 8]],
    "twice": [["a.png", 4, 8], ["a.png", 4, 8]],
    "too short": [["a.png", 8]],
    "an object": {"a.png": [8, 8]},
    "a number": 5,
    "no images": [],
    "no JSON": b"\xff\xfe",
    "a long number": b"[[" + b"9" * 5000 + b"]]",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("index", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_index_is_refused(tmp_path, index):
    path = forged(tmp_path / "x.pack", index, 0 if index == [] else 192)
    with pytest.raises(ImageError, match=r"the index of .*x.pack is damaged \(.*pack the folder, again"):
        list_images(path)


def test_headers_that_do_not_fit_are_refused(tmp_path):
    good = [["a.png", 8, 8]]
    for changes in ({"start": 2**64 - 1}, {"length": 2**63}, {"start": 0}, {"length": 0}):
        with pytest.raises(ImageError, match=r"x.pack has \d+ bytes, but its header says \d+: copy the pack, or pack"):
            list_images(forged(tmp_path / "x.pack", good, **changes))
    with pytest.raises(
        ImageError, match=r"x.pack has pack version 2, but this release reads version 1: pack the folder again"
    ):
        list_images(forged(tmp_path / "x.pack", good, version=2))
    with pytest.raises(ImageError, match=r"the index of .*x.pack is damaged \(its checksum is wrong\)"):
        list_images(forged(tmp_path / "x.pack", good, digest=bytes(32)))


def test_a_file_cut_short_or_of_another_kind_is_refused(root, tmp_path):
    whole, path = (root / "hr.pack").read_bytes(), tmp_path / "x.pack"
    for length in (len(whole) - 1, len(whole) // 2, pack.HEADER.size):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError, match=rf"x.pack has {length} bytes, but its header says {len(whole)}"):
            list_images(path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(ImageError, match="but its header says"):
        list_images(path)
    for content in (b"", b"AESOPACK", (root / "HR" / "gray.png").read_bytes(), bytes(len(whole))):
        path.write_bytes(content)
        with pytest.raises(
            ImageError, match=r"x.pack is not a pack: make one from a folder of images with `aesop prepare pack`"
        ):
            list_images(path)


def test_the_option_is_named(root, tmp_path):
    (tmp_path / "x.pack").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"datasets\.train\.dataroot_gt: .*x.pack is not a pack"):
        TrainingCrops(options(root, True, False, dataroot_gt=str(tmp_path / "x.pack")), SCALE, 7)


def test_a_pack_written_anew_is_listed_anew(root, tmp_path):
    os.link(root / "hr.pack", tmp_path / "x.pack")
    assert len(list_images(tmp_path / "x.pack")) == 6
    put(tmp_path / "one" / "a.png", noise(3, 20, 24, 3))
    prepare(tmp_path / "one", "-o", tmp_path / "x.pack", "--overwrite")
    (image,) = list_images(tmp_path / "x.pack")
    assert image.size() == (24, 20)
    assert len(list_images(root / "hr.pack")) == 6


def test_a_folder_of_that_name_stays_a_folder(tmp_path):
    put(tmp_path / "x.pack" / "a.png", noise(0, 20, 24, 3))
    (image,) = list_images(tmp_path / "x.pack")
    assert image.size() == (24, 20)
    assert image.read_uint8().shape == (20, 24, 3)
