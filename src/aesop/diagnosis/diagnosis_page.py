"""The page of `aesop diagnose`: the verdict, curves of the readings, and validation images over the iterations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from aesop.diagnosis.run_record import PREFIX, RunRecord
from aesop.diagnosis.verdict import Verdict
from aesop.system.wording import within_a_sentence
from aesop.web.page import Chart, Figure, Page

SHOWN_IMAGES, SHOWN_ITERATIONS, CROP = 4, 6, 128
Series = Mapping[str, Sequence[tuple[float, float]]]


def write_diagnosis_page(run: RunRecord, verdict: Verdict, path: Path) -> Path:
    """Write the self-contained page; returns its path."""
    subtitle = f"Stage {verdict.stage}, iteration {verdict.iteration} of {verdict.total}"
    page = Page(f"{verdict.run}: {within_a_sentence(verdict.headline)}", subtitle)
    page.section("Verdict")
    if not verdict.findings:
        page.text(f"{verdict.headline}. None of the known causes was found in the readings.")
    for number, finding in enumerate(verdict.findings, 1):
        page.text(f"{number}. {finding.title}")
        page.facts({"Evidence": f"{finding.evidence} ({finding.past})", "Change": finding.change})
    if verdict.notes:
        page.facts({f"Note {number}": note for number, note in enumerate(verdict.notes, 1)})
    if charts := _charts(run):
        page.section("Curves")
        page.charts(charts)
    if strips := _strips(run.folder / "visualization"):
        page.section("Images")
        page.text("The middle of validation images over the iterations.")
        for name, figures in strips.items():
            page.gallery(figures, name)
    page.section("Configuration")
    page.folded({"Options": run.config.to_yaml()})
    return page.write(path)


def _charts(run: RunRecord) -> list[Chart]:
    def series(keep: Callable[[str], bool], strip: str = "") -> Series:
        chosen = {name: points for name, points in run.values.items() if keep(name)}
        return {k.removeprefix(strip): list(zip(*map(np.ndarray.tolist, v), strict=True)) for k, v in chosen.items()}

    def readings(*names: str) -> Series:
        return series(lambda name: name.removeprefix(PREFIX) in names and name.startswith(PREFIX), PREFIX)

    charts = [
        ("Losses", series(lambda name: name.startswith("l_")), "loss", True),
        ("Gradients in the weights", series(lambda k: k.startswith("read/weights/"), "read/weights/"), "norm", True),
        ("Gradients at SR", series(lambda k: k.startswith("read/sr/"), "read/sr/"), "norm", True),
        ("Losses with and against each other", series(lambda k: k.startswith("read/weights_cos/"), "read/weights_cos/"),
         "cosine in the weights", False),
        ("Discriminator", readings("d/accuracy", "d/saturation", "d/loss"), "share", False),
        ("Gap of the logits", readings("d/gap"), "real - fake", False),
        ("Movement of weights", readings("update/g", "update/d", "ema/distance"), "relative to the weights", True),
        ("PSNR on training images", readings("psnr", "ema/psnr", "ae/psnr"), "dB", False),
        ("The error's split", readings("se", "ve", "cross", "mse"), "squared error", False),
        ("Detail", readings("detail", "ema/detail"), "share", False),
        ("Checkerboard", readings("checkerboard"), "contrast", False),
        ("Colour", readings("colour/r", "colour/g", "colour/b"), "SR - HR", False),
        ("Auto-encoder", readings("ae/colour"), "share of a colour kept", False),
        ("Bottleneck and LR image", readings("ae/lr_equal", "ae/lr_fit"), "share of variance", False),
    ]  # fmt: skip
    return [Chart(title, lines, "iteration", label, log) for title, lines, label, log in charts if lines]


def _strips(folder: Path) -> dict[str, list[Figure]]:
    """The middle of a few validation images at a few iterations, by image."""
    iterations = sorted((p for p in folder.glob("*") if p.is_dir() and p.name.isdigit()), key=lambda p: int(p.name))
    if not iterations:
        return {}
    places = np.unique(np.linspace(0, len(iterations) - 1, SHOWN_ITERATIONS).round().astype(int))
    shown = [iterations[place] for place in places]
    names = sorted(str(file.relative_to(shown[-1])) for file in shown[-1].rglob("*.png"))[:SHOWN_IMAGES]
    strips = {}
    for name in names:
        figures = []
        for each in shown:
            image = cv2.imread(str(each / name)) if (each / name).is_file() else None
            if image is not None:
                figures.append(Figure(_middle(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), f"iteration {int(each.name)}"))
        if figures:
            strips[name] = figures
    return strips


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = ((max(0, side - CROP)) // 2 for side in image.shape[:2])
    return image[top : top + CROP, left : left + CROP].copy()
