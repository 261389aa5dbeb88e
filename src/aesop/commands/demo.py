"""`aesop demo`: train the whole method with small networks on photographs in the package, and show the result on a page."""

import json
import re
import time
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console
from torch import nn

from aesop.commands.pipeline import is_finished
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.comparison_page import LARGEST_SIDE, add_table, add_views
from aesop.evaluation.measure import SetResults, measure_methods, measuring
from aesop.evaluation.methods import bicubic, network, predict
from aesop.evaluation.result_files import described, summary_table
from aesop.images.resize import imresize
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.shipped_models import CLEAN, WEB, X2, shipped_model
from aesop.metrics import METRICS
from aesop.metrics.build import make_metrics
from aesop.options.config import TrainConfig
from aesop.options.datasets import PairedDataset
from aesop.options.pipeline import plan
from aesop.options.validation import MetricOptions
from aesop.system.distributed import World
from aesop.system.terminal import Note
from aesop.system.wording import duration
from aesop.training.train import train
from aesop.web.page import Chart, Figure, Image, Page
from aesop.weights.load import load_autoencoder, load_network
from aesop.weights.pretrained import has_pretrained

SCALE = 4
QUALITY = 50  # of the compressed picture
ASSETS = Path(str(resources.files("aesop"))) / "assets"
Stages = dict[str, TrainConfig]  # by title


def run(output: Path, console: Console, quick: bool = False) -> dict[str, Any]:
    """Train, measure, and write `output/index.html`; an interrupted demo continues. Returns what the table shows.

    `quick` trains a few iterations per stage, to show that everything works; the results mean nothing.
    """
    stages = make_stages(output, quick)
    introduction = "PSNR net -> auto-encoder -> two GANs that differ in one loss, on photographs in the package."
    console.print(Note(f"AESOP demo: {introduction}"))
    start = time.perf_counter()
    for number, (title, config) in enumerate(stages.items(), 1):
        console.rule(f"{number}/{len(stages)} {title}")
        if is_finished(config):
            console.print(Note(f"already trained: {config.final_model} (remove {output} to start over)"))
        else:
            train(config, resume=True)
    console.rule("measuring on held-out photographs")
    page, means = compare(stages, console)
    file = page.write(output / "index.html")
    seconds = time.perf_counter() - start
    console.print(Note(f"Total: {duration(seconds)}. Open this page: {file.resolve()}"))
    models = {title: config.final_model for title, config in stages.items()}
    return {"page": file, "means": means, "models": models, "seconds": seconds}


def make_stages(output: Path, quick: bool = False) -> Stages:
    """The pipeline of assets/demo.yml on the package's photographs, and its GAN with a pixel loss instead of AESOP's."""
    options: dict[str, str | int] = {
        "datasets.train.dataroot_gt": str(ASSETS / "photos" / "train"),
        "datasets.val.dataroot_gt": str(ASSETS / "photos" / "heldout"),
        "path.experiments_root": str(output / "runs"),
    }
    if quick:
        options |= {"name": "demo_quick"}
        options |= {f"stages.{stage}.train.total_iter": 3 for stage in ("psnr", "autoencoder", "adversarial")}
    steps = plan(ASSETS / "demo.yml", [f"{option}={json.dumps(value)}" for option, value in options.items()])
    psnr, autoencoder, aesop_gan = (step for step in steps.values() if isinstance(step, TrainConfig))
    name = aesop_gan.name.replace("3_adversarial", "4_pixel_gan")
    pixel_gan = aesop_gan.derive({"name": name, "train.aesop_opt": None, "train.pixel_opt": {}})
    return {"PSNR net": psnr, "Auto-encoder": autoencoder, "AESOP GAN": aesop_gan, "Pixel-loss GAN": pixel_gan}


def compare(stages: Stages, console: Console) -> tuple[Page, dict[str, dict[str, float]]]:
    """Measure bicubic, the trained generators and the shipped model on the held-out photographs: (page, means)."""
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(ASSETS / "photos" / "heldout")), "held-out photographs", SCALE)
    autoencoder = load_autoencoder(stages["Auto-encoder"].final_model)
    missing = [name for name in ("lpips", "dists") if not has_pretrained(*METRICS[name].weights)]
    names = ("psnr", "ssim", "lrpsnr", "aepsnr", "lpips", "dists")
    options = {name: MetricOptions() for name in names if name not in missing}
    device = torch.device("cpu")
    files = {name: stages[name].final_model for name in ("PSNR net", "Pixel-loss GAN", "AESOP GAN")}
    methods = [bicubic(SCALE)]
    for name, file in (files | {"Bundled model": shipped_model(CLEAN)}).items():
        methods.append(network(name, load_network(file)[0], str(file), SCALE, device))
    metrics = measuring(make_metrics(options, SCALE, device, autoencoder), device)
    results = measure_methods(methods, pairs, metrics, World(), {}, len(pairs), LARGEST_SIDE)
    console.print(summary_table(results.means.items(), described(options)))
    if missing:
        labels = " and ".join(METRICS[name].label for name in missing)
        console.print(
            Note(f"{labels} skipped: their weights are not on this machine (`aesop doctor --no-run` says how to get them).")
        )
    return make_page(stages, results, autoencoder, options), results.means


