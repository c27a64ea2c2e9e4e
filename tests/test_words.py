"""Counts, lists and lengths of time as people read them."""

import pytest

from reelsheet.words import about, counted, length, listed


def test_one_is_no_plural_and_thousands_are_divided():
    assert [counted(0, "row"), counted(1, "row"), counted(1200, "row")] == ["0 rows", "1 row", "1,200 rows"]


@pytest.mark.parametrize(
    ("words", "text"), [("", ""), ("a", "a"), ("ab", "a, b"), ("abc", "a, b and 1 more"), ("abcd", "a, b and 2 more")]
)
def test_a_long_list_says_how_many_more_there_are(words, text):
    assert listed(words, 2) == text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (5.4, "5 s"), (64, "1 min 4 s"), (3600, "1 h 0 min"), (9000, "2 h 30 min"), (200_000, "2 days 7 h")],
)
def test_lengths_are_said_in_the_units_that_people_use(seconds, told):
    assert length(seconds) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "about 5 s"), (52, "about 50 s"), (58, "about 1 min"), (134, "about 2 min"), (5400, "about 1 h 30 min")],
)
def test_what_is_about_does_not_claim_to_be_exact(seconds, told):
    assert about(seconds) == told
