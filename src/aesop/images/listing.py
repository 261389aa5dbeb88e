"""Listing the images of a folder or store."""

import os
import re
from pathlib import Path

from aesop.images import lmdb_store, pack
from aesop.images.errors import ImageError

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Every image below `folder`, sub-folders too, in natural order (`img2` before `img10`), without hidden files.

    A folder NAME.lmdb is read as BasicSR's LMDB layout (see lmdb_store), a file NAME.pack in the order it was packed (see
    pack).

    Raises:
        ImageError: no such folder, a file instead of one, or no image in it; a store that cannot be used.
    """
    folder = Path(folder)
    if pack.is_pack(folder):
        try:
            return [folder / name for name in pack.list_names(folder)]
        except OSError as error:
            raise ImageError(f"{folder} cannot be read: {error.strerror}; check the path") from error
        except pack.PackError as error:
            raise ImageError(str(error)) from error
    if not folder.exists():
        raise ImageError(f"image folder {folder} does not exist: check the path")
    if not folder.is_dir():
        raise ImageError(f"{folder} is a file: give the folder that holds the images")
    if folder.suffix == ".lmdb":
        try:
            return sorted(
                (folder / name for name in lmdb_store.list_names(folder)), key=lambda path: _natural_key(str(path))
            )
        except lmdb_store.StoreError as error:
            raise ImageError(str(error)) from error
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise ImageError(f"no image in {folder}: it and its sub-folders hold no {' '.join(IMAGE_EXTENSIONS)} file")
    return sorted(found, key=lambda path: _natural_key(path.relative_to(folder).as_posix()))


def _natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Digits compare as numbers; the name itself decides between `img1` and `img01`."""
    parts = re.findall(r"(\d+)|(\D+)", name.casefold())
    return [(int(digits or -1), text) for digits, text in parts], name
