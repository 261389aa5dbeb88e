"""Writing files so that a reader never sees half of one, and telling whether one is what it was."""

import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_UMASK = os.umask(0o022)
os.umask(_UMASK)  # it can only be read by setting it


@contextmanager
def replacing(path: str | os.PathLike) -> Generator[Path]:
    """Yield a temporary path beside `path` (same suffix); on success it is renamed over `path`, on failure removed.

    Missing folders are made. A crash or a full disk leaves the former file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        # Some writers make files that only their owner can read.
        temporary.chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(file: Path, content: dict) -> None:
    """Add a line of JSON; what a full disk cuts off is taken back."""
    size = file.stat().st_size if file.exists() else 0
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(content) + "\n")
    except OSError:
        if file.exists():
            with file.open("rb+") as lines:
                lines.truncate(size)
        raise
