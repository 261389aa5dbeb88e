"""Devices: which exist, how much memory they have, and in which precision networks run on them."""

import ctypes
import logging
import os
import platform
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from threading import Condition

import torch

log = logging.getLogger("aesop")


def pick_device(name: str = "auto") -> torch.device:
    """The named device (`cpu`, `cuda`, `cuda:1`, `mps`). `auto` prefers CUDA, then Apple's MPS, then the CPU."""
    names = ["cpu"] + ["mps"] * torch.backends.mps.is_available()
    if torch.cuda.is_available():
        names += [*(f"cuda:{index}" for index in range(torch.cuda.device_count())), "cuda"]
    if name not in ("auto", *names):
        raise ValueError(f"unknown device {name!r}: use auto, {', '.join(names)}; this PyTorch finds no other")
    device = torch.device(names[-1] if name == "auto" else name)
    log.debug("device %s, PyTorch %s, %s threads", device, torch.__version__, torch.get_num_threads())
    return device


@contextmanager
def float32_on_cuda(tf32: bool) -> Generator[None]:
    """Whether float32 matrix products and convolutions use TF32 on CUDA: faster, with 11 of the 24 bits of a fraction.

    PyTorch's default is TF32 for convolutions only. On other devices nothing changes.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    former = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = former


class Float32InThreads:
    """`float32_on_cuda` for several threads. The setting is the process's: a thread that wants the other one waits."""

    def __init__(self) -> None:
        self._users, self._tf32 = 0, False
        self._setting = ExitStack()
        self._changed = Condition()

    @contextmanager
    def using(self, tf32: bool) -> Generator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._users or self._tf32 == tf32)
            if not self._users:
                self._tf32 = tf32
                self._setting.enter_context(float32_on_cuda(tf32))
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                if not self._users:
                    self._setting.close()
                self._changed.notify_all()


@contextmanager
def algorithms(deterministic: bool) -> Generator[None]:
    """Choose the algorithms of a training: TF32 and cuDNN's fastest for each shape, or only reproducible ones."""
    former, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, when it starts
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not deterministic
    try:
        with nullcontext() if deterministic else float32_on_cuda(tf32=True):
            yield
    finally:
        torch.use_deterministic_algorithms(former)
        torch.backends.cudnn.benchmark = benchmark


def device_name(device: torch.device) -> str:
    """What a device is called: the processor's or the graphics card's name, or the machine's if there is no other."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor() if device.type == "cpu" else platform.processor() or platform.machine()


def memory_of(device: torch.device) -> int | None:
    """A device's total memory in bytes; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def available_memory() -> int | None:
    """Bytes of main memory, swap included, that a program can still take; None where the system does not say (not Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = {name: content.split()[0] for name, _, content in (line.partition(":") for line in lines)}
    return 1024 * (int(sizes["MemAvailable"]) + int(sizes["SwapFree"]))


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA raises its own class; MPS, the CPU allocator, cuDNN and cuBLAS raise a RuntimeError with a message."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


@cache
def reason_against_bf16(device: torch.device) -> str | None:
    """Why bfloat16 does not work on a device, or is slower than float32 there. None if it is fast, or if that is unknown."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                return f"{torch.cuda.get_device_name(device)} has no bfloat16 instructions"
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private: missing means unknown
        if not any(getattr(torch.cpu, check, lambda: True)() for check in checks):
            return "this processor has no bfloat16 instructions"
    if device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        return "this version of macOS does not support bfloat16"
    return None


def fastest_precision(device: torch.device) -> str:
    """The precision in which a device computes convolutions fastest, by its instructions: bf16, fp16, or fp32.

    With AVX512_BF16, AMD's cores are faster than in float32, Intel's half as fast (docs/decisions.md): those have AMX for
    bfloat16, which virtual machines may hide. What is said here of AMX, CUDA, and MPS was not run.
    """
    if device.type == "mps":
        return "fp16"
    if device.type == "cuda":
        if reason_against_bf16(device) is None:
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"
    return "bf16" if _has("amx_tile") or (_has("avx512_bf16") and "AMD" in processor()) else "fp32"


def _has(instructions: str) -> bool:
    return getattr(torch.cpu, f"_is_{instructions}_supported", bool)()  # private: missing means no


def autocast(device: torch.device, precision: str = "fp32") -> AbstractContextManager:
    """The context in which networks run: autocast for `fp16`, and for `bf16` unless fp32 is faster there; else nothing."""
    if precision == "fp32":
        return nullcontext()
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=_pays(device))
    if precision == "fp16":
        return torch.autocast(device.type, dtype=torch.float16)
    raise ValueError(f"precision must be fp32, bf16, or fp16, found {precision!r}")


def uses_bf16(device: torch.device, precision: str) -> bool:
    """Whether `autocast` runs networks in bfloat16 on this device."""
    return precision == "bf16" and _pays(device)


@cache
def _pays(device: torch.device) -> bool:
    if reason := reason_against_bf16(device):
        log.warning("precision: falling back from bf16 to fp32: %s", reason)
    elif device.type == "cpu" and _has("avx512_bf16") and fastest_precision(device) == "fp32":
        log.warning("precision: bf16 is slower than fp32 on this processor, which has AVX512_BF16 but no AMX; use fp32")
    return reason is None


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hint_of_threads(device: torch.device) -> str | None:
    """What to set if several threads probably hurt: on a CPU that has much more to do than it has cores."""
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if device.type != "cpu" or threads == 1 or load < 2 * cores:
        return None
    return (
        f"{load:.0f} processes share {cores} cores, and this one has {threads} threads, which wait for one another. "
        "Small networks may be many times faster with OMP_NUM_THREADS=1"
    )


@cache
def processor() -> str:
    """The name of the CPU, with its maker's, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def threads_on_cpu(number: int | None) -> Generator[None]:
    """Let PyTorch compute with this number of threads; None: with as many as before."""
    former = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def keep_freed_memory() -> None:
    """Let this process keep memory that tensors give back, for the next ones; on Linux with the GNU C library only.

    Otherwise each large tensor gets new memory from the system, which clears it page by page.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no mappings of their own for large blocks
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: keep up to 2 GB
