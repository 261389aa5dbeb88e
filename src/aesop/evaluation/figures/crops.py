"""The figure of most papers on super-resolution: the whole image, and one part of it as each method renders it.

Lengths are in pixels of the PNG file, so that crops lie on its grid. Their pixels are squares, however large they are shown.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch

from aesop.evaluation.combine import read_results
from aesop.evaluation.figures.drawing import CM, FONT_SIZE, module, new_figure
from aesop.evaluation.figures.spec import CropsSpec
from aesop.evaluation.image_views import Image, Window, most_disputed_window
from aesop.evaluation.measure import measuring
from aesop.evaluation.pairing import HRNames
from aesop.evaluation.result_files import described
from aesop.evaluation.results import Metric, Results
from aesop.evaluation.shown_values import shown_values
from aesop.images.errors import ImageError
from aesop.images.listing import IMAGE_EXTENSIONS, list_images
from aesop.images.read import ImageFile
from aesop.metrics.build import make_metrics
from aesop.options.validation import MetricOptions

HR = "HR"
MOST_CUT = 16  # HR may have fewer pixels more than SR, which remain of a side that the scale does not divide
GAP = 0.1  # cm between crops
LINE = 1.3 * FONT_SIZE / 72 / CM  # cm, of a caption


@dataclass(frozen=True)
class Crop:
    """A method's pixels in the region, and its values for the whole image, as shown: (text, whether it is the best)."""

    label: str
    image: Image
    values: Sequence[tuple[str, bool]] = ()


@dataclass(frozen=True)
class Block:
    """What is shown of one image. `heading`: the names of the values, below HR."""

    name: str
    whole: Image
    region: Window
    crops: Sequence[Crop]
    heading: str = ""


Values = Mapping[str, Mapping[str, float]]
"""Method -> metric -> value, of one image."""
ValuesOf = Callable[[str, Image, Mapping[str, Image]], Values]
"""Receives an image's name, HR, and the images of methods."""


def blocks(spec: CropsSpec) -> list[Block]:
    """Read, choose, and measure what the figure shows. Errors name the key of the YAML file."""
    results = read_results(Path(spec.results).expanduser()) if spec.results else None
    metrics, values_of = _recorded(spec, results) if results else _measured(spec)
    return [_block(spec, _stem(name), region, metrics, values_of) for name, region in spec.images.items()]


def _block(spec: CropsSpec, name: str, region: Window | None, metrics: Mapping[str, Metric], values_of: ValuesOf) -> Block:
    hr = _read(spec.hr, name, "hr")
    given = {method: _read(place, name, f"methods.{method}") for method, place in spec.methods.items()}
    hr = _cut(hr, given.values())
    reduced = {method: _reduction(image, hr, f"methods.{method}") for method, image in given.items()}
    images = {method: image.repeat(reduced[method], 0).repeat(reduced[method], 1) for method, image in given.items()}
    finished = {method: image for method, image in images.items() if reduced[method] == 1}
    if region is None:
        disputed = [*finished.values(), *([hr] if len(finished) < 2 else [])]
        region = most_disputed_window(disputed, spec.size[1], spec.size[0])
    height, width = hr.shape[:2]
    if region.left + region.width > width or region.top + region.height > height:
        given_as = f"[{region.left}, {region.top}, {region.width}, {region.height}]"
        raise ValueError(f"images.{name}: {given_as} reaches beyond the image, which has {width}x{height} pixels")
    values = shown_values(metrics, values_of(name, hr, finished))
    crops = [Crop(HR, region.of(hr))]
    crops += [Crop(spec.label(method), region.of(image), values.get(method, ())) for method, image in images.items()]
    heading = " / ".join(f"{metric.label} {'↑' if metric.best == 'max' else '↓'}" for metric in metrics.values())
    return Block(spec.label(name), hr, region, crops, heading)


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in IMAGE_EXTENSIONS else name


def _read(place: str, name: str, key: str) -> Image:
    """The image called `name`, with or without a suffix such as _x4, in a folder; or the image that `place` is."""
    path = Path(place).expanduser()
    if path.is_file() and path.suffix.lower() in IMAGE_EXTENSIONS:
        return ImageFile.at(path).read_uint8()
    try:
        images = list_images(path)
    except ImageError as error:
        raise ImageError(f"{key}: {error}") from error
    names = HRNames([name])
    found = [image for image in images if name in (image.stem, PurePosixPath(image.stem).name)]
    found = found or [image for image in images if names.find(image) == name]
    if len(found) != 1:
        several = f"{len(found)} images are called {name}: {', '.join(map(str, found[:3]))}" if found else f"no image {name}"
        raise ImageError(f"{key}: {several} in {path}")
    return found[0].read_uint8()


