"""`init --pictures`: a sheet with one row for each picture of a folder."""

import csv
import io
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from reelsheet import file_types
from reelsheet.errors import UsageError
from reelsheet.paths import expanded
from reelsheet.redaction import visible

PICTURES: Final = frozenset((file_types.JPEG, file_types.PNG, file_types.GIF, file_types.WEBP))
_FORMULA: Final = "=+-@\t\r"  # what a cell may not begin with, or spreadsheet programs calculate it
_DIGITS: Final = re.compile(r"(\d+)")


def sheet_of(pictures: str) -> tuple[str, int]:
    """A manifest of the pictures in a folder, in natural order, without prompts; how many. Raises UsageError."""
    folder = expanded(pictures)
    try:
        names = sorted(_pictures(folder), key=_natural)
    except OSError as error:
        raise UsageError(f"--pictures: {visible(pictures)} cannot be read ({error.strerror}).") from error
    if not names:
        raise UsageError(f"--pictures: there is no JPEG, PNG, GIF or WebP picture in {visible(pictures)}.")
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(["id", "image", "prompt"])
    writer.writerows([Path(name).stem.lstrip(_FORMULA), _as_cell(name), ""] for name in names)
    return sheet.getvalue(), len(names)


def flag_for(home: Path, pictures: str) -> str:
    """What a command needs to find the pictures; nothing where they lie beside the sheet."""
    folder = expanded(pictures).absolute()
    return "" if folder.resolve() == home.resolve() else f" --pictures {shlex.quote(str(folder))}"


def _pictures(folder: Path) -> Iterator[str]:
    """The names of files whose content is a picture; nothing that is hidden, and no links."""
    for entry in os.scandir(folder):
        if entry.is_file(follow_symlinks=False) and not entry.name.startswith(".") and entry.name.isprintable():
            with Path(entry.path).open("rb") as file:
                if file_types.describe(file.read(64)) in PICTURES:
                    yield entry.name


def _as_cell(name: str) -> str:
    return f"./{name}" if name.startswith(tuple(_FORMULA)) or name != name.strip() else name


def _natural(name: str) -> list[tuple[int, str]]:
    """shot-2 comes before shot-10."""
    parts = _DIGITS.split(name.casefold())
    return [(int(part), part) if place % 2 and part.isascii() else (0, part) for place, part in enumerate(parts)]
