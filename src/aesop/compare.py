"""What `aesop test` measures beside the tested network, and the page that shows images of several methods side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
import torch

from aesop.config import AutoEncoderOptions, Config
from aesop.data.resize import imresize, mod_crop
from aesop.inference import upscale_image
from aesop.report import Image, Page
from aesop.weights import load_generator, naming

# (LR image, HR image or None) -> SR image, all uint8 (H, W, 3).
Answer = Callable[[np.ndarray, np.ndarray | None], np.ndarray]

Best = Literal["max", "min"]

BICUBIC = "Bicubic"
# What the page calls the images that are no method's; a weight file of such a name gets another.
_TAKEN = ("LR", "Input", BICUBIC, "HR")


# --- methods -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One row of the comparison; `weights` is its file as given, None for bicubic."""

    name: str
    answer: Answer
    weights: str | None = None
    tested: bool = False

    def place(self, section: str) -> str:
        """What its table and its folder of images are called; the tested network's bear the section's name alone."""
        return section if self.tested else f"{section}_{self.name}"


def load_methods(config: Config, tested: Answer, device: torch.device) -> list[Method]:
    """Bicubic and the models of `path.compare_with`, where they are asked for; the tested network last.

    Raises:
        ValueError: naming the option and the file that is no generator or has another scale.
    """
    given = config.path.compare_with or []
    others = [given] if isinstance(given, str) else given
    is_generator = not isinstance(config.network_g, AutoEncoderOptions)
    if others and not is_generator:
        raise ValueError("path.compare_with: network_g is an auto-encoder, which sees HR; only generators are compared")
    assert config.path.pretrain_network_g is not None
    name, *names = method_names([config.path.pretrain_network_g, *others])
    methods = [Method(name, tested, config.path.pretrain_network_g, tested=True)]
    if is_generator and (others or config.val.page):
        models = [Method(n, _load_model(file, config, device), file) for n, file in zip(names, others, strict=True)]
        methods = [Method(BICUBIC, lambda lq, _: imresize(lq, config.scale)), *models, *methods]
    return methods


def _load_model(file: str, config: Config, device: torch.device) -> Answer:
    with naming("path.compare_with"):
        model, info = load_generator(Path(file).expanduser())
    if info.scale != config.scale:
        raise ValueError(
            f"path.compare_with: {file} enlarges {info.scale} times and the tested network {config.scale} times: "
            "only models of one scale can be compared"
        )
    model.requires_grad_(False).to(device)
    return lambda lq, _: upscale_image(
        model, lq, config.scale, tile=config.val.tile, device=device, precision=config.precision
    )


def method_names(files: Sequence[str]) -> list[str]:
    """One name per weight file: its stem. Before equal stems stands the nearest folder that tells them apart, else a
    number behind; they differ in more than case, since files are named by them."""
    paths = [Path(file).expanduser().absolute() for file in files]
    names: list[str] = []
    for index, path in enumerate(paths):
        namesakes = [p for k, p in enumerate(paths) if k != index and p.stem.casefold() == path.stem.casefold()]
        folders = zip(path.parents, *(other.parents for other in namesakes), strict=False)
        apart = (own.name for own, *theirs in folders if own.name not in {"", *(folder.name for folder in theirs)})
        folder = next(apart, None) if namesakes else None
        name = first = f"{folder}-{path.stem}" if folder else path.stem
        number = 2
        while name.casefold() in {taken.casefold() for taken in (*_TAKEN, *names)}:
            name, number = f"{first}-{number}", number + 1
        names.append(name)
    return names


def check_places(sections: Sequence[str], methods: Sequence[Method]) -> None:
    """Raise ValueError when another method's results would be called as some others are."""
    places = [method.place(section).casefold() for section in sections for method in methods]
    if len(methods) > 1 and (twice := [place for place in places if places.count(place) > 1]):
        raise ValueError(
            f"path.compare_with: two results would be called {twice[0]}, after the set and the weight file: rename the "
            "section below datasets, or the file"
        )


