"""The terminal that things are shown on, and the words for counts, lengths of time and texts of others."""

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


def counted(count: int, singular: str, plural: str = "") -> str:
    """ "1 row", "1,200 rows"."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def length(seconds: float) -> str:
    """134 → "2 min 14 s", 5 → "5 s", 9000 → "2 h 30 min"."""
    total = max(0, round(seconds))
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def about(seconds: float) -> str:
    """A length that does not claim to be exact: 134 → "about 2 min"."""
    if seconds < 55:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {length(600 * round(seconds / 600))}".removesuffix(" 0 min")
