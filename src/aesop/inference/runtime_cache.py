"""Converted networks, kept in the user's cache folder: converting one takes half a minute, reading it a moment."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from aesop.system.files import replacing

LIMIT = 2**30  # bytes of all entries together
_DIGEST = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Where the entries are: below XDG_CACHE_HOME, or else by the custom of the system."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        base = Path(named)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "aesop" / "networks"


def key_of(**parts: str) -> str:
    """The name of an entry, which differs if any part does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read(key: str) -> bytes | None:
    """Return what was written under a key. None if nothing was, or if it is damaged or cannot be read."""
    try:
        file = _file(key)
        entry = file.read_bytes()
    except (OSError, RuntimeError):
        return None
    digest, content = entry[:_DIGEST], entry[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        return None
    with suppress(OSError):
        os.utime(file)  # the entries that were not used for longest go first
    return content


def write(key: str, content: bytes) -> None:
    """Write an entry with its checksum, and remove the oldest beyond LIMIT. Raises OSError or RuntimeError if it cannot."""
    with replacing(_file(key)) as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
    total = 0
    for file in sorted(_file(key).parent.glob("*.onnx"), key=_last_use, reverse=True):
        with suppress(OSError):  # another process removed it
            total += file.stat().st_size
            if total > LIMIT:
                file.unlink()


def _file(key: str) -> Path:
    return cache_folder() / f"{key}.onnx"


def _last_use(file: Path) -> float:
    with suppress(OSError):
        return file.stat().st_mtime
    return 0.0
