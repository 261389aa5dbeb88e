"""The user's cache: what can be computed again."""

import os
import sys
from contextlib import suppress
from pathlib import Path


def cache_folder(name: str) -> Path:
    """The folder of one of aesop's caches, below XDG_CACHE_HOME if it is set, or else by the custom of the system."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        base = Path(given)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "aesop" / name


def trim(folder: Path, most: int) -> None:
    """Remove the files below a folder that were used longest ago (by their time stamps) if all take more than `most` bytes.

    A tenth less than `most` then remains. Other processes may add and remove files meanwhile.
    """
    files = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
    excess = sum(size for _, size, _ in files) - most
    if excess <= 0:
        return
    excess += most // 10
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        with suppress(OSError):
            path.unlink()
            excess -= size
