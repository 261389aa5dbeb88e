"""Say how each page of docs/evidence is made, what that needs, and whether this machine has it.

python benchmarks/evidence.py        (`make evidence`)

Nothing is measured. Capitals in a command are yours to fill in.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aesop.weights.pretrained import has_pretrained

REPO = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Need:
    """What a script needs besides `make setup`."""

    text: str
    is_here: Callable[[], bool] | None = None
    """None: it is given on the command line, so nothing can be looked up."""


def _golden() -> bool:
    return Path(os.environ.get("AESOP_GOLDEN", REPO.parent / "shared" / "golden")).is_dir()


def _weights() -> bool:
    return has_pretrained("vgg16", "alexnet", "lpips_alex", "dists")


GOLDEN = Need("golden numbers of the published code (AESOP_GOLDEN)", _golden)
WEIGHTS = Need("weights of VGG16, AlexNet, LPIPS, and DISTS (AESOP_WEIGHTS)", _weights)
VGG16 = Need("weights of VGG16 (AESOP_WEIGHTS)", lambda: has_pretrained("vgg16"))
GPU = Need("a GPU", lambda: torch.cuda.is_available() or torch.backends.mps.is_available())
TEST_SET = Need("HR photographs of a test set (DATA)")
MODELS = Need("a folder of weight files (MODELS)")
CHECKOUTS = Need("checkouts of BasicSR, LDL, Real-ESRGAN")
PHOTOGRAPHS = Need(
    'pip install ".[reproduction]" and Debian\'s wallpaper packages', lambda: find_spec("skimage") is not None
)
EXPORT = Need('pip install ".[export]"', lambda: all(find_spec(name) for name in ("openvino", "ncnn", "pnnx")))
IQA = Need('pip install ".[iqa]"', lambda: find_spec("pyiqa") is not None)

SCRIPTS: dict[str, list[tuple[str, list[Need]]]] = {
    "bundled_models": [
        ("benchmarks/bundled_models.py --data DATA --compare MODELS/* --record bundled_models", [MODELS, TEST_SET, WEIGHTS]),
        ("benchmarks/model_choice.py --data DATA --record model_choice", [TEST_SET]),
    ],
    "checkpoints": [("benchmarks/checkpoint_table.py MODELS --output FILE", [MODELS])],
    "diagnosis": [("benchmarks/diagnosis_plants.py -o RUNS --photos DATA --record", [TEST_SET])],
    "evaluation": [
        ("-m aesop measure bicubic lanczos aesop_compact_x4 MODELS/* --hr DATA -o compared", [MODELS, TEST_SET, WEIGHTS])
    ],
    "export": [("benchmarks/export_table.py MODELS/* --output FILE --record", [MODELS, EXPORT])],
    "metrics": [("benchmarks/metric_parity.py --data DATA --weights WEIGHTS", [TEST_SET, WEIGHTS, IQA])],
    "parity": [("benchmarks/parity_table.py", [GOLDEN])],
    "performance": [
        ("benchmarks/gpu.py --record", [GPU]),
        ("benchmarks/training_step.py --record", []),
        ("benchmarks/ways.py --record", []),
        ("benchmarks/precision.py --record", []),
        ("benchmarks/roofline.py --record", []),
        ("benchmarks/step_memory.py --record", []),
        ("benchmarks/loader.py --record", []),
        ("benchmarks/readings_cost.py --record", [VGG16]),
        ("benchmarks/upscaling_speed.py --record", [EXPORT]),
        ("benchmarks/upscaling_memory.py --record", []),
        ("benchmarks/measure_cache.py --hr DATA --record", [TEST_SET]),
    ],
    "published_files": [
        ("benchmarks/option_files_table.py FILE BasicSR=FOLDER LDL=FOLDER Real-ESRGAN=FOLDER", [GOLDEN, CHECKOUTS])
    ],
    "realworld": [
        ("benchmarks/degradation_statistics.py", []),
        ("benchmarks/degradation.py --record", []),
        ("benchmarks/jpeg_simulation.py", []),
    ],
    "reference_figures": [
        ("benchmarks/reference_figures.py FIGURES.json --weights WEIGHTS --data DATA", [MODELS, TEST_SET, WEIGHTS])
    ],
    "reproduction": [
        ("reproduction/photographs.py -o datasets/lanes --more FOLDER", [PHOTOGRAPHS]),
        ("reproduction/lanes.py --queue reproduction/claim_queue.yml start", [VGG16]),
        ("reproduction/claim.py --test-data DATA --record", [TEST_SET, WEIGHTS]),
    ],
    "robustness": [("benchmarks/robustness.py --record", [])],
    "texture": [
        (
            "benchmarks/texture_sweep.py aesop_compact_x4 aesop_compact_x4_psnr --data DATA --record texture",
            [TEST_SET, WEIGHTS],
        ),
        ("benchmarks/hallucination_map.py --data DATA --record hallucination_map", [TEST_SET]),
        ("benchmarks/consistency.py --data DATA --record consistency", [TEST_SET, WEIGHTS]),
    ],
}
BY_HAND = {
    "peers": "read in the newest commits of five projects, which the page names",
    "redesign": "counted once, before and after the change of structure",
    "trainers": "public reports, tried by hand; its last column names the tests",
    "upscale_cases": "inputs of public reports, tried by hand; tests try others of each kind",
    "upscalers": "programs run and read by hand; the page names versions and commits",
}


def state(needs: list[Need]) -> str:
    missing = [escape(need.text) for need in needs if need.is_here is not None and not need.is_here()]
    given = [escape(need.text) for need in needs if need.is_here is None]
    if missing:
        return "[yellow]missing here:[/] " + "; ".join(missing)
    return "[green]can run here[/]" + (", with " + "; ".join(given) if given else "")


def main() -> None:
    table = Table("page", "python ...", "", title="docs/evidence: how each page is made")
    for page, scripts in sorted(SCRIPTS.items()):
        for number, (command, needs) in enumerate(scripts):
            table.add_row("" if number else page, command, state(needs))
        table.add_section()
    for page, how in BY_HAND.items():
        table.add_row(page, "", how)
    console = Console(width=None if sys.stdout.isatty() else 180)
    console.print(table)
    console.print("The first lines of a script say more; benchmarks/README.md says what it measures and where it records.")


if __name__ == "__main__":
    main()
