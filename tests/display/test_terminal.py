"""The words for times, texts of others, and lines that are drawn over."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from reelsheet.display import preparing, status_line
from reelsheet.display.terminal import about, is_live, length, safe, show


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


def test_only_a_terminal_that_can_go_back_is_drawn_over(monkeypatch):
    assert not is_live(io.StringIO())
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(stream)
    monkeypatch.setenv("TERM", "xterm")
    assert is_live(stream)


def test_no_color_is_heeded(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    stream.isatty = lambda: True
    show(Text("x", style="red"), stream)
    assert stream.getvalue() == "x\n"


def test_progress_is_not_written_where_nobody_looks(capsys):
    with preparing() as progress, status_line() as write:
        write("Starting")
        progress("pictures", 1, 2)
    assert capsys.readouterr().err == ""


def test_progress_is_wiped_before_anything_else_is_shown(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", stream)
    with preparing() as progress:
        for done in range(1, 1001):
            progress("pictures", done, 1000)
    shown = stream.getvalue()
    assert "1,000 of 1,000" in shown
    assert 1 <= shown.count("Checking") < 20
    assert shown.endswith("\r\x1b[K")
