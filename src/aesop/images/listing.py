"""Finding images: in a folder with its sub-folders, in a .pack or .lmdb store, or named one by one."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from aesop.images.errors import ImageError
from aesop.images.lmdb_store import list_lmdb
from aesop.images.pack import is_pack, list_pack
from aesop.images.read import ImageFile

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def list_images(folder: str | os.PathLike, extensions: Sequence[str] = IMAGE_EXTENSIONS) -> list[ImageFile]:
    """List the images of a folder, its sub-folders included, of a file NAME.pack or of a folder NAME.lmdb.

    Hidden files and folders are left out. The order is natural (`img2` before `img10`), or that of packing in a pack. This
    is the only place that looks at what kind of store a folder is; the images returned know how to read themselves.
    """
    folder = Path(folder)
    if is_pack(folder):
        return [*list_pack(folder)]
    if not folder.exists():
        raise ImageError(f"image folder {folder} does not exist: check the path")
    if not folder.is_dir():
        raise ImageError(f"{folder} is a file: give the folder that holds the images")
    if folder.suffix == ".lmdb":
        return sorted(list_lmdb(folder), key=_natural_order)
    found = [
        ImageFile(path, path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.suffix.lower() in extensions and "/." not in f"/{path.relative_to(folder).as_posix()}" and path.is_file()
    ]
    if not found:
        raise ImageError(f"no image in {folder}: it and its sub-folders hold no {' '.join(extensions)} file")
    return sorted(found, key=_natural_order)


def _natural_order(image: ImageFile) -> tuple[list[tuple[int, str]], str]:
    """Compare digits as numbers; the name itself decides between `img1` and `img01`."""
    parts = re.findall(r"(\d+)|(\D+)", image.name.casefold())
    return [(int(digits or -1), text) for digits, text in parts], image.name


def collect_images(inputs: Iterable[str | os.PathLike], extensions: Sequence[str] = IMAGE_EXTENSIONS) -> list[ImageFile]:
    """Collect image files, and the images of folders and stores, in the given order. An image named twice appears once.

    An ImageError names all inputs that do not exist, are not images or hold none, each on a line.
    """
    found: list[ImageFile] = []
    faults = []
    for given in map(Path, inputs):
        try:
            if given.is_dir() or is_pack(given):
                found += list_images(given, extensions)
            elif not given.exists():
                faults.append(f"{given}: no such file or folder")
            elif given.suffix.lower() not in extensions:
                faults.append(f"{given}: not an image file (supported: {' '.join(extensions)})")
            else:
                found.append(ImageFile.at(given))
        except ImageError as error:
            faults.append(str(error))
    if faults or not found:
        raise ImageError("\n  ".join(faults or ["no image was named"]))
    return list(dict.fromkeys(found))


def by_name(named: Iterable[tuple[str, ImageFile]], where: str = "") -> dict[str, ImageFile]:
    """Map names to images. Raise an ImageError, whose message begins with `where`, if two images share a name."""
    found: dict[str, ImageFile] = {}
    for name, image in named:
        if name in found:
            raise ImageError(f"{where}{found[name]} and {image} are both named {name!r}: rename one, or its folder")
        found[name] = image
    return found
