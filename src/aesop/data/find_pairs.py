"""Finding the HR and LR files of a data set."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aesop.images.errors import ImageError
from aesop.images.listing import list_images
from aesop.options.datasets import PairedDataset, TrainDataset


@dataclass(frozen=True)
class Pair:
    """One HR file, its LR file (None: LR is made from HR) and its name below the dataset's folder, without suffix."""

    gt: Path
    lq: Path | None
    name: str

    @property
    def source(self) -> Path:
        """The file to name to the user."""
        return self.gt


@dataclass(frozen=True)
class Single:
    """One file, the network's input, without HR; and its name below the dataset's folder, without suffix."""

    lq: Path
    name: str
    gt: None = None

    @property
    def source(self) -> Path:
        """The file to name to the user."""
        return self.lq


def find_singles(options: PairedDataset, section: str) -> list[Single]:
    """Every image of a SingleImageDataset.

    Raises:
        ValueError: no folder given, a folder that does not exist or holds no image, or two images of one name.
    """
    if not options.dataroot_lq:
        raise ValueError(f"datasets.{section}.dataroot_lq: give the folder of images")
    roots = _as_list(options.dataroot_lq)
    files = [(root, path) for root in roots for path in _list(root, f"datasets.{section}.dataroot_lq")]
    singles = [Single(path, _name(path.relative_to(root).with_suffix(""), root, roots)) for root, path in files]
    _check_names([single.name for single in singles], section)
    return singles


def find_pairs(options: PairedDataset, section: str) -> list[Pair]:
    """Every HR image of a dataset with its LR partner.

    Raises:
        ValueError: as match_files; HR images without partner (all are counted, the first few named).
    """
    pairs, missing, _ = match_files(options, section)
    if missing:
        raise ValueError(
            f"datasets.{section}: {len(missing)} of {len(pairs)} HR images have no LR image named "
            f"{options.filename_tmpl!r}; set filename_tmpl, or leave dataroot_lq out to have LR made from HR. "
            f"The first: " + "; ".join(missing[:3])
        )
    return pairs


def match_files(options: PairedDataset, section: str) -> tuple[list[Pair], list[str], list[Path]]:
    """Every HR image with the LR file of its name; a sentence for each that has none; LR files that no HR image names.

    Raises:
        ValueError: no folder given, a folder that does not exist or holds no image, or two images of one name.
    """
    if not options.dataroot_gt:
        raise ValueError(f"datasets.{section}.dataroot_gt: give the folder of HR images")
    roots_gt = _as_list(options.dataroot_gt)
    roots_lq: Sequence[str | None] = _as_list(options.dataroot_lq) if options.dataroot_lq else [None] * len(roots_gt)
    if len(roots_lq) != len(roots_gt):
        raise ValueError(f"datasets.{section}: dataroot_gt and dataroot_lq must name equally many folders")
    pairs, missing, unused = [], [], []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        partners = {}
        if root_lq is not None:
            lq_files = _list(root_lq, f"datasets.{section}.dataroot_lq")
            partners = {path.relative_to(root_lq).with_suffix("").as_posix(): path for path in lq_files}
        taken = set()
        for path in _list(root_gt, f"datasets.{section}.dataroot_gt"):
            relative = path.relative_to(root_gt).with_suffix("")
            partner = partners.get((relative.parent / options.filename_tmpl.format(relative.name)).as_posix())
            if root_lq is not None and partner is None:
                missing.append(f"{path} has no partner in {root_lq}")
            taken.add(partner)
            pairs.append(Pair(path, partner, _name(relative, root_gt, roots_gt)))
        unused += [path for path in partners.values() if path not in taken]
    _check_names([pair.name for pair in pairs], section)
    return pairs, missing, unused


def _name(relative: Path, root: str, roots: Sequence[str]) -> str:
    """Results are saved under it; several folders may hold files of one name."""
    return (relative if len(roots) == 1 else Path(Path(root).name) / relative).as_posix()


def _check_names(names: list[str], section: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"datasets.{section}: two images are both named {twice!r}; rename one, or its folder")


def find_training_pairs(options: TrainDataset) -> list[Pair]:
    """`find_pairs`, or those of them that `meta_info` names: a list of files below dataroot_gt, ` (size)` behind or not.

    Raises:
        ValueError: as find_pairs; no such list, an empty one, or names of no file (counted, the first named).
    """
    pairs = find_pairs(options, "train")
    if options.meta_info is None:
        return pairs
    try:
        lines = Path(options.meta_info).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"datasets.train.meta_info: {options.meta_info} cannot be read ({error})") from error
    roots = _as_list(options.dataroot_gt or [])
    by_name = {
        pair.gt.relative_to(root).as_posix(): pair for pair in pairs for root in roots if pair.gt.is_relative_to(root)
    }
    names = [name for name in (line.split(" (")[0].strip() for line in lines) if name]
    unknown = [name for name in names if name not in by_name]
    if not names:
        raise ImageError(f"datasets.train.meta_info: {options.meta_info} names no image")
    if unknown:
        raise ImageError(
            f"datasets.train.meta_info: of {len(names)} names in {options.meta_info} {len(unknown)} are no image below "
            f"dataroot_gt: {', '.join(unknown[:3])}"
        )
    return [by_name[name] for name in names]


def _as_list(value: str | list[str]) -> list[str]:
    return [os.path.expanduser(item) for item in ([value] if isinstance(value, str) else value)]


def _list(folder: str, option: str) -> list[Path]:
    try:
        return list_images(folder)
    except ImageError as error:
        raise ImageError(f"{option}: {error}") from error


def check_sizes(pair: Pair, gt: tuple[int, int], lq: tuple[int, int], scale: int) -> None:
    """Raise ImageError unless HR (width, height), cut to multiples of scale, is `scale` times LR."""
    width, height = (side - side % scale for side in gt)
    if (width, height) != (lq[0] * scale, lq[1] * scale):
        raise ImageError(
            f"{pair.gt} ({width}x{height} after cutting to multiples of {scale}) is not {scale} times {pair.lq} "
            f"({lq[0]}x{lq[1]}): wrong partner or wrong scale"
        )
