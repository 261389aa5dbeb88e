"""Numbers and lists in words."""

import pytest

from aesop.system.wording import first_few, readable, within_a_sentence


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


def test_an_abbreviation_keeps_its_letters_within_a_sentence():
    assert within_a_sentence("The GAN term is drowned") == "the GAN term is drowned"
    assert within_a_sentence("LR and HR files are swapped") == "LR and HR files are swapped"
    assert within_a_sentence("") == ""


def test_numbers_of_bytes():
    sizes = {3.2e9: "3.2 GB", 120e6: "120 MB", 2.26e6: "2.3 MB", 12e3: "12 kB", 0: "0 kB"}
    assert [readable(number) for number in sizes] == list(sizes.values())
