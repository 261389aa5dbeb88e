"""Images in an LMDB folder of BasicSR's layout: NAME.lmdb/ with data.mdb, lock.mdb and meta_info.txt.

The database maps the names, without suffix, to the encoded files.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from aesop.images.errors import ImageError
from aesop.images.read import ImageFile, is_name_below


@dataclass(frozen=True)
class LMDBImage(ImageFile):
    """An image in an LMDB folder. A process opens the folder when it reads the first image from it."""

    folder: Path

    @contextmanager
    def _open(self) -> Generator[BytesIO]:
        with _environment(self.folder).begin(write=False) as transaction:
            data = transaction.get(self.stem.encode("utf-8"))
        if data is None:
            raise ImageError(f"{self.folder} has no image {self.name}, although its meta_info.txt lists it")
        yield BytesIO(data)


def list_lmdb(folder: Path) -> list[LMDBImage]:
    """List the images that meta_info.txt names, in its order."""
    try:
        names = names_in(folder / "meta_info.txt")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{folder}/meta_info.txt cannot be read ({error}): an LMDB folder needs it") from error
    if outside := [name for name in names if not is_name_below(name)]:
        raise ImageError(f"{folder}/meta_info.txt names {outside[0]!r}, which is not below the folder: correct the name")
    return [LMDBImage(folder / name, name, folder) for name in names]


def names_in(meta_info: Path) -> list[str]:
    """Read the image names of a list: one per line, with or without BasicSR's ` (height,width,channels) compression`."""
    lines = meta_info.read_text(encoding="utf-8").splitlines()
    return [name for name in (line.split(" (")[0].strip() for line in lines) if name]


@cache
def _environment(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise ImageError(f'reading {folder} needs the lmdb package: pip install "aesop-sr[lmdb]"') from error
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False, max_spare_txns=8)
    except lmdb.Error as error:
        raise ImageError(f"{folder} is not a readable LMDB folder ({error})") from error


if hasattr(os, "register_at_fork"):  # LMDB forbids using an environment across a fork; loader processes open their own
    os.register_at_fork(before=_environment.cache_clear)
