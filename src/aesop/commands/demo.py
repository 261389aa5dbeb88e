"""`aesop demo`: train the whole method with small networks on photographs in the package, and show the result on a page."""

import json
import re
import time
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from aesop.archs import build_network
from aesop.commands.pipeline import is_finished
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.comparison_page import LARGEST_SIDE, add_table, add_views
from aesop.evaluation.measure import SetResults, measure_methods
from aesop.evaluation.methods import Method, bicubic, predict
from aesop.evaluation.result_files import metric_columns, summary_table
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.shipped_model import shipped_model
from aesop.metrics import METRICS
from aesop.metrics.build import make_metrics
from aesop.options.config import TrainConfig
from aesop.options.datasets import PairedDataset
from aesop.options.pipeline import plan
from aesop.options.validation import MetricOptions
from aesop.system.wording import duration
from aesop.training.train import train
from aesop.web.page import Chart, Figure, Image, Page
from aesop.weights.load import load_autoencoder, load_network
from aesop.weights.pretrained import has_pretrained

SCALE = 4
ASSETS = Path(str(resources.files("aesop"))) / "assets"
SHIPPED = "Shipped model"
FORWARD_BACKWARD_PASSES = 3200
"""How many passes of its PSNR net on a batch the whole demo takes as long as; fitted to timed runs."""


def run(output: Path, console: Console, quick: bool = False) -> Path:
    """Train, measure, and write `output/index.html`; an interrupted demo continues. Returns the page's path.

    Args:
        quick: train a few iterations per stage, to show that everything works; the results mean nothing.

    Raises:
        ValueError: `output` holds runs with other options.
        OSError: `output` cannot be written.
    """
    stages = make_stages(output, quick)
    console.print(
        "AESOP demo: PSNR net -> auto-encoder -> two GANs that differ in one loss, x4, on photographs in the package."
    )
    if not quick and not all(is_finished(config) for config in stages.values()):
        seconds = expected_seconds(stages["PSNR net"])
        console.print(f"Expected: about {duration(seconds)} on this machine (measured just now).")
    start = time.perf_counter()
    for number, (title, config) in enumerate(stages.items(), 1):
        console.rule(f"{number}/{len(stages)} {title}")
        if is_finished(config):
            console.print(f"already trained: {config.final_model} (remove {output} to start over)", markup=False)
        else:
            train(config, resume=True)
    console.rule("measuring on held-out photographs")
    page = compare(output, stages, console)
    console.print(f"Total: {duration(time.perf_counter() - start)}. Open this page: {page.resolve()}", markup=False)
    return page


def make_stages(output: Path, quick: bool = False) -> dict[str, TrainConfig]:
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


def expected_seconds(psnr: TrainConfig) -> float:
    """Duration of the demo on this machine, from the fastest of a few passes: the others waited for something else."""
    net = build_network(psnr.network_g.model_dump())
    side = psnr.datasets.train.gt_size // SCALE
    batch = torch.rand(psnr.datasets.train.batch_size_per_gpu, 3, side, side)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        net(batch).mean().backward()
        seconds.append(time.perf_counter() - start)
    return min(seconds) * FORWARD_BACKWARD_PASSES


def compare(output: Path, stages: dict[str, TrainConfig], console: Console) -> Path:
    """Measure bicubic, the trained generators and the shipped model on the held-out photographs; write the page."""
    pairs = MeasuredPairs(PairedDataset(dataroot_gt=str(ASSETS / "photos" / "heldout")), "held-out photographs", SCALE)
    autoencoder = load_autoencoder(stages["Auto-encoder"].final_model)
    available = [name for name in ("lpips", "dists") if has_pretrained(*METRICS[name].weights)]
    options = {name: MetricOptions() for name in ("psnr", "ssim", "lrpsnr", "aepsnr", *available)}
    device = torch.device("cpu")
    files = {name: stages[name].final_model for name in ("PSNR net", "Pixel-loss GAN", "AESOP GAN")}
    files[SHIPPED] = shipped_model()
    methods = [bicubic(SCALE)]
    for name, file in files.items():
        methods.append(Method(name, partial(predict, load_network(file)[0], scale=SCALE, device=device), str(file)))
    results = measure_methods(
        methods, pairs, make_metrics(options, SCALE, device, autoencoder), views=len(pairs), view_side=LARGEST_SIDE
    )
    console.print(summary_table(results.means, options))
    missing = [METRICS[name].label for name in ("lpips", "dists") if name not in options]
    if missing:
        console.print(
            f"{' and '.join(missing)} skipped: their weights are not on this machine (see AESOP_WEIGHTS in the README)."
        )
    return write_page(output / "index.html", stages, results, autoencoder, options)


