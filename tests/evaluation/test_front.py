"""The front against brute force."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aesop.evaluation.front import front, kept, knee, staircase

DIRECTIONS = [*itertools.product(("max", "min"), repeat=2)]
points = st.lists(st.tuples(*[st.integers(0, 6).map(float)] * 2), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(points, st.sampled_from(DIRECTIONS))
def test_front_is_what_no_other_point_beats(points, best):
    def beats(a, b):
        gains = [x - y if direction == "max" else y - x for x, y, direction in zip(a, b, best, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    expected = {k for k, own in enumerate(points) if not any(beats(other, own) for other in points)}
    found = front(points, best)
    assert set(found) == expected
    assert [points[k][0] for k in found] == sorted(points[k][0] for k in found)


@settings(max_examples=60, deadline=None)
@given(points, st.sampled_from(DIRECTIONS))
def test_staircase_has_the_front_above_it_and_runs_along_the_axes(points, best):
    line = staircase(points, best)
    chosen = [points[k] for k in front(points, best)]
    assert set(chosen) <= set(line)
    for a, b in itertools.pairwise(line):
        assert a[0] == b[0] or a[1] == b[1]
    # Every corner is no better than the two points of the front beside it.
    for corner in set(line) - set(chosen):
        worse = [
            all(c <= p if direction == "max" else c >= p for c, p, direction in zip(corner, point, best, strict=True))
            for point in chosen
        ]
        assert sum(worse) >= 2


@settings(max_examples=60, deadline=None)
@given(points, st.sampled_from(DIRECTIONS), st.integers(2, 6))
def test_a_budget_keeps_both_ends_and_drops_the_most_crowded(points, best, budget):
    whole = kept(points, best, 100)
    assert [points[k] for k in sorted(whole)] == list(dict.fromkeys(points[k] for k in sorted(front(points, best))))
    found = kept(points, best, budget)
    assert found == sorted(set(found))
    assert set(found) <= set(whole)
    assert len(found) == min(budget, len(whole))
    assert {min(points[k] for k in whole), max(points[k] for k in whole)} == {
        min(points[k] for k in found),
        max(points[k] for k in found),
    }
    if len(whole) == budget + 1:  # one goes: of all that could, the one that leaves the smallest gap
        line = sorted(points[k] for k in whole)
        extent = [abs(line[-1][axis] - line[0][axis]) for axis in (0, 1)]

        def gap_without(point):
            left = [other for other in line if other != point]
            before, after = max(other for other in left if other < point), min(other for other in left if other > point)
            return sum(abs(after[axis] - before[axis]) / extent[axis] for axis in (0, 1))

        (gone,) = {points[k] for k in whole} - {points[k] for k in found}
        assert gap_without(gone) == pytest.approx(min(map(gap_without, line[1:-1])))


def test_of_equal_points_the_first_is_kept():
    assert kept([(1.0, 1.0), (1.0, 1.0), (2.0, 0.0)], ("max", "max"), 8) == [0, 2]


def test_points_that_are_no_number_are_not_on_the_front():
    points = [(math.nan, 0.1), (20.0, 0.3), (25.0, math.nan)]
    assert front(points, ("max", "min")) == kept(points, ("max", "min"), 8) == [1]


@settings(max_examples=60, deadline=None)
@given(points, st.sampled_from(DIRECTIONS))
def test_the_knee_is_the_point_furthest_from_the_line_between_the_ends(points, best):
    """The distance by the cross product, which is that of the plane with both extents scaled to 1."""
    line = sorted({points[k] for k in front(points, best)})
    (x0, y0), (x1, y1) = line[0], line[-1]
    chosen = points[knee(points, best)]
    assert chosen in line
    if len(line) < 3:
        return
    signs = [1 if direction == "max" else -1 for direction in best]

    def height(point):
        x, y = (point[0] - x0) / (x1 - x0), (point[1] - y0) / (y1 - y0)
        # On the better side of the diagonal: above it in gains.
        rising = signs[0] * (point[0] - x0) / abs(x1 - x0) + signs[1] * (point[1] - y0) / abs(y1 - y0)
        assert abs(rising) == pytest.approx(abs(x - y))
        return rising

    assert height(chosen) == pytest.approx(max(0.0, *map(height, line)))


def test_without_a_point_beyond_the_line_the_best_y_is_the_knee():
    assert knee([(1.0, 3.0), (1.5, 1.5), (3.0, 1.0)], ("max", "max")) == 0
    assert knee([(1.0, 3.0), (3.0, 1.0)], ("max", "max")) == 0
    assert knee([(1.0, 3.0)], ("max", "max")) == 0
    assert knee([(20.0, 0.3), (25.0, 0.5), (24.5, 0.32)], ("max", "min")) == 2
