"""Measure the cost of loading: crops per second of one worker process, HR 128x128 and LR 32x32, batch 16.

    python benchmarks/loader.py [--images FOLDER] [--quick] [--record]

* as published: 480x480 PNG sub-images and their 120x120 LR (how the published recipe prepares 2K photographs); both files
  are decoded for each crop, converted to float, cropped, and flipped. This is a stand-in with the decoder and the
  operations of BasicSR's PairedImageDataset.
* ours, PNG files: whole photographs. As in all cases but the last, LR is the bicubic downscaling of the crop's window.
* ours, cache: true: the same, after the first epoch.
* ours, pack: from a file written by `aesop prepare pack`.
* ours, packs of HR and LR.

Without --images, the photographs are 2040x1356 mosaics of those in the package. All files are in the page cache of the
system, so no disk is measured. The cases alternate; the table shows medians.
"""

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import aesop
from aesop.data.loader import batches
from aesop.data.training_crops import TrainingCrops
from aesop.images import pack
from aesop.images.listing import list_images
from aesop.images.resize import imresize, mod_crop
from aesop.options.datasets import TrainDataset
from record import described, write

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "train"
SCALE, SIDE, BATCH, SUB = 4, 128, 16, 480
HEIGHT, WIDTH, MOST_PHOTOGRAPHS = 1356, 2040, 12
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 3)
PUBLISHED, PACK = "as published (stand-in)", "ours, pack"
Batches = AbstractContextManager[Iterator[dict[str, Tensor]]]


def photographs(folder: Path | None, most: int) -> list[np.ndarray]:
    """Return the first photographs of a folder, or mosaics: uint8 (H, W, 3), RGB."""
    if folder is not None:
        return [mod_crop(image.read_uint8(), SCALE) for image in list_images(folder)[:most]]
    parts = [image for image in (photo.read_uint8() for photo in list_images(PHOTOS)) if image.shape == (312, 480, 3)]
    rows, columns = math.ceil(HEIGHT / 312), math.ceil(WIDTH / 480)
    draw = np.random.default_rng(0)
    return [
        np.block([[[parts[k]] for k in draw.integers(0, len(parts), columns)] for _ in range(rows)])[:HEIGHT, :WIDTH]
        for _ in range(most)
    ]


def lay_out(images: list[np.ndarray], root: Path) -> None:
    """Write 2K/, hr.pack, lr.pack, sub_hr/, and sub_lr/."""
    made = [(f"{number:04}.png", image, imresize(image, 1 / SCALE)) for number, image in enumerate(images)]
    for name in ("2K", "sub_hr", "sub_lr"):
        (root / name).mkdir()
    pack.write(root / "hr.pack", ((name, hr) for name, hr, _ in made))
    pack.write(root / "lr.pack", ((name, lr) for name, _, lr in made))
    for name, hr, lr in made:
        save(root / "2K" / name, hr)
        for top in range(0, hr.shape[0] - SUB + 1, SUB):
            for left in range(0, hr.shape[1] - SUB + 1, SUB):
                sub = f"{name[:-4]}_{top}_{left}.png"
                save(root / "sub_hr" / sub, hr[top : top + SUB, left : left + SUB])
                y, x, side = top // SCALE, left // SCALE, SUB // SCALE
                save(root / "sub_lr" / sub, lr[y : y + side, x : x + side])


def save(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image[..., ::-1], PNG)


class SubImages(Dataset):
    """Do the work of the published loader: decode two PNG files for each pair of crops, in float32."""

    def __init__(self, root: Path):
        self.pairs = [(path, root / "sub_lr" / path.name) for path in sorted((root / "sub_hr").iterdir())]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        gt, lq = (decoded(path) for path in self.pairs[index % len(self.pairs)])
        side = SIDE // SCALE
        top, left = (random.randint(0, n - side) for n in lq.shape[:2])
        lq = lq[top : top + side, left : left + side]
        gt = gt[top * SCALE : top * SCALE + SIDE, left * SCALE : left * SCALE + SIDE]
        hflip, vflip, turn = (random.random() < 0.5 for _ in range(3))
        return {"lq": oriented(lq, hflip, vflip, turn), "gt": oriented(gt, hflip, vflip, turn)}


