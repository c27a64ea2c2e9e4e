"""Lines that are drawn over, on a terminal whose window is resized meanwhile."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import tty
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsheet.display.redrawn import Redrawn, window
from reelsheet.display.waiting import Waiting

_PIECE = re.compile(r"\x1b\[(\?7|\d*)([a-zA-Z])|[^\x1b]", re.DOTALL)


class Terminal:
    """A small one that breaks its lines anew when its window gets another width, as tmux and most others do."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.end, child = pty.openpty()
        tty.setraw(child)
        self.stream = os.fdopen(child, "w", encoding="utf-8")
        self.rows, self.x, self.y, self.wraps = [""], 0, 0, True
        self.goes_on: list[bool] = [False]  # the next row belongs to the same line
        self.columns = columns
        self.resize(columns, lines)

    def close(self) -> None:
        self.stream.close()
        os.close(self.end)

    def resize(self, columns: int, lines: int) -> None:
        texts, at = [""], (0, 0)
        for y, (row, goes_on) in enumerate(zip(self.rows, self.goes_on, strict=True)):
            if y == self.y:
                at = len(texts) - 1, len(texts[-1]) + self.x
            texts[-1] += row
            if not goes_on:
                texts.append("")
        self.columns, self.rows, self.goes_on = columns, [], []
        for number, text in enumerate(texts[:-1]):
            pieces = [text[n : n + columns] for n in range(0, len(text), columns)] or [""]
            if number == at[0]:
                self.y, self.x = len(self.rows) + at[1] // columns, at[1] % columns
            self.rows += pieces
            self.goes_on += [True] * (len(pieces) - 1) + [False]
        self.rows += [""] * (self.y + 1 - len(self.rows))
        self.goes_on += [False] * (len(self.rows) - len(self.goes_on))
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def take_in(self) -> str:
        """All that was written since."""
        self.stream.write("\0")
        self.stream.flush()
        seen = b""
        while not seen.endswith(b"\0"):
            seen += os.read(self.end, 65536)
        text = seen.decode().removesuffix("\0")
        for piece in _PIECE.finditer(text):
            self._obey(piece[0], piece[1], piece[2])
        return text

    def _obey(self, text: str, number: str | None, command: str | None) -> None:
        if command == "A":
            self.y = max(0, self.y - int(number or 1))
        elif command == "J":
            assert (self.x, self.y) != (0, 0), "tmux keeps what is cleared from here on"
            self.rows[self.y :] = [self.rows[self.y][: self.x]]
            self.goes_on[self.y :] = [False]
        elif command == "K":
            self.rows[self.y], self.goes_on[self.y] = self.rows[self.y][: self.x], False
        elif command in {"h", "l"}:
            self.wraps = command == "h"
        elif text == "\r":
            self.x = 0
        elif text == "\n":
            self._down()
        elif command is None:
            if self.x >= self.columns and self.wraps:
                self.goes_on[self.y], self.x = True, 0
                self._down()
            self.x = min(self.x, self.columns - 1)
            row = self.rows[self.y].ljust(self.x)
            self.rows[self.y] = row[: self.x] + text + row[self.x + 1 :]
            self.x += 1

    def _down(self) -> None:
        self.x = 0
        self.y += 1
        if self.y == len(self.rows):
            self.rows.append("")
            self.goes_on.append(False)

    @property
    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows)


@contextmanager
def on_terminal(columns: int = 80, lines: int = 24):
    """It is stderr and stdout."""
    terminal, before = Terminal(columns, lines), (sys.stderr, sys.stdout)
    sys.stderr = sys.stdout = terminal.stream
    try:
        yield terminal
    finally:
        sys.stderr, sys.stdout = before
        terminal.close()


SIZES = st.tuples(st.integers(2, 120), st.integers(2, 40))


@settings(max_examples=25)
@given(st.lists(st.tuples(SIZES, st.integers(1, 8), st.booleans()), max_size=6))
def test_nothing_is_left_behind_however_the_window_is_resized(steps):
    with on_terminal() as terminal:
        terminal.stream.write("$ reelsheet run\n")
        with Redrawn() as drawn:
            for number, ((columns, lines), count, speaks) in enumerate(steps):
                drawn.draw([f"{n} {'━' * 200}"[: window(terminal.stream).columns] for n in range(count)])
                if speaks:
                    sys.stderr.write(f"said {number}\n")
                terminal.take_in()
                terminal.resize(columns, lines)
        terminal.take_in()
        terminal.resize(200, 50)
        said = [f"said {number}" for number, (_, _, speaks) in enumerate(steps) if speaks]
        assert terminal.text.split("\n") == ["$ reelsheet run", *said, ""]


def test_a_window_that_gets_narrower_while_a_drawing_is_written_breaks_no_line():
    with on_terminal(80) as terminal, Redrawn() as drawn:
        drawn.draw(["━" * 80, "3 generating"])
        fits = terminal.columns = 40  # before the terminal has taken in what was written
        terminal.take_in()
        assert [len(row) for row in terminal.rows] == [fits, len("3 generating")]
        assert (terminal.x, terminal.y, terminal.wraps) == (0, 0, True)


def test_a_drawing_is_never_higher_than_the_window():
    with on_terminal(80, 3) as terminal, Redrawn() as drawn:
        drawn.draw([str(n) for n in range(6)])
        terminal.take_in()
        assert terminal.text == "0\n1\n2"


def test_what_is_written_in_pieces_appears_above_as_one_line():
    with on_terminal() as terminal:
        with Redrawn() as drawn:
            for piece in ("reelsheet: a", " warning", "\n", "not complete"):
                drawn.draw(["one", "two"])
                sys.stdout.write(piece)
            terminal.take_in()
            assert terminal.text == "reelsheet: a warning\none\ntwo"
        terminal.take_in()
        assert terminal.text == "reelsheet: a warning\nnot complete"
        assert sys.stdout is sys.stderr is terminal.stream


def test_a_stream_that_somebody_kept_writes_at_once_after_the_end():
    with on_terminal() as terminal:
        with Redrawn():
            kept = sys.stderr
        kept.write("Spend up to $6.48? [y/N] ")
        terminal.take_in()
        assert terminal.text == "Spend up to $6.48? [y/N]"


@pytest.mark.parametrize("columns", [4, 20, 80])
def test_a_wait_fits_on_its_line(monkeypatch, columns):
    monkeypatch.setenv("TERM", "xterm")
    with on_terminal(columns) as terminal:
        line = Waiting("Reading the sheet and the destination")
        for width in (columns, columns // 2, 100):
            terminal.resize(width, 24)
            line._show()
            terminal.take_in()
            assert len(terminal.rows) == 1
            assert terminal.rows[0].endswith("…")


def test_what_is_no_terminal_has_a_size_all_the_same():
    assert window(SimpleNamespace(fileno=lambda: -1)) == (80, 24)
