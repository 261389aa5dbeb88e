"""Final sizes in closed form."""

import pytest

from aesop.inference.final_size import FinalSize, sides_at


@pytest.mark.parametrize(
    ("options", "sides", "suffix"),
    [
        ({}, (1200, 800), "_x4"),
        ({"scale": 2.5}, (750, 500), "_x2.5"),
        ({"scale": 8}, (2400, 1600), "_x8"),
        ({"width": 1000}, (1000, 667), "_w1000"),
        ({"height": 1000}, (1500, 1000), "_h1000"),
        ({"width": 1000, "height": 500}, (750, 500), "_w1000xh500"),
        ({"longest": 999}, (999, 666), "_999px"),
        ({"megapixels": 0.96}, (1200, 800), "_0.96mp"),
        ({"scale": 0.001}, (1, 1), "_x0.001"),
    ],
)
def test_sides_and_suffix(options, sides, suffix):
    size = FinalSize(**options)
    assert sides_at(size.scale_of(300, 200, 4), 300, 200) == sides
    assert size.suffix(4) == suffix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "--scale must be above 0"),
        ({"scale": float("nan")}, "--scale must be above 0"),
        ({"scale": 100}, "at most 64"),
        ({"width": -3}, "--width must be above 0"),
        ({"width": 10, "scale": 2}, "--scale and --width exclude each other"),
        ({"longest": 10, "megapixels": 2}, "exclude each other"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FinalSize(**options)


def test_too_much_is_refused_for_a_picture():
    with pytest.raises(ValueError, match="10 x 5 pixels would be enlarged 100 times"):
        FinalSize(width=1000).scale_of(10, 5, 4)
