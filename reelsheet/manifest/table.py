"""The bytes of a spreadsheet, decoded into a header and records of text: CSV as people save it, and Excel's .xlsx.

What it is, is decided by its content, never by its name. Nothing here knows what the columns mean, except that the
caller says which headers it could work with: that decides the delimiter.

The parsing is ours because pandas.read_csv stops at a row with too many cells, fills up one with too few, gives no line
numbers and says of an open quote only where the file ends. Every record must become a row that says what is wrong.
"""

import codecs
import csv
import io
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

from reelsheet import file_types
from reelsheet.errors import ManifestError
from reelsheet.manifest.encoding import Decoded, decode
from reelsheet.manifest.worksheet import Oddity, Place, SpreadsheetError
from reelsheet.manifest.xlsx import Tab, Workbook
from reelsheet.redaction import clean

if TYPE_CHECKING:
    import pandas as pd

VIEW: Final = 50  # records of a view
LIMIT: Final = 256 * 1024 * 1024  # bytes of a manifest
MOST_COLUMNS: Final = 16_384  # Excel's
DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
SAVE_AS: Final = "save it with File > Save As > 'Excel Workbook (.xlsx)' or 'CSV UTF-8'"
EXCEL_BLOCK: Final = 16  # Excel leaves off empty cells at the end of rows by blocks of so many
_NO_TABLE: Final = "it needs a line of column names with 'image' among them, then rows"
# A cell may be as long as the whole file; whoever reads it says what is too long.
csv.field_size_limit(LIMIT)

_SEPARATOR_LINE: Final = re.compile(rb'"?sep=(.)"?[ \t]*(?:\r\n|\n|\r)', re.IGNORECASE)  # Excel's own hint
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_JSON: Final = re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]\d])")
_UNMARKED_UTF16: Final = re.compile(rb"\x00[^\x00]|[^\x00\xff\xfe]\x00")
_MARKUP: Final = re.compile(rb"\s*<[!?a-zA-Z]")
_PASSWORD: Final = "EncryptedPackage".encode("utf-16-le")  # in an old container means: a locked new one
_PICTURE: Final = "is a picture or film, not a spreadsheet; put its web address in a sheet with a column 'image'"
# What to do about a file that is no sheet, by what `file_types.describe` says of it. No column name begins like one.
_OTHER_FORMS: Final = dict.fromkeys(file_types.PICTURES_AND_FILMS, _PICTURE) | {
    "a gzip file": "is compressed with gzip; unpack it first (gunzip)",
    "a bzip2 file": "is compressed with bzip2; unpack it first",
    "an xz file": "is compressed with xz; unpack it first",
    "a zstd file": "is compressed with zstd; unpack it first",
    "a 7-Zip archive": "is a 7-Zip archive; unpack it first",
    "a RAR archive": "is a RAR archive; unpack it first",
    "an empty zip archive": "is an empty zip archive, not a table",
    "a part of a divided zip archive": "is a part of a divided zip archive, not a table",
    "a PDF file": f"is a PDF, not a table; open the sheet that it was printed from and {SAVE_AS}",
    "a text document (RTF)": f"is a text document (RTF), not a table; open it in a spreadsheet and {SAVE_AS}",
    "a Parquet file": f"is a Parquet file; write it as CSV, or {SAVE_AS}",
    "an SQLite database": "is a database; export the table as CSV",
    file_types.OLD_OFFICE: f"is an old Excel file (.xls); open it and {SAVE_AS}",
}
# The first entry found in a zip archive that is no .xlsx says what it is.
_ARCHIVES: Final[tuple[tuple[str, str], ...]] = (
    ("xl/workbook.bin", f"is a binary Excel workbook (.xlsb); {SAVE_AS}"),
    ("content.xml", f"is an OpenDocument file (LibreOffice); {SAVE_AS}"),
    ("index/document.iwa", "is a Numbers file; choose File > Export To > CSV or Excel in Numbers"),
    ("index.zip", "is a Numbers file; choose File > Export To > CSV or Excel in Numbers"),
    ("word/document.xml", f"is a Word document; put the table in a spreadsheet and {SAVE_AS}"),
    ("ppt/presentation.xml", f"is a PowerPoint file; put the table in a spreadsheet and {SAVE_AS}"),
)

