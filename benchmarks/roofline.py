"""The time of a training step on paper: on cards that are not here, and at best on one that is.

    python benchmarks/roofline.py [--recipes aesop autoencoder swinir realworld] [--record]

prints, for each card, what a step would take. Kernels, bytes, and operations are counted on fake tensors
(`aesop.check.step_count`); the model is:

* an operator takes the longest of its operations at half of the card's peak, its bytes at 80 % of the bandwidth, and 2.5 us
  for each kernel, which no kernel undercuts;
* eager: the host needs 5 us to launch a kernel, and the step takes the longer of the launches and the kernels;
* + graphs: launches cost nothing;
* + compile, at best: everything between products is fused into them, so that only products, batch norms, reductions, and
  optimisers are left. No compiler reaches this.

Peaks are those of the data sheets, without sparsity, with accumulation in float32. Convolutions in float32 run in TF32, as
PyTorch lets them.

For `gpu.py`, the module computes the least time that the convolutions and matrix products of an AESOP step need on a device
whose peaks were measured. The ideal time of a layer's pass is the greater of two: its operations divided by the rate of
the fastest matrix product, and the size of input, output, and weights divided by the copy bandwidth. Activations,
normalisation, losses, and optimisers are not counted: a perfect step would hide them behind the layers.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import training_step
from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.check.step_count import Operation, StepCounter, count_step
from aesop.system import device as devices
from aesop.system.device import synchronise
from record import described, write
from training_step import BASELINE, RECIPES, Recipe, steps_of


@dataclass(frozen=True)
class Pass:
    """The forward pass of a layer. The gradients of its input and of its weight are passes of the same size."""

    flops: int
    numbers: int
    """Numbers read and written: input, output, weight."""


def forward_passes(net: nn.Module, shape: tuple[int, ...]) -> list[Pass]:
    """Return the passes of a network on the meta device, in the order of its convolutions and linear layers."""
    found: list[Pass] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.get_parameter("weight") if "weight" in layer._parameters else layer.get_parameter("weight_orig")
        numbers = inputs[0].numel() + output.numel() + weight.numel()
        # Each output is a sum over the weights of its channel.
        found.append(Pass(2 * output.numel() * weight[0].numel(), numbers))

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        net(torch.empty(shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def passes_of_step(recipe: Recipe, batch: int) -> dict[str, list[tuple[Pass, int]]]:
    """Return, for each network, the passes of its layers and their number per step.

    Generator: forward and both gradients, except the gradient of the LR image. EMA generator: forward. Auto-encoder and VGG:
    forward on HR and SR, gradient of SR. Discriminator: the same for the generator's loss; then on HR and SR forward and the
    gradients of weights and of all inputs except the images.
    """
    assert recipe.published, "the passes describe the synthetic recipe"
    assert recipe.network_d is not None
    with torch.device("meta"):
        net_g, net_d, autoencoder = map(build_network, (recipe.network_g, recipe.network_d, training_step.AUTOENCODER))
        vgg = VGGFeatureExtractor(list(recipe.layers))
    hr, lr = (batch, 3, recipe.side, recipe.side), (batch, 3, recipe.side // 4, recipe.side // 4)
    counts = {
        "generator": (net_g, lr, 3, 2),
        "averaged generator": (net_g, lr, 1, 1),
        "auto-encoder": (autoencoder, hr, 3, 3),
    }
    counts |= {"VGG": (vgg, hr, 3, 3), "discriminator": (net_d, hr, 9, 7)}
    return {
        name: [(each, times if k else times_of_first) for k, each in enumerate(forward_passes(net, shape))]
        for name, (net, shape, times, times_of_first) in counts.items()
    }


def ideal_seconds(passes: list[tuple[Pass, int]], in_float: bool, peaks: dict[str, float]) -> float:
    """Return the ideal time of a network in float32 (TF32, PyTorch's default for convolutions) or bfloat16."""
    flops_a_second, size = (peaks["tf32"], 4) if in_float else (peaks["bf16"], 2)
    return sum(times * max(p.flops / flops_a_second, p.numbers * size / peaks["copy"]) for p, times in passes)


def roofline(recipe: Recipe, batch: int, precision: str, peaks: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return operations and ideal seconds of each network in the step."""
    return {
        name: {
            "flops": sum(each.flops * times for each, times in passes),
            "seconds": ideal_seconds(passes, precision == "fp32", peaks),
        }
        for name, passes in passes_of_step(recipe, batch).items()
    }


def measured_peaks(device: torch.device, side: int, copied_bytes: int) -> dict[str, float]:
    """Return the rates of matrix products in bf16, TF32, and fp32 (flop/s) and of copies (bytes/s, read and written)."""
    peaks = {}
    former = torch.get_float32_matmul_precision()
    for name, dtype, setting in (
        ("bf16", torch.bfloat16, "highest"),
        ("tf32", torch.float32, "high"),
        ("fp32", torch.float32, "highest"),
    ):
        torch.set_float32_matmul_precision(setting)
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        peaks[name] = 2 * side**3 / fastest(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
    torch.set_float32_matmul_precision(former)
    source = torch.ones(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    peaks["copy"] = 2 * copied_bytes / fastest(lambda: target.copy_(source), device)
    return peaks


def fastest(work: Callable[[], object], device: torch.device, blocks: int = 3, block: int = 10) -> float:
    """Return the seconds of one call in the fastest block, after a warm-up block."""
    seconds = []
    for _ in range(blocks + 1):
        synchronise(device)
        begun = time.perf_counter()
        for _ in range(block):
            work()
        synchronise(device)
        seconds.append((time.perf_counter() - begun) / block)
    return min(seconds[1:])


@dataclass(frozen=True)
class Card:
    """Peaks of a data sheet: flop/s in bfloat16 and TF32, and bytes/s of the memory."""

    bf16: float
    tf32: float
    bandwidth: float


CARDS = {
    "H100": Card(989e12, 495e12, 3.35e12),
    "H200": Card(989e12, 495e12, 4.8e12),
    "A100": Card(312e12, 156e12, 2.04e12),
    "RTX 4090": Card(165e12, 82.6e12, 1.008e12),
    "RTX 3060": Card(25.6e12, 12.8e12, 0.36e12),
}
OF_PEAK, OF_BANDWIDTH, SHORTEST, LAUNCH = 0.5, 0.8, 2.5e-6, 5e-6
LEFT_BY_FUSION = ("batch_norm", "layer_norm", "softmax", "_fused_adam", "_foreach", "mean", "sum", "norm", "dot", "mv")
WAYS = ("fp32", "bf16+channels_last")


def seconds(operation: Operation, card: Card) -> float:
    peak = card.bf16 if operation.dtype == torch.bfloat16 else card.tf32
    products, memory = operation.flops / (OF_PEAK * peak), operation.bytes / (OF_BANDWIDTH * card.bandwidth)
    return max(products, memory, SHORTEST * operation.kernels)


def left_by_fusion(operations: list[Operation]) -> list[Operation]:
    return [op for op in operations if op.flops or any(part in op.name for part in LEFT_BY_FUSION)]


def times(counter: StepCounter, card: Card) -> dict[str, float]:
    """Seconds of a step: eager, with CUDA graphs, and compiled at best."""
    kernels = sum(seconds(operation, card) for operation in counter.operations)
    fused = sum(seconds(operation, card) for operation in left_by_fusion(counter.operations))
    return {"eager": max(kernels, LAUNCH * counter.kernels), "graphs": kernels, "compile": fused}


def counted(name: str, way: str) -> StepCounter:
    recipe = RECIPES[name]

    def build() -> Callable[[int], object]:
        step = steps_of(recipe, [way], torch.device("cpu"), recipe.batch, None, name)[way]()
        return lambda iteration: step()

    return count_step(build)


def on_paper(name: str) -> dict[str, Any]:
    """What a step of a recipe asks of a device, and its times by card, for each way."""
    rows = {}
    for way in (BASELINE, *WAYS):
        counter = counted(name, way)
        rows[way] = {
            "kernels": counter.kernels, "bytes": counter.bytes, "flops": counter.flops, "peak": counter.peak,
            "seconds": {card: times(counter, peaks) for card, peaks in CARDS.items()},
        }  # fmt: skip
    return rows


def print_table(name: str, rows: dict[str, Any]) -> None:
    recipe = RECIPES[name]
    print(f"\n{name}, batch {recipe.batch} x {recipe.side} px, ms of a step on paper (ratio to the published work)\n")
    print(f"| step | kernels | GB | TFLOP | launches | {' | '.join(CARDS)} |\n| --- |{' --- |' * (4 + len(CARDS))}")
    base = rows[BASELINE]["seconds"]
    for way, row in rows.items():
        launches = 1e3 * LAUNCH * row["kernels"]
        sizes = f"{row['kernels']:,} | {row['bytes'] / 1e9:.0f} | {row['flops'] / 1e12:.2f} | {launches:.0f}"
        for mode in ("eager",) if way == BASELINE else ("eager", "graphs", "compile"):
            found = [(row["seconds"][card][mode], base[card]["eager"]) for card in CARDS]
            cells = " | ".join(f"{1e3 * spent:.0f} ({published / spent:.1f})" for spent, published in found)
            name = way if mode == "eager" else f"{way} + {mode}"
            print(f"| {name} | {sizes if mode == 'eager' else ' | | |'} | {cells} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--record", action="store_true", help="write results/roofline_<date>_cpu.json")
    arguments = parser.parse_args()
    devices.reason_against_bf16 = lambda device: None  # ty: ignore[invalid-assignment] (fake tensors need no instructions)
    found = {}
    for name in arguments.recipes:
        found[name] = on_paper(name)
        print_table(name, found[name])
    if arguments.record:
        cards = {name: vars(card) for name, card in CARDS.items()}
        write("roofline", described(torch.device("cpu")) | {"cards": cards, "recipes": found})


if __name__ == "__main__":
    main()
