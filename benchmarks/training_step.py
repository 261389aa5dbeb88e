"""Measure a training step and the published amount of work on the same data in memory.

    python benchmarks/training_step.py [--recipe aesop] [--device cuda] [--ways fp32 bf16+channels_last+compile ...]
                                       [--batch 16] [--checkout FOLDER] [--record]

`published work` is a plain version of the published step, built from our modules: three discriminator passes over HR and
over SR, 49 unfolded copies for the artifact map, plain Adam, an EMA loop over the parameters, and a device
synchronisation for every loss. The other rows are the step of `aesop train` with the options in the name of the row.
`--checkout FOLDER` adds a row for the step of the published code itself; both should agree.

Recipes, with the published networks and sizes: aesop (RRDBNet 64/23, HR 128), autoencoder (HR 256), swinir (HR 256), and
realworld (U-Net discriminator, checkpointed RRDBNet, HR 256). Weights are random, which does not affect the time. On the
CPU the rows alternate, so that other load affects all of them equally; on a GPU each row has the memory to itself.
"""

import argparse
import copy
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.check.time_and_memory import time_parts
from aesop.losses import build_losses
from aesop.losses.aesop import AESOPLoss
from aesop.losses.gan import GANLoss
from aesop.losses.perceptual import PerceptualLoss
from aesop.options.training import TrainOptions
from aesop.system.device import algorithms, pick_device, synchronise
from aesop.system.distributed import World
from aesop.training.acceleration import accelerate
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.autoencoder_stage import AutoEncoderStage
from aesop.training.stage import Stage
from checkout import PublishedCode
from record import described, write

RRDB = {"type": "RRDBNet"}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "dec_opt": RRDB}
SWINIR = {
    "type": "SwinIR", "upscale": 4, "img_size": 64, "window_size": 8, "depths": [6] * 6, "embed_dim": 180,
    "num_heads": [6] * 6, "mlp_ratio": 2, "upsampler": "pixelshuffle", "resi_connection": "1conv",
}  # fmt: skip
LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
BASELINE = "published work"
Step = Callable[[], Any]


@dataclass
class Recipe:
    """The networks and sizes of a published training."""

    side: int
    batch: int
    """Batch size on a GPU, as published except for SwinIR: 16 images do not fit if all activations are kept."""
    network_g: dict[str, Any]
    network_d: dict[str, Any] | None = None
    gan_weight: float = 5e-3
    published: bool = True
    """Whether the recipe uses the relativistic GAN and the artifact loss (synthetic) or neither (real-world)."""

    @property
    def layers(self) -> dict[str, float]:
        return LAYERS if self.published else {name: LAYERS[name] for name in list(LAYERS)[1:]}


RECIPES = {
    "aesop": Recipe(128, 16, RRDB, {"type": "VGGStyleDiscriminator128"}),
    "autoencoder": Recipe(256, 16, AUTOENCODER),
    "swinir": Recipe(256, 8, SWINIR, {"type": "VGGStyleDiscriminator256"}),
    "realworld": Recipe(256, 12, RRDB | {"use_checkpoint": True}, {"type": "UNetDiscriminatorSN"}, 0.1, published=False),
}


