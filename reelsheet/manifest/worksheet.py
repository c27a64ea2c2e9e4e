"""The XML of one worksheet, of its drawings, and of the texts that worksheets share, each in one streaming pass."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple
from xml.parsers import expat

from reelsheet.manifest.number_formats import NumberFormats

LAST_ROW: Final = 1_048_576
LAST_COLUMN: Final = 16_384
WIDEST: Final = 2_000  # columns in use; a cell beyond is a typing error, not a table
_CELL_LIMIT: Final = 20_000_000  # and of texts that they share
NOTE_LIMIT: Final = 2_000_000  # of each kind that is noted beside the cells: links, merged cells, styles, sheets

_ESCAPE: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_LINK_FORMULA: Final = re.compile(
    r'=?\s*(?:_xlfn\.)?(?:HYPERLINK|IMAGE)\s*\(\s*"((?:[^"]|"")*)"\s*[,;)]', re.IGNORECASE
)

_LINK_CALL: Final = re.compile(r"=?\s*(?:_xlfn\.)?(?:HYPERLINK|IMAGE)\s*\(", re.IGNORECASE)
PICTURE_FORMULA: Final = re.compile(r"=?\s*(?:_xlfn\.)?DISPIMG\s*\(", re.IGNORECASE)  # of WPS
_TALLEST: Final = 100  # rows that one picture may cover

Place = tuple[int, int]  # row as the sheet numbers it, column from 0


class Oddity(StrEnum):
    """Why the text of a cell is not what its author sees there."""

    UNSAVED = "unsaved"  # a formula whose value is not in the file
    FAILED = "failed"  # a formula that ended in an error
    PICTURE = "picture"  # a picture in the cell
    COVERED = "covered"  # a picture over the cell, which may have a text all the same


class SpreadsheetError(Exception):
    """The archive is damaged or oversized; a clause that ends a sentence."""


class Formula(NamedTuple):
    """What a formula says of a picture: see `link_of` and `link_source_of`."""

    link: str = ""
    source: str = ""
    is_picture: bool = False  # one of WPS, in the cell


class _TextReader:
    """The texts of an XML part that is fed in chunks; phonetic guides are left out."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._collecting = self._phonetic = False
        self._parser = new_parser()
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


class StringsReader(_TextReader):
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
            if len(self.strings) > _CELL_LIMIT:
                raise SpreadsheetError("it has more texts than can be read")


