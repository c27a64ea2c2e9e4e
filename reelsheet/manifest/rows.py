"""A manifest as people save it, read into a table of text and a row for every record: none lost, bad ones marked."""

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from reelsheet.errors import ManifestError
from reelsheet.manifest import columns as column_names
from reelsheet.manifest import hints, image_url
from reelsheet.manifest import source as sources
from reelsheet.manifest import table as tables
from reelsheet.manifest.cells import PICTURE_IN_SHEET, CellReader
from reelsheet.manifest.earlier import Earlier
from reelsheet.manifest.encoding import NAMES, refuse_ambiguous
from reelsheet.manifest.picture_file import PictureFile
from reelsheet.manifest.prompt_template import Prompts
from reelsheet.manifest.worksheet import Oddity
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, Status
from reelsheet.redaction import clean
from reelsheet.words import counted

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME: Final = 120  # characters of a row's id in messages
RAGGED_SHARE: Final = 0.2  # more than this of all rows, and at least RAGGED_ROWS: it is the delimiter that is wrong
RAGGED_ROWS: Final = 3

_PICTURES: Final = frozenset({Oddity.PICTURE, Oddity.COVERED})
_ODD: Final = {
    Oddity.UNSAVED: "holds a formula whose value is not saved in the file; open it in Excel and save it.",
    Oddity.FAILED: "holds '{}', the error of a formula that failed; correct the cell.",
    Oddity.PICTURE: PICTURE_IN_SHEET,
}
_MISCOUNTED: Final = re.compile(r"has \d+ cells? where the header has \d+")


@dataclass(frozen=True, slots=True)
class Row:
    """What one record asks for. `position` counts records from 0; `line` is the sheet's own number.

    `image` is an address. For a picture that is a file it stands for where that is uploaded to; before the file was
    looked for it is the file's name, and the row has a problem.
    """

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
    left_out: ErrorCode | None = None  # why no step is taken for it, whatever its cells say
    is_rendered: bool = False  # the prompt was made from a template, now or by the run that made this results file
    picture: PictureFile | None = None  # where it is a file
    problem_code: ErrorCode = ErrorCode.INVALID_ROW

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
    tab: str = ""  # the sheet of a workbook
    earlier_cells: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of an earlier run, by result column
    first_title: str = ""  # of the sheet that an earlier run began with, where this is its results table

    @property
    def title(self) -> str:
        """The sheet's own name, without its folder."""
        return self.first_title or PurePosixPath(self.source.split("?")[0]).name or "reelsheet"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the input's columns."""
        return tuple(self.table.columns)

    def records(self) -> Iterator[tuple[str, ...]]:
        """The input's cells, row for row, in the order of `rows`."""
        return self.table.itertuples(index=False, name=None)