Header = Sequence[str]
Record = tuple[int, list[str]]  # its line (CSV) or row (XLSX) in the sheet, its cells as they came


class Form(StrEnum):
    """What the bytes were."""

    CSV = "CSV"
    XLSX = "XLSX"


@dataclass(frozen=True, slots=True)
class View:
    """The first records of a sheet, with its line of names, as one way to read the file gives them."""

    records: list[Record]
    tab: str = ""
    delimiter: str = ""


@dataclass(frozen=True, slots=True)
class RawTable:
    """A sheet, decoded. Records hold at least one cell that is not blank, and as many cells as they came with."""

    form: Form
    header: tuple[str, ...]
    records: list[Record]
    warnings: tuple[str, ...] = ()
    decoded: Decoded | None = None  # what is known of a CSV file's encoding
    links: dict[Place, str] = field(default_factory=dict)
    link_sources: dict[Place, str] = field(default_factory=dict)  # where a formula takes a cell's address from
    odd: dict[Place, Oddity] = field(default_factory=dict)
    hidden: frozenset[int] = frozenset()  # rows of a workbook that are not shown, by their numbers
    tab: str = ""  # the name of the sheet that was read
    other_tabs: tuple[str, ...] = ()  # names of the other sheets that are not hidden
    views: tuple[View, ...] = ()  # where the header is not accepted: this sheet's, and others that could be meant


def read(
    content: bytes,
    name: str,
    *,
    accepts: Callable[[Header], bool],
    sheet: str | None = None,
    encoding: str | None = None,
    page: bool = False,
    strict: bool = True,
) -> RawTable:
    """`content` as a table. `accepts` says of a header whether it has the needed columns.

    `name` stands for the source in messages; `page` says that it was sent as a web page. Without `strict`, a quote at
    a wrong place in a CSV file does not matter. Raises ManifestError.
    """
    if len(content) > LIMIT:
        raise ManifestError(f"{name} is larger than {LIMIT >> 20} MB; split it into several sheets.")
    if file_types.describe(content[:64]) == file_types.ZIP:
        table = _xlsx(content, name, sheet, accepts)
        ignored = encoding and f"--encoding was ignored: {name} is an Excel workbook, which needs none."
    else:
        _refuse_other_forms(content, name, page=page, encoding=encoding)
        table = _csv(content, name, accepts, encoding=encoding, strict=strict)
        ignored = sheet and f"--sheet was ignored: {name} is a CSV file, which has one sheet only."
    return replace(table, warnings=(*table.warnings, ignored)) if ignored else table


def read_copy(content: bytes, name: str) -> RawTable:
    """A table that `results.manifest_csv` wrote: nothing is guessed, and a record without any text is one."""
    reader = csv.reader(_lines(content.decode("utf-8", "replace").encode()))
    records: list[Record] = []
    line = 1
    try:
        for cells in reader:
            if cells:
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ManifestError(f"{name} cannot be read: {error}.") from None
    if not records:
        raise ManifestError(f"{name} is empty; {_NO_TABLE}.")
    return RawTable(Form.CSV, tuple(records[0][1]), records[1:])


def text_frame(
    columns: Sequence[str], records: Sequence[Sequence[str]], index: Sequence[int] | None = None
) -> "pd.DataFrame":
    """Records of as many texts as there are columns as a DataFrame of dtype str; `index` is 0, 1, 2, … by default."""
    import pandas as pd

    dtype = pd.StringDtype("python", na_value=math.nan)  # "str", also where pyarrow is installed
    arrays = {place: pd.array([cells[place] for cells in records], dtype=dtype) for place in range(len(columns))}
    frame = pd.DataFrame(arrays, index=None if index is None else pd.Index(index), copy=False)
    frame.columns = pd.Index(list(columns), dtype=dtype)
    return frame


def shortened_by_excel(raw: RawTable) -> frozenset[int]:
    """Positions of rows that are short for no fault: Excel leaves off empty last cells, for whole blocks of rows."""
    width, records, positions = len(raw.header), raw.records, set[int]()
    if not any(len(cells) < width for _, cells in records):
        return frozenset()
    for start in range(EXCEL_BLOCK - 1, len(records), EXCEL_BLOCK):  # the header is the first row of the first block
        widths = {len(cells) for _, cells in records[start : start + EXCEL_BLOCK]}
        if len(widths) == 1 and widths.pop() < width:
            positions.update(range(start, min(start + EXCEL_BLOCK, len(records))))
    return frozenset(positions)


