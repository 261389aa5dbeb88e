"""Every operator of a step and of the degradation has a kernel on Apple GPUs, by PyTorch's own table of kernels.

Only checked statically: the meta device stands for the GPU, and no kernel ran. Whether a kernel takes every type and shape,
the table does not say.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cases import CASES
from judge import META, Judge, as_device
from torch import Tensor
from torch.utils._pytree import tree_leaves

from aesop.data.degradation import jpeg, operations, random_degradation
from aesop.data.degradation.degrader import Degrader
from aesop.options.read import load_train_config

pytestmark = pytest.mark.slow
RECIPE = Path(__file__).parents[2] / "configs" / "realworld_aesop.yml"
# Never run on an Apple GPU, although they are seen here.
ON_THE_CPU = {"poisson": "without a kernel before torch 2.14; `random_degradation.apply` draws noise on the CPU"}


class Operators(Judge):
    """Collects the operators that run on the device, and those that make float64, which Apple GPUs lack."""

    def __init__(self) -> None:
        super().__init__()
        self.names, self.float64 = set[str](), set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor) and leaf.device == META]
        if tensors and func.namespace == "aten":
            self.names.add(str(func).removeprefix("aten.").removesuffix(".default"))
        if any(tensor.dtype == torch.float64 for tensor in tensors):
            self.float64.add(str(func))
        return result


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, Any]]:
    """Each operator's entry in PyTorch's source, by its name with its overload."""
    torchgen = pytest.importorskip("torchgen", reason="torchgen, which comes with PyTorch, is missing")
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    if not path.is_file():
        pytest.skip(f"PyTorch {torch.__version__} comes without native_functions.yaml")
    entries = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    return {entry["func"].partition("(")[0]: entry for entry in entries}


def without_kernel(names: set[str], table: dict[str, dict[str, Any]]) -> set[str]:
    def keys(name: str) -> list[str]:
        entry = table[name]
        if "structured_delegate" in entry:
            return keys(entry["structured_delegate"])
        # Without a list, an operator consists of others.
        return [key.strip() for keys in entry.get("dispatch", {"Composite": None}) for key in keys.split(",")]

    return {name for name in names if not any(key == "MPS" or key.startswith("Composite") for key in keys(name))}


def test_a_missing_kernel_is_found(table):
    names = {"cudnn_convolution", "add.Tensor", "convolution", "relu_", "_fused_adam_", "linear"}
    assert without_kernel(names, table) == {"cudnn_convolution"}


@pytest.mark.parametrize("name", CASES)
def test_a_step_has_kernels_for_all_operators(name, table):
    seen = Operators()
    with as_device(seen):
        step = CASES[name].build("bf16", META)
        with seen:
            step(1)
            step(2)
    assert {"convolution", "convolution_backward"} < seen.names
    assert without_kernel(seen.names, table) == set()
    assert not seen.float64


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_degradation_has_kernels_for_all_operators(per_sample, table, monkeypatch):
    class OnDevice(torch.Generator):
        device = META

    def generator(device="cpu"):
        return OnDevice() if torch.device(device) == META else torch.Generator(device)

    monkeypatch.setattr(random_degradation, "Generator", generator)
    for of_another_test in (operations._gaussian_line, jpeg._constants):
        of_another_test.cache_clear()
    changes = ["datasets.train.gt_size=64", "datasets.train.batch_size_per_gpu=4", "degradation.crop_pad_size=128"]
    pool = [f"degradation.per_sample={per_sample}".lower(), f"degradation.queue_size={0 if per_sample else 8}"]
    degrader = Degrader(load_train_config(RECIPE, [*changes, *pool])[0], 0)
    with Operators() as seen:
        for iteration in range(1, 16):
            degrader(torch.empty(4, 3, 128, 128, device=META), iteration)
    assert {"poisson", "normal_", "upsample_bicubic2d", "_adaptive_avg_pool2d"} & {n.partition(".")[0] for n in seen.names}
    assert without_kernel(seen.names, table) <= ON_THE_CPU.keys()
    assert not seen.float64
