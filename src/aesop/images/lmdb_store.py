"""Images in an LMDB folder of BasicSR's layout: NAME.lmdb/ with data.mdb, lock.mdb and meta_info.txt.

meta_info.txt has one line an image, `name.png (height,width,channels) compression`; the database holds the encoded file
under the name without its suffix. An image in it is addressed like a file in a folder: NAME.lmdb/name.png.
"""

import os
from pathlib import Path
from typing import Any


class StoreError(ValueError):
    """An LMDB folder that cannot be used; the message says why."""


def folder_of(path: Path) -> Path | None:
    """The LMDB folder an image's path lies in, if any."""
    return next((parent for parent in path.parents if parent.suffix == ".lmdb"), None)


def list_names(folder: Path) -> list[str]:
    """The names in meta_info.txt.

    Raises:
        StoreError: without such a list.
    """
    try:
        lines = (folder / "meta_info.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{folder}/meta_info.txt cannot be read ({error}): an LMDB folder needs it") from error
    return [name for name in (line.split(" (")[0].strip() for line in lines) if name]


def read_bytes(path: Path) -> bytes:
    """The encoded image at NAME.lmdb/name.png.

    Raises:
        StoreError: no database, or no such image in it.
    """
    folder = folder_of(path)
    assert folder is not None
    if folder not in _handles:
        _handles[folder] = _open(folder)
    with _handles[folder].begin(write=False) as transaction:
        data = transaction.get(path.relative_to(folder).with_suffix("").as_posix().encode("utf-8"))
    if data is None:
        raise StoreError(f"{folder} has no image {path.relative_to(folder)}, though its meta_info.txt may list it")
    return data


_handles: dict[Path, Any] = {}


def _close_all() -> None:
    while _handles:
        _handles.popitem()[1].close()


# A handle must not cross a fork: the loader's processes open their own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_all)


def _open(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise StoreError(f'reading {folder} needs the lmdb package: pip install "aesop-sr[lmdb]"') from error
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False, max_spare_txns=8)
    except lmdb.Error as error:
        raise StoreError(f"{folder} is no readable LMDB folder ({error})") from error