def decoded(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR).astype(np.float32) / 255


def oriented(image: np.ndarray, hflip: bool, vflip: bool, turn: bool) -> Tensor:
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if hflip:
        image = cv2.flip(image, 1)
    if vflip:
        image = cv2.flip(image, 0)
    return torch.from_numpy(np.ascontiguousarray((image.transpose(1, 0, 2) if turn else image).transpose(2, 0, 1)))


def published(root: Path, count: int) -> Batches:
    indices = [[step * BATCH + k for k in range(BATCH)] for step in range(count)]
    loader = DataLoader(SubImages(root), batch_sampler=indices, num_workers=1, worker_init_fn=lambda _: cv2.setNumThreads(0))
    iterator = iter(loader)
    return closing(batch for batch in iterator)


def ours(root: Path, count: int, **options: Any) -> Batches:
    roots = {name: str(root / value) for name, value in options.items() if name != "cache"}
    train = TrainDataset(**roots, cache="cache" in options, gt_size=SIDE, batch_size_per_gpu=BATCH, num_worker_per_gpu=1)
    return batches(TrainingCrops(train, SCALE, seed=0), train, 1, count)


def rate(make: Callable[[int], Batches], skipped: int, count: int) -> float:
    """Return crops per second between the arrival of batch `skipped` and that of batch `skipped + count`."""
    with make(skipped + count) as source:
        for _ in range(skipped):
            next(source)
        begun = time.perf_counter()
        for _ in source:
            pass
        return BATCH * count / (time.perf_counter() - begun)


def measure(root: Path, number: int, repeats: int, count: int) -> dict[str, dict[str, Any]]:
    """Return crops per second for each method: every turn, the median, and its ratio to the published method."""
    epoch = math.ceil(number / BATCH) + 1
    ways: dict[str, tuple[Callable[[int], Batches], int, int]] = {
        PUBLISHED: (lambda n: published(root, n), 2, count),
        "ours, PNG files": (lambda n: ours(root, n, dataroot_gt="2K"), 1, max(2, count // 10)),
        "ours, cache: true": (lambda n: ours(root, n, dataroot_gt="2K", cache=True), epoch, 10 * count),
        PACK: (lambda n: ours(root, n, dataroot_gt="hr.pack"), 2, 10 * count),
        "ours, packs of HR and LR": (lambda n: ours(root, n, dataroot_gt="hr.pack", dataroot_lq="lr.pack"), 2, 10 * count),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            rates[name].append(rate(*way))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        name: {"crops_per_s": median, "to_published": median / medians[PUBLISHED], "turns": rates[name]}
        for name, median in medians.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help=f"folder of photographs; the first {MOST_PHOTOGRAPHS} are used")
    parser.add_argument("--quick", action="store_true", help="few photographs and one turn, to check that the script runs")
    parser.add_argument("--record", action="store_true", help="write results/loader_<date>_cpu.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = photographs(arguments.images, 2 if arguments.quick else MOST_PHOTOGRAPHS)
    sizes = sorted({f"{image.shape[1]}x{image.shape[0]}" for image in images})
    record: dict[str, Any] = described(torch.device("cpu")) | {"photographs": len(images), "sizes": sizes}
    record["versions"] |= {"numpy": np.__version__, "opencv": cv2.__version__}
    print(f"{record['date']}, {record['machine']}; {len(images)} photographs, {', '.join(sizes)}\n")
    with tempfile.TemporaryDirectory() as folder:
        lay_out(images, Path(folder))
        record["ways"] = ways = measure(Path(folder), len(images), 1 if arguments.quick else 3, 4 if arguments.quick else 20)
    print("| method | crops/s, median | relative to the published method | turns |")
    print("| --- | --- | --- | --- |")
    for name, way in ways.items():
        turns = ", ".join(f"{value:.0f}" for value in way["turns"])
        print(f"| {name} | {way['crops_per_s']:.0f} | {way['to_published']:.2f} | {turns} |")
    if arguments.record:
        write("loader", record)


if __name__ == "__main__":
    main()