def write_page(
    file: Path,
    stages: dict[str, TrainConfig],
    results: SetResults,
    autoencoder: nn.Module,
    options: dict[str, MetricOptions],
) -> Path:
    page = Page("AESOP in a few minutes", "Super-resolution x4 with small networks, trained on this machine just now")
    page.section("What happened")
    page.text(
        "First a PSNR net was trained with a pixel loss, then an auto-encoder, which maps an image to what can be known of "
        "it from its low-resolution version. Two GANs started from the PSNR net. They differ in one loss: one compares SR "
        "with the original pixel by pixel, the other (AESOP) compares both after the auto-encoder.\n\n"
        f"{len(list((ASSETS / 'photos' / 'train').iterdir()))} photographs were used for training; the {results.count} here "
        "were held out. The networks are tiny, trained for minutes and without a perceptual loss: they show that the method "
        "runs. The shipped model shows what an hour of training with a perceptual loss adds; it is the generator that aesop "
        "upscale uses by default, and was trained on other photographs."
    )
    page.section("Results")
    add_table(
        page,
        results,
        metric_columns(options),
        "Means over the held-out photographs. PSNR and SSIM: on luma, without a border of 4 pixels. LR-PSNR: consistency "
        "with the low-resolution image. AE-PSNR: agreement after the auto-encoder, which AESOP optimises.",
    )
    page.section("Comparison")
    page.text("The crops below each photograph show the place where bicubic loses most.")
    add_views(page, results.views)
    page.section("Inside the AESOP loss")
    page.gallery(
        autoencoder_view(results.views[0].images["HR"], results.views[0].images["AESOP GAN"], autoencoder),
        caption="Differences are amplified 4 times. SR differs from HR mostly in texture that nobody could know; what "
        "remains after the auto-encoder is what the AESOP loss punishes.",
    )
    page.section("Training")
    page.charts(
        [
            Chart(title, read_losses(config.run_folder / "scalars.jsonl"), "iteration", "loss", log_y=True)
            for title, config in stages.items()
        ]
    )
    page.section("Configuration")
    page.folded({title: config.to_yaml() for title, config in stages.items()})
    page.section("Photographs")
    page.facts(credits())
    return page.write(file)


def autoencoder_view(hr: Image, sr: Image, autoencoder: nn.Module) -> list[Figure]:
    """SR and HR before and after the auto-encoder, and their differences; images are uint8 (H, W, 3)."""
    with torch.inference_mode():
        ae_sr, ae_hr = (to_array(autoencoder(to_tensor(image)[None])[0]) for image in (sr, hr))

    def difference(a: Image, b: Image) -> Image:
        return np.minimum(np.abs(a.astype(np.int16) - b) * 4, 255).astype(np.uint8)

    images = {
        "SR": sr, "HR": hr, "|SR - HR|": difference(sr, hr),
        "AE(SR)": ae_sr, "AE(HR)": ae_hr, "|AE(SR) - AE(HR)|": difference(ae_sr, ae_hr),
    }  # fmt: skip
    return [Figure(image, label) for label, image in images.items()]


def read_losses(file: Path) -> dict[str, list[tuple[float, float]]]:
    """(iteration, value) of every loss in a run's scalars.jsonl."""
    losses: dict[str, list[tuple[float, float]]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        for name, value in values.items():
            if name.startswith("l_"):
                losses.setdefault(name, []).append((values["iter"], value))
    return losses


def credits() -> dict[str, str]:
    """Title, author, source and licence of each photograph, from the table in CREDITS.md."""
    lines = (ASSETS / "photos" / "CREDITS.md").read_text(encoding="utf-8").splitlines()
    rows = [re.sub(r"[`\[\]]", "", line).split("|")[1:6] for line in lines if line.startswith("| `")]
    return {file.strip(): ", ".join(cell.strip() for cell in cells) for file, *cells in rows}
