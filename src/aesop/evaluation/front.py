"""The perception-distortion front: the points of two metrics that no other point beats."""

import itertools
import math
from collections.abc import Sequence

from aesop.web.page import Best

Point = tuple[float, float]
Directions = tuple[Best, Best]
"""Whether large or small values are better, of both coordinates."""


def front(points: Sequence[Point], best: Directions) -> list[int]:
    """Indices, in the order of x, of the points that no other one equals or beats in both coordinates and beats in one.

    Points with NaN are not on it.
    """
    gains = [_gain(point, best) for point in points]

    def is_beaten(own: Point) -> bool:
        return any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in gains)

    unbeaten = (index for index, own in enumerate(gains) if not (math.isnan(sum(own)) or is_beaten(own)))
    return sorted(unbeaten, key=lambda index: points[index])


def staircase(points: Sequence[Point], best: Directions) -> list[Point]:
    """The corners of the line through the front: between two of its points lies what both of them beat or equal."""
    worse = [min if direction == "max" else max for direction in best]
    chosen = [points[index] for index in front(points, best)]
    line = chosen[:1]
    for before, after in itertools.pairwise(chosen):
        line += [(worse[0](before[0], after[0]), worse[1](before[1], after[1])), after]
    return line


def kept(points: Sequence[Point], best: Directions, budget: int) -> list[int]:
    """Indices, in their order, of at most `budget` (2 or more) points of the front, without repetitions of a point.

    Both ends stay. While there are too many, the point between the two neighbours that are closest to each other goes, by
    the distance along both axes in parts of the front's extent (the crowding distance of NSGA-II, Deb et al. 2002, III-B);
    of equally crowded points the last one.
    """
    first = {point: index for index, point in reversed(list(enumerate(points)))}
    chosen = [index for index in front(points, best) if first[points[index]] == index]
    extents = [abs(points[chosen[-1]][axis] - points[chosen[0]][axis]) or 1.0 for axis in (0, 1)] if chosen else []

    def room(place: int) -> float:
        before, after = points[chosen[place - 1]], points[chosen[place + 1]]
        return sum(abs(after[axis] - before[axis]) / extents[axis] for axis in (0, 1))

    while len(chosen) > budget:
        del chosen[min(range(1, len(chosen) - 1), key=lambda place: (room(place), -chosen[place]))]
    return sorted(chosen)


def knee(points: Sequence[Point], best: Directions) -> int:
    """Index of the front's point that is furthest beyond the straight line between its ends, in parts of its extent.

    Where no point is beyond that line, it is the end with the best y.
    """
    chosen = front(points, best)
    if not chosen:
        raise ValueError("no point has both values")
    ends = [_gain(points[index], best) for index in (chosen[0], chosen[-1])]
    low = [min(end[axis] for end in ends) for axis in (0, 1)]
    extent = [abs(ends[1][axis] - ends[0][axis]) or 1.0 for axis in (0, 1)]

    def beyond(index: int) -> tuple[float, float]:
        gain = _gain(points[index], best)
        # Rounded, so that points on the line are no knee.
        return round(sum((gain[axis] - low[axis]) / extent[axis] for axis in (0, 1)), 9), gain[1]

    return max(chosen, key=beyond)


def _gain(point: Point, best: Directions) -> Point:
    """The point with coordinates of which large values are better."""
    return (point[0] if best[0] == "max" else -point[0], point[1] if best[1] == "max" else -point[1])
