"""Finding the HR and LR images of a dataset, and reading a pair. Each ImageError names the option."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from aesop.images.errors import ImageError
from aesop.images.listing import by_name, list_images
from aesop.images.lmdb_store import names_in
from aesop.images.read import ImageFile
from aesop.images.resize import mod_crop
from aesop.images.tensors import ImageArray
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.system.wording import first_few


@dataclass(frozen=True)
class Pair:
    """An HR image, its LR image (None: LR is made from HR), and its name below the dataset's folder, without suffix."""

    gt: ImageFile
    lq: ImageFile | None
    name: str
    folder: int = 0
    """Which of several `dataroot_gt` it is from."""

    @property
    def source(self) -> ImageFile:
        return self.gt

    def read(self, scale: int) -> tuple[ImageArray, ImageArray | None]:
        """Read (HR, LR or None), uint8 (H, W, 3). HR is cut to multiples of `scale`."""
        hr = self.cut(self.gt.read_uint8(), scale)
        return hr, None if self.lq is None else self.read_lr(hr, scale)

    def cut(self, hr: ImageArray, scale: int) -> ImageArray:
        """Cut HR to multiples of `scale`."""
        if min(hr.shape[:2]) < scale:
            raise ImageError(f"{self.gt} ({hr.shape[1]}x{hr.shape[0]}) is too small for scale {scale}: leave it out")
        return mod_crop(hr, scale)

    def read_lr(self, hr: ImageArray, scale: int) -> ImageArray:
        """Read LR, uint8 (h, w, 3), and compare its size with HR's."""
        assert self.lq is not None
        lr = self.lq.read_uint8()
        self.check_sizes((hr.shape[1], hr.shape[0]), (lr.shape[1], lr.shape[0]), scale)
        return lr

    def check_sizes(self, gt: tuple[int, int], lq: tuple[int, int], scale: int) -> None:
        """Raise ImageError unless HR (width, height), cut to multiples of `scale`, is `scale` times LR."""
        width, height = (side - side % scale for side in gt)
        if (width, height) != (lq[0] * scale, lq[1] * scale):
            hr = f"{self.gt} ({width}x{height} after cutting to multiples of {scale})"
            lr = f"{self.lq} ({lq[0]}x{lq[1]})"
            raise ImageError(f"{hr} is not {scale} times {lr}: wrong partner or wrong scale")


@dataclass(frozen=True)
class Single:
    """An image without HR, the network's input, and its name below the dataset's folder, without suffix."""

    lq: ImageFile
    name: str
    gt: None = None

    @property
    def source(self) -> ImageFile:
        return self.lq


def find_singles(options: PairedDataset, section: str) -> list[Single]:
    """Find all images of a SingleImageDataset."""
    folders = _list(options.dataroot_lq, f"datasets.{section}.dataroot_lq", "images")
    labels = _labels(folders)
    singles = [
        Single(image, label + image.stem) for label, (_, images) in zip(labels, folders, strict=True) for image in images
    ]
    by_name(((single.name, single.lq) for single in singles), f"datasets.{section}: ")
    return singles


def find_pairs(options: PairedDataset, section: str) -> list[Pair]:
    """Find all HR images of a dataset, each with its LR image."""
    pairs, missing, _ = match_images(options, section)
    if missing:
        found = f"{len(missing)} of {len(pairs)} HR images have no LR image named {options.filename_tmpl!r}"
        advice = "Set filename_tmpl, or leave out dataroot_lq to have LR made from HR"
        raise ImageError(f"datasets.{section}: {found}: {first_few(missing)}. {advice}")
    return pairs


def match_images(options: PairedDataset, section: str) -> tuple[list[Pair], list[str], list[ImageFile]]:
    """Match HR and LR images by name.

    Returns:
        All HR images, with or without an LR image; a sentence for each HR image without one; the LR images without HR.
    """
    folders = _list(options.dataroot_gt, f"datasets.{section}.dataroot_gt", "HR images")
    lr_folders: list[tuple[str, list[ImageFile]]] = [("", [])] * len(folders)
    if options.dataroot_lq:
        lr_folders = _list(options.dataroot_lq, f"datasets.{section}.dataroot_lq", "LR images")
    if len(lr_folders) != len(folders):
        raise ImageError(f"datasets.{section}: dataroot_gt and dataroot_lq must name the same number of folders")
    pairs, missing, unused = [], [], []
    labels = _labels(folders)
    for number, ((_, images), (lr_root, lr_images)) in enumerate(zip(folders, lr_folders, strict=True)):
        partners = {image.stem: image for image in lr_images}
        taken = set()
        for image in images:
            stem = PurePosixPath(image.stem)
            partner_name = (stem.parent / options.filename_tmpl.format(stem.name)).as_posix()
            partner = partners.get(partner_name)
            if options.dataroot_lq and partner is None:
                missing.append(f"{image} has no partner in {lr_root}")
            taken.add(partner_name)
            pairs.append(Pair(image, partner, labels[number] + image.stem, number))
        unused += [image for name, image in partners.items() if name not in taken]
    by_name(((pair.name, pair.gt) for pair in pairs), f"datasets.{section}: ")
    return pairs, missing, unused


