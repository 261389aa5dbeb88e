"""What all figures share: matplotlib, their style, and files that are the same every time.

matplotlib is used by its objects alone, so no window opens and no state stays. Fonts are embedded as TrueType, which
printers and publishers accept, and files hold no date.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from aesop.system.files import replacing

CM = 1 / 2.54  # inches
FONT_SIZE = 8.0  # points in print
COLOURS = ("#0072b2", "#c04a00", "#00785a", "#a8437f", "#7a5f00", "#5a6b7b", "#000000", "#6f3aa0")
"""Okabe and Ito's, which colour-blind readers can tell apart, darkened so that labels in them are legible on white."""
MARKERS = "osD^vPX*"
STYLE = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # the second has what the first lacks
    "mathtext.fontset": "stix",
    "font.size": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "pdf.fonttype": 42,
    "pdf.compression": 9,
}


def module(name: str) -> Any:
    """A module of matplotlib, which is an extra."""
    try:
        return import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise ValueError(f'figures are drawn with matplotlib ({error}): pip install "aesop-sr[figures]"') from error


@contextmanager
def style() -> Generator[None]:
    """Draw and save inside, whatever the user's matplotlibrc says."""
    context = module("style").context
    with context(["default", STYLE]):
        yield


def new_figure(width: float, height: float, dpi: int) -> Any:
    """An empty figure of a size in cm."""
    figure = module("figure").Figure(figsize=(width * CM, height * CM), dpi=dpi)
    module("backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def save(draw: Callable[[bool], Any], path: Path) -> None:
    """Write the figure that `draw` returns to a PDF or PNG file, of the figure's size and resolution.

    `draw` gets whether the file is one of pixels.
    """
    if path.suffix.lower() not in (".pdf", ".png"):
        raise ValueError(f"{path}: a figure is written as .pdf or .png")
    is_pixels = path.suffix.lower() == ".png"
    with style(), replacing(path) as temporary:
        undated = {"Software": None} if is_pixels else {"CreationDate": None}
        figure = draw(is_pixels)
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=figure.dpi, metadata=undated)
