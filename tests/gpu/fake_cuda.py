"""A CUDA device that is not there: its tensors have a shape, a type, a layout and a device, but no numbers.

`elsewhere` calls a function in a process that believes in the device. There, a `Device` is entered: what touches the device
is propagated by PyTorch's fake tensors, and judged; what does not is computed on the CPU. Dispatcher, autograd and autocast
are those that a GPU gets. Nothing is said about kernels, numbers, or the order of streams.

What of PyTorch is replaced, all of it here, and why:

* in C (`SHIM`): the questions that a CUDA build asks the driver before a backward pass. No device is reported until PyTorch
  has installed its device guard for machines without one, which does nothing.
* `torch.cuda`: questions about devices, streams and events, which start the driver.
* `torch._C._select_conv_backend`: fake tensors ask which library convolves, which asks the driver. On CUDA it is cuDNN.
* `FakeTensorMode.avoid_device_init`: without it, fake tensors on CUDA start the driver.
* `Generator` in the degradation: one for CUDA starts the driver.
* `nn.Module._apply`: parameters that are fake already keep their identity, as in `fake_tensors`.
"""

import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from judge import SENT, STATE, Judge
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_leaves, tree_map_only

from aesop.archs import spandrel_nets
from aesop.check.step_count import fake_tensors
from aesop.data.degradation import jpeg, operations, random_degradation, transfer

CUDA = torch.device("cuda", 0)
UNPINNED, WAIT, DOUBLE, LAYOUTS = "copy from unpinned memory", "wait", "float64", "mixed layouts"
IMAGE = 4  # channels; converting the layout of an image costs nothing
SHIM = """
#include <stdbool.h>
static signed char count = 0;
void show_devices(void) { count = 64; }                   /* autograd asks about as many as it has threads for */
signed char _ZN3c104cuda12device_countEv(void) { return count; }                  /* c10::cuda::device_count() */
signed char _ZN3c104cuda29device_count_ensure_non_zeroEv(void) { return count; }
signed char _ZN3c104cuda14current_deviceEv(void) { return 0; }
bool _ZN3c104cuda17hasPrimaryContextEa(signed char device) { return count > 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
"""


def compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def reason_against() -> str | None:
    """Why there can be no such device here."""
    needed = {
        "a GPU that is there is better": not torch.cuda.is_available(),
        "only Linux lets a library take another's place": sys.platform == "linux",
        f"PyTorch {torch.__version__} is not a CUDA build": torch.version.cuda is not None,
        "no C compiler (gcc or cc)": compiler(),
        f"PyTorch {torch.__version__} has other internals": hasattr(torch._C, "_ensureCUDADeviceGuardSet")
        and hasattr(torch._C, "_select_conv_backend")
        and hasattr(FakeTensorMode, "avoid_device_init"),
    }
    return next((reason for reason, fulfilled in needed.items() if not fulfilled), None)


