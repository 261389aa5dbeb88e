"""The adversarial training step beside the published amount of work, on the same data in memory.

    python benchmarks/training_step.py [--device cuda] [--batch 16] [--precision bf16] [--record]

`published` is a plain version, of our own modules, of what the published step computes: three passes of the discriminator
over HR and over SR, 49 unfolded copies for the artifact map, plain Adam, an average loop over the parameters, every loss
read by the CPU. `ours` is the step that `aesop train` makes. Generator and decoder are RRDBNet 64/23, with VGG19 and
VGGStyleDiscriminator128, HR crops of 128 pixels; random weights, which do not change the time. The two take turns, so that
whatever else the machine does meets both.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.config import TrainOptions
from aesop.device import pick_device
from aesop.engine.distributed import World
from aesop.engine.stages import AdversarialStage
from aesop.losses import GANLoss
from record import described, write

LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
SIDE = 128


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "net_g": build_network({"type": "RRDBNet"}),
        "net_d": build_network({"type": "VGGStyleDiscriminator128"}),
        "autoencoder": build_network({"type": "AutoEncoder_RRDBNet", "dec_opt": {"type": "RRDBNet"}}),
        "vgg": VGGFeatureExtractor(list(LAYERS)),
    }


class PublishedWork:
    """The published step's passes, in its order."""

    def __init__(self, device: torch.device):
        nets = {name: net.to(device) for name, net in networks().items()}
        self.net_g, self.net_d = nets["net_g"].train(), nets["net_d"].train()
        self.autoencoder, self.vgg = nets["autoencoder"].requires_grad_(False), nets["vgg"].requires_grad_(False)
        self.net_g_ema = copy.deepcopy(self.net_g).eval().requires_grad_(False)
        self.optimizer_g = torch.optim.Adam(self.net_g.parameters(), 1e-4, (0.9, 0.99))
        self.optimizer_d = torch.optim.Adam(self.net_d.parameters(), 1e-4, (0.9, 0.99))
        self.gan = GANLoss()

    def step(self, lq: Tensor, gt: Tensor) -> dict[str, float]:
        self.net_d.requires_grad_(False)
        self.optimizer_g.zero_grad()
        sr, sr_ema = self.net_g(lq), self.net_g_ema(lq)
        with torch.no_grad():
            target = self.autoencoder(gt)
        aesop = F.l1_loss(self.autoencoder(sr), target)
        weight = unfolded_artifact_map(gt, sr, sr_ema)
        artifacts = F.l1_loss(weight * sr, weight * gt)
        seen, wanted = self.vgg(sr), self.vgg(gt.detach())
        perceptual = sum(LAYERS[name] * F.l1_loss(seen[name], wanted[name]) for name in LAYERS)
        real = self.net_d(gt).detach()
        fake = self.net_d(sr)
        adversarial = (self.gan(real - fake.mean(), False) + self.gan(fake - real.mean(), True)) / 2
        (aesop + artifacts + perceptual + 5e-3 * adversarial).backward()
        self.optimizer_g.step()

        self.net_d.requires_grad_(True)
        self.optimizer_d.zero_grad()
        fake = self.net_d(sr).detach()
        real = self.net_d(gt)
        real_term = self.gan(real - fake.mean(), True) * 0.5
        real_term.backward()
        fake = self.net_d(sr.detach())
        fake_term = self.gan(fake - real.detach().mean(), False) * 0.5
        fake_term.backward()
        self.optimizer_d.step()
        scalars = [aesop, artifacts, perceptual, adversarial, real_term, fake_term, real.mean(), fake.mean()]
        with torch.no_grad():
            for ema, parameter in zip(self.net_g_ema.parameters(), self.net_g.parameters(), strict=True):
                ema.mul_(0.999).add_(parameter, alpha=0.001)
        return {str(k): value.detach().mean().item() for k, value in enumerate(scalars)}


def unfolded_artifact_map(hr: Tensor, sr: Tensor, sr_ema: Tensor) -> Tensor:
    residual, residual_ema = ((hr - image).abs().sum(1, keepdim=True) for image in (sr, sr_ema))
    windows = F.pad(residual, (3, 3, 3, 3), mode="reflect").unfold(2, 7, 1).unfold(3, 7, 1)
    weight = residual.var((1, 2, 3), keepdim=True) ** 0.2 * windows.var((-1, -2))
    return torch.where(residual < residual_ema, 0, weight)


def ours(device: torch.device, precision: str) -> AdversarialStage:
    nets = networks()
    options = TrainOptions.model_validate(
        {
            "total_iter": 10**6,
            "aesop_opt": {},
            "artifacts_opt": {},
            "gan_opt": {"loss_weight": 5e-3},
            "perceptual_opt": {"layer_weights": LAYERS},
        }
    )
    return AdversarialStage(
        options, nets["net_g"], nets["net_d"], nets["autoencoder"], World(device=device), precision,
        nets["vgg"].state_dict(),
    )  # fmt: skip


def measure(ways: dict[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds and peak bytes of each way, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks = dict.fromkeys(ways, 0)
    for k in range(rounds + 1):
        for name, step in ways.items():
            synchronise(device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            begun = time.perf_counter()
            step()
            synchronise(device)
            if k:  # the first includes start-ups
                seconds[name].append(time.perf_counter() - begun)
            if device.type == "cuda":
                peaks[name] = torch.cuda.max_memory_allocated(device)
    return {name: {"seconds": statistics.median(found), "peak_bytes": peaks[name]} for name, found in seconds.items()}


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, help="default: 16 on a GPU, 2 on the CPU")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of ours")
    parser.add_argument("--rounds", type=int, help="default: 30 on a GPU, 5 on the CPU")
    parser.add_argument("--record", action="store_true", help="write results/training_step_<date>_<device>.json")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    on_cpu = device.type == "cpu"
    batch, rounds = arguments.batch or (2 if on_cpu else 16), arguments.rounds or (5 if on_cpu else 30)
    lq, gt = torch.rand(batch, 3, SIDE // 4, SIDE // 4, device=device), torch.rand(batch, 3, SIDE, SIDE, device=device)
    plain, stage = PublishedWork(device), ours(device, arguments.precision)
    ways = {"published": lambda: plain.step(lq, gt), "ours": lambda: stage.step(lq, gt, 1)}
    record = described(device) | {"batch": batch, "precision": arguments.precision, "rounds": rounds}
    record["step"] = found = measure(ways, device, rounds)
    print(f"{record['date']}, {record['machine']}, torch {torch.__version__}: AESOP step, batch {batch} x {SIDE} px\n")
    print("| step | seconds | images/s | to the published one | peak memory |\n| --- | --- | --- | --- | --- |")
    base = found["published"]
    for name, row in found.items():
        memory = f"{row['peak_bytes'] / 2**30:.1f} GiB" if row["peak_bytes"] else "not measured"
        ratio = base["seconds"] / row["seconds"]
        print(f"| {name} | {row['seconds']:.3f} | {batch / row['seconds']:.2f} | {ratio:.2f} | {memory} |")
    if arguments.record:
        write("training_step", record)


if __name__ == "__main__":
    main()
