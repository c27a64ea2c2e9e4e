"""SpreadsheetML, the XML inside an .xlsx: the cells of one sheet as text, with their links, in one streaming pass.

openpyxl gives either a formula or its value, gives a link only for a sheet that is wholly in memory with every
formatted blank cell, and refuses odd styles and Excel's own strict form. Here a cell has all three, blank rows cost
nothing, styles matter for dates alone, and sizes are bounded whatever the archive claims.
"""

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

from reelsheet.manifest.number_formats import NumberFormats

LAST_ROW: Final = 1_048_576
LAST_COLUMN: Final = 16_384
WIDEST: Final = 2_000  # columns in use; a cell beyond is a typing error, not a table
_XML_LIMIT: Final = 512 * 1024 * 1024  # bytes of one unpacked part
_STRINGS_LIMIT: Final = 256 * 1024 * 1024
_CELL_LIMIT: Final = 20_000_000
_LINK_LIMIT: Final = 2_000_000
_CHUNK: Final = 1 << 20

_ESCAPE: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE: Final = re.compile(r"\$?([A-Z]{1,3})\$?([0-9]{1,7})(?::\$?([A-Z]{1,3})\$?([0-9]{1,7}))?")
_LINK_FORMULA: Final = re.compile(
    r'=?\s*(?:_xlfn\.)?(?:HYPERLINK|IMAGE)\s*\(\s*"((?:[^"]|"")*)"\s*[,;)]', re.IGNORECASE
)
# What zipfile, zlib and expat raise on damaged, encrypted or oddly encoded parts.
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, expat.ExpatError, EOFError, OSError, OverflowError),
    *(LookupError, ValueError, RuntimeError),
)

Place = tuple[int, int]  # row as the sheet numbers it, column from 0


class SpreadsheetError(Exception):
    """The archive is damaged or oversized; a clause that ends a sentence."""


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
    unsaved: set[Place]  # formulas whose value is not in the file


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
                relation = relations.get(_prefixed(attributes, "id"))
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
        reader = _SheetReader(*self._contents)
        for chunk in self._chunks(tab.part, _XML_LIMIT):
            reader.feed(chunk)
            if rows is not None and len(reader.rows) >= rows:
                break
        else:
            reader.close()
        links = dict(reader.formula_links)
        relations = self._relations(tab.part) if reader.hyperlinks else {}
        for reference, relation_id, location in reader.hyperlinks:
            relation = relations.get(relation_id)
            if relation is not None and relation.is_external and relation.target:
                target = relation.target
                address = f"{target}#{location}" if location and "#" not in target else target
                for place in _places(reference):
                    links.setdefault(place, address)
                    if len(links) > _LINK_LIMIT:
                        raise SpreadsheetError("it has more links than can be read")
        return Grid(reader.rows, links, reader.unsaved)

    def _shared_strings(self) -> list[str]:
        reader = _StringsReader()
        if self._strings_part in self._parts:
            for chunk in self._chunks(self._strings_part, _STRINGS_LIMIT):
                reader.feed(chunk)
            reader.close()
        return reader.strings

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
        parser = _parser()
        parser.StartElementHandler = lambda name, attributes: seen.append((name.rpartition(":")[2], attributes))
        for chunk in self._chunks(part, _XML_LIMIT):
            parser.Parse(chunk, False)
            yield from seen
            seen.clear()
        parser.Parse(b"", True)

    def _chunks(self, part: str, limit: int) -> Iterator[bytes]:
        item = self._parts.get(part.lower())
        if item is None:
            raise SpreadsheetError(f"its part {part!r} is missing")
        if item.file_size > limit:
            raise SpreadsheetError(f"it unpacks to more than {limit >> 20} MB")
        with self._archive.open(item) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk


