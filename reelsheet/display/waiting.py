"""What is waited for, on one line that moves; nothing heavy is imported, so that it can be shown from the start."""

import os
import sys
import threading
import time
from typing import IO, Final, Self

from reelsheet.display.redrawn import Redrawn, window

REDRAW_S: Final = 0.25  # between two drawings of something that changes
PLAIN_FIRST_S: Final = 10.0  # in a log: how long a wait is before it gets a line
PLAIN_INTERVAL_S: Final = 60.0  # and how often it gets another


def is_live(stream: IO[str] | None = None) -> bool:
    """True where what was written can be drawn over."""
    stream = sys.stderr if stream is None else stream
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown", ""}


class Waiting:
    """`with Waiting("Starting Prefect") as waiting:` shows it on stderr with the seconds, and clears it at the end.

    What others write meanwhile appears on lines of its own. In a log, only long waits are shown, as lines.
    """

    def __init__(self, what: str) -> None:
        self._text, self._detail = what, ""
        self._since, self._next_line_s = time.monotonic(), PLAIN_FIRST_S
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._stream = sys.stderr
        self._drawn = Redrawn() if is_live() else None

    def __call__(self, what: str, detail: str = "") -> None:
        """From now on `what` is waited for; `detail` says how far it is."""
        with self._lock:
            if what != self._text:
                self._since, self._next_line_s = time.monotonic(), PLAIN_FIRST_S
            self._text, self._detail = what, detail

    def __enter__(self) -> Self:
        if self._drawn is not None:
            self._drawn.__enter__()
        threading.Thread(target=self._keep, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended.set()
            if self._drawn is not None:
                self._drawn.__exit__()

    def _keep(self) -> None:
        while not self._ended.wait(REDRAW_S):
            with self._lock:
                if not self._ended.is_set():
                    self._show()

    def _show(self) -> None:
        waited_s = time.monotonic() - self._since
        text = self._text + (f": {self._detail}" if self._detail else "")
        if self._drawn is not None:
            seconds = f" · {waited_s:.0f} s" if waited_s >= 1 else ""
            columns = window(self._stream).columns - len(f" …{seconds}")
            self._drawn.draw([f"{text[: max(0, columns)]} …{seconds}"])
        elif waited_s >= self._next_line_s:
            self._next_line_s = waited_s + PLAIN_INTERVAL_S
            self._stream.write(f"reelsheet: {text} … {waited_s:.0f} s so far\n")
            self._stream.flush()