def find_training_pairs(options: TrainDataset) -> list[Pair]:
    """Find the pairs to train on: all, or those that `meta_info` lists, in its order.

    A line of the list names an HR file below dataroot_gt or, as `gt, lq`, both files below their folders.
    """
    if listed := listed_pairs(options):
        return listed
    return select_listed(find_pairs(options, "train"), options.meta_info)


def listed_pairs(options: TrainDataset) -> list[Pair]:
    """The pairs of a list of `gt, lq` lines; none if `meta_info` is no such list."""
    if options.meta_info is None or options.dataroot_lq is None:
        return []
    lines = _listed(options.meta_info)
    if not all("," in line for line in lines):
        return []
    hr_folders = _list(options.dataroot_gt, "datasets.train.dataroot_gt", "HR images")
    lr_folders = _list(options.dataroot_lq, "datasets.train.dataroot_lq", "LR images")
    hr = {image.name: (image, number) for number, (_, images) in enumerate(hr_folders) for image in images}
    lr = {image.name: image for _, images in lr_folders for image in images}
    pairs, unknown = [], []
    for line in lines:
        gt, _, lq = (part.strip() for part in line.replace("\\", "/").partition(","))
        if gt in hr and lq in lr:
            image, number = hr[gt]
            pairs.append(Pair(image, lr[lq], image.stem, number))
        else:
            unknown.append(line)
    _refuse_unknown(unknown, len(lines), options.meta_info, "are not an image below dataroot_gt and one below dataroot_lq")
    return pairs


def select_listed(pairs: list[Pair], meta_info: str | None) -> list[Pair]:
    """Select the pairs whose HR file, below dataroot_gt, a list names, in the list's order; all pairs without a list."""
    if meta_info is None:
        return pairs
    names = _listed(meta_info)
    known = {pair.gt.name: pair for pair in pairs}
    names = [name if name in known else name.replace("\\", "/") for name in names]
    unknown = [name for name in names if name not in known]
    _refuse_unknown(unknown, len(names), meta_info, "are not images below dataroot_gt")
    return [known[name] for name in names]


def _listed(meta_info: str) -> list[str]:
    try:
        names = names_in(Path(meta_info).expanduser())
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"datasets.train.meta_info: {meta_info} cannot be read ({error})") from error
    if not names:
        raise ImageError(f"datasets.train.meta_info: {meta_info} names no image")
    return names


def _refuse_unknown(unknown: list[str], count: int, meta_info: str, why: str) -> None:
    if unknown:
        found = f"{len(unknown)} of {count} names in {meta_info} {why}"
        raise ImageError(f"datasets.train.meta_info: {found}: {first_few(unknown)}")


def _list(given: str | list[str] | None, option: str, kind: str) -> list[tuple[str, list[ImageFile]]]:
    """List the images of each folder that an option names."""
    if not given:
        raise ImageError(f"{option}: give the folder of {kind}")
    roots = [os.path.expanduser(root) for root in ([given] if isinstance(given, str) else given)]
    try:
        return [(root, list_images(root)) for root in roots]
    except ImageError as error:
        raise ImageError(f"{option}: {error}") from error


def _labels(folders: list[tuple[str, list[ImageFile]]]) -> list[str]:
    """What precedes the names of each folder's images: of several folders, as much of their paths as tells them apart."""
    parts = [PurePath(os.path.abspath(root)).parts for root, _ in folders]
    if len(parts) == 1:
        return [""]
    depth = 1
    while depth < max(map(len, parts)) and len({path[-depth:] for path in parts}) < len(parts):
        depth += 1
    return ["/".join(part.strip("/\\:") for part in path[-depth:]) + "/" for path in parts]
