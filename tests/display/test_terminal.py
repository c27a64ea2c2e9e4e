"""The words for times, texts of others, and lines that are drawn over."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from reelsheet.display.terminal import about, length, safe, show


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


@given(st.text())
def test_no_text_can_make_the_terminal_obey(text):
    shown = safe(text).plain
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e\u2066]", shown)


def test_no_color_is_heeded(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    stream.isatty = lambda: True
    show(Text("x", style="red"), stream)
    assert stream.getvalue() == "x\n"
