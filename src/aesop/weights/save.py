"""Writing weight files."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from aesop.system.files import replacing
from aesop.weights.tensor_names import published_names


def save_weights(path: str | os.PathLike, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file aside, then rename it. `metadata["network"]` (JSON) makes it self-describing.

    Raises:
        OSError: when it cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt", **metadata})
        except SafetensorError as error:  # a full disk, which everything else reports as an OSError
            raise OSError(f"{path} cannot be written: {error}") from error


def save_pth(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write dictionaries of tensors and text as PyTorch does, aside, then rename the file."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        return value.detach().cpu().clone() if isinstance(value, Tensor) else value

    with replacing(path) as temporary:
        torch.save(plain(content), temporary)


def save_basicsr(path: str | os.PathLike, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a BasicSR `.pth`: {'params': ..., 'params_ema': ...}, under the published names (auto-encoders' are double)."""
    save_pth(path, {key: published_names(state) for key, state in weights.items()})
