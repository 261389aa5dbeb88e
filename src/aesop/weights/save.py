"""Writing weight files. A file appears under its name only when it is complete."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from aesop.system.files import replacing


def save_weights(path: str | os.PathLike, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. With the network's options as JSON in `metadata["network"]` the file describes itself."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt", **metadata})
        except SafetensorError as error:  # a full disk, for example
            raise OSError(f"{path} cannot be written: {error}") from error


def save_pth(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write nested dictionaries of tensors and text in PyTorch's format."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        return value.detach().cpu().clone() if isinstance(value, Tensor) else value  # a view drags its whole storage along

    with replacing(path) as temporary:
        torch.save(plain(content), temporary)