def read(source: str, *, sheet: str | None = None, allow_private: bool = False, **options: Any) -> Manifest:
    """The manifest at a path, an s3:// or http(s):// address or a Google Sheets link.

    `options`: as `parse` takes them. Raises ManifestError, UsageError.
    """
    fetched = sources.fetch(source, sheet=sheet, allow_private=allow_private)
    return parse(
        fetched.content,
        fetched.name,
        sheet=sheet,
        content_type=fetched.content_type,
        allow_private=allow_private,
        **options,
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
    prompt: str | None = None,
    encoding: str | None = None,
    image_column: str | None = None,
    prompt_column: str | None = None,
    id_column: str | None = None,
    include_hidden: bool = False,
    content_type: str = "",
    allow_private: bool = False,
    copy: bool = False,
) -> Manifest:
    """`content` as a manifest; `source` names it in messages. Raises ManifestError, UsageError.

    `prompt` is a template that replaces the prompt column.
    Hidden rows of a workbook, and rows that a results file calls hidden, are left out unless `include_hidden` is set;
    rows that it calls not chosen are left out, too.
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
            content,
            source,
            sheet=sheet,
            encoding=encoding,
            accepts=lambda header: column_names.is_usable(header, named),
            page=page,
        )
    block = {} if copy else column_names.result_block(raw.header, raw.records)
    added = set(block.values())
    own = [place for place in range(len(raw.header)) if place not in added]
    columns = tuple(raw.header[place] for place in own)
    linked = {place for _, place in raw.links}

    def is_empty(column: int) -> bool:
        place = own[column]
        filled = any(place < len(cells) and cells[place].strip() for _, cells in raw.records)
        return bool(raw.records) and not filled and place not in linked

    prompts = Prompts(prompt, block, raw.records)
    needs_prompt = not prompts.is_rendered
    roles = _roles(raw, columns, named, source, is_empty, needs_prompt=needs_prompt and not copy)
    prompts.find_columns(columns, own, roles, source, is_empty)
    _refuse_ambiguous(raw, [own[roles["image"]], *prompts.places.values()], source)
    notes = [*raw.warnings, *prompts.notes]
    if not raw.records and not block:
        pictures = " Pictures that lie in the workbook are no rows." if raw.odd else ""
        notes.append(f"There are column names but no rows below them: nothing to do.{pictures}")
    if raw.other_tabs and sheet is None and not block:  # a results workbook has a second sheet of totals
        other = clean(raw.other_tabs[0])
        notes.append(f"Only the first sheet, '{clean(raw.tab)}', was read; --sheet names another, such as '{other}'.")
    if raw.records:
        notes += column_names.unused_warnings(columns, roles, is_empty=is_empty, needs_prompt=needs_prompt)
    reader = _RowReader(
        raw, {role: own[place] for role, place in roles.items()}, block, prompts, allow_private=allow_private,
        include_hidden=include_hidden,
    )  # fmt: skip
    reader.square_records(source)
    reader.follow_links()
    records = [[cells[place] for place in own] if block else cells for _, cells in raw.records]
    table = tables.text_frame(columns, records)
    rows = tuple(reader.rows())
    notes += _notes_on_rows(rows)
    return Manifest(
        source=source,
        table=table,
        rows=rows,
        roles=roles,
        warnings=tuple(notes),
        result_columns=column_names.result_columns(columns),
        tab=raw.tab,
        earlier_cells={name: reader.result_cells(name) for name in block},
    )


def _refuse_ambiguous(raw: tables.RawTable, places: Sequence[int], source: str) -> None:
    """Raise ManifestError where the encoding is a guess, and another one gives another picture or prompt."""
    if raw.decoded is not None and raw.decoded.others:
        cells = (cells[place] for _, cells in raw.records for place in places if place < len(cells))
        refuse_ambiguous(cells, raw.decoded, source)


def _notes_on_rows(rows: Sequence[Row]) -> Iterator[str]:
    """What concerns many rows."""
    good = [row for row in rows if not row.problems and row.left_out is None]
    without = sum(row.prompt is None for row in good)
    if 0 < without < len(good):
        one = without == 1
        yield (
            f"{without:,} of {len(good):,} rows {'has' if one else 'have'} no prompt;"
            f" {'its clip is' if one else 'their clips are'} made from the picture alone."
        )


def _roles(
    raw: tables.RawTable,
    columns: tuple[str, ...],
    named: column_names.Named,
    source: str,
    is_empty: column_names.IsEmpty,
    *,
    needs_prompt: bool,
) -> dict[str, int]:
    """The columns' roles; where the needed ones are not there, the error says where they may be."""
    try:
        return column_names.assign_roles(columns, named, source, is_empty=is_empty, needs_prompt=needs_prompt)
    except ManifestError as error:
        column_names.refuse_review(raw.header, source)
        hint = hints.where_else(raw.views, named) if raw.views else ""
        sheet = f"Sheet '{clean(raw.tab)}' of {source}" if raw.tab else source
        if not raw.header:
            raise ManifestError(
                f"{sheet} is empty; it needs a row of column names, then rows. {hint}".strip()
            ) from None
        if hint:
            raise ManifestError(f"{sheet} does not name the needed columns in its first line. {hint}") from error
        raise