class _TextReader:
    """The texts of an XML part that is fed in chunks; phonetic guides are left out."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._collecting = self._phonetic = False
        self._parser = _parser()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def feed(self, chunk: bytes) -> None:
        self._parser.Parse(chunk, False)

    def close(self) -> None:
        self._parser.Parse(b"", True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def _end(self, name: str) -> None:
        raise NotImplementedError

    def _characters(self, data: str) -> None:
        if self._collecting:
            self._pieces.append(data)

    def _collected(self) -> str:
        text = "".join(self._pieces)
        self._pieces.clear()
        self._collecting = False
        return text


class _StringsReader(_TextReader):
    """sharedStrings.xml: runs of rich text are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.strings: list[str] = []

    def _start(self, name: str, _: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if name == "t":
            self._collecting = not self._phonetic
        elif name == "rPh":
            self._phonetic = True

    def _end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name == "t":
            self._collecting = False
        elif name == "rPh":
            self._phonetic = False
        elif name == "si":
            self.strings.append(_unescaped(self._collected()))


class _SheetReader(_TextReader):
    """The cells of a worksheet."""

    def __init__(self, strings: list[str], styles: NumberFormats) -> None:
        super().__init__()
        self.rows: list[tuple[int, list[str]]] = []
        self.formula_links: dict[Place, str] = {}
        self.unsaved: set[Place] = set()
        self.hyperlinks: list[tuple[str, str, str]] = []  # reference, relation, location
        self._strings, self._styles = strings, styles
        self._columns: dict[str, int] = {}
        self._shared_links: dict[str, str] = {}
        self._row = self._column = 0
        self._cells: dict[int, str] = {}
        self._count = 0
        self._kind = self._style = self._value = self._formula = self._shared = ""
        self._has_formula = False
        self._inline: list[str] = []

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if ":" in name:
            name = name.rpartition(":")[2]
        if name == "c":
            self._start_cell(attributes)
        elif name in {"v", "f", "t"}:
            self._collecting = not self._phonetic
            if name == "f":
                self._has_formula = True
                self._shared = attributes.get("si", "") if attributes.get("t") == "shared" else ""
        elif name == "row":
            self._row = int(attributes.get("r") or self._row + 1)
            self._column = -1
            if not 1 <= self._row <= LAST_ROW:
                raise SpreadsheetError(f"it has a row numbered {self._row}")
        elif name == "rPh":
            self._phonetic = True
        elif name == "hyperlink":
            self.hyperlinks.append(
                (attributes.get("ref", ""), _prefixed(attributes, "id"), attributes.get("location", ""))
            )

    def _start_cell(self, attributes: dict[str, str]) -> None:
        letters = attributes.get("r", "").rstrip("0123456789")
        if letters:
            column = self._columns.get(letters)
            if column is None:
                column = self._columns[letters] = _column(letters)
            self._column = column
        else:
            self._column += 1
        self._kind = attributes.get("t", "n")
        self._style = attributes.get("s", "")
        self._value = self._formula = self._shared = ""
        self._has_formula = False

    def _end(self, name: str) -> None:
        if ":" in name:
            name = name.rpartition(":")[2]
        if name == "v":
            self._value = self._collected()
        elif name == "c":
            self._end_cell()
        elif name == "row":
            self._end_row()
        elif name == "t":
            self._inline.append(self._collected())
        elif name == "f":
            self._formula = self._collected()
        elif name == "rPh":
            self._phonetic = False

    def _end_cell(self) -> None:
        text = self._text()
        if self._has_formula:
            place = (self._row, self._column)
            link = link_of(self._formula)
            if self._shared and link:
                self._shared_links[self._shared] = link
            elif self._shared:  # the other cells of a formula that was dragged down
                link = self._shared_links.get(self._shared, "")
            if link:
                self.formula_links[place] = link
                text = text or link
            elif not text and self._kind != "str":
                self.unsaved.add(place)
                text = f"={self._formula}"
        if text:
            self._cells[self._column] = text

    def _end_row(self) -> None:
        if self._cells and any(map(str.strip, self._cells.values())):
            width = max(self._cells) + 1
            self._count += width
            if width > WIDEST:
                raise SpreadsheetError(f"row {self._row} has something in column {width}, far right of any table")
            if self._count > _CELL_LIMIT:
                raise SpreadsheetError("it has more cells than can be read")
            cells = [""] * width
            for column, text in self._cells.items():
                cells[column] = text
            self.rows.append((self._row, cells))
        self._cells.clear()

    def _text(self) -> str:
        """The cell's text as people see it, except that dates are ISO and numbers unrounded."""
        kind, value = self._kind, self._value
        if kind == "inlineStr":
            value = "".join(self._inline)
            self._inline.clear()
        elif kind == "s":
            return self._strings[int(value)] if value.isdecimal() and int(value) < len(self._strings) else ""
        elif value and kind == "n":
            return self._styles.number(value, self._style)
        elif value and kind == "b":
            return "TRUE" if value.strip() in {"1", "true"} else "FALSE"
        elif kind == "d":
            return value.removesuffix("T00:00:00")
        return _unescaped(value)  # also a formula's text, or an error such as #REF!


def link_of(formula: str) -> str:
    """The address in `HYPERLINK("address","text")` or `IMAGE("address")`, with `,` or `;`; else ""."""
    match = _LINK_FORMULA.match(formula)
    return match[1].replace('""', '"').strip() if match else ""


def _unescaped(text: str) -> str:
    """`_x000D_` and the like, as Excel hides characters that XML cannot hold."""
    if "_x" not in text:
        return text
    return _ESCAPE.sub(lambda match: match[0] if match[1][0] in "dD" and match[1][1] in "89abcdefABCDEF" else
                       chr(int(match[1], 16)), text)  # fmt: skip


def _column(letters: str) -> int:
    number = 0
    for letter in letters.replace("$", "").upper():
        if not "A" <= letter <= "Z":
            raise SpreadsheetError(f"it has a cell named {letters[:20]!r}")
        number = number * 26 + ord(letter) - 64
    if not 1 <= number <= LAST_COLUMN:
        raise SpreadsheetError(f"it has a column named {letters[:20]!r}")
    return number - 1


def _places(reference: str) -> Iterator[Place]:
    """A1 or A1:B9 → every (row, column) in it."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return
    left, top, right, bottom = match.groups()
    for row in range(int(top), min(int(bottom or top), LAST_ROW) + 1):
        for column in range(_column(left), _column(right or left) + 1):
            yield row, column


def _prefixed(attributes: Mapping[str, str], name: str) -> str:
    """The attribute r:id, whatever its prefix."""
    return next((value for key, value in attributes.items() if key.rpartition(":")[2] == name and ":" in key), "")


def _parser() -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = 1 << 16
    parser.StartDoctypeDeclHandler = _no_doctype  # no spreadsheet has one; entities can grow without bounds
    return parser


def _no_doctype(*_: object) -> None:
    raise SpreadsheetError("it holds a document type, which no spreadsheet has")
