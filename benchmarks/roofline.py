"""Compute the least time a device needs for the convolutions and matrix products of an AESOP step, for `gpu.py`.

The ideal time of a layer's pass is the greater of two: its operations divided by the rate of the fastest matrix product,
and the size of input, output, and weights divided by the copy bandwidth. Activations, normalisation, losses, and
optimisers are not counted: a perfect step would hide them behind the layers. Peak rates are measured, not looked up.
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
"""The network that always runs in float32."""


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
    counts = {"generator": (net_g, lr, 3, 2), "averaged generator": (net_g, lr, 1, 1), IN_FLOAT: (autoencoder, hr, 3, 3)}
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
            "seconds": ideal_seconds(passes, precision == "fp32" or name == IN_FLOAT, peaks),
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
