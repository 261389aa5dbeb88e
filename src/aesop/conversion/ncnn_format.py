"""ncnn's format: layers in a .param file, weights in a .bin file of the same name. pnnx, by ncnn's authors, converts."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import torch
from torch import nn

from aesop.conversion import torchscript_format
from aesop.conversion.compare import Compute
from aesop.conversion.exported import EXAMPLE_SIZE

INPUT, OUTPUT = "data", "output"  # as realesrgan-ncnn-vulkan and Upscayl call them
LONGEST_NAME = 255  # of a layer
LONGEST_TIME = 900  # seconds that pnnx may take


def write(net: nn.Module, channels: int, file: Path, metadata: Mapping[str, str], half: bool) -> None:
    """Write a network and what is known of it; `half`: with weights in float16.

    The format has no place for metadata: they are the name of the input layer, as in a URL, as far as they fit.
    """
    height, width = EXAMPLE_SIZE
    shapes = (f"inputshape=[1,{channels},{height},{width}]", f"inputshape2=[1,{channels},{height - 11},{width + 7}]")
    with tempfile.TemporaryDirectory() as folder:
        torchscript_format.write(net, channels, Path(folder) / "net.pt", {}, half=False)
        command = [import_module("pnnx").EXEC_PATH, "net.pt", *shapes, f"fp16={int(half)}"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=LONGEST_TIME
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"pnnx did not end within {LONGEST_TIME} s") from None
        made = Path(folder) / "net.ncnn.param"
        if done.returncode or not made.exists():
            raise ValueError(f"pnnx ended with {done.returncode}")
        param = made.read_text()
        weights = made.with_suffix(".bin").read_bytes()
    # What pnnx has no layer of ncnn for, it leaves as an operation of PyTorch or its own.
    if foreign := sorted(set(re.findall(r"^(\w+(?:\.|::)\S+)", param, re.MULTILINE))):
        raise ValueError(f"ncnn has no layers for {', '.join(foreign)}")
    file.write_text(_renamed(param, metadata))
    file.with_suffix(".bin").write_bytes(weights)


def _renamed(param: str, metadata: Mapping[str, str]) -> str:
    known = dict(metadata)
    while len(name := urlencode(known)) > LONGEST_NAME:
        known.popitem()
    param = re.sub(r"\bout0\b", OUTPUT, re.sub(r"\bin0\b", INPUT, param))
    return re.sub(rf"^Input +{INPUT}\b", f"Input {name}", param, count=1, flags=re.MULTILINE)


def load(file: Path) -> Compute:
    """What computes the network in a file and its .bin file, in ncnn on the CPU."""
    ncnn: Any = import_module("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    if net.load_param(str(file)) or net.load_model(str(file.with_suffix(".bin"))):
        raise ValueError("ncnn cannot read what pnnx wrote")

    def compute(x: np.ndarray) -> np.ndarray:
        run = net.create_extractor()
        run.input(INPUT, ncnn.Mat(x[0]).clone())
        failed, found = run.extract(OUTPUT)
        if failed:
            raise ValueError("ncnn cannot compute the network")
        return np.array(found)[None]

    return compute
