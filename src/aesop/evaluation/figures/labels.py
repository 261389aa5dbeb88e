"""Labels beside the points of a drawing that cover neither each other nor what is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aesop.evaluation.figures.drawing import FONT_SIZE

Place = tuple[float, float]
Segment = tuple[Place, Place]
Box = tuple[float, float, float, float]  # left, bottom, right, top in pixels


@dataclass(frozen=True)
class Label:
    text: str
    at: Place
    """Its point, in the coordinates of the drawing."""
    colour: str


def place_labels(figure: Any, axes: Any, labels: Sequence[Label], segments: Sequence[Segment]) -> None:
    """Write each label beside its point where it covers least; the points with the closest neighbours choose first.

    `segments` are lines of the drawing in its own coordinates, upright or level. The layout must be final.
    """
    pixel = figure.dpi / 72  # per point of print
    at: list[Place] = [(x, y) for x, y in axes.transData.transform([label.at for label in labels])]
    markers = [_box_around(*place, 3.2 * pixel, 3.2 * pixel) for place in at]
    lines = [_around_segment(*axes.transData.transform(segment), pixel) for segment in segments]
    view = axes.get_window_extent()
    inside = (view.x0, view.y0, view.x1, view.y1)
    placed: dict[int, Box] = {}

    def crowded(index: int) -> float:
        return min((math.dist(at[index], other) for k, other in enumerate(at) if k != index), default=math.inf)

    for index in sorted(range(len(labels)), key=crowded):
        label = labels[index]
        writing = {"fontsize": FONT_SIZE - 0.5, "color": label.colour, "zorder": 4}
        text = axes.annotate(label.text, label.at, **writing)
        extent = text.get_window_extent(figure.canvas.get_renderer())
        text.remove()
        half = (extent.width / 2 + pixel, extent.height / 2)  # labels side by side have a gap

        def cost(place: tuple[float, float, float], half: Place = half, own: int = index) -> float:
            x, y, distance = place
            box = _box_around(x, y, *half)
            area = 4 * half[0] * half[1]
            covered = sum(_overlap(box, other) for other in [*placed.values(), *markers])
            crossed = sum(_overlap(box, other) for other in lines)
            # A label that is closer to another point seems to be that one's.
            strange = sum(_distance(box, other) < distance for k, other in enumerate(at) if k != own)
            return (
                10 * (covered + area - _overlap(box, inside)) / area + 2 * crossed / area + strange + distance / (20 * pixel)
            )

        x, y, distance = min(_places(*at[index], half, pixel), key=cost)
        placed[index] = _box_around(x, y, *half)
        arrow = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2.5}
        axes.annotate(
            label.text,
            label.at,
            figure.transFigure.inverted().transform((x, y)),  # pixels are others in a PDF
            textcoords="figure fraction",
            ha="center",
            va="center",
            arrowprops=arrow if distance > 6 * pixel else None,
            **writing,
        )


def _places(x: float, y: float, half: Place, pixel: float) -> list[tuple[float, float, float]]:
    """Centres for a label around a point, with the distance of its edge, from near to far; beside the point comes first."""
    angles = [0, 180, 90, 270, *(angle + turn for turn in (45, 22.5, 67.5) for angle in (0, 90, 180, 270))]
    found = []
    for gap in (4.5, 6, 9, 13, 18, 24, 31):
        for order, angle in enumerate(angles):
            right, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # On the rectangle that a label's centre follows when it slides around the point.
            reach = 1 / max(abs(right), abs(up))
            distance = gap * pixel
            centre = (x + right * reach * half[0] + right * distance, y + up * reach * half[1] + up * distance)
            found.append((*centre, distance + 0.1 * order))
    return found


def _box_around(x: float, y: float, half_width: float, half_height: float) -> Box:
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def _around_segment(start: Sequence[float], end: Sequence[float], width: float) -> Box:
    (x0, x1), (y0, y1) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return (x0 - width / 2, y0 - width / 2, x1 + width / 2, y1 + width / 2)


def _overlap(a: Box, b: Box) -> float:
    """In square pixels."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _distance(box: Box, point: Place) -> float:
    """From a point to the nearest one of a box."""
    return math.hypot(max(box[0] - point[0], 0, point[0] - box[2]), max(box[1] - point[1], 0, point[1] - box[3]))