def _refuse_other_forms(content: bytes, name: str, *, page: bool, encoding: str | None) -> None:
    bare = content.removeprefix(codecs.BOM_UTF8)
    if not bare.strip(b',;|\t" \r\n\v\f'):
        raise ManifestError(f"{name} is empty; {_NO_TABLE}.")
    kind = file_types.describe(content[:2048])
    if kind == file_types.OLD_OFFICE and _PASSWORD in content:
        raise ManifestError(f"{name} is locked with a password; remove it (File > Info > Protect) and save again.")
    if kind in _OTHER_FORMS:
        raise ManifestError(f"{name} {_OTHER_FORMS[kind]}.")
    _refuse_markup(bare, name, page=page)
    if encoding is None and _UNMARKED_UTF16.match(content):
        raise ManifestError(f"{name} looks like UTF-16 without its mark, or is no text at all; {SAVE_AS}.")


def _refuse_markup(text: bytes, name: str, *, page: bool) -> None:
    if _MARKUP.match(text):
        share = "share the sheet so that anyone with the link can view it"
        if page:
            raise ManifestError(f"{name} answered with a web page, perhaps a sign-in page, not with a table; {share}.")
        raise ManifestError(
            f"{name} is a web page or XML, not a table; if it was downloaded, it may be a sign-in page ({share}), else"
            f" open it and {SAVE_AS}."
        )
    if _JSON.match(text):
        raise ManifestError(f"{name} is JSON, not a table; write it as CSV with a column 'image'.")


def _csv(
    content: bytes, name: str, accepts: Callable[[Header], bool], *, encoding: str | None, strict: bool
) -> RawTable:
    decoded = decode(content, name, encoding)
    data = decoded.text
    skipped, delimiters = 0, list(DELIMITERS)
    if hint := _SEPARATOR_LINE.match(data):
        data, skipped, delimiters = data[hint.end() :], 1, [hint[1].decode("ascii", "replace")]
    delimiter = _delimiter(data, name, delimiters, skipped, accepts)
    reader = _records(data, delimiter, name, skipped, strict=strict)
    header = next((tuple(cells) for _, cells in reader), None)
    if header is None:
        raise ManifestError(f"{name} is empty; {_NO_TABLE}.")
    if len(header) == 1 and accepts(header):  # one column needs no delimiter, and picture addresses do hold commas
        records = [(line, [delimiter.join(cells)]) for line, cells in reader]
    else:
        records = list(reader)
    warnings = (decoded.warning,) if decoded.warning else ()
    views = () if accepts(header) else _csv_views(data, name, skipped, delimiter, delimiters)
    return RawTable(Form.CSV, header, records, warnings, decoded, views=views)


def _csv_views(data: bytes, name: str, skipped: int, delimiter: str, delimiters: Iterable[str]) -> tuple[View, ...]:
    """The beginning of the file with each delimiter, the one that it was read with first."""
    views = []
    for other in (delimiter, *(one for one in delimiters if one != delimiter)):
        with suppress(ManifestError):
            views.append(View([*islice(_records(data, other, name, skipped, strict=False), VIEW)], delimiter=other))
    return tuple(views)


def _delimiter(data: bytes, name: str, candidates: list[str], skipped: int, accepts: Callable[[Header], bool]) -> str:
    """The one delimiter with which the header line alone gives the needed columns.

    Where none does, the one that gives most columns, for the caller to refuse it by its names.
    """
    headers: dict[str, list[str]] = {}
    failure: ManifestError | None = None
    for delimiter in candidates:
        try:
            headers[delimiter] = next((cells for _, cells in _records(data, delimiter, name, skipped)), [])
        except ManifestError as error:
            failure = failure or error
    good = [delimiter for delimiter, header in headers.items() if len(header) <= MOST_COLUMNS and accepts(header)]
    if good and all(headers[delimiter] == headers[good[0]] for delimiter in good):
        return good[0]
    if good:
        seen = clean(next(_lines(data)).strip())
        named = " or a ".join(DELIMITERS.get(delimiter, repr(delimiter)) for delimiter in good)
        raise ManifestError(
            f"The columns of {name} could be divided by a {named}; its first line is '{seen}'. Use one of them only."
        )
    if failure is not None:
        raise failure
    most = max(headers, key=lambda delimiter: len(headers[delimiter]))
    if len(headers[most]) > MOST_COLUMNS:
        raise ManifestError(f"{name} has more than {MOST_COLUMNS:,} columns, which no table has; {SAVE_AS}.")
    return most


