"""Finding the HR and LR images of a dataset, and reading a pair.

The functions raise ImageError, naming the option, if a folder is missing or holds no image, if two images share a name, or
if HR images have no LR image.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from aesop.images.errors import ImageError
from aesop.images.listing import by_name, list_images
from aesop.images.read import ImageFile
from aesop.images.resize import mod_crop
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.system.wording import first_few

Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """An HR image, its LR image (None: LR is made from HR), and its name below the dataset's folder, without suffix."""

    gt: ImageFile
    lq: ImageFile | None
    name: str

    @property
    def source(self) -> ImageFile:
        """The image to name in messages."""
        return self.gt

    def read(self, scale: int) -> tuple[Array, Array | None]:
        """Read (HR, LR or None), uint8 (H, W, 3). HR is cut to multiples of `scale`."""
        hr = self.gt.read_uint8()
        if min(hr.shape[:2]) < scale:
            raise ImageError(f"{self.gt} ({hr.shape[1]}x{hr.shape[0]}) is too small for scale {scale}: leave it out")
        hr = mod_crop(hr, scale)
        if self.lq is None:
            return hr, None
        lr = self.lq.read_uint8()
        self.check_sizes((hr.shape[1], hr.shape[0]), (lr.shape[1], lr.shape[0]), scale)
        return hr, lr

    def check_sizes(self, gt: tuple[int, int], lq: tuple[int, int], scale: int) -> None:
        """Raise ImageError unless HR (width, height), cut to multiples of `scale`, is `scale` times LR."""
        width, height = (side - side % scale for side in gt)
        if (width, height) != (lq[0] * scale, lq[1] * scale):
            raise ImageError(
                f"{self.gt} ({width}x{height} after cutting to multiples of {scale}) is not {scale} times {self.lq} "
                f"({lq[0]}x{lq[1]}): wrong partner or wrong scale"
            )


@dataclass(frozen=True)
class Single:
    """An image without HR, the network's input, and its name below the dataset's folder, without suffix."""

    lq: ImageFile
    name: str
    gt: None = None

    @property
    def source(self) -> ImageFile:
        """The image to name in messages."""
        return self.lq


def find_singles(options: PairedDataset, section: str) -> list[Single]:
    """Find all images of a SingleImageDataset."""
    roots = _roots(options.dataroot_lq, f"datasets.{section}.dataroot_lq", "images")
    listed = [(root, image) for root in roots for image in _list(root, f"datasets.{section}.dataroot_lq")]
    singles = [Single(image, _name(image, root, len(roots))) for root, image in listed]
    _check_names(singles, section)
    return singles


def find_pairs(options: PairedDataset, section: str) -> list[Pair]:
    """Find all HR images of a dataset, each with its LR image."""
    pairs, missing, _ = match_images(options, section)
    if missing:
        raise ImageError(
            f"datasets.{section}: {len(missing)} of {len(pairs)} HR images have no LR image named "
            f"{options.filename_tmpl!r}: {first_few(missing)}. Set filename_tmpl, or leave out "
            "dataroot_lq to have LR made from HR"
        )
    return pairs


def find_training_pairs(options: TrainDataset) -> list[Pair]:
    """Find the pairs of datasets.train: all of them, or those that `meta_info` lists."""
    return select_listed(find_pairs(options, "train"), options.meta_info)


def match_images(options: PairedDataset, section: str) -> tuple[list[Pair], list[str], list[ImageFile]]:
    """Match HR and LR images by name.

    Returns:
        All HR images, with or without an LR image; a sentence for each HR image without one; the LR images without HR.
    """
    roots_gt = _roots(options.dataroot_gt, f"datasets.{section}.dataroot_gt", "HR images")
    roots_lq: list[str | None] = [None] * len(roots_gt)
    if options.dataroot_lq:
        roots_lq = [*_roots(options.dataroot_lq, f"datasets.{section}.dataroot_lq", "LR images")]
    if len(roots_lq) != len(roots_gt):
        raise ImageError(f"datasets.{section}: dataroot_gt and dataroot_lq must name the same number of folders")
    pairs, missing, unused = [], [], []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        partners = {}
        if root_lq is not None:
            partners = {image.stem: image for image in _list(root_lq, f"datasets.{section}.dataroot_lq")}
        taken = set()
        for image in _list(root_gt, f"datasets.{section}.dataroot_gt"):
            stem = PurePosixPath(image.stem)
            partner_name = (stem.parent / options.filename_tmpl.format(stem.name)).as_posix()
            partner = partners.get(partner_name)
            if root_lq is not None and partner is None:
                missing.append(f"{image} has no partner in {root_lq}")
            taken.add(partner_name)
            pairs.append(Pair(image, partner, _name(image, root_gt, len(roots_gt))))
        unused += [image for name, image in partners.items() if name not in taken]
    _check_names(pairs, section)
    return pairs, missing, unused


def select_listed(pairs: list[Pair], meta_info: str | None) -> list[Pair]:
    """Select the pairs whose HR file a list names, in the list's order; all pairs without a list.

    Args:
        meta_info: a file with one name below dataroot_gt per line, with or without BasicSR's ` (size)` after it.
    """
    if meta_info is None:
        return pairs
    try:
        lines = Path(meta_info).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"datasets.train.meta_info: {meta_info} cannot be read ({error})") from error
    names = [name for name in (line.split(" (")[0].strip() for line in lines) if name]
    if not names:
        raise ImageError(f"datasets.train.meta_info: {meta_info} names no image")
    known = {pair.gt.name: pair for pair in pairs}
    if unknown := [name for name in names if name not in known]:
        raise ImageError(
            f"datasets.train.meta_info: {len(unknown)} of {len(names)} names in {meta_info} are not images below "
            f"dataroot_gt: {first_few(unknown)}"
        )
    return [known[name] for name in names]


def _roots(given: str | list[str] | None, option: str, kind: str) -> list[str]:
    if not given:
        raise ImageError(f"{option}: give the folder of {kind}")
    return [os.path.expanduser(root) for root in ([given] if isinstance(given, str) else given)]


def _list(root: str, option: str) -> list[ImageFile]:
    try:
        return list_images(root)
    except ImageError as error:
        raise ImageError(f"{option}: {error}") from error


def _name(image: ImageFile, root: str, roots: int) -> str:
    """Return the name that results are saved under. Of several folders it begins with the folder's name."""
    return image.stem if roots == 1 else f"{Path(root).name}/{image.stem}"


def _check_names(found: list[Pair] | list[Single], section: str) -> None:
    try:
        by_name((item.name, item.source) for item in found)
    except ImageError as error:
        raise ImageError(f"datasets.{section}: {error}") from error
