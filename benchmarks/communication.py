"""Compute how much of a step several GPUs spend on exchanging gradients: a Markdown table. Nothing is measured.

python benchmarks/communication.py                              (the table of docs/how-to/scale-out.md)
python benchmarks/communication.py --step-ms aesop_rrdb=850     (with a measured step of one GPU)

The bytes are counted from the networks of the option files. The time of a step is its floating-point operations
(PyTorch's counter on the meta device) at a share of the GPU's peak, unless a measured time is given. An exchange passes
two levels, the GPUs of a node and the nodes, each as ring or tree, whichever is faster:

    ring of n: 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency
    tree of n: 2 * bytes / bandwidth + 2 log2(n) * latency

Gradients travel in the buckets of GradientExchange, one after the other, each as soon as the backward pass has filled it;
the time of that pass is spread evenly over the parameters. What travels after its end is not hidden.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.options.config import TrainConfig
from aesop.options.read import load_train_config
from aesop.system.distributed import GradientExchange, World

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = ("psnr_rrdb", "aesop_rrdb", "aesop_swinir", "realworld_aesop")
COUNTS = (8, 64, 512)


@dataclass(frozen=True)
class Recipe:
    """Operations and messages of one step on one GPU."""

    name: str
    batch: int
    flops: float
    networks: list[tuple[list[int], float]]
    """For each trained network: parameters per bucket, operations of the backward pass that fills them."""
    small_exchanges: int
    """Number of exchanges of single statistics, which cost only latency."""

    @property
    def parameters(self) -> int:
        return sum(sum(buckets) for buckets, _ in self.networks)


def flops(net: nn.Module, images: Tensor) -> int:
    """Count the operations of one forward pass; a multiplication and an addition count as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(images)
    return counter.get_total_flops()


def count(name: str) -> Recipe:
    """Count a step of Stage or AdversarialStage.

    A backward pass costs one forward pass for the inputs and one for the weights.
    """
    config, _ = load_train_config(CONFIGS / f"{name}.yml", [])
    crops = config.datasets.train
    hr = torch.empty(1, 3, crops.gt_size, crops.gt_size, device="meta")
    lr = torch.empty(1, 3, crops.gt_size // config.scale, crops.gt_size // config.scale, device="meta")
    net_g = build_network(config.network_g.model_dump()).to("meta")
    batch, forward = crops.batch_size_per_gpu, flops(net_g, lr)
    networks, operations, small = [(buckets(net_g), 2.0 * batch * forward)], 3 * forward, 1  # 1: whether a loss is NaN
    if config.network_d is not None:
        net_d = build_network(config.network_d.model_dump()).to("meta")
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in net_d.modules())
        forward_d = flops(net_d, hr)
        # Gradients are final only after the second of two passes, that of HR.
        networks.append((buckets(net_d), 2.0 * batch * forward_d))
        operations += forward  # the EMA generator, for the artifact loss
        operations += 9 * forward_d  # HR; SR and back to the image; HR and SR, each back to image and weights
        operations += 3 * sum(flops(net, hr) for net in judges(config))  # HR; SR and back to the image
        # SyncBatchNorm: 1 in each of 4 forward and 3 backward passes. Relativistic means: 2, 1 in backward, and 2. NaN: 1.
        small += norms * 7 + 5 + 1
    return Recipe(name, batch, batch * operations, networks, small)


def judges(config: TrainConfig) -> list[nn.Module]:
    """Return the frozen networks of the AESOP and the perceptual loss."""
    nets: list[nn.Module] = []
    if config.train.aesop_opt is not None:
        decoder = {"type": "RRDBNet", "num_feat": 64, "num_block": 23, "num_grow_ch": 32}
        nets.append(build_network({"type": "AutoEncoder_RRDBNet", "scale": config.scale, "dec_opt": decoder}).to("meta"))
    if (percep := config.train.perceptual_opt) is not None:
        nets.append(VGGFeatureExtractor(list(percep.layer_weights), percep.vgg_type).to("meta"))
    return nets


