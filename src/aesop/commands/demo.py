"""`aesop demo`: the whole method on the photographs in the package, small enough for two CPU cores, and a page of it."""

import json
import re
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from aesop.archs import build_network
from aesop.commands.pipeline import is_finished, plan
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import averages, measure, predict
from aesop.evaluation.result_files import summary_table
from aesop.images.resize import imresize
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.shipped_model import shipped_model
from aesop.metrics import METRICS
from aesop.metrics.build import METRIC_WEIGHTS, make_metrics
from aesop.options.config import Config
from aesop.options.datasets import PairedDataset
from aesop.options.losses import PixelOptions
from aesop.options.validation import MetricOptions
from aesop.system.device import pick_device
from aesop.system.wording import duration
from aesop.training.train import final_model, train
from aesop.web.comparison_page import LARGEST_SIDE
from aesop.web.image_views import View
from aesop.web.page import Page
from aesop.weights.load import load_autoencoder, load_network
from aesop.weights.pretrained import has_pretrained

SCALE = 4
CROP = 40
SHIPPED = "Shipped model"
# How long the demo takes in forward and backward passes of its PSNR net on a batch, found by timing whole runs: turns a
# short measurement on the user's machine into the expected duration.
DURATION_IN_PASSES = 3200


@dataclass
class Method:
    """One column of the comparison: its answers by image name, and its average figures."""

    name: str
    images: dict[str, np.ndarray] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


def run(output: Path, console: Console, quick: bool = False) -> Path:
    """Train, measure, write `output/index.html`; continues what an interrupted run left. Returns the page's path.

    Args:
        quick: a handful of iterations a stage: the figures then mean nothing, everything else is the same.

    Raises:
        ValueError: when `output` cannot be used. OSError: when it cannot be written.
    """
    assets = Path(str(resources.files("aesop"))) / "assets"
    stages = make_stages(assets, output, quick)
    console.print(
        "AESOP demo: PSNR net -> auto-encoder -> two GANs that differ in one loss, x4, on photographs in the package."
    )
    if not all(is_finished(config) for config in stages.values()):
        console.print(
            f"Expected: about {duration(0 if quick else expected_seconds(stages))} on this machine (measured just now)."
        )
    begun = time.perf_counter()
    for number, (title, config) in enumerate(stages.items(), 1):
        console.rule(f"{number}/{len(stages)} {title}")
        if is_finished(config):
            console.print(f"done before: {final_model(config)} (remove {output} to start anew)", markup=False)
        else:
            train(config, resume=True)
    console.rule("measuring on held-out photographs")
    page = compare(assets, output, stages, console)
    console.print(f"{duration(time.perf_counter() - begun)} in all. Open this page: {page.resolve()}", markup=False)
    return page


def make_stages(assets: Path, output: Path, quick: bool = False) -> dict[str, Config]:
    """The pipeline of assets/demo.yml on the package's photographs, and the same GAN with a pixel loss."""
    paths = {
        "datasets.train.dataroot_gt": assets / "photos" / "train",
        "datasets.val.dataroot_gt": assets / "photos" / "heldout",
        "path.experiments_root": output / "runs",
    }
    overrides = [f"{option}={json.dumps(str(path))}" for option, path in paths.items()]
    if quick:
        overrides += ["name=demo_quick", *(f"stages.{s}.train.total_iter=3" for s in ("psnr", "autoencoder", "adversarial"))]
    steps = [step for step in plan(assets / "demo.yml", overrides).values() if isinstance(step, Config)]
    psnr, autoencoder, aesop_gan = steps
    pixel_gan = aesop_gan.model_copy(deep=True)
    assert pixel_gan.train is not None
    pixel_gan.name = pixel_gan.name.replace("3_adversarial", "4_pixel_gan")
    pixel_gan.train.aesop_opt, pixel_gan.train.pixel_opt = None, PixelOptions()
    return {"PSNR net": psnr, "Auto-encoder": autoencoder, "AESOP GAN": aesop_gan, "Pixel-loss GAN": pixel_gan}


def expected_seconds(stages: dict[str, Config]) -> float:
    """From the fastest of a few passes of the PSNR net: the others waited for something else."""
    config = stages["PSNR net"]
    assert config.datasets.train is not None
    net = build_network(config.network_g.model_dump())
    side = config.datasets.train.gt_size // SCALE
    batch = torch.rand(config.datasets.train.batch_size_per_gpu, 3, side, side)
    seconds = []
    for _ in range(8):
        begun = time.perf_counter()
        net(batch).mean().backward()
        seconds.append(time.perf_counter() - begun)
    return min(seconds) * DURATION_IN_PASSES


