"""TorchScript, which PyTorch reads without this package, also in C++ and on phones."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from aesop.conversion.compare import Compute
from aesop.conversion.exported import example, exportable, quiet

METADATA = "metadata.json"
"""The name of the metadata in the file: torch.jit.load(file, _extra_files={"metadata.json": ""}) fills it in."""


@torch.no_grad()
def write(net: nn.Module, channels: int, file: Path, metadata: Mapping[str, str], half: bool) -> None:
    """Write a network and what is known of it; `half`: all in float16 but images, which come and go in float32."""
    with quiet():
        script = torch.jit.trace(exportable(net, half), example(channels), check_trace=False)
        torch.jit.save(script, file, _extra_files={METADATA: json.dumps(metadata)})


def load(file: Path) -> Compute:
    """What computes the network in a file, in PyTorch's interpreter. Only for files of our own: others may run code."""
    with quiet():
        script = torch.jit.load(file, "cpu")
    return lambda x: script(torch.from_numpy(x)).numpy()
