"""A manifest as people save it, read into rows: every record a row, none lost, bad ones marked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from reelsheet.errors import ManifestError
from reelsheet.manifest import columns as roles_of
from reelsheet.manifest import image_url, xlsx
from reelsheet.manifest import source as sources
from reelsheet.manifest import table as sheets
from reelsheet.outcomes import RESULT_COLUMNS
from reelsheet.redaction import clean

ROLES: Final = ("image", "prompt", "enable_prompt_expansion", "id", "take")

USUAL_PROMPT: Final = 2_000  # characters; what sellers of such models take
LONGEST_PROMPT: Final = 100_000
LAST_TAKE: Final = 1_000_000
LONGEST_NAME: Final = 120  # characters of an id that a row is called by
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
    """One record. `cells` match `Manifest.columns`; `position` counts records from 0, `line` is the sheet's own."""

    position: int
    line: int
    cells: tuple[str, ...]
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
        """What people call the row: its id on one line, without secrets, else "row 7" as the sheet counts."""
        if len(self.id) < 20 and self.id.isprintable():  # too short for an address with a signature
            return self.id or f"row {self.line}"
        return clean(self.id, limit=LONGEST_NAME) or f"row {self.line}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A sheet that could be read. `result_columns[i]` is the header under which RESULT_COLUMNS[i] is written."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    roles: dict[str, int]  # role → index into `columns`
    warnings: tuple[str, ...] = ()
    result_columns: tuple[str, ...] = RESULT_COLUMNS
    is_results: bool = False  # an earlier results file, its result columns taken off


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
    found = sources.fetch(source, sheet=sheet, allow_private=allow_private)
    return parse(
        found.content,
        found.name,
        sheet=sheet,
        image_column=image_column,
        prompt_column=prompt_column,
        id_column=id_column,
        content_type=found.content_type,
        allow_private=allow_private,
    )


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
    """`content` as a manifest; `source` names it in sentences. Raises ManifestError.

    `allow_private` lets pictures lie on this machine and in private networks. `copy`: it is the copy that a run keeps
    of what it read, record for record.
    """
    named = {"image": image_column, "prompt": prompt_column, "id": id_column}
    wanted = {role: name for role, name in named.items() if name is not None}
    page = content_type.partition(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}
    table = (
        sheets.copied(content, source)
        if copy
        else sheets.read(
            content, source, sheet=sheet, accepts=lambda header: roles_of.would_do(header, wanted), page=page
        )
    )
    block = {} if copy else roles_of.result_block(table.header)
    ours = set(block.values())
    kept = [at for at in range(len(table.header)) if at not in ours]
    columns = tuple(table.header[at] for at in kept)
    roles = _roles(table, columns, wanted, source)
    no_rows = [] if table.records or block else ["There are column names but no rows below them: nothing to do."]
    other_sheets = [
        f"Only the first sheet, '{clean(table.tab)}', was read; --sheet names another, such as '{clean(other)}'."
        for other in table.others[:1]
        if sheet is None and not block  # a results workbook has a second sheet of totals
    ]
    reader = _Reader(table, kept, roles, block, allow_private=allow_private)
    rows = tuple(reader.row(position, line, cells) for position, (line, cells) in enumerate(table.records))
    _refuse_ragged(reader.ragged, table, source)
    return Manifest(
        source=source,
        columns=columns,
        rows=rows,
        roles=roles,
        warnings=(*table.warnings, *no_rows, *other_sheets, *roles_of.unused(columns, roles)),
        result_columns=roles_of.result_columns(columns),
        is_results=bool(block),
    )


def _roles(table: sheets.Table, columns: tuple[str, ...], wanted: Mapping[str, str], source: str) -> dict[str, int]:
    """The columns' roles; where the needed ones are not there, the refusal says where they may be."""
    try:
        return roles_of.roles(columns, wanted, source)
    except ManifestError as error:
        if roles_of.would_do(columns, wanted):
            raise
        raise ManifestError(f"{error}{_whereabouts(table, columns, wanted)}") from None


def _whereabouts(table: sheets.Table, columns: tuple[str, ...], wanted: Mapping[str, str]) -> str:
    if table.elsewhere:
        return f" The sheet '{clean(table.elsewhere)}' would do: --sheet '{clean(table.elsewhere)}'."
    for line, cells in table.records[:20]:
        if roles_of.would_do(cells, wanted):
            return f" Line {line} looks like the column names: delete what is above it."
    if "image" in wanted or roles_of.would_do(columns, {}):
        return ""  # it is another column that is missing
    for at, name in enumerate(columns):
        if name.strip() and _holds_addresses(table, at):
            told = clean(name, limit=60)
            return f" '{told}' holds web addresses: {roles_of.FLAGS['image']} '{told}' takes it."
    return ""