class PublishedWork:
    """The passes of the published step, in the same order."""

    def __init__(self, recipe: Recipe, device: torch.device):
        torch.manual_seed(0)
        self.recipe, self.gan = recipe, GANLoss()
        self.net_g = build_network(recipe.network_g).to(device).train()
        self.net_g_ema = copy.deepcopy(self.net_g).eval().requires_grad_(False)
        self.optimizer_g = torch.optim.Adam(self.net_g.parameters(), 1e-4, (0.9, 0.99))
        if recipe.network_d is not None:
            self.net_d = build_network(recipe.network_d).to(device).train()
            self.optimizer_d = torch.optim.Adam(self.net_d.parameters(), 1e-4, (0.9, 0.99))
            self.autoencoder = build_network(AUTOENCODER).to(device).requires_grad_(False)
            self.vgg = VGGFeatureExtractor(list(recipe.layers)).to(device).requires_grad_(False)

    def step(self, lq: Tensor, gt: Tensor) -> dict[str, float]:
        scalars = self.autoencoder_step(lq, gt) if self.recipe.network_d is None else self.adversarial_step(lq, gt)
        with torch.no_grad():
            for ema, parameter in zip(self.net_g_ema.parameters(), self.net_g.parameters(), strict=True):
                ema.mul_(0.999).add_(parameter, alpha=0.001)
        return {str(k): value.detach().mean().item() for k, value in enumerate(scalars)}

    def autoencoder_step(self, lq: Tensor, gt: Tensor) -> list[Tensor]:
        assert isinstance(self.net_g, AutoEncoder)
        self.optimizer_g.zero_grad()
        image, bottleneck = self.net_g(gt, return_bottleneck=True)
        terms = [F.l1_loss(image, gt), F.l1_loss(bottleneck, lq)]
        (terms[0] + terms[1]).backward()
        self.optimizer_g.step()
        return terms

    def adversarial_step(self, lq: Tensor, gt: Tensor) -> list[Tensor]:
        self.net_d.requires_grad_(False)
        self.optimizer_g.zero_grad()
        sr, sr_ema = self.net_g(lq), self.net_g_ema(lq)
        with torch.no_grad():
            target = self.autoencoder(gt)
        terms = [F.l1_loss(self.autoencoder(sr), target)]
        if self.recipe.published:
            weight = unfolded_artifact_map(gt, sr, sr_ema)
            terms.append(F.l1_loss(weight * sr, weight * gt))
        seen, wanted = self.vgg(sr), self.vgg(gt.detach())
        terms += [weight * F.l1_loss(seen[name], wanted[name]) for name, weight in self.recipe.layers.items()]
        if self.recipe.published:
            real, fake = self.net_d(gt).detach(), self.net_d(sr)
            adversarial = (self.gan(real - fake.mean(), False) + self.gan(fake - real.mean(), True)) / 2
        else:
            adversarial = self.gan(self.net_d(sr), True)
        terms.append(self.recipe.gan_weight * adversarial)
        torch.stack(terms).sum().backward()
        self.optimizer_g.step()

        self.net_d.requires_grad_(True)
        self.optimizer_d.zero_grad()
        if self.recipe.published:
            fake = self.net_d(sr).detach()
            real = self.net_d(gt)
            real_term = self.gan(real - fake.mean(), True) * 0.5
            real_term.backward()
            fake = self.net_d(sr.detach())
            fake_term = self.gan(fake - real.detach().mean(), False) * 0.5
        else:
            real = self.net_d(gt)
            real_term = self.gan(real, True)
            real_term.backward()
            fake = self.net_d(sr.detach())
            fake_term = self.gan(fake, False)
        fake_term.backward()
        self.optimizer_d.step()
        return [*terms, real_term, fake_term, real, fake]


def unfolded_artifact_map(hr: Tensor, sr: Tensor, sr_ema: Tensor) -> Tensor:
    residual, residual_ema = ((hr - image).abs().sum(1, keepdim=True) for image in (sr, sr_ema))
    windows = F.pad(residual, (3, 3, 3, 3), mode="reflect").unfold(2, 7, 1).unfold(3, 7, 1)
    weight = residual.var((1, 2, 3), keepdim=True) ** 0.2 * windows.var((-1, -2))
    return torch.where(residual < residual_ema, 0, weight)


def ours(recipe: Recipe, way: str, device: torch.device) -> tuple[Stage, Callable[..., dict[str, Tensor]]]:
    """The stage of `aesop train` with the options in `way`, joined by +, and its step."""
    torch.manual_seed(0)
    precision, *switches = way.split("+")
    world, net_g = World(device=device), build_network(recipe.network_g)
    options: dict[str, Any] = {"total_iter": 10**6}
    stage: Stage
    if recipe.network_d is None:
        assert isinstance(net_g, AutoEncoder)
        options |= {"pixel_opt": {}, "pixel_at_LR_opt": {}}
        stage = AutoEncoderStage(TrainOptions.model_validate(options), net_g, world, precision)
    else:
        relativistic = {} if recipe.published else {"relativistic": False}
        options |= {"aesop_opt": {}, "gan_opt": {"loss_weight": recipe.gan_weight, **relativistic}}
        options |= {"perceptual_opt": {"layer_weights": recipe.layers}} | ({"artifacts_opt": {}} if recipe.published else {})
        train, net_d = TrainOptions.model_validate(options), build_network(recipe.network_d)
        ready = {"aesop_opt": AESOPLoss(build_network(AUTOENCODER)), "perceptual_opt": PerceptualLoss(recipe.layers)}
        stage = AdversarialStage(train, net_g, net_d, world, precision, build_losses(train, world=world, ready=ready))
    return stage, accelerate(stage, **{switch: True for switch in switches})