# --- views -------------------------------------------------------------------------------------------------------------

CROP = 48  # side of the crops in HR pixels: a multiple of every scale
# Of the images on a page, of a side of one, of the sliders in all: beyond that browsers become slow.
MOST_IMAGES, LARGEST_SIDE, MOST_PIXELS = 24, 1200, 40_000_000


@dataclass(frozen=True)
class Part:
    """A rectangle of an image, in HR pixels on the grid of LR pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Image, reduced: int = 1) -> Image:
        """The rectangle's pixels, copied, of an image (H, W, 3) that is so many times smaller than HR."""
        top, left, height, width = (value // reduced for value in (self.top, self.left, self.height, self.width))
        return image[top : top + height, left : left + width].copy()

    def grown(self, side: int, whole: tuple[int, int], grid: int) -> "Part":
        """At most side x side pixels around it, inside an image of `whole` (height, width); all multiples of `grid`."""
        height, width = (min(side, length) for length in whole)
        top = min(max(self.top + (self.height - height) // 2, 0), whole[0] - height) // grid * grid
        left = min(max(self.left + (self.width - width) // 2, 0), whole[1] - width) // grid * grid
        return Part(top, left, height, width)


def most_different_window(a: Image, b: Image, side: int, grid: int) -> Part:
    """The window in which two images (H, W, 3) differ most, half a window off the border where they are large enough.

    Args:
        side: of the window, less where the images are smaller.
        grid: the window begins at multiples of it; `side` and the images' sides are multiples, too.
    """
    difference = (a.astype(np.float32) - b).mean(2) ** 2
    height, width = (length // grid for length in difference.shape)
    cells = difference.reshape(height, grid, width, grid).sum((1, 3))
    rows, columns = min(side // grid, height), min(side // grid, width)
    upto = cv2.integral(cells)  # [y, x]: the sum of all cells above and left of y, x
    sums = upto[rows:, columns:] - upto[:-rows, columns:] - upto[rows:, :-columns] + upto[:-rows, :-columns]
    above, before = (min(n // 2, (places - 1) // 2) for n, places in zip((rows, columns), sums.shape, strict=True))
    inner = sums[above : sums.shape[0] - above, before : sums.shape[1] - before]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return Part((above + int(row)) * grid, (before + int(column)) * grid, rows * grid, columns * grid)


@dataclass
class View:
    """One image on a page, by method: a large part of it for the slider, and its most telling window."""

    name: str
    size: tuple[int, int]
    """(height, width) of the whole image in HR pixels."""
    part: Part
    window: Part
    images: dict[str, Image] = field(default_factory=dict)
    crops: dict[str, Image] = field(default_factory=dict)

    @classmethod
    def of(cls, sample: Mapping[str, Any], answers: Mapping[str, Image], scale: int, side: int, crop: int = CROP) -> Self:
        """LR, the methods' answers and HR, where there is one, around the place where bicubic loses most; without HR where
        it differs most from the last answer. Only copies of the parts are kept.

        Args:
            sample: {name, lq, gt} of MeasuredPairs.
            answers: SR by method in the page's order, the tested network last.
            side, crop: largest sides of the part and the window in HR pixels, multiples of `scale`.
        """
        lq, gt, answer = sample["lq"], sample["gt"], list(answers.values())[-1]
        size = answer.shape[:2]
        if size == (lq.shape[0] * scale, lq.shape[1] * scale):
            label, reduced, start = "LR", scale, imresize(lq, scale)
        else:  # an auto-encoder was given the image itself
            label, reduced, start = "Input", 1, mod_crop(lq, scale)
            lq = start
        window = most_different_window(start, answer if gt is None else gt, crop, scale)
        view = cls(sample["name"], size, window.grown(side, size, scale), window)
        view._add(label, lq, reduced)
        for method, image in answers.items():
            view._add(method, image)
        if gt is not None:
            view._add("HR", gt)
        return view

    def _add(self, label: str, image: Image, reduced: int = 1) -> None:
        self.crops[label] = self.window.of(image, reduced)
        self.images[label] = self.part.of(image, reduced).repeat(reduced, 0).repeat(reduced, 1)

    @property
    def caption(self) -> str:
        if (self.part.height, self.part.width) == self.size:
            return self.name
        return f"{self.name}: {self.part.width}x{self.part.height} of {self.size[1]}x{self.size[0]} pixels, around the crop"


# --- the page ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetSummary:
    """A test set of `count` images: mean figures by method and metric, and what the page shows of its first images."""

    name: str
    count: int
    means: Mapping[str, Mapping[str, float]]
    views: Sequence[View]


def plan_page(counts: Mapping[str, int], methods: int, scale: int) -> tuple[dict[str, int], int]:
    """How many images of each set of so many a page shows, and the largest side of what is shown of one (see View.of).

    All sets get equally many, MOST_IMAGES in all, but one at least.
    """
    quotas = range(MOST_IMAGES, 0, -1)
    quota = next((q for q in quotas if sum(min(q, count) for count in counts.values()) <= MOST_IMAGES), 1)
    shown = {section: min(quota, count) for section, count in counts.items()}
    pixels = MOST_PIXELS // (sum(shown.values()) * (methods + 2))  # LR and HR are shown, too
    return shown, max(CROP, min(LARGEST_SIDE, isqrt(pixels)) // scale * scale)


def write_page(
    config: Config, methods: Sequence[Method], sets: Sequence[SetSummary], columns: Mapping[str, tuple[str, Best]]
) -> Path:
    """Write `<results>/page.html`: tables, and for each image a slider and crops. Returns its path.

    Args:
        methods: in the order of the page, the tested network last.
        columns: metric -> its label, and which figure is the best.
    """
    page = Page(config.name, f"{methods[-1].name}, x{config.scale}, on {', '.join(each.name for each in sets)}")
    heading = "Figures"
    for each in sets:
        metrics = [metric for metric in columns if metric in each.means[methods[-1].name]]
        if metrics:
            page.table(
                heading,
                [each.name, *(columns[metric][0] for metric in metrics)],
                [[method.name, *(each.means[method.name][metric] for metric in metrics)] for method in methods],
                best=dict(columns[metric] for metric in metrics),
                caption=f"Means over all images of the set ({each.count}).",
            )
            heading = ""
    page.text("Methods", "\n\n".join(_origin(method) for method in methods))
    for each in sets:
        page.text(each.name, _introduction(each, config, methods[-1].name))
        for view in each.views:
            first, *others = (label for label in view.images if label != "HR")
            start = (BICUBIC if BICUBIC in others else first, others[-1])
            page.slider("", view.name, view.images, start=start, caption=view.caption)
            page.crops("", [view.crops])
    page.config("Configuration", config.to_yaml())
    return page.write(config.results_folder / "page.html")


def _origin(method: Method) -> str:
    tested = " (the tested network)" if method.tested else ""
    return f"{method.name}{tested}: {method.weights or 'interpolation as MATLAB does it'}"


def _introduction(each: SetSummary, config: Config, tested: str) -> str:
    some = f"Shown: {len(each.views)} of {each.count} images; {where_all_are(config)}. "
    if "HR" in each.views[0].images:
        place = "bicubic loses most of it"
    else:
        place = f"{tested} differs most from {'bicubic' if 'LR' in each.views[0].images else 'its input'}"
    return f"{some if len(each.views) < each.count else ''}Below each image, enlarged: where {place}."


def where_all_are(config: Config) -> str:
    """What to tell who misses images on the page."""
    saved = "all are" if config.val.save_img else "with val.save_img: true all are saved"
    return f"{saved} in the folder images beside the page"