def compare(assets: Path, output: Path, stages: dict[str, Config], console: Console) -> Path:
    """Measure bicubic, the three generators and the package's own on the held-out photographs; print the table, write the
    page."""
    device = pick_device("cpu")
    pairs = MeasuredPairs(PairedDataset(dataroot_gt=str(assets / "photos" / "heldout")), "heldout", SCALE)
    autoencoder = load_autoencoder(final_model(stages["Auto-encoder"]))
    options = {name: MetricOptions() for name in ("psnr", "ssim", "lrpsnr", "aepsnr")}
    options |= {name: MetricOptions() for name, needed in METRIC_WEIGHTS.items() if has_pretrained(*needed)}
    metrics = make_metrics(options, SCALE, device, autoencoder)

    nets = {name: load_network(final_model(stages[name]))[0] for name in ("PSNR net", "Pixel-loss GAN", "AESOP GAN")}
    nets[SHIPPED] = load_network(shipped_model())[0]
    answers = {"Bicubic": lambda lq, _: imresize(lq, SCALE)} | {name: _answer(net) for name, net in nets.items()}
    methods = []
    for name, answer in answers.items():
        method = Method(name)
        method.figures = averages(measure(answer, pairs, metrics, device, method.images.__setitem__))
        methods.append(method)
    console.print(summary_table({m.name: m.figures for m in methods}, options))
    missing = [METRICS[name].label for name in METRIC_WEIGHTS if name not in options]
    if missing:
        console.print(
            f"{' and '.join(missing)} left out: their weights are not on this machine (see AESOP_WEIGHTS in the README)."
        )
    return write_page(assets, output, stages, pairs, methods, autoencoder, list(options))


def _answer(net: nn.Module):
    return lambda lq, gt: predict(net, lq, gt, SCALE, torch.device("cpu"))


def write_page(
    assets: Path,
    output: Path,
    stages: dict[str, Config],
    pairs: MeasuredPairs,
    methods: list[Method],
    autoencoder: nn.Module,
    metrics: list[str],
) -> Path:
    """The self-contained page: table, sliders, crops, the auto-encoder's view, curves, configuration, credits."""
    samples = [pairs[index] for index in range(len(pairs))]
    aesop = next(method for method in methods if method.name == "AESOP GAN")
    page = Page("AESOP in a few minutes", "Super-resolution x4 with small networks, trained on this machine just now")
    page.text(
        "What happened here",
        "A PSNR net was trained with a pixel loss. An auto-encoder was trained on top of it: it maps an image to what can "
        "be known of it from its low-resolution version. Then two GANs started from the PSNR net. They differ in one loss "
        "only: one measures the distance to the original pixel by pixel, the other (AESOP) after the auto-encoder.\n\n"
        f"{len(list((assets / 'photos' / 'train').iterdir()))} photographs were trained on; the {len(samples)} shown here "
        "were held out. The networks are tiny and were trained for minutes, without a perceptual loss: they show that the "
        f"method runs. How far it gets in an hour, with one, is the {SHIPPED.lower()}'s column: the generator that comes "
        "with the package, which upscales when no other is named; it was trained on other photographs than those held out.",
    )
    page.table(
        "Figures",
        ["", *(METRICS[name].label for name in metrics)],
        [[m.name, *(m.figures[name] for name in metrics)] for m in methods],
        best={METRICS[name].label: METRICS[name].best for name in metrics},
        caption="Means over the held-out photographs. PSNR and SSIM on luma, 4-pixel border left out. LR-PSNR: agreement "
        "with the low-resolution image. AE-PSNR: agreement after the auto-encoder, what AESOP optimises.",
    )
    views = [
        View.of(sample, {m.name: m.images[sample["name"]] for m in methods}, SCALE, LARGEST_SIDE, CROP) for sample in samples
    ]
    for index, view in enumerate(views):
        page.slider("" if index else "Before and after", view.name, view.images, start=("Bicubic", SHIPPED))
    page.crops(
        "Crops, 4 times enlarged",
        [view.crops for view in views],
        labels=[view.name for view in views],
        caption="Where bicubic loses most of each photograph.",
    )
    page.gallery(
        "What the auto-encoder sees",
        autoencoder_view(samples[0]["gt"], aesop.images[samples[0]["name"]], autoencoder),
        caption="Differences are four times amplified. What differs between SR and HR is mostly texture that nobody could "
        "have known; after the auto-encoder, what is left is what the AESOP loss punishes.",
    )
    for title, config in stages.items():
        curves = read_curves(config.run_folder / "scalars.jsonl")
        page.curves(f"Training: {title}", curves, "iteration", "loss", log_y=True)
    for title, config in stages.items():
        page.config(f"Configuration: {title}", config.to_yaml())
    page.text("Photographs", "\n\n".join(credits(assets / "photos")))
    return page.write(output / "index.html")


def credits(folder: Path) -> list[str]:
    """Per photograph: file, title, author, source, licence; from the table in CREDITS.md."""
    lines = (folder / "CREDITS.md").read_text(encoding="utf-8").splitlines()
    rows = [re.sub(r"[`\[\]]", "", line).split("|")[1:6] for line in lines if line.startswith("| `")]
    return [", ".join(cell.strip() for cell in row) for row in rows]


def autoencoder_view(hr: np.ndarray, sr: np.ndarray, autoencoder: nn.Module) -> list[tuple[str, np.ndarray]]:
    """SR, HR, both after the auto-encoder, and the differences before and after."""
    with torch.inference_mode():
        ae_sr, ae_hr = (to_array(autoencoder(to_tensor(image)[None])[0]) for image in (sr, hr))

    def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.minimum(np.abs(a.astype(np.int16) - b) * 4, 255).astype(np.uint8)

    return [
        ("SR", sr), ("HR", hr), ("|SR - HR|", difference(sr, hr)),
        ("AE(SR)", ae_sr), ("AE(HR)", ae_hr), ("|AE(SR) - AE(HR)|", difference(ae_sr, ae_hr)),
    ]  # fmt: skip


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The losses of a run's scalars.jsonl, by name."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        for name, value in values.items():
            if name.startswith("l_"):
                curves.setdefault(name, []).append((values["iter"], value))
    return curves
