"""The terminal that things are shown on, and texts of others for it."""

import os
import sys
from typing import IO, Final

from rich.console import Console, RenderableType
from rich.text import Text

from reelsheet.redaction import visible

LOG_COLUMNS: Final = 120  # where nobody watches: a log, a file, a pipe


def terminal(stream: IO[str] | None = None) -> Console:
    """A console for `stream`, by default stderr. No colour with NO_COLOR; columns as the terminal has them."""
    stream = sys.stderr if stream is None else stream
    bare = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=LOG_COLUMNS if bare else None)


def show(what: RenderableType, stream: IO[str] | None = None) -> None:
    """Print it, without the blanks at the ends of lines that only fill a column."""
    stream = sys.stderr if stream is None else stream
    console = terminal(stream)
    with console.capture() as held:
        console.print(what)
    stream.writelines(f"{line.rstrip()}\n" for line in held.get().splitlines())
    stream.flush()


def safe(text: str, style: str = "") -> Text:
    """Text of others, without anything that a terminal would obey or rich would take for markup."""
    return Text(visible(text), style=style)