def buckets(net: nn.Module) -> list[int]:
    """Return the parameters of each bucket, in the order of their exchange."""
    exchange = GradientExchange(World(size=2), net)
    exchange.start()
    return [sum(parameter.numel() for parameter in bucket) for bucket in exchange.unsent]


def not_hidden(sizes: list[int], backward: float, seconds: Callable[[int], float]) -> float:
    """Return how many seconds after a backward pass of `backward` seconds its gradients have arrived."""
    filled, arrived = 0, 0.0
    for parameters in sizes:
        filled += parameters
        arrived = max(arrived, backward * filled / sum(sizes)) + seconds(parameters)
    return arrived - backward


@dataclass(frozen=True)
class Level:
    """A level of the network: bytes/s per direction, seconds per message."""

    bandwidth: float
    latency: float

    def seconds(self, members: int, message: float) -> float:
        if members == 1:
            return 0.0
        ring = 2 * (members - 1) / members * message / self.bandwidth + 2 * (members - 1) * self.latency
        tree = 2 * message / self.bandwidth + 2 * ceil(log2(members)) * self.latency
        return min(ring, tree)


def exchange(gpus: int, message: float, per_node: int, node: Level, network: Level) -> float:
    """Return the seconds for summing `message` bytes over all GPUs."""
    inside = min(gpus, per_node)
    return node.seconds(inside, message) + network.seconds(gpus // inside, message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-ms", action="append", default=[], metavar="RECIPE=MS", help="a measured step of one GPU")
    parser.add_argument("--peak", type=float, default=495, help="TFLOP/s; default: an H100's dense TF32")
    parser.add_argument("--utilisation", type=float, default=0.3, help="share of the peak that a step reaches")
    parser.add_argument("--per-node", type=int, default=8, help="GPUs per node")
    parser.add_argument("--nvlink", type=float, default=450, help="GB/s per GPU and direction")
    parser.add_argument("--network", type=float, default=400, help="Gb/s per node and direction")
    parser.add_argument("--nvlink-latency", type=float, default=3, help="microseconds")
    parser.add_argument("--network-latency", type=float, default=10, help="microseconds")
    options = parser.parse_args()
    measured = {name: float(ms) / 1e3 for name, _, ms in (given.partition("=") for given in options.step_ms)}
    node = Level(options.nvlink * 1e9, options.nvlink_latency * 1e-6)
    network = Level(options.network * 1e9 / 8, options.network_latency * 1e-6)
    header = (
        "option file | images per GPU | gradients, MB | step, ms | GPUs | fp32, ms | not hidden | bf16, ms | not hidden "
        "| statistics, ms | share"
    )
    print(f"| {header} |")
    print("|---" * (header.count("|") + 1) + "|")
    for recipe in map(count, RECIPES):
        step = measured.get(recipe.name, recipe.flops / (options.peak * 1e12 * options.utilisation))
        for gpus in COUNTS:
            small = recipe.small_exchanges * exchange(gpus, 256, options.per_node, node, network)
            times, shares = [], []
            for size in (4, 2):  # bytes of a gradient

                def seconds(parameters: int, gpus: int = gpus, size: int = size) -> float:
                    return exchange(gpus, size * parameters, options.per_node, node, network)

                late = sum(not_hidden(n, step * part / recipe.flops, seconds) for n, part in recipe.networks)
                times += [sum(seconds(n) for sizes, _ in recipe.networks for n in sizes), late]
                shares.append(f"{(late + small) / (late + small + step):.1%}")
            row = " | ".join(f"{each * 1e3:.1f}" for each in (*times, small))
            print(
                f"| {recipe.name} | {recipe.batch} | {4 * recipe.parameters / 1e6:.0f} | {step * 1e3:.0f} | {gpus} | {row} "
                f"| {shares[0]}, bf16 {shares[1]} |"
            )


if __name__ == "__main__":
    main()
