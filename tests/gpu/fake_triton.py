"""Compile for GPUs that are not there: what inductor generates for them becomes machine code, and is never started.

To be used `elsewhere` (see fake_cuda.py). What is replaced besides, and why:

* Triton's driver: it asks the GPU which architecture to compile for.
* `CachingAutotuner._make_launchers`: inductor loads what it compiled onto the GPU to measure it. Here it is only noted.
* options of inductor: no other processes, which would know nothing of this, no caches, and the backward pass at once.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from fake_cuda import CUDA, reason_against


def reason_against_compiling() -> str | None:
    if reason := reason_against():
        return reason
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner
    from triton import knobs

    if not hasattr(CachingAutotuner, "_make_launchers"):
        return f"PyTorch {torch.__version__} has other internals"
    return None if Path(knobs.nvidia.ptxas.path).exists() else "Triton has no ptxas"


class Driver:
    """Triton's, for an architecture."""

    def __init__(self, capability: int):
        self.capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_active_torch_device(self) -> torch.device:
        return CUDA

    def get_current_device(self) -> int:
        return 0

    def get_device_interface(self) -> Any:
        return torch.cuda


def compile_for(capability: int) -> list[tuple[str, int, int]]:
    """From now on. Returns a list that grows: each kernel's name, architecture, and the size of its machine code."""
    import torch._functorch.config
    import torch._inductor.config
    from torch._inductor.runtime import hints, triton_helpers
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner
    from triton.runtime import driver

    kernels = []

    def note(self: Any) -> None:
        made = [result.kernel for result in self.compile_results]
        kernels.extend((self.fn.__name__, kernel.metadata.target.arch, len(kernel.asm["cubin"])) for kernel in made)

    CachingAutotuner._make_launchers = note
    driver.set_active(Driver(capability))
    triton_helpers.set_driver_to_gpu = lambda: None
    properties = torch.cuda.get_device_properties()
    properties.major, properties.minor = divmod(capability, 10)
    hints.DeviceProperties.create.cache_clear()  # of the former architecture
    torch._inductor.config.compile_threads = 1
    torch._inductor.config.force_disable_caches = True
    torch._inductor.config.use_static_triton_launcher = False  # it drops the code
    torch._inductor.config.triton.autotune_at_compile_time = False
    torch._functorch.config.force_non_lazy_backward_lowering = True
    return kernels