def _cut(hr: Image, others: Any) -> Image:
    """HR without the pixels that no result has, since the scale does not divide its sides."""
    for other in others:
        height, width = other.shape[:2]
        if 0 <= hr.shape[0] - height < MOST_CUT and 0 <= hr.shape[1] - width < MOST_CUT:
            hr = hr[:height, :width]
    return hr


def _reduction(image: Image, hr: Image, key: str) -> int:
    """How many times smaller than HR an image is: 1, or the scale for LR."""
    (height, width), (hr_height, hr_width) = image.shape[:2], hr.shape[:2]
    factor = max(1, hr_height // height)
    if (height * factor, width * factor) != (hr_height, hr_width):
        raise ImageError(f"{key}: its image has {width}x{height} pixels, HR {hr_width}x{hr_height}: not the same picture?")
    return factor


def _measured(spec: CropsSpec) -> tuple[Mapping[str, Metric], ValuesOf]:
    """The metrics that stand below the crops, and a function that measures them by the usual protocol."""
    if unable := [metric for metric in spec.metrics if metric in ("lrpsnr", "aepsnr")]:
        raise ValueError(f"metrics: {unable[0]} needs LR or an auto-encoder; take it from results")
    options = {metric: MetricOptions() for metric in spec.metrics}
    try:
        # None of them depends on the scale.
        measure = measuring(make_metrics(options, scale=4, device=torch.device("cpu")), torch.device("cpu"))
    except ValueError as error:
        raise ValueError(str(error).replace("val.metrics", "metrics")) from error

    def values_of(name: str, hr: Image, images: Mapping[str, Image]) -> Values:
        return {method: measure(image, hr) for method, image in images.items()}

    return described(options), values_of


def _recorded(spec: CropsSpec, results: Results) -> tuple[Mapping[str, Metric], ValuesOf]:
    """The metrics that stand below the crops, and a function that takes their values from the results."""
    if unknown := [metric for metric in spec.metrics if metric not in results.metrics]:
        raise ValueError(f"metrics: {spec.results} holds no {unknown[0]}, but {', '.join(results.metrics)}")

    def of_method(name: str, method: str) -> Mapping[str, float]:
        record = next((each.values for each in results.methods if each.name == method), None)
        if record is None:
            known = ", ".join(each.name for each in results.methods)
            raise ValueError(
                f"methods: {spec.results} holds no {method}, but {known}; call it so, and rename it with labels"
            )
        sets = [each for each, images in record.items() if name in images and spec.set in (None, each)]
        if len(sets) != 1:
            found = f"several sets have an image {name} ({', '.join(sets)}): choose one" if sets else f"no values of {name}"
            raise ValueError(f"set: {spec.results}, {method}: {found}")
        return record[sets[0]][name]

    def values_of(name: str, hr: Image, images: Mapping[str, Image]) -> Values:
        return {method: of_method(name, method) for method in images} if spec.metrics else {}

    return {metric: results.metrics[metric] for metric in spec.metrics}, values_of


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels: of a crop, a caption, the gaps, the whole image (0 wide: not shown), and the block's columns."""

    crop: tuple[int, int]  # width, height
    whole: tuple[int, int]
    caption: int
    gap: int
    columns: int
    rows: int

    @property
    def height(self) -> int:
        return self.rows * (self.crop[1] + self.caption) + (self.rows - 1) * self.gap


def _layout(spec: CropsSpec, block: Block, total: int) -> _Layout:
    """Crops as wide as the figure allows. The whole image is as high as their rows, and its lower edge is theirs."""
    count = len(block.crops)
    columns = min(spec.columns or (count if count <= 4 else math.ceil(count / 2)), count)
    rows = math.ceil(count / columns)
    pixels_per_cm = CM * spec.dpi
    gap, caption = round(GAP * pixels_per_cm), round((2 if block.heading else 1) * LINE * pixels_per_cm)
    ratio = block.region.height / block.region.width
    if not spec.whole:
        width = (total - (columns - 1) * gap) // columns
        return _Layout((width, round(width * ratio)), (0, 0), caption, gap, columns, rows)
    aspect = block.whole.shape[1] / block.whole.shape[0]
    between = (rows - 1) * (caption + gap)
    width = int((total - columns * gap - aspect * between) / (aspect * rows * ratio + columns))
    if width < pixels_per_cm / 2:
        raise ValueError(f"images.{block.name}: crops would be less than 0.5 cm wide; give fewer columns, or whole: false")
    height = round(width * ratio)
    whole = rows * height + between
    return _Layout(
        (width, height), (min(round(aspect * whole), total - columns * (width + gap)), whole), caption, gap, columns, rows
    )


def draw(spec: CropsSpec, blocks: Sequence[Block], is_pixels: bool) -> Any:
    """The figure, for a file of pixels or for one that is scaled; call it inside `drawing.style`."""
    total = round(spec.width * CM * spec.dpi)
    layouts = [_layout(spec, block, total) for block in blocks]
    between = round(0.25 * CM * spec.dpi)
    height = sum(layout.height for layout in layouts) + between * (len(blocks) - 1)
    figure = new_figure(total / spec.dpi / CM, height / spec.dpi / CM, spec.dpi)
    canvas = _Canvas(figure, total, height)
    top = 0
    for block, layout in zip(blocks, layouts, strict=True):
        _draw_block(canvas, spec, block, layout, top, is_pixels)
        top += layout.height + between
    return figure


def _draw_block(canvas: "_Canvas", spec: CropsSpec, block: Block, layout: _Layout, top: int, is_pixels: bool) -> None:
    (width, height), line = layout.crop, layout.caption // (2 if block.heading else 1)
    left = canvas.width - layout.columns * width - (layout.columns - 1) * layout.gap
    if spec.whole:
        axes = canvas.image(_resized(block.whole, layout.whole), (0, top, *layout.whole))
        _mark(axes, block, layout.whole, spec.colour)
        canvas.text([(block.name, False)], layout.whole[0] / 2, top + layout.whole[1] + line / 2, layout.whole[0])
    for index, crop in enumerate(block.crops):
        row, column = divmod(index, layout.columns)
        x, y = left + column * (width + layout.gap), top + row * (height + layout.caption + layout.gap)
        canvas.image(enlarged(crop.image, (width, height), is_pixels), (x, y, width, height))
        canvas.text([(crop.label, False)], x + width / 2, y + height + line / 2, width)
        values = [(block.heading, False)] if crop.label == HR and index == 0 else _joined(crop.values)
        if values and block.heading:
            canvas.text(values, x + width / 2, y + height + 1.5 * line, width)


def _joined(values: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """With slashes between them."""
    return [part for value in values for part in ((" / ", False), value)][1:]


def enlarged(image: Image, size: tuple[int, int], is_pixels: bool) -> Image:
    """The image in `size` (width, height), or a little larger for a scaled file; its pixels become blocks of equal ones."""
    height, width = image.shape[:2]
    if not is_pixels:  # all blocks are equal then, however far a reader enlarges the page
        factor = max(1, math.ceil(size[0] / width))
        return image.repeat(factor, 0).repeat(factor, 1)
    rows, columns = ((np.arange(shown) * 2 + 1) * own // (2 * shown) for shown, own in ((size[1], height), (size[0], width)))
    return image[rows][:, columns]


def _resized(image: Image, size: tuple[int, int]) -> Image:
    shrinks = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _mark(axes: Any, block: Block, size: tuple[int, int], colour: str) -> None:
    """A rectangle around the region, with a white edge that shows on any ground."""
    rectangle = module("patches").Rectangle
    zoom = size[0] / block.whole.shape[1], size[1] / block.whole.shape[0]
    region = block.region
    corner = (region.left * zoom[0] - 0.5, region.top * zoom[1] - 0.5)
    for width, shade in ((2.0, "white"), (1.0, colour)):
        axes.add_patch(
            rectangle(corner, region.width * zoom[0], region.height * zoom[1], fill=False, edgecolor=shade, linewidth=width)
        )


class _Canvas:
    """A figure on which images and texts are placed by pixels from the top left."""

    def __init__(self, figure: Any, width: int, height: int) -> None:
        self.figure, self.width, self.height = figure, width, height

    def image(self, image: Image, place: tuple[int, int, int, int]) -> Any:
        """Show an image at `place` (left, top, width, height), without smoothing."""
        left, top, width, height = place
        bottom = self.height - top - height
        axes = self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))
        axes.axis("off")
        axes.imshow(image, interpolation="none", aspect="auto")
        return axes

    def text(self, parts: Sequence[tuple[str, bool]], x: float, y: float, room: float) -> None:
        """Write (text, bold) parts in one line around (x, y), smaller if the line is wider than `room`."""
        size = FONT_SIZE
        widths = self._widths(parts, size)
        if sum(widths) > room:
            size *= room / sum(widths)
            widths = self._widths(parts, size)
        at = x - sum(widths) / 2
        for (text, bold), width in zip(parts, widths, strict=True):
            weight = "bold" if bold else "normal"
            self.figure.text(
                at / self.width, 1 - y / self.height, text, va="center_baseline", fontsize=size, fontweight=weight
            )
            at += width

    def _widths(self, parts: Sequence[tuple[str, bool]], size: float) -> list[float]:
        """In pixels."""
        renderer = self.figure.canvas.get_renderer()
        widths = []
        for text, bold in parts:
            artist = self.figure.text(0, 0, text, fontsize=size, fontweight="bold" if bold else "normal")
            widths.append(artist.get_window_extent(renderer).width)
            artist.remove()
        return widths
