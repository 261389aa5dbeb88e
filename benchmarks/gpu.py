"""Measure every speed goal that needs a GPU in one run of a few minutes.

    python benchmarks/gpu.py [--only checks aesop ...] [--budget 450] [--row-limit 150] [--rounds 15] [--all]
                             [--checkout FOLDER] [--record]
    python benchmarks/gpu.py --device cpu --toy        the same code on tiny networks, to check that it runs

The parts run in this order; `--only` selects some of them:

checks      a step on NaN changes nothing, also in a CUDA graph, where the kernels of the optimiser must skip it
aesop       seconds and memory of the step in the ways of `aesop train`, and of the published work (see training_step.py)
roofline    the least time that the step needs on this device (see roofline.py), and the share that the fastest way reaches
profile     kernels by kind, before (published work) and after (the fastest way)
upscaling   a 512x512 image through RRDBNet x4: Real-ESRGAN's method in half precision, and `aesop upscale`
autoencoder, realworld, swinir    their steps, in fewer ways

A row that fails, exceeds its time limit, or exceeds the budget is reported as such and does not end the run. Rows marked
with * gave a warning, printed below the table; usually one of their options is not available on this device.
"""

import argparse
import copy
import gc
import logging
import math
import signal
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import aesop
import training_step
from aesop.archs.rrdbnet import RRDBNet
from aesop.images.read import ImageFile
from aesop.images.tensors import to_tensor
from aesop.inference.tiling import upscale_image
from aesop.system.device import pick_device, synchronise
from aesop.training.acceleration import Compiler, parts_to_compile
from record import described, write
from roofline import measured_peaks, roofline
from training_step import AUTOENCODER, BASELINE, RECIPES, RRDB, SWINIR, Recipe, measure, ours, steps_of, table

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "train"
SCALE = 4
FAST = "bf16+channels_last"
EVERYTHING = f"{FAST}+compile+cuda_graphs"
GOALS = {"aesop": 5.0, "autoencoder": 4.0, "realworld": 2.5, "swinir": 2.5}
MEMORY_GOAL, UPSCALING_GOAL, ROOFLINE_GOAL = 0.6, 3.0, 0.4
UPSCALING_BASELINE = "Real-ESRGAN's way, half precision"
SHORTEST = 5.0
"""No row starts with fewer seconds of the budget left."""


@dataclass(frozen=True)
class Sizes:
    """Networks, ways, and sizes to measure."""

    autoencoder: dict[str, Any]
    recipes: dict[str, Recipe]
    ways: dict[str, list[str]]
    batches: dict[str, int]
    side: int
    """Side of the image to upscale; memory is also measured at twice that side."""
    blocks: int
    repeats: int
    compiles: bool
    matrix: int
    copied_bytes: int
    warm_up: int


SHORT = ["fp32", FAST, EVERYTHING]
FULL = Sizes(
    autoencoder=AUTOENCODER,
    recipes=RECIPES,
    ways={
        "aesop": ["fp32", "bf16", FAST, f"{FAST}+cuda_graphs", f"{FAST}+compile", EVERYTHING],
        "autoencoder": SHORT,
        "realworld": SHORT,
        # Its generator is compiled as a whole, which takes minutes.
        "swinir": ["fp32", FAST, f"{FAST}+cuda_graphs"],
    },
    batches={name: recipe.batch for name, recipe in RECIPES.items()},
    side=512,
    blocks=23,
    repeats=5,
    compiles=True,
    matrix=8192,
    copied_bytes=2**30,
    warm_up=6,
)
TINY = RRDB | {"num_feat": 16, "num_grow_ch": 4, "num_block": 1}
TINY_AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "dec_opt": TINY}
TINY_D = {"type": "UNetDiscriminatorSN", "num_feat": 4}
TOY = Sizes(
    autoencoder=TINY_AUTOENCODER,
    recipes={
        "aesop": Recipe(16, 1, TINY, TINY_D),
        "autoencoder": Recipe(16, 1, TINY_AUTOENCODER),
        "realworld": Recipe(16, 1, TINY | {"use_checkpoint": True}, TINY_D, 0.1, published=False),
        "swinir": Recipe(
            16, 1, SWINIR | {"img_size": 4, "window_size": 4, "depths": [1], "embed_dim": 12, "num_heads": [2]}, TINY_D
        ),
    },
    ways={
        "aesop": ["fp32", FAST, f"{FAST}+cuda_graphs"],
        **{name: ["fp32"] for name in ("autoencoder", "realworld", "swinir")},
    },
    batches=dict.fromkeys(RECIPES, 1),
    side=12,
    blocks=1,
    repeats=1,
    compiles=False,
    matrix=128,
    copied_bytes=2**20,
    warm_up=1,
)


