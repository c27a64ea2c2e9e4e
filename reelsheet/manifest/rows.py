"""A manifest as people save it, read into a table of text and a row for every record: none lost, bad ones marked."""

import gc
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from reelsheet.errors import ManifestError
from reelsheet.manifest import columns as column_names
from reelsheet.manifest import image_url, xlsx
from reelsheet.manifest import source as sources
from reelsheet.manifest import table as tables
from reelsheet.outcomes import RESULT_COLUMNS
from reelsheet.redaction import clean

if TYPE_CHECKING:
    import pandas as pd

USUAL_PROMPT: Final = 2_000  # characters; what sellers of such models take
LONGEST_PROMPT: Final = 100_000
LAST_TAKE: Final = 1_000_000
LONGEST_NAME: Final = 120  # characters of a row's id in messages
RAGGED_SHARE: Final = 0.2  # more than this of all rows, and at least RAGGED_ROWS: it is the delimiter that is wrong
RAGGED_ROWS: Final = 3
EXCEL_BLOCK: Final = 16  # Excel leaves off empty cells at the end of rows by blocks of so many

_TAKE: Final = re.compile(r"\+?([0-9]{1,15})(?:\.0*)?")
_BOOLEANS: Final = dict.fromkeys(("true", "yes", "y", "1", "1.0", "on"), True) | dict.fromkeys(
    ("false", "no", "n", "0", "0.0", "off"), False
)
# What a wrong encoding leaves behind: C1 controls, replacement signs, and UTF-8 that was read as Windows-1252.
_GARBLED: Final = re.compile(r"[\x80-\x9f\ufffd]|[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac")
_RUN_ON: Final = re.compile(r"\n\s*\"?(?:https?|s3)://")
_MISCOUNTED: Final = re.compile(r"has \d+ cells? where the header has \d+")


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a results file that is fed back says of this row."""

    status: str
    attempt: int | None
    identity: str
    prediction_id: str
    review: str


@dataclass(frozen=True, slots=True)
class Row:
    """What one record asks for. `position` counts records from 0; `line` is the sheet's own number."""

    position: int
    line: int
    image: str = ""
    prompt: str | None = None
    expansion: bool | None = None
    take: int = 1
    id: str = ""
    problems: tuple[str, ...] = ()  # not empty: the row is invalid; each names its column
    warnings: tuple[str, ...] = ()
    earlier: Earlier | None = None

    @property
    def name(self) -> str:
        """The row for people: its id on one line, without secrets, else "row 7" as the sheet counts."""
        if len(self.id) < 20 and self.id.isprintable():  # too short for an address with a signature
            return self.id or f"row {self.line}"
        return clean(self.id, limit=LONGEST_NAME) or f"row {self.line}"


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """A sheet that could be read. `result_columns[i]` is the header under which RESULT_COLUMNS[i] is written.

    `table` is the input as it was read: one column of dtype str for each of the sheet's own columns, in the sheet's
    order and under its names (which may be blank, or repeat), indexed by `Row.position`. Nothing in it is NA: "007",
    "NA" and "" are text. The result columns of an earlier run are not in it.
    """

    source: str
    table: "pd.DataFrame"
    rows: tuple[Row, ...]
    roles: dict[str, int]  # role → place in `columns`
    warnings: tuple[str, ...] = ()
    result_columns: tuple[str, ...] = RESULT_COLUMNS

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the input's columns."""
        return tuple(self.table.columns)

    def records(self) -> Iterator[tuple[str, ...]]:
        """The input's cells, row for row, in the order of `rows`."""
        return self.table.itertuples(index=False, name=None)