def _records(data: bytes, delimiter: str, name: str, skipped: int, *, strict: bool = True) -> Iterator[Record]:
    """Every record with anything in it, and the line on which it starts."""
    reader = csv.reader(_lines(data), delimiter=delimiter, strict=strict)
    line = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield line + skipped, cells
            line = reader.line_num + 1
    except csv.Error:
        rest = "".join(text for number, text in enumerate(_lines(data), 1) if number >= line)
        opened = line + skipped + _lines_before_open_quote(rest, delimiter)
        raise ManifestError(
            f'In line {opened} of {name} a cell begins with a quote (") that is not closed properly, so nobody can say'
            ' where the row ends. Close it, or write a quote inside a quoted cell twice (""); nothing was spent.'
        ) from None


def _lines(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")


def _lines_before_open_quote(record: str, delimiter: str) -> int:
    """How many line ends stand before the quoted cell, in the text from a record's start, that does not close."""
    stop = re.escape(delimiter) + r"\r\n"
    quoted = re.compile(rf'"(?:[^"]++|"")*+"(?=[{stop}]|\Z)')
    bare = re.compile(rf"[^{stop}]*+")
    position = 0
    while (
        record.startswith('"', position)
        or position == 0
        or (position < len(record) and record[position - 1] == delimiter)
    ):
        cell = (quoted if record.startswith('"', position) else bare).match(record, position)
        if cell is None:
            break
        position = cell.end() + 1
    return len(_LINE_END.findall(record, 0, position))


def _xlsx(content: bytes, name: str, sheet: str | None, accepts: Callable[[Header], bool]) -> RawTable:
    entries = _entries(content)
    for entry, what in _ARCHIVES:
        if entry in entries:
            raise ManifestError(f"{name} {what}.")
    try:
        book = Workbook(content)
        if not book.tabs:
            raise ManifestError(f"{name} is a zip archive without a worksheet; unpack it, or {SAVE_AS}.")
        tab = _chosen(book.tabs, name, sheet)
        grid = book.grid(tab)
        shown = [other for other in book.tabs if not other.hidden]
        header = grid.rows[0][1] if grid.rows else []
        views: tuple[View, ...] = ()
        if not accepts(header):
            others = [View(book.grid(other, rows=VIEW).rows, other.name) for other in shown if other is not tab]
            views = (View(grid.rows[:VIEW], tab.name), *others)
        records = grid.rows[1:]
        width = max((len(cells) for _, cells in grid.rows), default=0)
        header += [""] * (width - len(header))
    except SpreadsheetError as error:
        raise ManifestError(f"{name} cannot be read as an Excel workbook: {error}. Open it and {SAVE_AS}.") from None
    return RawTable(
        Form.XLSX,
        tuple(header),
        records,
        links=grid.links,
        link_sources=grid.link_sources,
        odd=grid.odd,
        hidden=frozenset(grid.hidden),
        tab=tab.name,
        other_tabs=tuple(other.name for other in shown if other is not tab),
        views=views,
    )


def _entries(content: bytes) -> set[str]:
    """The names in a zip archive, in lower case; none where it cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name.lower() for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return set()


def _chosen(tabs: tuple[Tab, ...], name: str, sheet: str | None) -> Tab:
    """The tab that `sheet` names, by its title, loosely, or by its number from 1; without one, the first shown."""
    if sheet is None:
        return next((tab for tab in tabs if not tab.hidden), tabs[0])
    for tab in tabs:
        if tab.name == sheet:
            return tab
    loosely = sheet.strip().casefold()
    for tab in tabs:
        if tab.name.strip().casefold() == loosely:
            return tab
    if loosely.isdecimal() and len(loosely) < 10 and 1 <= int(loosely) <= len(tabs):
        return tabs[int(loosely) - 1]
    there = ", ".join(f"'{clean(tab.name)}'" for tab in tabs[:30])
    raise ManifestError(f"{name} has no sheet '{clean(sheet)}'; it has {there}.")