def elsewhere(folder: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a test module's function returns in a process with the device. Arguments and result travel as JSON."""
    shim, result = folder / "libcuda.so.1", folder / "result.json"  # the driver's name: PyTorch finds it loaded
    (folder / "shim.c").write_text(SHIM)
    subprocess.run([compiler(), "-shared", "-fPIC", f"-Wl,-soname,{shim.name}", "-o", shim, folder / "shim.c"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    call = [sys.executable, __file__, str(result), function.__module__, function.__name__, json.dumps(arguments)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(result.read_text())


class Stream:
    """A stream or an event: others wait for it, the host does not."""

    cuda_stream = stream_id = 0
    device = CUDA

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def record_event(self) -> "Stream":
        return self

    def wait_event(self, event: "Stream") -> None:
        pass


class CudaGenerator(torch.Generator):
    """A generator of the CPU that says it is on CUDA."""

    device = CUDA


def install() -> None:
    """Report the device, for the rest of this process."""
    torch._C._ensureCUDADeviceGuardSet()
    ctypes.CDLL(None).show_devices()
    properties = SimpleNamespace(
        name="no GPU", major=9, minor=0, total_memory=80 * 2**30, multi_processor_count=132, warp_size=32,
        max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536,
        shared_memory_per_block=49152, shared_memory_per_block_optin=232448, L2_cache_size=50 * 2**20, gcnArchName="",
    )  # fmt: skip
    answers = {
        torch.cuda: {
            "is_available": True, "device_count": 1, "_lazy_init": None, "_get_device_properties": properties,
            "_exchange_device": 0, "_maybe_exchange_device": 0, "is_current_stream_capturing": False,
            "current_stream": Stream(), "stream": nullcontext(), "set_rng_state": None,
            "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        },
        torch._C: {
            "_cuda_getDevice": 0, "_cuda_getCurrentRawStream": 0, "_select_conv_backend": torch._C._ConvBackend.Cudnn,
        },
    }  # fmt: skip
    for module, functions in answers.items():
        for name, answer in functions.items():
            setattr(module, name, lambda *args, answer=answer, **kwargs: answer)
    transfer._copy_stream = Stream
    torch.cuda._initialized = True  # else checkpointing does not look at the generator
    FakeTensorMode.avoid_device_init = property(lambda mode: True)
    real = torch.Generator
    random_degradation.Generator = lambda device="cpu": CudaGenerator() if torch.device(device) == CUDA else real(device)


class Device(Judge):
    """The device, while it is entered, and its judge, which also sees pinned memory, layouts and float64."""

    def __init__(self, way: str = ""):
        super().__init__(CUDA)
        self.one_layout = "channels_last" in way
        self.cast: list[Tensor] = []  # what was converted from float32 to bfloat16
        self.stack = ExitStack()

    def __enter__(self) -> "Device":
        for of_former_device in (operations._gaussian_line, jpeg._constants, spandrel_nets._kept_mask):
            of_former_device.cache_clear()
        moved = nn.Module._apply
        self.stack.enter_context(fake_tensors())
        changed = nn.Module._apply

        def apply(module: nn.Module, *args: Any) -> nn.Module:
            is_there = any(isinstance(parameter, FakeTensor) for parameter in module.parameters())
            return (changed if is_there else moved)(module, *args)

        def noted(meaning: str) -> Callable[..., Tensor]:
            return lambda *args: self.note(meaning, "") or torch.zeros(16, dtype=torch.uint8)

        def pinned(tensor: Tensor) -> Tensor:
            tensor.is_in_pinned_memory = True
            return tensor

        for owner, name, stand_in in (
            (nn.Module, "_apply", apply),
            (Tensor, "pin_memory", pinned),
            (Tensor, "record_stream", lambda tensor, stream: None),
            (torch.cuda, "synchronize", noted(WAIT)),
            (torch.cuda, "get_rng_state", noted(STATE)),
            (torch.cuda, "set_rng_state", noted(STATE)),
        ):
            self.stack.enter_context(patch.object(owner, name, stand_in))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.stack.close()

    def note(self, meaning: str, name: str) -> None:
        ours = [frame for frame in traceback.extract_stack() if "aesop" in Path(frame.filename).parts]
        self.seen.append((meaning, f"{name} {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else name))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(tensor.is_cuda for tensor in tensors) and torch.device(kwargs.get("device") or "cpu").type != "cuda":
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        meaning = self._meaning(name, args, kwargs)
        if meaning == SENT and not hasattr(tensors[-1], "is_in_pinned_memory"):
            meaning = UNPINNED
        if meaning:
            self.note(meaning, name)
        if name == "_local_scalar_dense":
            return 1.0 if args[0].is_floating_point() else 1
        if name.startswith("convolution") and self.one_layout:
            self._compare_layouts(name, args)
        if name == "_to_copy" and (args[0].dtype, kwargs.get("dtype")) == (torch.float32, torch.bfloat16):
            self.cast.append(args[0])
        if not all(isinstance(tensor, FakeTensor) for tensor in tensors):
            fake = torch._guards.detect_fake_mode().from_tensor
            args, kwargs = tree_map_only(Tensor, lambda t: t if isinstance(t, FakeTensor) else fake(t), (args, kwargs))
        result = func(*args, **kwargs)
        if any(made.dtype == torch.float64 for made in tree_leaves(result) if isinstance(made, Tensor) and made.is_cuda):
            self.note(DOUBLE, name)
        return result

    def _compare_layouts(self, name: str, args: Any) -> None:
        """cuDNN copies what is NCHW if it meets NHWC."""
        pairs = [args[:2]]
        if name == "convolution_backward":
            (gradient, x, weight), (of_input, of_weight, _) = args[:3], args[-1]
            pairs = [(gradient, weight)] * of_input + [(gradient, x)] * of_weight
        for pair in pairs:
            if {_layout(tensor) for tensor in pair} == {"NHWC", "NCHW"} and all(tensor.shape[1] > IMAGE for tensor in pair):
                self.note(LAYOUTS, name)


def _layout(tensor: Tensor) -> str:
    lies_in = tensor.is_contiguous(memory_format=torch.channels_last), tensor.is_contiguous()
    return {(True, False): "NHWC", (False, True): "NCHW"}.get(lies_in, "both or neither")


if __name__ == "__main__":
    sys.modules["fake_cuda"] = sys.modules["__main__"]
    _, output, module, function, arguments = sys.argv
    del os.environ["LD_PRELOAD"]  # not for the processes of this one
    install()
    returned = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    Path(output).write_text(json.dumps(returned))
