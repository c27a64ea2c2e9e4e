"""A long table in parts: each has a gallery and a workbook of its own, which programs open and memory holds.

The first part's files have the usual names; those of the others have the part's number in them: `gallery-2.html`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from reelsheet.manifest.rows import Manifest
from reelsheet.outcomes import RowResult

PART_ROWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows in order, as a table of their own. `number` counts from 1; `first` is the first row's position."""

    number: int
    first: int
    manifest: Manifest
    results: Sequence[RowResult]


def parts(manifest: Manifest, results: Sequence[RowResult]) -> Iterator[Part]:
    """All rows; one part where there are none."""
    if len(results) <= PART_ROWS:
        yield Part(1, 0, manifest, results)
        return
    for number in range(1, count(len(results)) + 1):
        span = rows_of(number)
        here = slice(span.start, span.stop)
        own = replace(manifest, rows=manifest.rows[here], table=manifest.table.iloc[here])
        yield Part(number, span.start, own, results[here])


def count(rows: int) -> int:
    """How many parts a table of so many rows has."""
    return max(1, -(-rows // PART_ROWS))


def rows_of(number: int) -> range:
    """The positions that a part may have."""
    return range((number - 1) * PART_ROWS, number * PART_ROWS)


def part_name(name: str, number: int) -> str:
    """The name of a part's file: 'gallery.html', 'gallery-2.html'."""
    path = PurePosixPath(name)
    return name if number == 1 else f"{path.stem}-{number}{path.suffix}"
