"""Writing weight files. A file appears under its name only when it is complete."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from aesop.system.files import replacing
from aesop.weights.description import VERSION_KEY
from aesop.weights.tensor_hash import HASH, tensor_hash

_NO_HASH = f"0x{'0' * 64}"


def save_weights(path: str | os.PathLike, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. With the network's options as JSON in `metadata["network"]` the file describes itself.

    Metadata of ModelSpec get the hash of the tensors.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    placeholder = {HASH: _NO_HASH} if VERSION_KEY in metadata else {}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt", **metadata, **placeholder})
        except SafetensorError as error:  # a full disk, for example
            raise OSError(f"{path} cannot be written: {error}") from error
        _sort_metadata(temporary)
        if placeholder:
            _fill_in_hash(temporary)


def _sort_metadata(file: Path) -> None:
    """Put the metadata in the order of their keys, so that equal weights make equal files: safetensors' order is random."""
    with file.open("r+b") as content:
        size = int.from_bytes(content.read(8), "little")
        header = json.loads(content.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # the tensors follow the header, which ends in spaces
            content.seek(8)
            content.write(text.ljust(size))


def _fill_in_hash(file: Path) -> None:
    """Replace the placeholder in the header by the hash of the tensors as they stand in the file."""
    found = tensor_hash(file)
    with file.open("r+b") as content:
        header = content.read(int.from_bytes(content.read(8), "little"))
        content.seek(8 + header.index(_NO_HASH.encode(), header.index(HASH.encode())))
        content.write(found.encode())


def save_pth(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write nested dictionaries of tensors and text in PyTorch's format."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        return value.detach().cpu().clone() if isinstance(value, Tensor) else value  # a view drags its whole storage along

    with replacing(path) as temporary:
        torch.save(plain(content), temporary)
