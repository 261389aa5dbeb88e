"""Lists in words."""

import pytest

from aesop.system.wording import first_few


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], ""),
        (["a"], "a"),
        ([1, 2, 3], "1; 2; 3"),
        (list("abcd"), "a; b; c; and 1 more"),
        (range(9), "0; 1; 2; and 6 more"),
    ],
)
def test_the_first_few_are_shown_and_the_others_counted(items, text):
    assert first_few(items) == text


def test_another_number_and_separator():
    assert first_few("abc", most=1, separator=", ") == "a, and 2 more"
