"""Compare alternative implementations of parts of a step in isolation, to find which are faster on this machine.

    python benchmarks/ways.py [--device cuda] [--precision bf16] [--repeats 20] [--record]

Full-size networks with random weights and HR crops of 128 pixels. The two forms of a pair alternate. The ratio compares
their fastest times; above 1 the second form is faster. The last column names the form that `aesop train` uses.
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.rrdbnet import ResidualDenseBlock
from aesop.losses.artifact import artifact_loss
from aesop.system.device import autocast, pick_device, synchronise
from record import described, write
from training_step import AUTOENCODER, RRDB, unfolded_artifact_map

SIDE = 128
Work = Callable[[], Any]


@dataclass
class Pair:
    """Two implementations with the same result."""

    name: str
    first: Work
    second: Work
    used: str
    """The form that `aesop train` uses, `first` or `second`, or `option` if the user chooses."""


def pairs(device: torch.device, batch: int, precision: str) -> list[Pair]:
    torch.manual_seed(0)
    lq = torch.rand(batch, 3, SIDE // 4, SIDE // 4, device=device)
    gt, other = torch.rand(batch, 3, SIDE, SIDE, device=device), torch.rand(batch, 3, SIDE, SIDE, device=device)
    net, autoencoder = build_network(RRDB).to(device), build_network(AUTOENCODER).to(device).requires_grad_(False)
    block = ResidualDenseBlock().to(device)
    features = torch.rand(batch, 64, SIDE // 4, SIDE // 4, device=device)
    recomputing = build_network(RRDB | {"use_checkpoint": True}).to(device)
    rearranged = copy.deepcopy(net).to(memory_format=torch.channels_last)

    def trained(network: nn.Module) -> Work:
        def work() -> None:
            network.zero_grad()
            with autocast(device, precision):
                loss = network(lq).mean()
            loss.backward()

        return work

    def without_gradients(function: Callable[[Tensor], Tensor]) -> Work:
        def work() -> None:
            with torch.no_grad(), autocast(device, precision):
                function(features)

        return work

    return [
        Pair("artifact map: 49 copies, or box filters", lambda: unfolded(gt, other), lambda: filtered(gt, other), "second"),
        Pair("AE of HR and SR: one after the other, or in one batch",
             lambda: apart(autoencoder, gt, other), lambda: together(autoencoder, gt, other), "first"),
        Pair("Adam and average: loops over the parameters, or fused", updating(net, False), updating(net, True), "second"),
        Pair("dense block, no gradients: concatenation, or sums in one buffer",
             without_gradients(block), without_gradients(lambda x: in_one_buffer(block, x)), "first"),
        Pair("RRDBNet, forward and backward: kept, or recomputed", trained(net), trained(recomputing), "option"),
        Pair("RRDBNet, forward and backward: contiguous, or channels_last", trained(net), trained(rearranged), "option"),
    ]  # fmt: skip


def unfolded(gt: Tensor, other: Tensor) -> None:
    sr = other.clone().requires_grad_()
    weight = unfolded_artifact_map(gt, sr, other * 0.9)
    F.l1_loss(weight * sr, weight * gt).backward()


def filtered(gt: Tensor, other: Tensor) -> None:
    sr = other.clone().requires_grad_()
    artifact_loss(sr, gt, other * 0.9).backward()


def apart(autoencoder: nn.Module, gt: Tensor, other: Tensor) -> None:
    sr = other.clone().requires_grad_()
    with torch.no_grad():
        target = autoencoder(gt)
    F.l1_loss(autoencoder(sr), target).backward()


def together(autoencoder: nn.Module, gt: Tensor, other: Tensor) -> None:
    assert isinstance(autoencoder, AutoEncoder)
    sr = other.clone().requires_grad_()
    estimate, target = autoencoder(torch.cat((sr, gt))).chunk(2)
    F.l1_loss(estimate, target).backward()


def updating(net: nn.Module, fused: bool) -> Work:
    net, average = copy.deepcopy(net), copy.deepcopy(net)
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4, fused=fused, foreach=False)
    averaged, current = list(average.parameters()), list(net.parameters())

    @torch.no_grad()
    def work() -> None:
        optimizer.step()
        if fused:
            torch._foreach_mul_(averaged, 0.999)
            torch._foreach_add_(averaged, current, alpha=0.001)
        else:
            for ema, parameter in zip(averaged, current, strict=True):
                ema.mul_(0.999).add_(parameter, alpha=0.001)

    return work


def in_one_buffer(block: ResidualDenseBlock, x: Tensor) -> Tensor:
    """Compute the dense block as sums: add the contribution of each input to all later convolutions at once."""
    convs = [block.conv1, block.conv2, block.conv3, block.conv4, block.conv5]
    kept, grown = x.shape[1], block.conv1.out_channels
    sums = F.conv2d(x, torch.cat([c.weight[:, :kept] for c in convs]), torch.cat([c.bias for c in convs]), padding=1)
    for k in range(4):
        seen = F.leaky_relu(sums[:, grown * k : grown * (k + 1)], 0.2)
        low = kept + grown * k
        share = torch.cat([c.weight[:, low : low + grown] for c in convs[k + 1 :]])
        sums[:, grown * (k + 1) :].add_(F.conv2d(seen, share, padding=1))
    return torch.add(x, sums[:, 4 * grown :], alpha=0.2)


def fastest(pair: Pair, device: torch.device, repeats: int) -> tuple[float, float]:
    seconds: dict[str, list[float]] = {"first": [], "second": []}
    for k in range(repeats + 1):
        for which, work in (("first", pair.first), ("second", pair.second)):
            synchronise(device)
            begun = time.perf_counter()
            work()
            synchronise(device)
            if k:
                seconds[which].append(time.perf_counter() - begun)
    return min(seconds["first"]), min(seconds["second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="precision of the convolutions")
    parser.add_argument("--batch", type=int, help="default: 16 on a GPU, 2 on the CPU")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--record", action="store_true", help="write results/ways_<date>_<device>.json")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    batch = arguments.batch or (2 if device.type == "cpu" else 16)
    record = described(device) | {
        "batch": batch,
        "precision": arguments.precision,
        "repeats": arguments.repeats,
        "pairs": [],
    }
    print(f"{record['date']}, {record['machine']}, torch {torch.__version__}, {arguments.precision}, batch {batch}\n")
    print("| pair | first, ms | second, ms | ratio | used |\n| --- | --- | --- | --- | --- |")
    for pair in pairs(device, batch, arguments.precision):
        first, second = fastest(pair, device, arguments.repeats)
        print(f"| {pair.name} | {1000 * first:.1f} | {1000 * second:.1f} | {first / second:.2f} | {pair.used} |")
        row = {"name": pair.name, "first_s": first, "second_s": second, "ratio": first / second, "used": pair.used}
        record["pairs"].append(row)
    if arguments.record:
        write("ways", record)


if __name__ == "__main__":
    main()
