"""Lines on a terminal that are drawn over again, whatever happens to the window meanwhile."""

import os
import sys
import threading
from collections.abc import Iterable
from typing import IO, Final, Self, TextIO, cast

_FALLBACK: Final = os.terminal_size((80, 24))
# From the beginning of the line to the end of the screen. The blank is for tmux, which keeps what is cleared from the
# screen's very first place on.
_CLEAR: Final = "\r \033[J\r\033[K"
_NO_WRAP, _WRAP = "\033[?7l", "\033[?7h"  # a window that gets narrower while they are written breaks no line


def window(stream: IO[str]) -> os.terminal_size:
    """Columns and lines as they are now."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (AttributeError, OSError, ValueError):  # no terminal, or none any more
        return _FALLBACK
    return size if size.columns and size.lines else _FALLBACK


class Redrawn:
    """`with Redrawn() as drawn: drawn.draw(lines)` shows the lines on stderr, and clears them at the end.

    The cursor rests where the lines begin: a terminal that breaks them anew, because its window was resized, has all of
    them below the cursor, and the next drawing clears them. What others write to stderr, or to a stdout that is a
    terminal, appears above, a complete line at a time.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._is_drawn = self._has_ended = False
        self._lock = threading.RLock()
        self._above = {
            name: _Above(stream, self)
            for name, stream in (("stderr", sys.stderr), ("stdout", sys.stdout))
            if stream.isatty()
        }

    def __enter__(self) -> Self:
        for name, above in self._above.items():
            setattr(sys, name, cast("TextIO", above))
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.clear()
            self._has_ended = True
            for name, above in self._above.items():
                if above.begun:
                    above.stream.write(above.begun)
                    above.begun = ""
                if getattr(sys, name) is above:  # else somebody else has put something in its place
                    setattr(sys, name, above.stream)

    def draw(self, lines: Iterable[str]) -> None:
        """Show these in place of the last; they are no longer than `window` is wide."""
        with self._lock:
            shown = list(lines)[: window(self._stream).lines]
            up = f"\033[{len(shown) - 1}A" if len(shown) > 1 else ""
            self._stream.write(_CLEAR + _NO_WRAP + "\r\n".join(shown) + _WRAP + up + "\r")
            self._stream.flush()
            self._is_drawn = True

    def clear(self) -> None:
        with self._lock:
            if self._is_drawn:
                self._stream.write(_CLEAR)
                self._stream.flush()
                self._is_drawn = False

    def write_above(self, above: "_Above", text: str) -> None:
        """Write the lines that are complete where the drawing was; it comes back below them."""
        with self._lock:
            if self._has_ended:  # somebody has kept the stream, and put it back
                above.stream.write(text)
                return
            lines, newline, above.begun = (above.begun + text).rpartition("\n")
            if newline:
                self.clear()
                above.stream.write(lines + newline)
                above.stream.flush()


class _Above:
    """A stream while lines are drawn over: what is written goes above them."""

    def __init__(self, stream: IO[str], drawn: Redrawn) -> None:
        self.stream = stream
        self.begun = ""  # a line that is not complete yet
        self._drawn = drawn

    def write(self, text: str) -> int:
        self._drawn.write_above(self, text)
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)
