"""LMDB folders of BasicSR's layout, written by the lmdb package itself as BasicSR's script does."""

import pickle
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from aesop.data.loader import batches
from aesop.data.training_crops import TrainingCrops
from aesop.images.errors import ImageError
from aesop.images.listing import list_images
from aesop.options.datasets import TrainDataset


def make_store(folder: Path, images: dict[str, np.ndarray], listed: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as store, store.begin(write=True) as transaction:
        for name, image in images.items():
            transaction.put(name.encode(), cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    lines = [f"{name}.png ({image.shape[0]},{image.shape[1]},3) 1" for name, image in images.items()]
    (folder / "meta_info.txt").write_text("\n".join(listed if listed is not None else lines) + "\n")
    return folder


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {f"img {k}": draw.integers(0, 256, (40, 48 + 4 * k, 3), dtype=np.uint8) for k in (2, 10, 1)}


def test_images_are_listed_in_natural_order_and_read_as_they_were(tmp_path, images):
    store = make_store(tmp_path / "gt.lmdb", images)
    listed = list_images(store)
    assert [image.name for image in listed] == ["img 1.png", "img 2.png", "img 10.png"]
    for image in (*listed, *pickle.loads(pickle.dumps(listed))):  # noqa: S301
        assert image.path == store / image.name
        assert (image.read_uint8() == images[image.stem]).all()
        assert image.size() == images[image.stem].shape[1::-1]


def test_training_from_a_store_is_training_from_files(tmp_path, images):
    store = make_store(tmp_path / "gt.lmdb", images)
    (tmp_path / "files").mkdir()
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / "files" / f"{name}.png"), image[..., ::-1])

    def samples(root: Path, kind: str) -> list[dict]:
        options = TrainDataset(
            dataroot_gt=str(root), io_backend={"type": kind}, gt_size=32, num_worker_per_gpu=1, batch_size_per_gpu=2
        )
        with batches(TrainingCrops(options, 4, 7), options, 1, 4) as source:
            return list(source)

    for a, b in zip(samples(store, "lmdb"), samples(tmp_path / "files", "disk"), strict=True):
        assert all((a[name] == b[name]).all() for name in ("lq", "gt"))


def test_refusals_name_store_and_reason(tmp_path, images):
    with pytest.raises(ValueError, match=r"reads folders whose names end in .lmdb, found photos"):
        TrainDataset(dataroot_gt="photos", io_backend={"type": "lmdb"})
    store = make_store(tmp_path / "a.lmdb", images, ["gone.png (1,1,3) 1"])
    with pytest.raises(ImageError, match=r"a.lmdb has no image gone.png, although its meta_info.txt lists it"):
        list_images(store)[0].read_uint8()
    (store / "meta_info.txt").unlink()
    with pytest.raises(ImageError, match=r"a.lmdb/meta_info.txt cannot be read"):
        list_images(store)
    (tmp_path / "b.lmdb").mkdir()
    (tmp_path / "b.lmdb" / "meta_info.txt").write_text("x.png (1,1,3) 1\n")
    with pytest.raises(ImageError, match=r"b.lmdb is not a readable LMDB folder"):
        list_images(tmp_path / "b.lmdb")[0].read_uint8()


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "./x.png"])
def test_names_that_lead_out_of_the_store_are_refused(tmp_path, images, name):
    store = make_store(tmp_path / "a.lmdb", images, [f"{name} (1,1,3) 1"])
    with pytest.raises(ImageError, match=r"a.lmdb/meta_info.txt names '.*', which is not below the folder"):
        list_images(store)