def read(
    source: str,
    *,
    sheet: str | None = None,
    image_column: str | None = None,
    prompt_column: str | None = None,
    id_column: str | None = None,
    allow_private: bool = False,
) -> Manifest:
    """The manifest at a path, an s3:// or http(s):// address or a Google Sheets link. Raises ManifestError."""
    fetched = sources.fetch(source, sheet=sheet, allow_private=allow_private)
    return parse(
        fetched.content,
        fetched.name,
        sheet=sheet,
        image_column=image_column,
        prompt_column=prompt_column,
        id_column=id_column,
        content_type=fetched.content_type,
        allow_private=allow_private,
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Reading makes many objects and no cycles; collecting in between takes a third of the time and finds nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_garbage_collection()
def parse(
    content: bytes,
    source: str,
    *,
    sheet: str | None = None,
    image_column: str | None = None,
    prompt_column: str | None = None,
    id_column: str | None = None,
    content_type: str = "",
    allow_private: bool = False,
    copy: bool = False,
) -> Manifest:
    """`content` as a manifest; `source` names it in messages. Raises ManifestError.

    `allow_private` permits pictures on this machine and in private networks. `copy`: it is the copy that a run keeps
    of what it read, record for record.
    """
    flags = {"image": image_column, "prompt": prompt_column, "id": id_column}
    named = {role: name for role, name in flags.items() if name is not None}
    if copy:
        raw = tables.read_copy(content, source)
    else:
        page = content_type.partition(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}
        raw = tables.read(
            content, source, sheet=sheet, accepts=lambda header: column_names.is_usable(header, named), page=page
        )
    block = {} if copy else column_names.result_block(raw.header)
    added = set(block.values())
    own = [place for place in range(len(raw.header)) if place not in added]
    columns = tuple(raw.header[place] for place in own)
    roles = _roles(raw, columns, named, source)
    notes = list(raw.warnings)
    if not raw.records and not block:
        notes.append("There are column names but no rows below them: nothing to do.")
    if raw.other_tabs and sheet is None and not block:  # a results workbook has a second sheet of totals
        other = clean(raw.other_tabs[0])
        notes.append(f"Only the first sheet, '{clean(raw.tab)}', was read; --sheet names another, such as '{other}'.")
    notes += column_names.unused_warnings(columns, roles)
    reader = _RowReader(raw, {role: own[place] for role, place in roles.items()}, block, allow_private=allow_private)
    reader.square_records(source)
    reader.follow_links()
    records = [[cells[place] for place in own] if block else cells for _, cells in raw.records]
    table = tables.text_frame(columns, records)
    return Manifest(
        source=source,
        table=table,
        rows=tuple(reader.rows(table, roles)),
        roles=roles,
        warnings=tuple(notes),
        result_columns=column_names.result_columns(columns),
    )


def _roles(raw: tables.RawTable, columns: tuple[str, ...], named: column_names.Named, source: str) -> dict[str, int]:
    """The columns' roles; where the needed ones are not there, the error says where they may be."""
    try:
        return column_names.assign_roles(columns, named, source)
    except ManifestError as error:
        if column_names.is_usable(columns, named):
            raise
        raise ManifestError(f"{error}{_where_else(raw, columns, named)}") from None


def _where_else(raw: tables.RawTable, columns: tuple[str, ...], named: column_names.Named) -> str:
    """A further sentence about where the needed columns seem to be, or ""."""
    if raw.usable_tab:
        return f" The sheet '{clean(raw.usable_tab)}' would do: --sheet '{clean(raw.usable_tab)}'."
    for line, cells in raw.records[:20]:
        if column_names.is_usable(cells, named):
            return f" Line {line} looks like the column names: delete what is above it."
    if "image" in named or column_names.is_usable(columns, {}):
        return ""  # it is another column that is missing
    for place, name in enumerate(columns):
        cells = [cells[place].strip() for _, cells in raw.records[:20] if place < len(cells) and cells[place].strip()]
        if name.strip() and cells and all(map(image_url.is_address, cells)):
            column = clean(name, limit=60)
            return f" '{column}' holds web addresses: {column_names.FLAGS['image']} '{column}' takes it."
    return ""


class _RowReader:
    """Turns the records of a raw table into rows, each with whatever is wrong with it."""

    def __init__(
        self,
        raw: tables.RawTable,
        places: Mapping[str, int],
        block: Mapping[str, int],
        *,
        allow_private: bool,
    ) -> None:
        self._raw = raw
        self._places = places  # role → place in the record
        self._labels = {role: f"Column {column_names.label(raw.header, place)}" for role, place in places.items()}
        self._block = block  # result column → place in the record
        self._allow_private = allow_private
        self._miscounted: dict[int, str] = {}  # position → what is wrong
        self._link_warnings: dict[int, str] = {}  # position → warning

    def square_records(self, source: str) -> None:
        """Give every record as many cells as the header has.

        In CSV other counts are a problem, for cells may stand in wrong columns; where many rows have it, the file is
        refused with a ManifestError.
        """
        width, is_csv, lines = len(self._raw.header), self._raw.form is tables.Form.CSV, list[int]()
        shortened = _shortened_by_excel(self._raw) if is_csv else frozenset[int]()
        for position, (line, cells) in enumerate(self._raw.records):
            count = len(cells)
            if count == width:
                continue
            extra = any(map(str.strip, cells[width:]))
            if is_csv and (extra or (count < width and position not in shortened)):
                lines.append(line)
                left_out = f" (left out: '{clean(' | '.join(cells[width:]), limit=80)}')" if extra else ""
                self._miscounted[position] = (
                    f"Line {line} has {count} {'cell' if count == 1 else 'cells'} where the header has {width}"
                    f'{left_out}; put texts that hold the delimiter in quotes (").'
                )
            cells[:] = cells[:width] + [""] * (width - count)
        if len(lines) >= RAGGED_ROWS and len(lines) > RAGGED_SHARE * len(self._raw.records):
            raise ManifestError(
                f"{len(lines)} of the {len(self._raw.records)} rows of {source}, the first in line {lines[0]}, have"
                f" more or fewer cells than the header, which has {width}: the delimiter may be wrong, or texts with"
                f' commas are not in quotes ("). Open it and {tables.SAVE_AS}.'
            )

    def follow_links(self) -> None:
        """The target of a linked picture takes the place of its text, unless only the text is an address."""
        if not self._raw.links:
            return
        place = self._places["image"]
        for position, (line, cells) in enumerate(self._raw.records):
            target, shown = self._raw.links.get((line, place), "").strip(), cells[place].strip()
            if target in {"", shown}:
                continue
            if image_url.is_address(shown):
                differ = _comparable(shown) != _comparable(target)
                # where a program made one link of a whole list, the list stays
                if not image_url.is_address(target) or (not differ and len(image_url.split_addresses(shown)) > 1):
                    continue
                if differ:
                    texts = f"shows {image_url.quoted(shown)} but links to {image_url.quoted(target)}"
                    self._link_warnings[position] = f"{self._labels['image']} {texts}; the link is used."
            cells[place] = target

    def rows(self, table: "pd.DataFrame", roles: Mapping[str, int]) -> Iterator[Row]:
        """A row for each record of `table`, in which `roles` are places."""

        def cells_of(role: str) -> Iterable[str]:
            return table.iloc[:, roles[role]].tolist() if role in roles else repeat("")

        records = zip(
            self._raw.records,
            cells_of("image"),
            cells_of("prompt"),
            cells_of("enable_prompt_expansion"),
            cells_of("take"),
            cells_of("id"),
            strict=False,
        )
        for position, ((line, cells), image, prompt, expansion, take, id_cell) in enumerate(records):
            if position in self._miscounted:  # nothing can be said of the cells
                yield Row(position, line, problems=(self._miscounted[position],), earlier=self._earlier(cells))
                continue
            problems = self._record_problems(line, cells)
            warnings = [self._link_warnings[position]] if position in self._link_warnings else []
            if self._raw.encoding_guessed and not all(map(str.isascii, cells)):
                warnings.append("Special characters were read as Windows-1252 (guessed encoding); check the text.")
            yield Row(
                position,
                line,
                self._image(image, problems, warnings),
                self._prompt(prompt, problems, warnings),
                self._expansion(expansion, problems),
                self._take(take, problems),
                self._id(id_cell, problems),
                tuple(problems),
                tuple(warnings),
                self._earlier(cells),
            )

    def _record_problems(self, line: int, cells: list[str]) -> list[str]:
        """What is wrong with the record before any cell of it is read."""
        problems = [
            f"{self._labels[role]} holds a formula whose value is not saved in the file; open it in Excel and save it."
            for role, place in (self._places.items() if self._raw.unsaved_formulas else ())
            if (line, place) in self._raw.unsaved_formulas
        ]
        # a results file has no place for cells that a row had too many of, so such a row cannot be judged again
        was_invalid = self._block and self._result_cell(cells, "status") == "invalid"
        if was_invalid and (cut := _MISCOUNTED.search(self._result_cell(cells, "error"))):
            status = column_names.label(self._raw.header, self._block["status"])
            problems.append(
                f"This row was cut to fit when it was first read (it {cut[0]}); check it, then blank its cell in the"
                f" column {status}."
            )
        return problems

    def _image(self, cell: str, problems: list[str], warnings: list[str]) -> str:
        if image_url.is_ordinary(cell):
            return cell
        label = self._labels["image"]
        address = image_url.strip_blanks(cell)
        if address.startswith("=") and (link := xlsx.link_of(address)):
            address = link
        elif address not in {"", cell}:
            warnings.append(f"{label}: the spaces around the address were left out.")
        several = image_url.split_addresses(address)
        if len(several) > 1:
            warnings.append(f"{label} holds {len(several)} addresses (several URLs); only the first is used.")
        address = several[0]
        if error := image_url.validation_error(address, allow_private=self._allow_private):
            problems.append(f"{label}: {error}")
            return ""
        return address

    def _prompt(self, cell: str, problems: list[str], warnings: list[str]) -> str | None:
        if not cell:
            return None
        label = self._labels["prompt"]
        if not image_url.strip_blanks(cell):
            warnings.append(f"{label} holds only spaces, so no prompt is sent.")
            return None
        self._refuse_control("prompt", cell, problems)
        if len(cell) > LONGEST_PROMPT:
            problems.append(f"{label} has {len(cell):,} characters, which no model takes; is a quote missing?")
        elif len(cell) > USUAL_PROMPT:
            warnings.append(f"{label} has {len(cell):,} characters; more than {USUAL_PROMPT:,} are often refused.")
        if len(cell) < 20 and cell.strip().casefold() in image_url.PLACEHOLDERS:
            warnings.append(f"{label} says '{cell.strip()}', which is sent as the prompt; blank it if it means none.")
        if not cell.isascii() and _GARBLED.search(cell):
            warnings.append(f"{label} looks garbled ('{clean(cell, limit=60)}'); save the sheet as 'CSV UTF-8'.")
        if "\n" in cell and _RUN_ON.search(cell):
            warnings.append(f"{label} goes on with a web address in a new line; is a quote missing?")
        return cell

    def _id(self, cell: str, problems: list[str]) -> str:
        if cell:
            self._refuse_control("id", cell, problems)
        return image_url.strip_blanks(cell)

    def _refuse_control(self, role: str, cell: str, problems: list[str]) -> None:
        if control := image_url.CONTROL.search(cell):
            problems.append(f"{self._labels[role]} holds a control character (U+{ord(control[0]):04X}); type it again.")

    def _expansion(self, cell: str, problems: list[str]) -> bool | None:
        text = image_url.strip_blanks(cell).casefold()
        if text and text not in _BOOLEANS:
            label, allowed = self._labels["enable_prompt_expansion"], "true, false, yes, no, 1, 0, on, off or blank"
            problems.append(f"{label} says '{clean(cell, limit=40)}'; it must be {allowed}.")
        return _BOOLEANS.get(text)

    def _take(self, cell: str, problems: list[str]) -> int:
        text = image_url.strip_blanks(cell)
        if not text:
            return 1
        match = _TAKE.fullmatch(text)
        if match and 1 <= int(match[1]) <= LAST_TAKE:
            return int(match[1])
        hint = ", without a comma" if "," in text else ""
        says = f"{self._labels['take']} says '{clean(text, limit=40)}'"
        problems.append(f"{says}; it must be a whole number from 1 up{hint}, or blank.")
        return 1

    def _earlier(self, cells: list[str]) -> Earlier | None:
        if not self._block:
            return None
        attempt = _TAKE.fullmatch(self._result_cell(cells, "attempt"))
        return Earlier(
            status=self._result_cell(cells, "status").casefold(),
            attempt=int(attempt[1]) if attempt else None,
            identity=self._result_cell(cells, "identity"),
            prediction_id=self._result_cell(cells, "prediction_id"),
            review=self._result_cell(cells, "review"),
        )

    def _result_cell(self, cells: list[str], name: str) -> str:
        """A cell of an earlier result, without the sign that kept spreadsheets from calculating it."""
        return cells[self._block[name]].strip().removeprefix("'")


def _shortened_by_excel(raw: tables.RawTable) -> frozenset[int]:
    """Positions of rows that are short for no fault: Excel leaves off empty last cells, for whole blocks of rows."""
    width, records, positions = len(raw.header), raw.records, set[int]()
    if not any(len(cells) < width for _, cells in records):
        return frozenset()
    for start in range(EXCEL_BLOCK - 1, len(records), EXCEL_BLOCK):  # the header is the first row of the first block
        widths = {len(cells) for _, cells in records[start : start + EXCEL_BLOCK]}
        if len(widths) == 1 and widths.pop() < width:
            positions.update(range(start, min(start + EXCEL_BLOCK, len(records))))
    return frozenset(positions)


def _comparable(address: str) -> str:
    return unquote(address).rstrip("/").casefold()
