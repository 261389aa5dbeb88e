"""The least time a device needs for the convolutions and matrix products of an AESOP step: `gpu.py` compares with it.

A layer's pass takes at least its arithmetic divided by the device's fastest matrix product, and at least its input, output
and weights divided by the device's copying speed; the greater of the two is its ideal. Activations, normalisation, losses
and optimisers are not counted: a perfect step would hide them in the layers' passes. Peaks are measured, not looked up.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import training_step
from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.system.device import synchronise
from training_step import Recipe

IN_FLOAT = "auto-encoder"
"""The network that runs in float32 whatever the precision of the step."""


@dataclass(frozen=True)
class Pass:
    """A layer's forward pass. The gradients by its input and by its weight are passes of the same size."""

    flops: int
    numbers: int
    """Read and written: input, output, weight."""


def forward_passes(net: nn.Module, shape: tuple[int, ...]) -> list[Pass]:
    """Of a network on the meta device, in the order of its convolutions and linear layers, the first seeing the input."""
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
    """For each network, its layers' passes in a step and how often each is made.

    The generator: forward and both gradients, but none by the LR image. Its average: forward. Auto-encoder and VGG: forward
    on HR and SR, gradient by SR. The discriminator: the same for the generator's loss; then on HR and SR forward and the
    gradient by the weights, and by all inputs but the images.
    """
    assert recipe.published, "the passes are those of the synthetic recipe"
    assert recipe.network_d is not None
    with torch.device("meta"):
        net_g, net_d, autoencoder = map(build_network, (recipe.network_g, recipe.network_d, training_step.AUTOENCODER))
        vgg = VGGFeatureExtractor(list(recipe.layers))
    hr, lr = (batch, 3, recipe.side, recipe.side), (batch, 3, recipe.side // 4, recipe.side // 4)
    counts = {"generator": (net_g, lr, 3, 2), "averaged generator": (net_g, lr, 1, 1), IN_FLOAT: (autoencoder, hr, 3, 3)}
    counts |= {"VGG": (vgg, hr, 3, 3), "discriminator": (net_d, hr, 9, 7)}
    return {
        name: [(each, times if k else times_of_first) for k, each in enumerate(forward_passes(net, shape))]
        for name, (net, shape, times, times_of_first) in counts.items()
    }


def ideal_seconds(passes: list[tuple[Pass, int]], in_float: bool, peaks: dict[str, float]) -> float:
    """Of one network's passes, in float32 (TF32, as PyTorch's convolutions compute by default) or in bfloat16."""
    flops_a_second, size = (peaks["tf32"], 4) if in_float else (peaks["bf16"], 2)
    return sum(times * max(p.flops / flops_a_second, p.numbers * size / peaks["copy"]) for p, times in passes)


def roofline(recipe: Recipe, batch: int, precision: str, peaks: dict[str, float]) -> dict[str, dict[str, float]]:
    """For each network of the step: flops and ideal seconds."""
    return {
        name: {
            "flops": sum(each.flops * times for each, times in passes),
            "seconds": ideal_seconds(passes, precision == "fp32" or name == IN_FLOAT, peaks),
        }
        for name, passes in passes_of_step(recipe, batch).items()
    }


def measured_peaks(device: torch.device, side: int, copied_bytes: int) -> dict[str, float]:
    """Flops a second of square matrix products in bf16, TF32 and full fp32; bytes a second that a copy reads and writes."""
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
    """Seconds of one call, in the fastest block; one more at the beginning starts things up."""
    seconds = []
    for _ in range(blocks + 1):
        synchronise(device)
        begun = time.perf_counter()
        for _ in range(block):
            work()
        synchronise(device)
        seconds.append((time.perf_counter() - begun) / block)
    return min(seconds[1:])
