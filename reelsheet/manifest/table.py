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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from reelsheet import file_types
from reelsheet.errors import ManifestError
from reelsheet.manifest.xlsx import Place, SpreadsheetError, Tab, Workbook
from reelsheet.redaction import clean

if TYPE_CHECKING:
    import pandas as pd

LIMIT: Final = 256 * 1024 * 1024  # bytes of a manifest
MOST_COLUMNS: Final = 16_384  # Excel's
DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
SAVE_AS: Final = "save it with File > Save As > 'Excel Workbook (.xlsx)' or 'CSV UTF-8'"
_NO_TABLE: Final = "it needs a line of column names with 'image' among them, then rows"
_GUESSED: Final = (
    "The file is not UTF-8, so it was read as Windows-1252 (guessed encoding): check accents and quotes in the plan,"
    " or save it as 'CSV UTF-8'."
)

# A cell may be as long as the whole file; whoever reads it says what is too long.
csv.field_size_limit(LIMIT)

_BOM: Final = "\ufeff".encode()
_MARKS: Final = {  # the longer ones first
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_UNDEFINED: Final = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # Windows-1252 gives them no character; they stay control characters
_WINDOWS_1252: Final = {
    code: bytes([code]).decode("cp1252") for code in range(0x80, 0xA0) if code not in _UNDEFINED
}  # fmt: skip
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
class RawTable:
    """A sheet, decoded. Records hold at least one cell that is not blank, and as many cells as they came with."""

    form: Form
    header: tuple[str, ...]
    records: list[Record]
    warnings: tuple[str, ...] = ()
    encoding_guessed: bool = False
    links: dict[Place, str] = field(default_factory=dict)
    unsaved_formulas: frozenset[Place] = frozenset()  # those whose value is not in the file
    tab: str = ""  # the name of the sheet that was read
    other_tabs: tuple[str, ...] = ()  # names of the other sheets that are not hidden
    usable_tab: str = ""  # the one of them whose header is accepted, where this one's is not


def read(
    content: bytes,
    name: str,
    *,
    accepts: Callable[[Header], bool],
    sheet: str | None = None,
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
        return _xlsx(content, name, sheet, accepts)
    _refuse_other_forms(content, name, page=page)
    table = _csv(content, name, accepts, strict=strict)
    if sheet is None:
        return table
    ignored = f"--sheet was ignored: {name} is a CSV file, which has one sheet only."
    return replace(table, warnings=(*table.warnings, ignored))


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


def _refuse_other_forms(content: bytes, name: str, *, page: bool) -> None:
    bare = content.removeprefix(_BOM)
    if not bare.strip(b',;|\t" \r\n\v\f'):
        raise ManifestError(f"{name} is empty; {_NO_TABLE}.")
    kind = file_types.describe(content[:2048])
    if kind == file_types.OLD_OFFICE and _PASSWORD in content:
        raise ManifestError(f"{name} is locked with a password; remove it (File > Info > Protect) and save again.")
    if kind in _OTHER_FORMS:
        raise ManifestError(f"{name} {_OTHER_FORMS[kind]}.")
    _refuse_markup(bare, name, page=page)
    if _UNMARKED_UTF16.match(content):
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


def _csv(content: bytes, name: str, accepts: Callable[[Header], bool], *, strict: bool) -> RawTable:
    data, guessed = _as_utf8(content, name)
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
    return RawTable(Form.CSV, header, records, (_GUESSED,) if guessed else (), guessed)


def _as_utf8(content: bytes, name: str) -> tuple[bytes, bool]:
    """The text as UTF-8 without a mark, and whether its encoding had to be guessed."""
    encoding = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), "")
    data, guessed = content, False
    try:
        text = content.decode(encoding or "utf-8")
        if encoding:
            data = text.encode()
    except UnicodeError:
        if encoding:
            raise ManifestError(
                f"{name} begins like {encoding.upper()} text but is cut or damaged; {SAVE_AS}."
            ) from None
        # with a mark it is UTF-8, but for a few bytes that another program put in
        text = content.decode("utf-8", _BY_BYTE) if content.startswith(_BOM) else _from_windows(content)
        data, guessed = text.encode(), True
    while data.startswith(_BOM):
        data = data[len(_BOM) :]
    return data, guessed


def _from_windows(content: bytes) -> str:
    return content.decode("latin-1").translate(_WINDOWS_1252)


_BY_BYTE: Final = "reelsheet-windows-1252"  # what is not UTF-8 is read as Windows-1252
codecs.register_error(
    _BY_BYTE, lambda error: (_from_windows(error.object[error.start : error.end]), error.end)  # type: ignore[attr-defined]
)  # fmt: skip


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
        usable_tab = ""
        if not accepts(header):
            usable_tab = next((o.name for o in shown if o is not tab and accepts(_header_of(book, o))), "")
        if not grid.rows:
            hint = f" The sheet '{clean(usable_tab)}' would do: --sheet '{clean(usable_tab)}'." if usable_tab else ""
            empty = f"Sheet '{clean(tab.name)}' of {name} is empty; it needs a row of column names, then rows."
            raise ManifestError(f"{empty}{hint}")
        records = grid.rows[1:]
        width = max(map(len, (cells for _, cells in grid.rows)))
        header += [""] * (width - len(header))
    except SpreadsheetError as error:
        raise ManifestError(f"{name} cannot be read as an Excel workbook: {error}. Open it and {SAVE_AS}.") from None
    return RawTable(
        Form.XLSX,
        tuple(header),
        records,
        links=grid.links,
        unsaved_formulas=frozenset(grid.unsaved),
        tab=tab.name,
        other_tabs=tuple(other.name for other in shown if other is not tab),
        usable_tab=usable_tab,
    )


def _header_of(book: Workbook, tab: Tab) -> list[str]:
    return next((cells for _, cells in book.grid(tab, rows=1).rows), [])


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
    if loosely.isdecimal() and 1 <= int(loosely) <= len(tabs):
        return tabs[int(loosely) - 1]
    there = ", ".join(f"'{clean(tab.name)}'" for tab in tabs[:30])
    raise ManifestError(f"{name} has no sheet '{clean(sheet)}'; it has {there}.")
