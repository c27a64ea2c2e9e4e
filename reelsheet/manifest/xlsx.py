"""An .xlsx: the archive, its sheets, and the cells of one sheet as text, with their links.

openpyxl gives either a formula or its value, gives a link only for a sheet that is wholly in memory with every
formatted blank cell, and refuses odd styles and Excel's own strict form. Here a cell has all three, blank rows cost
nothing, styles matter for dates alone, and sizes are bounded whatever the archive claims.
"""

import io
import posixpath
import re
import zipfile
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from xml.parsers import expat

from reelsheet.manifest.number_formats import NumberFormats
from reelsheet.manifest.worksheet import (
    NOTE_LIMIT,
    WIDEST,
    DrawingReader,
    Oddity,
    Place,
    SheetReader,
    SpreadsheetError,
    StringsReader,
    column_number,
    new_parser,
    prefixed,
)  # fmt: skip

_XML_LIMIT: Final = 512 * 1024 * 1024  # bytes that are unpacked in all
_TEXT_LIMIT: Final = 256 * 1024 * 1024  # characters of a sheet's cells, which may share a text
_LINK_LIMIT: Final = 2_000_000
_CHUNK: Final = 1 << 20

_REFERENCE: Final = re.compile(r"\$?([A-Z]{1,3})\$?([0-9]{1,7})(?::\$?([A-Z]{1,3})\$?([0-9]{1,7}))?")
# What zipfile, zlib and expat raise on damaged, encrypted or oddly encoded parts.
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, expat.ExpatError, EOFError, OSError, OverflowError),
    *(LookupError, ValueError, RuntimeError),
)


@dataclass(frozen=True, slots=True)
class Tab:
    """One worksheet of a workbook."""

    name: str
    part: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class Grid:
    """One sheet. A row ends with its last cell in use; rows without any are left out."""

    rows: list[tuple[int, list[str]]]
    links: dict[Place, str]  # hyperlinks and HYPERLINK() formulas
    link_sources: dict[Place, str]  # where a HYPERLINK() formula takes its address from
    odd: dict[Place, Oddity]
    hidden: set[int]  # rows that are not shown: filtered out, in a closed group, or hidden by hand


@dataclass(frozen=True, slots=True)
class _Relation:
    """What one part of the archive refers to."""

    kind: str  # the last word of its type
    target: str  # a part, or an address
    is_external: bool


@contextmanager
def _explained() -> Iterator[None]:
    """Raise SpreadsheetError for whatever a damaged file makes the libraries raise."""
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, RuntimeError) and "password" in str(error):
            raise SpreadsheetError("it is protected by a password") from error
        raise SpreadsheetError("it is damaged or cut short") from error