class OutOfTime(BaseException):
    """A time limit was exceeded.

    Not an Exception: the fallback around a compiler must not mistake it for a failure of the compiler.
    """


@contextmanager
def limited(seconds: float) -> Generator[None]:
    """Raise OutOfTime in the body after `seconds`, as soon as Python code runs."""

    def stop(_: int, __: FrameType | None) -> None:
        raise OutOfTime

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


LISTENED_TO = ("aesop", "torch._dynamo")


class Said(logging.Handler):
    """Collect warnings: ours name skipped options, those of the compiler name code that runs uncompiled."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name.partition('.')[0]}: {record.getMessage().strip().splitlines()[0][:200]}")

    def __enter__(self) -> "Said":
        for name in LISTENED_TO:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in LISTENED_TO:
            logging.getLogger(name).removeHandler(self)


@dataclass
class Run:
    """State shared by the parts."""

    device: torch.device
    sizes: Sizes
    rounds: int
    row_limit: float
    until: float
    """On the clock of time.monotonic."""
    everything: bool = False
    checkout: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)

    def row(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of `work`, or the reason it is missing (`failed` or `left_out`), with wall time and warnings."""
        left = self.until - time.monotonic()
        if left < SHORTEST:
            print(f"... {name}: left out, the budget is exhausted", flush=True)
            return {"left_out": "the budget is exhausted"}
        start_afresh(self.device)
        limit, begun, said = min(left, self.row_limit), time.monotonic(), Said()
        try:
            with said, limited(limit):
                found = work()
        except OutOfTime:
            found = {"failed": f"not done after {limit:.0f} s"}
        except Exception as error:  # noqa: BLE001 (any error fails one row; the others are still measured)
            found = {"failed": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"}
        found |= {"wall_seconds": time.monotonic() - begun} | ({"notes": said.lines} if said.lines else {})
        print(f"... {name}: {found.get('failed', 'done')}, {found['wall_seconds']:.1f} s", flush=True)
        return found


def start_afresh(device: torch.device) -> None:
    """Free the memory and the compiled code of the previous row.

    Otherwise a new shape would trigger compilation for dynamic shapes.
    """
    torch.compiler.reset()
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def why_not(row: dict[str, Any]) -> str | None:
    """Return the reason why a row was not measured, or None."""
    return next((f"{word.replace('_', ' ')}: {row[word]}" for word in ("failed", "left_out") if word in row), None)


def done(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the measured rows."""
    return {name: row for name, row in rows.items() if why_not(row) is None}


def not_done(rows: dict[str, dict[str, Any]], columns: int) -> list[str]:
    """Return table rows for those that were not measured."""
    reasons = {name: reason.replace("|", "/") for name, row in rows.items() if (reason := why_not(row))}
    return [f"| {name} | {reason} |" + " |" * (columns - 2) for name, reason in reasons.items()]


def print_rest(rows: dict[str, dict[str, Any]], columns: int) -> None:
    """Print the rows that were not measured and, below the table, the warnings."""
    for line in not_done(rows, columns):
        print(line)
    lines = [f"* {name}: {line}" for name, row in rows.items() for line in dict.fromkeys(row.get("notes", []))]
    if lines:
        print("\n" + "\n".join(lines))


def peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def in_gib(peak_bytes: int | None) -> str:
    return f"{peak_bytes / 2**30:.2f} GiB" if peak_bytes else "not measured"


def verdict(value: float, goal: float, at_most: bool = False) -> str:
    return "reached" if (value <= goal if at_most else value >= goal) else "MISSED"


def measure_steps(run: Run, name: str) -> None:
    """Measure the ways of one recipe, row by row."""
    recipe, batch = run.sizes.recipes[name], run.sizes.batches[name]
    ways = run.sizes.ways[name]
    if run.everything and EVERYTHING not in ways and run.sizes.compiles:
        ways = [*ways, EVERYTHING]
    checkout = run.checkout if name == "aesop" or run.everything else None
    builders = steps_of(recipe, ways, run.device, batch, checkout, name)

    def step_row(way: str) -> dict[str, Any]:
        return dict(measure({way: builders[way]}, run.device, run.rounds)[way])

    rows = run.record.setdefault("steps", {})[name] = {}
    for way in builders:
        rows[way] = run.row(f"{name}, {way}", partial(step_row, way))
    print(f"\n## {name} step, batch {batch} x {recipe.side} px\n")
    measured = done(rows)
    # Without the baseline, the ratios are NaN.
    missing = {} if BASELINE in measured else {BASELINE: {"seconds": math.nan, "peak_bytes": math.nan}}
    marked = {f"{way} *" if "notes" in row else way: row for way, row in measured.items()}
    print(table(missing | marked, batch))
    print_rest(rows, 5)
    way = fastest_way(run, name)
    if way is None or missing:
        print(f"\ngoal >= {GOALS[name]:g}x: not measured")
        return
    base, best = measured[BASELINE], measured[way]
    ratio = base["seconds"] / best["seconds"]
    print(f"\ngoal >= {GOALS[name]:g}x: {verdict(ratio, GOALS[name])}, {ratio:.2f}x with {way}")
    if name == "aesop" and base["peak_bytes"]:
        share = best["peak_bytes"] / base["peak_bytes"]
        print(
            f"goal <= {MEMORY_GOAL:.0%} of the memory: {verdict(share, MEMORY_GOAL, at_most=True)}, {share:.0%} with {way}"
        )


def fastest_way(run: Run, name: str) -> str | None:
    """Return the fastest of our ways, or None if none was measured."""
    rows = done(run.record.get("steps", {}).get(name, {}))
    candidates = {way: row["seconds"] for way, row in rows.items() if way in (*run.sizes.ways[name], EVERYTHING)}
    return min(candidates, key=lambda way: candidates[way]) if candidates else None


def measure_roofline(run: Run) -> None:
    sizes, way = run.sizes, fastest_way(run, "aesop")
    precision = (way or FAST).split("+")[0]

    def work() -> dict[str, Any]:
        peaks = measured_peaks(run.device, sizes.matrix, sizes.copied_bytes)
        return {"peaks": peaks, "networks": roofline(sizes.recipes["aesop"], sizes.batches["aesop"], precision, peaks)}

    run.record["roofline"] = found = run.row("roofline", work)
    print("\n## Roofline of the aesop step\n")
    if reason := why_not(found):
        print(reason)
        return
    peaks, networks = found["peaks"], found["networks"]
    rates = ", ".join(f"{name} {peaks[name] / 1e12:.1f} TFLOP/s" for name in ("bf16", "tf32", "fp32"))
    print(f"measured: {rates}, copying {peaks['copy'] / 1e9:.0f} GB/s\n")
    found["ideal_seconds"] = ideal = sum(row["seconds"] for row in networks.values())
    print(f"| network ({precision}) | TFLOP | ideal ms | share of the ideal |\n| --- | --- | --- | --- |")
    for name, row in networks.items():
        print(f"| {name} | {row['flops'] / 1e12:.3f} | {row['seconds'] * 1e3:.2f} | {row['seconds'] / ideal:.0%} |")
    print(f"| all | {sum(r['flops'] for r in networks.values()) / 1e12:.3f} | {ideal * 1e3:.2f} | 100% |")
    if way is None:
        print(f"\ngoal >= {ROOFLINE_GOAL:.0%} of the ideal: not measured, as no aesop step was")
        return
    seconds = run.record["steps"]["aesop"][way]["seconds"]
    found |= {"way": way, "share": ideal / seconds}
    result = f"{ideal / seconds:.0%} with {way} ({seconds * 1e3:.1f} ms)"
    print(f"\ngoal >= {ROOFLINE_GOAL:.0%} of the ideal: {verdict(ideal / seconds, ROOFLINE_GOAL)}, {result}")


# By substrings of lower-case kernel names; the first match decides. A layout change for a convolution counts as a copy.
KINDS = (
    ("optimiser", ("adam", "multi_tensor_apply", "foreach")),
    ("elementwise", ("triton_poi",)),
    ("reduction", ("triton_red", "triton_per")),
    ("normalisation", ("batch_norm", "batchnorm", "bn_fw", "bn_bw")),
    ("copy/cat", ("nchwtonhwc", "nhwctonchw", "copy", "memcpy", "memset", "catarray", "aten::cat", "aten::clone", "fill")),
    (
        "convolution",
        ("conv", "cudnn", "xmma", "gemm", "cutlass", "wgrad", "dgrad", "fprop", "winograd", "nvjet", "triton_tem"),
    ),
    ("convolution", ("addmm", "bmm", "aten::mm", "sm80_", "sm90_")),
    ("reduction", ("reduce", "softmax", "norm", "aten::sum", "aten::mean", "aten::var")),
    ("elementwise", ("elementwise", "leaky", "relu", "upsample", "pool", "pad", "sigmoid", "aten::add", "aten::sub")),
    ("elementwise", ("aten::mul", "aten::div", "aten::abs", "aten::where", "aten::sgn", "aten::clamp")),
)


def kind_of_kernel(name: str) -> str:
    return next((kind for kind, parts in KINDS if any(part in name.lower() for part in parts)), "other")


def kernels_of(step: Callable[[], object], device: torch.device, warm_up: int) -> dict[str, Any]:
    """Return milliseconds of one step by kind of kernel (on the CPU: operator) and the ten longest kernels."""
    for _ in range(warm_up):
        step()
    synchronise(device)
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        step()
        synchronise(device)
    kernels = []
    for event in profiler.key_averages():
        if on_gpu and event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False):
            kernels.append((event.self_device_time_total / 1e3, event.count, event.key))
        elif not on_gpu:
            kernels.append((event.self_cpu_time_total / 1e3, event.count, event.key))
    if not kernels:
        raise RuntimeError("the profiler recorded no kernels")
    kinds: dict[str, float] = {}
    for ms, _, name in kernels:
        kinds[kind_of_kernel(name)] = kinds.get(kind_of_kernel(name), 0) + ms
    top = [
        {"ms": ms, "count": count, "kind": kind_of_kernel(name), "name": name[:160]}
        for ms, count, name in sorted(kernels, reverse=True)[:10]
    ]
    return {"kinds": kinds, "ms": sum(kinds.values()), "kernels": sum(count for _, count, _ in kernels), "top": top}


def measure_profile(run: Run) -> None:
    recipe, batch = run.sizes.recipes["aesop"], run.sizes.batches["aesop"]
    after = fastest_way(run, "aesop") or run.sizes.ways["aesop"][-1]
    builders = steps_of(recipe, [after], run.device, batch, None, "aesop")

    def work(way: str) -> dict[str, Any]:
        return kernels_of(builders[way](), run.device, run.sizes.warm_up)

    rows = run.record["profile"] = {way: run.row(f"profile, {way}", partial(work, way)) for way in (BASELINE, after)}
    print("\n## Where the time of an aesop step goes\n")
    measured = done(rows)
    print("| kind of kernel |" + "".join(f" {way}, ms | share |" for way in measured))
    print("| --- |" + " --- | --- |" * len(measured))
    kinds = sorted(
        {kind for row in measured.values() for kind in row["kinds"]},
        key=lambda kind: -max(row["kinds"].get(kind, 0) for row in measured.values()),
    )
    for kind in kinds:
        cells = (
            f" {row['kinds'].get(kind, 0):.2f} | {row['kinds'].get(kind, 0) / row['ms']:.0%} |" for row in measured.values()
        )
        print(f"| {kind} |" + "".join(cells))
    print("| all |" + "".join(f" {row['ms']:.2f} | {row['kernels']} kernels |" for row in measured.values()))
    print_rest(rows, 1 + 2 * len(measured))
    for way, row in measured.items():
        step = done(run.record.get("steps", {}).get("aesop", {})).get(way)
        if step:
            print(f"\n{way}: kernels {row['ms']:.1f} ms, a step without the profiler {step['seconds'] * 1e3:.1f} ms")
        print(f"\nThe longest kernels of {way}:\n\n| ms | times | kind | kernel |\n| --- | --- | --- | --- |")
        for kernel in row["top"]:
            name = kernel["name"].replace("|", "/")
            print(f"| {kernel['ms']:.2f} | {kernel['count']} | {kernel['kind']} | `{name}` |")


@dataclass(frozen=True)
class Way:
    """One way of `aesop upscale`."""

    precision: str
    channels_last: bool = False
    compiled: bool = False
    tile: int = 256

    def __str__(self) -> str:
        parts = [self.precision, "channels_last" * self.channels_last, "compiled" * self.compiled]
        return "ours, " + ", ".join(filter(None, [*parts, "whole image" * (self.tile == 0)]))

    def build(self, net: nn.Module, device: torch.device) -> nn.Module:
        """Return a copy of the network, prepared for this way."""
        net = copy.deepcopy(net).to(device)
        if self.channels_last:
            net.to(memory_format=torch.channels_last)
        if self.compiled:
            compiler = Compiler()
            for part in parts_to_compile(net):
                part.forward = compiler.compiled(part.forward)
        return net


UPSCALING = [
    Way("fp32"),
    Way("fp32", tile=0),
    Way("bf16"),
    Way("bf16", channels_last=True),
    Way("bf16", channels_last=True, tile=0),
    Way("bf16", channels_last=True, compiled=True),
    Way("bf16", channels_last=True, compiled=True, tile=0),
    Way("bf16", compiled=True),
]


@torch.no_grad()
def in_half_precision(net: nn.Module, image: np.ndarray, device: torch.device) -> np.ndarray:
    """Upscale a whole image like Real-ESRGAN: padded by 10 on the right and bottom, converted with NumPy."""
    height, width = image.shape[:2]
    planes = np.transpose(image.astype(np.float32) / 255, (2, 0, 1))
    x = torch.from_numpy(np.ascontiguousarray(planes)).unsqueeze(0).to(device).half()
    result = net(F.pad(x, (0, 10, 0, 10), mode="reflect"))
    result = result[..., : height * SCALE, : width * SCALE].squeeze(0).float().cpu().clamp_(0, 1).numpy()
    return (np.transpose(result, (1, 2, 0)) * 255.0).round().astype(np.uint8)


def photograph(side: int) -> np.ndarray:
    """Return an RGB photograph of side x side pixels."""
    image = ImageFile.at(min(PHOTOS.glob("*.jpg"))).read()
    shortest = min(image.shape[:2])
    return cv2.resize(image[:shortest, :shortest], (side, side), interpolation=cv2.INTER_AREA)


def timed(upscale: Callable[[], np.ndarray], reference: np.ndarray, device: torch.device, repeats: int) -> dict[str, Any]:
    """Return median seconds and peak memory after two warm-up runs, and the difference from the reference."""
    for _ in range(2):
        result = upscale()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        upscale()
        seconds.append(time.perf_counter() - begun)
    apart = int(np.abs(result.astype(int) - reference.astype(int)).max())
    return {"seconds": statistics.median(seconds), "peak_bytes": peak(device), "grey_levels_apart": apart}


def network(blocks: int, image: np.ndarray) -> RRDBNet:
    """Random weights, scaled so that the result fills its range."""
    torch.manual_seed(0)
    net = RRDBNet(num_block=blocks).eval()
    with torch.no_grad():
        result = net(to_tensor(image)[None])
        gain = 0.2 / result.std()
        net.conv_last.weight.mul_(gain)
        net.conv_last.bias.copy_(0.5 - result.mean((0, 2, 3)) * gain)
    return net


def measure_upscaling(run: Run) -> None:
    """Measure upscaling an 8-bit image in memory by 4, without reading and writing files."""
    sizes, device = run.sizes, run.device
    image, large = photograph(sizes.side), photograph(2 * sizes.side)
    net = network(sizes.blocks, image[:32, :32])  # on the CPU; each row gets a copy
    references: dict[int, np.ndarray] = {}

    def make_references() -> dict[str, Any]:
        there = Way("fp32").build(net, device)
        for tile in (0, Way("fp32").tile):
            references[tile] = upscale_image(there, image, SCALE, tile=tile, device=device)
        return {}

    def baseline() -> dict[str, Any]:
        half = copy.deepcopy(net).to(device).half()
        return timed(lambda: in_half_precision(half, image, device), references[0], device, sizes.repeats)

    def our_row(way: Way) -> dict[str, Any]:
        there = way.build(net, device)
        upscale = partial(upscale_image, there, scale=SCALE, tile=way.tile, device=device, precision=way.precision)
        found = timed(lambda: upscale(image), references[way.tile], device, sizes.repeats)
        if way.tile and not way.compiled:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            upscale(large)
            found["peak_bytes_large"] = peak(device)
        return found

    rows = run.record["upscaling"] = {"fp32, to compare with": run.row("upscaling, fp32 to compare with", make_references)}
    rows[UPSCALING_BASELINE] = run.row(f"upscaling, {UPSCALING_BASELINE}", baseline)
    ways = [way for way in UPSCALING if sizes.compiles or not way.compiled]
    for way in ways:
        rows[str(way)] = run.row(f"upscaling, {way}", partial(our_row, way))
    side = sizes.side
    print(f"\n## Upscaling {side}x{side} to {side * SCALE}x{side * SCALE}, RRDBNet 64/{sizes.blocks}\n")
    print(f"| way | seconds | vs the first | peak memory | peak memory at {2 * side}x{2 * side} | grey levels from fp32 |")
    print("| --- | --- | --- | --- | --- | --- |")
    measured = {name: row for name, row in done(rows).items() if "seconds" in row}
    base = measured.get(UPSCALING_BASELINE, {"seconds": math.nan})["seconds"]
    for name, row in measured.items():
        memory = f"{in_gib(row['peak_bytes'])} | {in_gib(row.get('peak_bytes_large'))}"
        print(f"| {name} | {row['seconds']:.4f} | {base / row['seconds']:.2f} | {memory} | {row['grey_levels_apart']} |")
    print_rest(rows, 6)
    print(
        "\nGrey levels: difference from fp32 with the same tiles. The first row's padding changes pixels near two borders."
        f"\nAt {2 * side}x{2 * side}: with tiles and uncompiled, because tiles of another size would be compiled again."
    )
    best = min((str(way) for way in ways if str(way) in measured), key=lambda name: measured[name]["seconds"], default=None)
    if best is None or math.isnan(base):
        print(f"\ngoal >= {UPSCALING_GOAL:g}x: not measured")
    else:
        ratio = base / measured[best]["seconds"]
        print(f"\ngoal >= {UPSCALING_GOAL:g}x: {verdict(ratio, UPSCALING_GOAL)}, {ratio:.2f}x with {best}")


def passes_over_nan(recipe: Recipe, way: str, device: torch.device, batch: int) -> dict[str, bool]:
    """Steps, one on a NaN in HR, and another."""
    stage, step = ours(recipe, way, device)
    lq = torch.rand(batch, 3, recipe.side // 4, recipe.side // 4, device=device)
    gt = torch.rand(batch, 3, recipe.side, recipe.side, device=device)
    broken = gt.clone()
    broken[0, 0, 0, 0] = math.nan
    trained = [net for name, net in stage.networks.items() if name != "net_g_ema"]

    def weights() -> list[Tensor]:
        return [p.detach().clone() for net in trained for p in net.parameters()]

    def moments() -> list[Tensor]:
        states = [state for optimizer in stage.optimizers.values() for state in optimizer.state.values()]
        return [value.clone() for state in states for value in state.values() if isinstance(value, Tensor)]

    def statistics_of_batches() -> list[Tensor]:
        return [value.clone() for net in trained for name, value in net.named_buffers() if "running" in name]

    def equal(a: list[Tensor], b: list[Tensor]) -> bool:
        return len(a) == len(b) and all(map(torch.equal, a, b))

    for _ in range(5):  # with cuda_graphs, the last ones are replays
        step(lq, gt, 1)
    found = {"no step skipped at first": not stage.skipped.item()}
    before, before_moments, before_statistics = weights(), moments(), statistics_of_batches()
    step(lq, broken, 1)
    found["NaN in HR: skipped is 1"] = stage.skipped.item() == 1
    found["NaN in HR: weights are kept"] = equal(before, weights())
    found["NaN in HR: moments are kept"] = equal(before_moments, moments())
    found["NaN in HR: BatchNorm's statistics are kept"] = equal(before_statistics, statistics_of_batches())
    step(lq, gt, 1)
    found["next step: skipped is 0"] = stage.skipped.item() == 0
    found["next step: weights change and are finite"] = not equal(before, weights()) and all(
        bool(value.isfinite().all()) for value in weights()
    )
    return found


def measure_checks(run: Run) -> None:
    recipe = run.sizes.recipes["aesop"]
    rows = run.record["checks"] = {}
    for way in ("fp32", FAST, f"{FAST}+cuda_graphs"):
        rows[way] = run.row(f"checks, {way}", partial(passes_over_nan, recipe, way, run.device, 2))
    print(f"\n## Checks on {run.device.type}\n\n| way | check | result |\n| --- | --- | --- |")
    for way, row in done(rows).items():
        for check, passed in row.items():
            if isinstance(passed, bool):
                print(f"| {way} | {check} | {'pass' if passed else 'FAIL'} |")
    print_rest(rows, 3)


PARTS: dict[str, Callable[[Run], None]] = {
    "checks": measure_checks,
    "aesop": partial(measure_steps, name="aesop"),
    "roofline": measure_roofline,
    "profile": measure_profile,
    "upscaling": measure_upscaling,
    "autoencoder": partial(measure_steps, name="autoencoder"),
    "realworld": partial(measure_steps, name="realworld"),
    "swinir": partial(measure_steps, name="swinir"),
}


def left_out(record: dict[str, Any], path: str = "") -> list[str]:
    """Return the names of rows for which the budget did not suffice."""
    if "left_out" in record:
        return [path]
    return [
        name for key, value in record.items() if isinstance(value, dict) for name in left_out(value, f"{path} {key}".strip())
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="tiny networks; the measurements are meaningless")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--budget", type=float, default=450, help="seconds in total; later rows are left out")
    parser.add_argument("--row-limit", type=float, default=150, help="seconds per row, including compilation")
    parser.add_argument("--rounds", type=int, help="measured steps per row (default: 15, toy: 1)")
    parser.add_argument("--all", action="store_true", help="also compile SwinIR, and use --checkout for all recipes")
    parser.add_argument("--checkout", type=Path, help="folder with the published code, for a row of the aesop step")
    parser.add_argument("--record", action="store_true", help="write results/gpu_<date>_<device>.json (toy: gpu_toy_...)")
    chosen = parser.parse_args(arguments)
    try:
        device = pick_device(chosen.device)
    except ValueError as error:
        parser.error(str(error))
    begun = time.monotonic()
    run = Run(
        device=device,
        sizes=TOY if chosen.toy else FULL,
        rounds=chosen.rounds or (1 if chosen.toy else 15),
        row_limit=chosen.row_limit,
        until=begun + chosen.budget,
        everything=chosen.all,
        checkout=chosen.checkout,
    )
    run.record = described(device) | {"toy": chosen.toy, "rounds": run.rounds, "batches": run.sizes.batches}
    print(f"{run.record['date']}, {run.record['machine']}, torch {torch.__version__}\n")
    failed: list[str] = []
    for name in [part for part in PARTS if part in chosen.only]:
        try:
            with patch.object(training_step, "AUTOENCODER", run.sizes.autoencoder):
                PARTS[name](run)
        except Exception as error:  # noqa: BLE001 (the results of the other parts must still be written)
            failed.append(f"{name}: {type(error).__name__}: {error}")
            print(f"\n{failed[-1]}")
        print(flush=True)
    run.record |= {"failed_parts": failed, "left_out": left_out(run.record), "wall_seconds": time.monotonic() - begun}
    print(f"total: {run.record['wall_seconds']:.0f} s")
    if run.record["left_out"]:
        print(f"left out because the budget of {chosen.budget:.0f} s is exhausted: {'; '.join(run.record['left_out'])}")
    if chosen.record:
        write("gpu_toy" if chosen.toy else "gpu", run.record)


if __name__ == "__main__":
    main()