def steps_of(recipe: Recipe, ways: list[str], device: torch.device, batch: int, checkout: Path | None, name: str) -> dict:
    """Return a function for each row that builds its step."""
    lq = torch.rand(batch, 3, recipe.side // 4, recipe.side // 4, device=device)
    gt = torch.rand(batch, 3, recipe.side, recipe.side, device=device)

    def build(way: str) -> Step:
        if way == BASELINE:
            plain = PublishedWork(recipe, device)
            return lambda: plain.step(lq, gt)
        if way == "published code":
            assert checkout is not None
            code = PublishedCode(checkout, name, device)
            return lambda: code.step(lq, gt)
        _, step = ours(recipe, way, device)
        return lambda: step(lq, gt, 1)

    rows = [BASELINE, *(["published code"] if checkout else []), *ways]
    return {way: lambda way=way: build(way) for way in rows}


def measure(builders: dict[str, Callable[[], Step]], device: torch.device, rounds: int) -> dict[str, dict[str, float]]:
    """Return median seconds and peak bytes of the step of each row."""
    if device.type == "cuda":
        return {name: alone(build, device, rounds) for name, build in builders.items()}
    steps = {name: build() for name, build in builders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            synchronise(device)
            if k:  # the first round is a warm-up
                seconds[name].append(time.perf_counter() - begun)
    return {name: {"seconds": statistics.median(found), "peak_bytes": 0} for name, found in seconds.items()}


def alone(build: Callable[[], Step], device: torch.device, rounds: int, block: int = 5) -> dict[str, float]:
    """Time `rounds` steps on a GPU in blocks, as a training runs them, after six warm-up steps."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    with algorithms(deterministic=False):  # the published training also enables cuDNN's benchmark mode
        step = build()
        begun = time.perf_counter()
        for _ in range(6):
            step()
        synchronise(device)
        start_up, seconds = time.perf_counter() - begun, []
        for _ in range(max(2, rounds // block)):
            begun = time.perf_counter()
            for _ in range(block):
                step()
            synchronise(device)
            seconds.append((time.perf_counter() - begun) / block)
    peak = torch.cuda.max_memory_allocated(device)
    return {"seconds": statistics.median(seconds), "peak_bytes": peak, "start_up_seconds": start_up}


def parts_of(recipe: Recipe, way: str, device: torch.device, batch: int) -> dict[str, float]:
    """Seconds of each part of our step, forward and backward."""
    stage, step = ours(recipe, way, device)
    lq = torch.rand(batch, 3, recipe.side // 4, recipe.side // 4, device=device)
    gt = torch.rand(batch, 3, recipe.side, recipe.side, device=device)
    step(lq, gt, 1)
    return time_parts(stage, lq, gt, seconds=20)


def table(found: dict[str, dict[str, float]], batch: int) -> str:
    """Return a Markdown table with the ratio of each row to the baseline."""
    base = found[BASELINE]
    lines = [
        "| step | seconds | images/s | relative to the published work | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in found.items():
        memory = "not measured"
        if row["peak_bytes"]:
            memory = f"{row['peak_bytes'] / 2**30:.1f} GiB, {row['peak_bytes'] / base['peak_bytes']:.0%}"
        rate, ratio = batch / row["seconds"], base["seconds"] / row["seconds"]
        lines.append(f"| {name} | {row['seconds']:.3f} | {rate:.2f} | {ratio:.2f} | {memory} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="aesop", choices=list(RECIPES))
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--ways", nargs="+", default=["fp32"], help="precision and options joined by +, such as bf16+compile"
    )
    parser.add_argument("--batch", type=int, help="default: as published on a GPU, 2 on the CPU")
    parser.add_argument("--rounds", type=int, help="default: 30 on a GPU, 5 on the CPU")
    parser.add_argument("--checkout", type=Path, help="a folder with the published code")
    parser.add_argument("--parts", action="store_true", help="also measure each part of our step alone")
    parser.add_argument("--record", action="store_true", help="write results/step_<recipe>_<date>_<device>.json")
    arguments = parser.parse_args()
    device, recipe = pick_device(arguments.device), RECIPES[arguments.recipe]
    on_cpu = device.type == "cpu"
    batch, rounds = arguments.batch or (2 if on_cpu else recipe.batch), arguments.rounds or (5 if on_cpu else 30)
    record = described(device) | {"recipe": arguments.recipe, "batch": batch, "rounds": rounds}
    builders = steps_of(recipe, arguments.ways, device, batch, arguments.checkout, arguments.recipe)
    record["step"] = found = measure(builders, device, rounds)
    print(f"{record['date']}, {record['machine']}, torch {torch.__version__}")
    print(f"{arguments.recipe} step, batch {batch} x {recipe.side} px\n\n{table(found, batch)}")
    if arguments.parts:
        record["parts"] = parts = {way: parts_of(recipe, way, device, batch) for way in arguments.ways}
        print(f"\n| part, alone, ms | {' | '.join(parts)} |\n| --- |{' --- |' * len(parts)}")
        for name in parts[arguments.ways[0]]:
            print(f"| {name} | {' | '.join(f'{1000 * found[name]:.0f}' for found in parts.values())} |")
    if arguments.record:
        write(f"step_{arguments.recipe}", record)


if __name__ == "__main__":
    main()
