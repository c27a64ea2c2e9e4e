"""How the provider's estimate of a prediction's time is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.provider.estimate import estimate_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5 seconds", 5),
        ("5 second", 5),
        ("1 minute", 60),
        ("1-2 minutes", 120),
        ("30 - 60 seconds", 60),
        ("45s", 45),
        ("~ 45 s", 45),
        ("1m 30s", 90),
        ("1 min 30 sec", 90),
        ("PT30S", 30),
        ("PT1M30S", 90),
        ("PT1H", 3600),
        ("1,5 minutes", 90),
        ("0.5 hours", 1800),
        ("800 ms", 0.8),
        (30, 30),
        (2.5, 2.5),
        ("30", 30),
    ],
)
def test_an_estimate_is_read_as_seconds(text, seconds):
    assert estimate_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        None,
        True,
        False,
        "",
        "soon",
        "5 bananas",
        0,
        -1,
        "0 seconds",
        float("nan"),
        float("inf"),
        "99999999 hours",
        [],
        {},
    ],
)
def test_what_is_no_estimate_is_none(text):
    assert estimate_seconds(text) is None


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(), st.binary(), st.lists(st.integers())))
def test_an_estimate_of_any_kind_is_a_time_or_none(told):
    seconds = estimate_seconds(told)
    assert seconds is None or 0 < seconds < 86400