def make_page(stages: Stages, results: SetResults, autoencoder: nn.Module, metrics: dict[str, MetricOptions]) -> Page:
    page = Page("AESOP in a few minutes", "Super-resolution x4 with small networks, trained on this machine just now")
    page.section("What happened")
    page.text(
        "First a PSNR net was trained with a pixel loss, then an auto-encoder, which maps an image to what can be known of "
        "it from its low-resolution version. Two GANs started from the PSNR net. They differ in one loss: one compares SR "
        "with the original pixel by pixel, the other (AESOP) compares both after the auto-encoder.\n\n"
        f"{len(list((ASSETS / 'photos' / 'train').iterdir()))} photographs were used for training; the {results.count} here "
        "were held out. The networks are tiny, trained for minutes and without a perceptual loss: they show that the method "
        "runs. The bundled model shows what hours of training with a perceptual loss add; it is the generator that aesop "
        "upscale uses for clean pictures, and was trained on other photographs."
    )
    page.section("Results")
    caption = (
        "Means over the held-out photographs. PSNR and SSIM: on luma, without a border of 4 pixels. LR-PSNR: consistency "
        "with the low-resolution image. AE-PSNR: agreement after the auto-encoder, which AESOP optimises."
    )
    add_table(page, results, described(metrics), caption)
    page.section("Comparison")
    page.text("The crops below each photograph show the place where bicubic loses most.")
    add_views(page, results, described(metrics))
    page.section("Inside the AESOP loss")
    page.gallery(
        autoencoder_view(results.views[0].images["HR"], results.views[0].images["AESOP GAN"], autoencoder),
        caption="Differences are amplified 4 times. SR differs from HR mostly in texture that nobody could know; what "
        "remains after the auto-encoder is what the AESOP loss punishes.",
    )
    page.section("A compressed picture")
    page.text(
        f"A photograph at a quarter of its size, saved as JPEG of quality {QUALITY}. aesop upscale takes the bundled web "
        "model for it; the clean one, which was trained without JPEG, draws its blocks."
    )
    page.slider("compressed", compressed_views(results.views[0].images["HR"]), ["Clean model", "Web model"])
    page.section("Twice the size")
    page.text(
        "A photograph at half of its size, enlarged by the bundled x2 model: what aesop upscale --scale 2 makes of it."
    )
    page.slider("halved", halved_views(results.views[0].images["HR"]), ["Bicubic", "x2 model"])
    page.section("Training")
    losses = {title: read_losses(config.run_folder / "scalars.jsonl") for title, config in stages.items()}
    page.charts([Chart(title, lines, "iteration", "loss", log_y=True) for title, lines in losses.items()])
    page.section("Configuration")
    page.folded({title: config.to_yaml() for title, config in stages.items()})
    page.section("Photographs")
    page.facts(credits())
    return page


def autoencoder_view(hr: Image, sr: Image, autoencoder: nn.Module) -> list[Figure]:
    """SR and HR before and after the auto-encoder, and their differences; images are uint8 (H, W, 3)."""
    with torch.inference_mode():
        after = [to_array(autoencoder(to_tensor(image)[None])[0]) for image in (sr, hr)]
    figures = []
    for (a, b), names in (((sr, hr), ("SR", "HR")), (after, ("AE(SR)", "AE(HR)"))):
        difference = np.minimum(np.abs(a.astype(np.int16) - b) * 4, 255).astype(np.uint8)
        figures += [Figure(a, names[0]), Figure(b, names[1]), Figure(difference, f"|{' - '.join(names)}|")]
    return figures


def compressed_views(hr: Image) -> dict[str, Image]:
    """An image (H, W, 3), reduced and saved as JPEG, then enlarged by bicubic interpolation and by the bundled models."""
    file = BytesIO()
    PIL.Image.fromarray(imresize(hr, 1 / SCALE)).save(file, "jpeg", quality=QUALITY)
    lr = np.asarray(PIL.Image.open(file).convert("RGB"))
    views = {"Bicubic": imresize(lr, SCALE)}
    for title, name in (("Clean model", CLEAN), ("Web model", WEB)):
        views[title] = predict(load_network(shipped_model(name))[0], lr, None, SCALE, torch.device("cpu"))
    return views | {"HR": hr}


def halved_views(hr: Image) -> dict[str, Image]:
    """An image (H, W, 3) of even sides, reduced to a half, then enlarged by bicubic interpolation and by the x2 model."""
    lr = imresize(hr, 1 / 2)
    enlarged = predict(load_network(shipped_model(X2))[0], lr, None, 2, torch.device("cpu"))
    return {"Bicubic": imresize(lr, 2), "x2 model": enlarged, "HR": hr}


def read_losses(file: Path) -> dict[str, list[tuple[float, float]]]:
    """(iteration, value) of every loss in a run's scalars.jsonl."""
    losses: dict[str, list[tuple[float, float]]] = {}
    for values in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        for name, value in values.items():
            if name.startswith("l_"):
                losses.setdefault(name, []).append((values["iter"], value))
    return losses


def credits() -> dict[str, str]:
    """Title, author, source and licence of each photograph, from the table in CREDITS.md."""
    lines = (ASSETS / "photos" / "CREDITS.md").read_text(encoding="utf-8").splitlines()
    rows = [re.sub(r"[`\[\]]", "", line).split("|")[1:6] for line in lines if line.startswith("| `")]
    return {file.strip(): ", ".join(cell.strip() for cell in cells) for file, *cells in rows}