class _RowReader:
    """Turns the records of a raw table into rows, each with whatever is wrong with it."""

    def __init__(
        self,
        raw: tables.RawTable,
        places: Mapping[str, int],
        block: Mapping[str, int],
        prompts: Prompts,
        *,
        allow_private: bool,
        include_hidden: bool,
    ) -> None:
        self._raw = raw
        self._include_hidden = include_hidden
        others = {role: place for role, place in places.items() if role != "prompt"}
        self._places = others | prompts.places  # role → place in the record
        self._cells = CellReader(raw.header, self._places, allow_private=allow_private)
        self._prompts = prompts
        self._block = block  # result column → place in the record
        self._miscounted: dict[int, str] = {}  # position → what is wrong
        self._link_warnings: dict[int, str] = {}  # position → warning
        self._pictured = {line for (line, _), oddity in raw.odd.items() if oddity in _PICTURES}

    def square_records(self, source: str) -> None:
        """Give every record as many cells as the header has.

        In CSV other counts are a problem, for cells may stand in wrong columns; where many rows have it, the file is
        refused with a ManifestError.
        """
        width, is_csv, lines = len(self._raw.header), self._raw.form is tables.Form.CSV, list[int]()
        shortened = tables.shortened_by_excel(self._raw) if is_csv else frozenset[int]()
        for position, (line, cells) in enumerate(self._raw.records):
            count = len(cells)
            if count == width:
                continue
            extra = any(map(str.strip, cells[width:]))
            if is_csv and (extra or (count < width and position not in shortened)):
                lines.append(line)
                left_out = f" (left out: '{clean(' | '.join(cells[width:]), limit=80)}')" if extra else ""
                self._miscounted[position] = (
                    f"Line {line} has {counted(count, 'cell')} where the header has {width}"
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
                    self._link_warnings[position] = f"{self._cells.labels['image']} {texts}; the link is used."
            cells[place] = target

    def rows(self) -> Iterator[Row]:
        """A row for each record, all of which have as many cells as the header."""
        reader, decoded = self._cells, self._raw.decoded
        guessed = NAMES[decoded.encoding].partition(" (")[0] if decoded is not None and decoded.is_guessed else ""
        for position, (line, cells) in enumerate(self._raw.records):
            earlier = Earlier.of(partial(self._result_cell, cells)) if self._block else None
            left_out = self._left_out(line, cells)
            if position in self._miscounted:  # nothing can be said of the cells
                yield Row(position, line, problems=(self._miscounted[position],), earlier=earlier, left_out=left_out)
                continue
            reader.next_row()
            odd = self._odd_cells(line, cells)
            reader.problems += [*odd.values(), *self._was_cut(cells)]
            if position in self._link_warnings:
                reader.warnings.append(self._link_warnings[position])
            if guessed and not all(map(str.isascii, cells)):
                reader.warnings.append(f"Special characters were read as {guessed} (guessed encoding); check the text.")
            prompt = self._prompts.read(cells, reader, odd)
            yield Row(
                position,
                line,
                "" if "image" in odd else reader.image(self._cell(cells, "image")),
                prompt,
                None
                if "enable_prompt_expansion" in odd
                else reader.expansion(self._cell(cells, "enable_prompt_expansion")),
                1 if "take" in odd else reader.take(self._cell(cells, "take")),
                reader.id(self._cell(cells, "id")),
                tuple(dict.fromkeys(reader.problems)),
                tuple(reader.warnings),
                earlier,
                left_out,
                is_rendered=self._prompts.is_rendered and prompt is not None,
            )

    def _cell(self, cells: list[str], role: str) -> str:
        return cells[self._places[role]] if role in self._places else ""

    def _odd_cells(self, line: int, cells: list[str]) -> dict[str, str]:
        """What is wrong with cells of a workbook whose text is not what people see there, by their roles."""
        if not self._raw.odd and not self._raw.link_sources:
            return {}
        found = {}
        for role, place in self._places.items():
            oddity, text = self._raw.odd.get((line, place)), cells[place].strip()
            if oddity is Oddity.COVERED:
                oddity = None if text else Oddity.PICTURE
            elif role == "image" and not text and oddity is None and line in self._pictured:
                oddity = Oddity.PICTURE
            source = self._raw.link_sources.get((line, place), "") if role == "image" else ""
            if source and not image_url.is_address(text):
                found[role] = f"{self._cells.labels[role]} {column_names.link_source_problem(source, self._raw.header)}"
            elif oddity is not None and (role != "id" or oddity is Oddity.UNSAVED):
                found[role] = f"{self._cells.labels[role]} {_ODD[oddity].format(clean(text, limit=40))}"
        return found

    def _was_cut(self, cells: list[str]) -> Iterator[str]:
        """A results file has no place for cells that a row had too many of, so such a row cannot be judged again."""
        was_invalid = self._block and self._result_cell(cells, "status") == "invalid"
        if was_invalid and (cut := _MISCOUNTED.search(self._result_cell(cells, "error"))):
            status = column_names.label(self._raw.header, self._block["status"])
            yield (
                f"This row was cut to fit when it was first read (it {cut[0]}); check it, then blank its cell in the"
                f" column {status}."
            )

    def _left_out(self, line: int, cells: list[str]) -> ErrorCode | None:
        was_skipped = bool(self._block) and self._result_cell(cells, "status").casefold() == Status.SKIPPED
        reason = self._result_cell(cells, "error_code").casefold() if was_skipped else ""
        if not self._include_hidden and (line in self._raw.hidden or reason == ErrorCode.HIDDEN):
            return ErrorCode.HIDDEN
        return ErrorCode.NOT_CHOSEN if reason == ErrorCode.NOT_CHOSEN else None

    def result_cells(self, name: str) -> tuple[str, ...]:
        """A result column of an earlier run, row for row."""
        return tuple(self._result_cell(cells, name) for _, cells in self._raw.records)

    def _result_cell(self, cells: list[str], name: str) -> str:
        """A cell of an earlier result, without the sign that kept spreadsheets from calculating it; "" without one."""
        return cells[self._block[name]].strip().removeprefix("'") if name in self._block else ""


def _comparable(address: str) -> str:
    return unquote(address).rstrip("/").casefold()
