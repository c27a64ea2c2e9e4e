"""stdin, stdout and stderr as the caller left them: closed, full, or without a reader. What is done stays the same."""

import io
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TextIO

    from typing_extensions import Buffer

DESCRIPTORS: "Final" = {"stdin": 0, "stdout": 1, "stderr": 2}
PATIENCE_S: "Final" = 1.0  # for a reader of stderr that does not read; then what it would read is dropped
SAFE_BYTES: "Final" = 512  # a pipe that is ready takes so many without a wait, on every system


def prepare() -> None:
    """Replace the streams by ones that never raise. stdout waits for its reader, stderr does not."""
    _open_closed_descriptors()
    for name, descriptor in DESCRIPTORS.items():
        stream = getattr(sys, name)
        if stream is not None and stream is not getattr(sys, f"__{name}__"):
            continue  # whoever replaced it knows why
        if stream is None or name != "stdin":
            setattr(sys, name, _opened(name, os.open(os.devnull, os.O_RDWR) if stream is None else descriptor, stream))


def _open_closed_descriptors() -> None:
    """The next file to be opened, a database perhaps, would get the number of stderr and everything that is said."""
    for descriptor in DESCRIPTORS.values():
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number


def _opened(name: str, descriptor: int, like: "TextIO | None") -> "TextIO":
    if name == "stdin":
        return os.fdopen(descriptor, encoding="utf-8")
    raw = _Forgiving(descriptor, PATIENCE_S if name == "stderr" else None)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if like is None else like.encoding,
        errors="replace",  # a character that the terminal lacks is no reason to fail
        line_buffering=name == "stderr" or raw.isatty(),
        write_through=bool(os.environ.get("PYTHONUNBUFFERED")),
    )


class _Forgiving(io.FileIO):
    """A file that takes everything, and drops what cannot be written.

    `patience_s`: how long a reader that does not read may keep the writer; None: as long as it likes.
    """

    def __init__(self, descriptor: int, patience_s: float | None) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._patience_s = self._next_patience_s = patience_s

    def write(self, data: "Buffer") -> int:
        content = memoryview(data).cast("B")
        try:
            if not select.select([], [self], [], self._next_patience_s)[1]:
                self._next_patience_s = 0.0  # the next ones need not wait until it reads again
                return len(content)
            self._next_patience_s = self._patience_s
            return super().write(content if self._patience_s is None else content[:SAFE_BYTES]) or 0
        except (OSError, ValueError):
            return len(content)


def say_at_once(text: str) -> None:
    """On stderr, past its buffers, from a signal handler: never waits."""
    try:
        if select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
    except (OSError, ValueError):
        pass
