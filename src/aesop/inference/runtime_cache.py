"""Converted networks, kept in the user's cache folder: converting one takes half a minute, reading it a moment."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from aesop.system.files import replacing
from aesop.system.user_cache import cache_folder, trim

MOST_BYTES = 2**30
_DIGEST = hashlib.sha256().digest_size


def folder() -> Path:
    return cache_folder("networks")


def key_of(**parts: str) -> str:
    """The name of an entry, which differs if any part does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read(key: str) -> bytes | None:
    """Return what was written under a key. None if nothing was, or if it is damaged or cannot be read."""
    try:
        file = folder() / f"{key}.onnx"
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
    """Write an entry with its checksum, and remove the oldest beyond MOST_BYTES. OSError, RuntimeError: it cannot."""
    with replacing(folder() / f"{key}.onnx") as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
    trim(folder(), MOST_BYTES)
