"""Where the column names of a sheet are, if its first line does not hold them: another line, sheet or delimiter.

Feeds of shops begin with comments, Amazon's with three lines of names, Numbers puts a list of its tables first. All
that can differ is looked for together, so that one hint says it all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reelsheet.manifest import columns as column_names
from reelsheet.manifest import image_url
from reelsheet.manifest.table import DELIMITERS, View
from reelsheet.redaction import clean

_DEPTH: Final = 30  # lines that are looked at
_PICTURES: Final = ("image", "img", "photo", "picture", "foto", "bild", "imagen", "immagine", "gambar")


@dataclass(frozen=True, slots=True)
class _Found:
    """Column names in a view of the sheet; `column` is the pictures', where its name does not say so."""

    view: View
    position: int  # in the view
    column: str = ""


def where_else(views: Sequence[View], named: column_names.Named) -> str:
    """A sentence that says where the needed column names are and what to do; "" where nothing is found.

    The first view is the sheet as it was read.
    """
    found = next((found for view in views if (found := _by_name(view, named))), None)
    if found is None and "image" not in named:
        found = next((found for view in views if (found := _by_address(view, named))), None)
    return "" if found is None else _sentence(found, views[0])


def _by_name(view: View, named: column_names.Named) -> _Found | None:
    for position, (_, cells) in enumerate(view.records[:_DEPTH]):
        if column_names.is_usable(cells, named):
            return _Found(view, position)
    return None


def _by_address(view: View, named: column_names.Named) -> _Found | None:
    """The line of names above the first line with web addresses, and the column that most likely means pictures."""
    for position, (_, cells) in enumerate(view.records[:_DEPTH]):
        places = [place for place, cell in enumerate(cells) if image_url.is_address(cell.strip())]
        if not places or position == 0:
            continue
        header = view.records[position - 1][1]
        names = [header[place].strip() for place in places if place < len(header)]
        if any(map(image_url.is_address, names)):
            return None  # a row: the sheet has no names
        names = [name for name in names if name and column_names.is_usable(header, {**named, "image": name})]
        names.sort(key=lambda name: not any(word in name.casefold() for word in _PICTURES))
        return _Found(view, position - 1, names[0]) if names else None
    return None


def _sentence(found: _Found, first: View) -> str:
    view, steps = found.view, []
    line = view.records[found.position][0]
    column = clean(found.column, limit=60)
    where = f"'{column}' holds web addresses" if column else "these are the column names"
    if view.tab != first.tab:
        steps.append(f"add --sheet '{clean(view.tab)}'")
    if found.position:
        steps.append("delete the lines above it")
    if column:
        steps.append(f"add {column_names.FLAGS['image']} '{column}'")
    place = f"Line {line}"
    if view.tab != first.tab:
        place += f" of the sheet '{clean(view.tab)}'"
    if view.delimiter != first.delimiter:
        place += f", divided by {DELIMITERS.get(view.delimiter, repr(view.delimiter))}s,"
    if found.position or view is not first:
        where = f"{place} looks like the column names" + (f", and {where}" if column else "")
    return f"{where}: {' and '.join(steps) or 'use this delimiter alone'}."