def _holds_addresses(table: sheets.Table, at: int) -> bool:
    found = [cells[at] for _, cells in table.records[:20] if at < len(cells) and cells[at].strip()]
    return bool(found) and all(image_url.is_address(cell.strip()) for cell in found)


def _refuse_ragged(ragged: Sequence[int], table: sheets.Table, source: str) -> None:
    if len(ragged) >= RAGGED_ROWS and len(ragged) > RAGGED_SHARE * len(table.records):
        raise ManifestError(
            f"{len(ragged)} of the {len(table.records)} rows of {source}, the first in line {ragged[0]}, have more or"
            f" fewer cells than the header, which has {len(table.header)}: the delimiter may be wrong, or texts with"
            f' commas are not in quotes ("). Open it and {sheets.SAVE_AS}.'
        )


class _Reader:
    """Turns a table's records into rows. `ragged` has the lines of those that do not match the header."""

    def __init__(
        self,
        table: sheets.Table,
        kept: list[int],
        roles: Mapping[str, int],
        block: Mapping[str, int],
        *,
        allow_private: bool,
    ) -> None:
        self.ragged: list[int] = []
        self._table = table
        self._width = len(table.header)
        self._kept = kept if block else None
        self._block = block
        self._allow_private = allow_private
        self._places = {role: kept[at] for role, at in roles.items()}  # in the record as it came
        self._labels = {role: f"Column {roles_of.label(table.header, at)}" for role, at in self._places.items()}
        self._shortened = _shortened_by_excel(table)

    def row(self, position: int, line: int, cells: list[str]) -> Row:
        """One record as a row, with whatever is wrong with it."""
        problems: list[str] = []
        warnings: list[str] = []
        if len(cells) != self._width:
            cells = self._squared(position, line, cells, problems)
        if self._table.links:
            self._follow_link(line, cells, warnings)
        if problems:  # the cells may stand in wrong columns, so nothing can be said of them
            return Row(position, line, self._own(cells), problems=tuple(problems), earlier=self._earlier(cells))
        if self._table.unsaved:
            self._refuse_unsaved(line, problems)
        if self._table.guessed and not all(map(str.isascii, cells)):
            warnings.append("Special characters were read as Windows-1252 (guessed encoding); look at the text.")
        if self._block:
            self._refuse_cut(cells, problems)
        return Row(
            position,
            line,
            self._own(cells),
            self._image(cells, problems, warnings),
            self._prompt(cells, problems, warnings),
            self._expansion(cells, problems),
            self._take(cells, problems),
            self._id(cells, problems),
            tuple(problems),
            tuple(warnings),
            self._earlier(cells),
        )

    def _own(self, cells: list[str]) -> tuple[str, ...]:
        return tuple(cells) if self._kept is None else tuple([cells[at] for at in self._kept])

    def _squared(self, position: int, line: int, cells: list[str], problems: list[str]) -> list[str]:
        """As many cells as the header has. In CSV other counts are a problem: cells may stand in wrong columns."""
        count, width = len(cells), self._width
        extra = any(map(str.strip, cells[width:]))
        if self._table.form is sheets.Form.CSV and (extra or (count < width and position not in self._shortened)):
            self.ragged.append(line)
            left = f" (left out: '{clean(' | '.join(cells[width:]), limit=80)}')" if extra else ""
            problems.append(
                f"Line {line} has {count} {'cell' if count == 1 else 'cells'} where the header has {width}{left}; put"
                ' texts that hold the delimiter in quotes (").'
            )
        return cells[:width] + [""] * (width - count)

    def _follow_link(self, line: int, cells: list[str], warnings: list[str]) -> None:
        """The target of a linked cell takes the place of its text, unless only the text is an address."""
        at = self._places["image"]
        target, shown = self._table.links.get((line, at), "").strip(), cells[at].strip()
        if target in {"", shown}:
            return
        if image_url.is_address(shown):
            if not image_url.is_address(target):
                return
            if len(image_url.listed(shown)) > 1 and _comparable(shown) == _comparable(target):
                return  # a program made one link of the whole list
            if _comparable(shown) != _comparable(target):
                texts = f"shows {image_url.echo(shown)} but links to {image_url.echo(target)}"
                warnings.append(f"{self._labels['image']} {texts}; the link is used.")
        cells[at] = target

    def _refuse_unsaved(self, line: int, problems: list[str]) -> None:
        problems += [
            f"{self._labels[role]} holds a formula whose value is not saved in the file; open it in Excel and save it."
            for role, at in self._places.items()
            if (line, at) in self._table.unsaved
        ]

    def _refuse_cut(self, cells: list[str], problems: list[str]) -> None:
        """A results file has no place for cells that a row had too many of, so such a row cannot be judged anew."""
        if self._told(cells, "status") == "invalid" and (was := _MISCOUNTED.search(self._told(cells, "error"))):
            status = roles_of.label(self._table.header, self._block["status"])
            problems.append(
                f"This row was cut to fit when it was first read (it {was[0]}); check it, then blank its cell in the"
                f" column {status}."
            )

    def _image(self, cells: list[str], problems: list[str], warnings: list[str]) -> str:
        cell = cells[self._places["image"]]
        if image_url.is_ordinary(cell):
            return cell
        label = self._labels["image"]
        address = image_url.stripped(cell)
        if address.startswith("=") and (link := xlsx.link_of(address)):
            address = link
        elif address not in {"", cell}:
            warnings.append(f"{label}: the spaces around the address were left out.")
        several = image_url.listed(address)
        if len(several) > 1:
            warnings.append(f"{label} holds {len(several)} addresses (several URLs); only the first is used.")
        address = several[0]
        if wrong := image_url.wrong(address, allow_private=self._allow_private):
            problems.append(f"{label}: {wrong}")
            return ""
        return address

    def _prompt(self, cells: list[str], problems: list[str], warnings: list[str]) -> str | None:
        if "prompt" not in self._places:
            return None
        cell, label = cells[self._places["prompt"]], self._labels["prompt"]
        if not image_url.stripped(cell):
            if cell:
                warnings.append(f"{label} holds only spaces, so no prompt is sent.")
            return None
        if found := image_url.CONTROL.search(cell):
            problems.append(f"{label} holds a control character (U+{ord(found[0]):04X}); type the text anew.")
        if len(cell) > LONGEST_PROMPT:
            problems.append(f"{label} has {len(cell):,} characters, which no model takes; is a quote missing?")
        elif len(cell) > USUAL_PROMPT:
            warnings.append(f"{label} has {len(cell):,} characters; more than {USUAL_PROMPT:,} are often refused.")
        if len(cell) < 20 and cell.strip().casefold() in image_url.NOTHING:
            warnings.append(f"{label} says '{cell.strip()}', which is sent as the prompt; blank it if it means none.")
        if not cell.isascii() and _GARBLED.search(cell):
            warnings.append(f"{label} looks garbled ('{clean(cell, limit=60)}'); save the sheet as 'CSV UTF-8'.")
        if "\n" in cell and _RUN_ON.search(cell):
            warnings.append(f"{label} goes on with a web address in a new line; is a quote missing?")
        return cell

    def _id(self, cells: list[str], problems: list[str]) -> str:
        if "id" not in self._places:
            return ""
        cell = cells[self._places["id"]]
        if found := image_url.CONTROL.search(cell):
            problems.append(f"{self._labels['id']} holds a control character (U+{ord(found[0]):04X}); type it anew.")
        return image_url.stripped(cell)

    def _expansion(self, cells: list[str], problems: list[str]) -> bool | None:
        role = "enable_prompt_expansion"
        if role not in self._places or not (cell := cells[self._places[role]]):
            return None
        text = image_url.stripped(cell).casefold()
        if text and text not in _BOOLEANS:
            allowed = "true, false, yes, no, 1, 0, on, off or blank"
            problems.append(f"{self._labels[role]} says '{clean(cell, limit=40)}'; it must be {allowed}.")
        return _BOOLEANS.get(text)

    def _take(self, cells: list[str], problems: list[str]) -> int:
        if "take" not in self._places or not (text := image_url.stripped(cells[self._places["take"]])):
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
        attempt = _TAKE.fullmatch(self._told(cells, "attempt"))
        return Earlier(
            status=self._told(cells, "status").casefold(),
            attempt=int(attempt[1]) if attempt else None,
            identity=self._told(cells, "identity"),
            prediction_id=self._told(cells, "prediction_id"),
            review=self._told(cells, "review"),
        )

    def _told(self, cells: list[str], name: str) -> str:
        """A cell of an earlier result, without the sign that kept spreadsheets from calculating it."""
        return cells[self._block[name]].strip().removeprefix("'")


def _shortened_by_excel(table: sheets.Table) -> frozenset[int]:
    """Positions of rows that are short for no fault: Excel leaves off empty last cells, for whole blocks of rows."""
    width, records, found = len(table.header), table.records, set[int]()
    if table.form is not sheets.Form.CSV or not any(len(cells) < width for _, cells in records):
        return frozenset()
    for start in range(EXCEL_BLOCK - 1, len(records), EXCEL_BLOCK):  # the header is the first row of the first block
        widths = {len(cells) for _, cells in records[start : start + EXCEL_BLOCK]}
        if len(widths) == 1 and widths.pop() < width:
            found.update(range(start, min(start + EXCEL_BLOCK, len(records))))
    return frozenset(found)


def _comparable(address: str) -> str:
    return unquote(address).rstrip("/").casefold()
