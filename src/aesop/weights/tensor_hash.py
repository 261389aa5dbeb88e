"""ModelSpec's checksum of a safetensors file, which stands in its metadata and leaves them out."""

import hashlib
from pathlib import Path

from aesop.weights.description import PREFIX

HASH = f"{PREFIX}hash_sha256"
"""Key of the metadata; the value begins with 0x."""


def tensor_hash(path: Path) -> str:
    """SHA-256, as in the metadata, of all that follows the header of a safetensors file."""
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return f"0x{hashlib.file_digest(file, 'sha256').hexdigest()}"
