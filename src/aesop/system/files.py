"""Atomic writes: a reader never sees half a file. Also SHA-256 sums and lines of JSON."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_UMASK = os.umask(0o022)
os.umask(_UMASK)  # the only way to read the umask is to set it


@contextmanager
def replacing(path: str | os.PathLike) -> Generator[Path]:
    """Yield a temporary path in the folder of `path`, with its suffix. On success rename it to `path`, on failure remove it.

    Creates missing folders. A crash or a full disk leaves the previous file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem, suffix = (part.encode(errors="ignore")[:40].decode(errors="ignore") for part in (path.stem, path.suffix))
    # The sum keeps names apart that begin alike; file systems allow 255 bytes, encrypted ones 143.
    temporary = path.with_name(f".{stem}.{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}.tmp{suffix}")
    try:
        yield temporary
        # Some writers (safetensors) create files that only their owner can read.
        temporary.chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Generator[Path]:
    """Yield a new folder beside `path`. On success it takes the place of `path`, on failure it is removed.

    The folder that was there before stays until then.
    """
    path = path.absolute()
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.tmp")
    former = temporary.with_suffix(".former.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.rename(former)
        try:
            temporary.rename(path)
        except OSError:
            if former.exists():
                former.rename(path)
            raise
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(file: Path, content: dict) -> None:
    """Append a line of JSON. If the disk is full, remove the incomplete line."""
    size = file.stat().st_size if file.exists() else 0
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(content) + "\n")
    except OSError:
        if file.exists():
            os.truncate(file, size)
        raise