class Workbook:
    """An .xlsx in memory. Every method raises SpreadsheetError."""

    @_explained()
    def __init__(self, content: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        self._unpacked_bytes = 0
        self._parts = {item.filename.replace("\\", "/").lower(): item for item in self._archive.infolist()}
        documents = (relation.target for relation in self._relations("").values() if relation.kind == "officeDocument")
        main = next(documents, "xl/workbook.xml")
        relations = self._relations(main)
        tabs: list[Tab] = []
        self._epoch_1904 = False
        for name, attributes in self._elements(main):
            if name == "workbookPr":
                self._epoch_1904 = attributes.get("date1904", "0") in {"1", "true"}
            elif name == "sheet":
                relation = relations.get(prefixed(attributes, "id"))
                if relation is not None and relation.kind == "worksheet":  # a chart's sheet has no cells
                    hidden = attributes.get("state", "visible") != "visible"
                    tabs.append(Tab(attributes.get("name", ""), relation.target, hidden))
        self.tabs = tuple(tabs)
        parts = {relation.kind: relation.target for relation in relations.values()}
        self._strings_part = parts.get("sharedStrings", "")
        self._styles_part = parts.get("styles", "")
        self._contents: tuple[list[str], NumberFormats] | None = None  # read once, for the first sheet

    @_explained()
    def grid(self, tab: Tab, *, rows: int | None = None) -> Grid:
        """The sheet's cells as text; with `rows`, no more than the first so many that hold anything."""
        if self._contents is None:
            self._contents = self._shared_strings(), NumberFormats(self._formats(), epoch_1904=self._epoch_1904)
        reader = SheetReader(*self._contents)
        for chunk in self._chunks(tab.part):
            reader.feed(chunk)
            if rows is not None and len(reader.rows) >= rows:
                break
        else:
            reader.close()
        links = dict(reader.formula_links)
        relations = self._relations(tab.part) if reader.hyperlinks or reader.drawings else {}
        _add_links(links, reader, relations)
        odd = reader.odd
        for relation_id in reader.drawings:
            for place in self._pictures(relations.get(relation_id)):
                odd.setdefault(place, Oddity.COVERED)
        _fill_merged(reader.rows, reader.merges, (links, reader.link_sources, odd))
        if sum(sum(map(len, cells)) for _, cells in reader.rows) + sum(map(len, links.values())) > _TEXT_LIMIT:
            raise SpreadsheetError("it has more text than can be read")
        return Grid(reader.rows, links, reader.link_sources, odd, reader.hidden)

    def _pictures(self, drawing: "_Relation | None") -> set[Place]:
        """The cells that the pictures of a drawing lie over."""
        if drawing is None or drawing.target not in self._parts:
            return set()
        reader = DrawingReader()
        self._feed(reader, drawing.target)
        return reader.places

    def _shared_strings(self) -> list[str]:
        reader = StringsReader()
        if self._strings_part in self._parts:
            self._feed(reader, self._strings_part)
        return reader.strings

    def _feed(self, reader: StringsReader | DrawingReader, part: str) -> None:
        for chunk in self._chunks(part):
            reader.feed(chunk)
        reader.close()

    def _formats(self) -> list[tuple[int, str]]:
        """For each style, its number format's id and, where the file defines it, its code."""
        if self._styles_part not in self._parts:
            return []
        codes: dict[int, str] = {}
        styles: list[int] = []
        inside = ""
        for name, attributes in self._elements(self._styles_part):
            if name in {"cellXfs", "cellStyleXfs", "dxfs"}:
                inside = name
            elif name == "numFmt" and not inside:
                codes[int(attributes.get("numFmtId", "0"))] = attributes.get("formatCode", "")
            elif name == "xf" and inside == "cellXfs":
                styles.append(int(attributes.get("numFmtId", "0")))
        return [(number, codes.get(number, "")) for number in styles]

    def _relations(self, part: str) -> dict[str, "_Relation"]:
        """What a part refers to, by relation id."""
        folder, _, name = part.rpartition("/")
        path = f"{folder}/_rels/{name}.rels".lstrip("/")
        if path.lower() not in self._parts:
            return {}
        relations = {}
        for element, attributes in self._elements(path):
            if element == "Relationship":
                is_external = attributes.get("TargetMode") == "External"
                target = attributes.get("Target", "")
                if not is_external:
                    target = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/").lower()
                kind = attributes.get("Type", "").rpartition("/")[2]
                relations[attributes.get("Id", "")] = _Relation(kind, target, is_external)
        return relations

    def _elements(self, part: str) -> Iterator[tuple[str, dict[str, str]]]:
        seen: list[tuple[str, dict[str, str]]] = []
        parser = new_parser()
        parser.StartElementHandler = lambda name, attributes: seen.append((name.rpartition(":")[2], attributes))
        count = 0
        for chunk in self._chunks(part):
            parser.Parse(chunk, False)
            count += len(seen)
            if count > NOTE_LIMIT:
                raise SpreadsheetError("it has more sheets, styles or links than can be read")
            yield from seen
            seen.clear()
        parser.Parse(b"", True)

    def _chunks(self, part: str) -> Iterator[bytes]:
        item = self._parts.get(part.lower())
        if item is None:
            raise SpreadsheetError(f"its part {part!r} is missing")
        too_large = SpreadsheetError(f"it unpacks to more than {_XML_LIMIT >> 20} MB")
        if item.file_size > _XML_LIMIT:
            raise too_large
        with self._archive.open(item) as stream:
            while chunk := stream.read(_CHUNK):
                self._unpacked_bytes += len(chunk)
                if self._unpacked_bytes > _XML_LIMIT:  # parts may be named, and read, many times
                    raise too_large
                yield chunk


def _add_links(links: dict[Place, str], reader: SheetReader, relations: Mapping[str, _Relation]) -> None:
    """The hyperlinks of a sheet's cells; what a formula says of a cell stays."""
    numbers, width = [number for number, _ in reader.rows], max((len(cells) for _, cells in reader.rows), default=0)
    linked = 0
    for reference, relation_id, location in reader.hyperlinks:
        relation = relations.get(relation_id)
        if relation is not None and relation.is_external and relation.target:
            target = relation.target
            address = f"{target}#{location}" if location and "#" not in target else target
            for place in _places(reference, numbers, width):
                links.setdefault(place, address)
                linked += 1
                if linked > _LINK_LIMIT:
                    raise SpreadsheetError("it has more links than can be read")


def _fill_merged(rows: list[tuple[int, list[str]]], merges: Sequence[str], notes: Sequence[dict[Place, Any]]) -> None:
    """Give every row of a merged cell what stands in its first one: text, and what is noted of its place.

    Lines without anything of their own stay no rows, and the line of column names is not continued below.
    """
    cells_of = dict(rows)
    numbers = sorted(cells_of)
    filled = 0
    for match in filter(None, map(_REFERENCE.fullmatch, merges)):
        column, top, bottom = column_number(match[1]), int(match[2]), int(match[4] or match[2])
        if top == bottom or not rows or top == rows[0][0]:
            continue
        first = cells_of.get(top, [])
        text = first[column] if column < len(first) else ""
        below = numbers[bisect_right(numbers, top) : bisect_right(numbers, bottom)]
        filled += len(below)
        if filled > _LINK_LIMIT or column >= WIDEST:
            raise SpreadsheetError("it has more merged cells than can be read")
        for row in below:
            cells = cells_of[row]
            cells.extend([""] * (column + 1 - len(cells)))
            cells[column] = text
            for noted in notes:
                if (top, column) in noted:
                    noted[row, column] = noted[top, column]


def _places(reference: str, numbers: Sequence[int], width: int) -> Iterator[Place]:
    """A1 or A1:B9 → every (row, column) in it, of rows with these numbers and, beside its own, so many columns."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return
    left, top, right, bottom = match.groups()
    first = column_number(left)
    for row in numbers[bisect_left(numbers, int(top)) : bisect_right(numbers, int(bottom or top))]:
        for column in range(first, min(column_number(right or left) + 1, max(first + 1, width))):
            yield row, column