class DrawingReader(_TextReader):
    """The rows over which the pictures of a drawing lie."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[Place] = set()
        self._corners: dict[str, int] = {}
        self._corner = ""
        self._is_picture = False

    def _start(self, name: str, _: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if name.endswith("Anchor"):
            self._corners.clear()
            self._is_picture = False
        elif name in {"from", "to"}:
            self._corner = name
        elif name in {"row", "col"}:
            self._collecting = True
        elif name == "pic":
            self._is_picture = True

    def _end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name in {"row", "col"}:
            self._corners[f"{self._corner} {name}"] = int(self._collected())
        elif name.endswith("Anchor") and self._is_picture and "from row" in self._corners:
            first = self._corners["from row"] + 1
            last = min(self._corners.get("to row", 0) + 1, first + _TALLEST, LAST_ROW)
            column = self._corners.get("from col", 0)
            self.places.update((row, column) for row in range(first, max(first, last) + 1))
            if len(self.places) > NOTE_LIMIT:
                raise SpreadsheetError("it has more pictures than can be read")


class SheetReader(_TextReader):
    """The cells of a worksheet."""

    def __init__(self, strings: list[str], styles: NumberFormats) -> None:
        super().__init__()
        self.rows: list[tuple[int, list[str]]] = []
        self.formula_links: dict[Place, str] = {}
        self.link_sources: dict[Place, str] = {}
        self.odd: dict[Place, Oddity] = {}
        self.merges: list[str] = []
        self.drawings: list[str] = []  # relations
        self.hidden: set[int] = set()  # rows that hold anything but are not shown
        self.hyperlinks: list[tuple[str, str, str]] = []  # reference, relation, location
        self._strings, self._styles = strings, styles
        self._columns: dict[str, int] = {}
        self._shared_formulas: dict[str, Formula] = {}
        self._row = self._column = 0
        self._is_hidden = False
        self._cells: dict[int, str] = {}
        self._count = 0
        self._kind = self._style = self._value = self._formula = self._shared = ""
        self._has_formula = self._has_metadata = False
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
            # a filter, a closed group and a person hide a row in the same way; some programs only take its height
            self._is_hidden = attributes.get("hidden") in {"1", "true"} or not attributes.get("ht", "1").strip("0.")
            if not 1 <= self._row <= LAST_ROW:
                raise SpreadsheetError(f"it has a row numbered {self._row}")
        elif name == "rPh":
            self._phonetic = True
        else:
            self._start_note(name, attributes)

    def _start_note(self, name: str, attributes: dict[str, str]) -> None:
        """What a worksheet says of its cells behind them."""
        if name == "hyperlink":
            link = attributes.get("ref", ""), prefixed(attributes, "id"), attributes.get("location", "")
            self.hyperlinks.append(link)
        elif name == "mergeCell":
            self.merges.append(attributes.get("ref", ""))
        elif name == "drawing":
            self.drawings.append(prefixed(attributes, "id"))
        if max(len(self.hyperlinks), len(self.merges), len(self.drawings)) > NOTE_LIMIT:
            raise SpreadsheetError("it has more links or merged cells than can be read")

    def _start_cell(self, attributes: dict[str, str]) -> None:
        letters = attributes.get("r", "").rstrip("0123456789")
        if letters:
            column = self._columns.get(letters)
            if column is None:
                column = self._columns[letters] = column_number(letters)
            self._column = column
        else:
            self._column += 1
            if self._column >= LAST_COLUMN:
                raise SpreadsheetError(f"row {self._row} has more than {LAST_COLUMN} cells")
        self._kind = attributes.get("t", "n")
        self._style = attributes.get("s", "")
        self._value = self._formula = self._shared = ""
        self._has_formula = False
        self._has_metadata = "vm" in attributes
        self._inline.clear()

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
        if self._has_formula or self._kind == "e":
            text = self._end_odd_cell((self._row, self._column), text)
            if max(len(self.odd), len(self.link_sources), len(self.formula_links)) > NOTE_LIMIT:
                raise SpreadsheetError("it has more formulas without a value than can be read")
        if text:
            self._cells[self._column] = text

    def _end_odd_cell(self, place: Place, text: str) -> str:
        """The text of a cell that holds a formula or an error; what is to be known of it is noted."""
        if self._formula:
            formula = _read_formula(self._formula)
            if self._shared:
                self._shared_formulas[self._shared] = formula
        else:  # it may have been dragged down
            formula = self._shared_formulas.get(self._shared, Formula())
        if formula.link:
            self.formula_links[place] = formula.link
            return text or formula.link
        if formula.source:
            self.link_sources[place] = formula.source
        if formula.is_picture or (self._has_metadata and text == "#VALUE!"):
            self.odd[place] = Oddity.PICTURE
        elif self._kind == "e" and text:
            self.odd[place] = Oddity.FAILED
        elif not text and self._kind != "str":
            self.odd[place] = Oddity.UNSAVED
            return f"={self._formula}"
        return text

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
            if self._is_hidden:
                self.hidden.add(self._row)
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


def _read_formula(text: str) -> Formula:
    return Formula(link_of(text), link_source_of(text), PICTURE_FORMULA.match(text) is not None)


def link_of(formula: str) -> str:
    """The address in `HYPERLINK("address","text")` or `IMAGE("address")`, with `,` or `;`; else ""."""
    match = _LINK_FORMULA.match(formula)
    return match[1].replace('""', '"').strip() if match else ""


def link_source_of(formula: str) -> str:
    """D2 in `HYPERLINK(D2,"text")` or `IMAGE(D2)`: where the address comes from. "" where it stands there itself."""
    call = _LINK_CALL.match(formula)
    if call is None or link_of(formula):
        return ""
    depth, is_text = 0, False
    for position in range(call.end(), len(formula)):
        sign = formula[position]
        is_text ^= sign == '"'
        if not is_text and not depth and sign in ",;)":
            return formula[call.end() : position].strip()
        depth += 0 if is_text else (sign in "([") - (sign in ")]")
    return formula[call.end() :].strip()


def _unescaped(text: str) -> str:
    """`_x000D_` and the like, as Excel hides characters that XML cannot hold."""
    if "_x" not in text:
        return text
    return _ESCAPE.sub(lambda match: match[0] if match[1][0] in "dD" and match[1][1] in "89abcdefABCDEF" else
                       chr(int(match[1], 16)), text)  # fmt: skip


def column_number(letters: str) -> int:
    number = 0
    for letter in letters.replace("$", "").upper():
        if not "A" <= letter <= "Z":
            raise SpreadsheetError(f"it has a cell named {letters[:20]!r}")
        number = number * 26 + ord(letter) - 64
    if not 1 <= number <= LAST_COLUMN:
        raise SpreadsheetError(f"it has a column named {letters[:20]!r}")
    return number - 1


def prefixed(attributes: Mapping[str, str], name: str) -> str:
    """The attribute r:id, whatever its prefix."""
    return next((value for key, value in attributes.items() if key.rpartition(":")[2] == name and ":" in key), "")


def new_parser() -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = 1 << 16
    parser.StartDoctypeDeclHandler = _no_doctype  # no spreadsheet has one; entities can grow without bounds
    return parser


def _no_doctype(*_: object) -> None:
    raise SpreadsheetError("it holds a document type, which no spreadsheet has")
