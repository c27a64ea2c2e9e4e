"""The line that says what is waited for."""

import io
import sys
import threading

import pytest

from reelsheet.display import waiting
from reelsheet.display.waiting import Waiting, is_live

CLEARED = "\r \x1b[J\r\x1b[K"


def drawn(line: str) -> str:
    return f"{CLEARED}\x1b[?7l{line}\x1b[?7h\r"


class Screen(io.StringIO):
    """A terminal; `drawn` is set with each drawing of a line."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = super().write(text)
        if "…" in text:
            self.drawn.set()
        return written

    def await_drawing(self) -> None:
        self.drawn.clear()
        assert self.drawn.wait(10)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test turns forward."""
    now = [100.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(waiting, "REDRAW_S", 0.005)
    return now


@pytest.fixture
def terminal(monkeypatch):
    """Call it in the test: pytest sets sys.stderr again between fixtures and test."""
    monkeypatch.setenv("TERM", "xterm")

    def install() -> Screen:
        monkeypatch.setattr("sys.stderr", Screen())
        return sys.stderr

    return install


def test_only_a_terminal_that_can_go_back_is_drawn_over(monkeypatch):
    assert not is_live(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(Screen())
    monkeypatch.setenv("TERM", "xterm")
    assert is_live(Screen())


def test_the_line_counts_seconds_and_is_cleared_at_the_end(terminal, clock):
    screen = terminal()
    with Waiting("Starting Prefect"):
        screen.await_drawing()
        assert screen.getvalue().endswith(drawn("Starting Prefect …"))
        for second in (1, 2, 63):
            clock[0] = 100 + second
            screen.await_drawing()
            screen.await_drawing()
            assert screen.getvalue().endswith(drawn(f"Starting Prefect … · {second} s"))
    assert screen.getvalue().endswith(CLEARED)
    assert sys.stderr is screen


def test_each_thing_that_is_waited_for_has_its_own_seconds(terminal, clock):
    screen = terminal()
    with Waiting("Reading the sheet") as line:
        clock[0] = 107.0
        line("Checking pictures", "1 of 2")
        clock[0] = 110.0
        line("Checking pictures", "2 of 2")
        screen.await_drawing()
        screen.await_drawing()
        assert screen.getvalue().endswith(drawn("Checking pictures: 2 of 2 … · 3 s"))


def test_what_is_said_meanwhile_stands_on_lines_of_its_own(terminal, clock):
    screen = terminal()
    with Waiting("Starting Prefect"):
        screen.await_drawing()
        sys.stderr.write("reelsheet: a warning\n")
        screen.await_drawing()
    assert f"{drawn('Starting Prefect …')}{CLEARED}reelsheet: a warning\n{CLEARED}" in screen.getvalue()


def test_a_short_wait_leaves_nothing_behind(terminal):
    screen = terminal()
    with Waiting("Starting Prefect"):
        pass
    assert screen.getvalue() == ""


def test_in_a_log_only_long_waits_get_a_line_and_few(capsys, clock):
    with Waiting("Starting Prefect") as line:
        for second in range(0, 131, 5):
            clock[0] = 100.0 + second
            line._show()
    assert capsys.readouterr().err.splitlines() == [
        f"reelsheet: Starting Prefect … {seconds} s so far" for seconds in (10, 70, 130)
    ]
