"""Texts of others on a terminal."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from reelsheet.display.terminal import safe, show


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
