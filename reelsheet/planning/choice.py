"""Which rows a command chooses with --where: conditions on the sheet's cells and on those of earlier results.

The rows that are not chosen are left out, as hidden rows are: nothing is done for them, and they keep what they have.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

from reelsheet.errors import UsageError
from reelsheet.ledger import Ledger
from reelsheet.manifest import columns
from reelsheet.manifest.identity import is_identity
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, Status
from reelsheet.redaction import clean
from reelsheet.results import earlier
from reelsheet.storage.destination import Destination

FEW: Final = 12  # values of a column that a message names
LATEST: Final = "results.csv"  # of a destination
_KNOWN: Final[Mapping[str, frozenset[str]]] = {"status": frozenset(Status), "error_code": frozenset(ErrorCode)}

IsChosen = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """COLUMN=VALUE or COLUMN!=VALUE; `text` is how it was written."""

    text: str
    column: str
    value: str
    is_equal: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """The first `=` divides. Raises UsageError."""
        column, divider, value = text.partition("=")
        is_equal = not column.endswith("!")
        column = column if is_equal else column[:-1]
        if not divider or not column.strip():
            raise UsageError(
                f"--where {clean(text, limit=80)}: write COLUMN=VALUE or COLUMN!=VALUE, such as --where"
                " campaign=spring; --where campaign= stands for empty cells."
            )
        return cls(text, column.strip(), value.strip(), is_equal)

    @property
    def shown(self) -> str:
        return f"--where {clean(self.text, limit=80)}"

    def holds(self, cell: str) -> bool:
        return self.is_in([cell]) is self.is_equal

    def is_in(self, cells: Sequence[str]) -> bool:
        """True where one of the cells has this value."""
        value = _comparable(self.value)
        return any(_comparable(cell) == value for cell in cells)


def choose(
    manifest: Manifest,
    identities: Mapping[int, str],
    *,
    options: Options,
    command: str,
    ledger: Ledger,
    destination: Destination | None,
) -> tuple[Manifest, list[str]]:
    """The rows as they are chosen, and what the plan should say of the conditions. Raises UsageError.

    `identities`: position → what the cells ask for, of each valid row.
    Rows that a results file calls not chosen stay so unless --where chooses them. `command` is the key of the command.
    """
    conditions = [Condition.parse(text) for text in options.where]
    if not conditions:
        return manifest, []
    notes: list[str] = []
    past = _Past(manifest, identities, options, command, ledger, destination)
    tests = [_test(condition, manifest, past, notes) for condition in conditions]

    def left_out(row: Row) -> ErrorCode | None:
        if row.left_out is ErrorCode.HIDDEN:
            return row.left_out
        return None if all(is_chosen(row) for is_chosen in tests) else ErrorCode.NOT_CHOSEN

    rows = tuple(
        row if (reason := left_out(row)) is row.left_out else replace(row, left_out=reason) for row in manifest.rows
    )
    return replace(manifest, rows=rows), notes


def _test(condition: Condition, manifest: Manifest, past: "_Past", notes: list[str]) -> IsChosen:
    """What the condition says of a row. Raises UsageError where it names nothing that is there."""
    places = columns.places_of(condition.column, manifest.columns)
    results = columns.places_of(condition.column, manifest.result_columns)
    if results and manifest.result_columns[results[0]] == condition.column not in manifest.columns:
        places = []  # "error_code", beside a column "Error Code" of the sheet
    if len(places) > 1:
        raise UsageError(f"{condition.shown}: there are {len(places)} columns of that name; rename all but one.")
    if places:
        cells = manifest.table.iloc[:, places[0]].tolist()
        _check_value(condition, columns.label(manifest.columns, places[0]), cells, notes)
        return lambda row: condition.holds(cells[row.position])
    if results:
        name = RESULT_COLUMNS[results[0]]
        known = _KNOWN.get(name)
        if known and condition.value and not condition.is_in([*known]):
            words = ", ".join(sorted(known))
            notes.append(f"{condition.shown}: no {name} is called that; they are {words}.")
        if not past.has(name):
            notes.append(f"{condition.shown}: there are no earlier results of this sheet at the destination.")
        return lambda row: past.was_chosen(row) or condition.holds(past.cell(row, name))
    there = columns.named_first(condition.column, manifest.columns)
    raise UsageError(
        f"{condition.shown}: there is no column '{clean(condition.column, limit=60)}'; there is {there}, and the"
        " columns of the results, such as status, error_code and review."
    )


def _check_value(condition: Condition, label: str, cells: Sequence[str], notes: list[str]) -> None:
    """A value that a column of the sheet does not have is most likely misspelt."""
    if not cells or condition.is_in(cells):
        return
    value = f"the value '{clean(condition.value, limit=60)}'" if condition.value else "an empty cell"
    values = sorted({_comparable(cell): cell.strip() for cell in reversed(cells)}.values())
    there = ", ".join(f"'{clean(text, limit=40)}'" if text else "empty cells" for text in values)
    known = f"; it has {there}" if len(values) <= FEW else f"; it has {len(values):,} different ones"
    text = f"{condition.shown}: no row has {value} in the column {label}{known}."
    if condition.is_equal:
        raise UsageError(text)
    notes.append(text)


@dataclass
class _Past:
    """The result columns: the sheet's own where it has them, else those of the destination's latest table.

    A run that was not finished has changed them. While its command is repeated, the rows that it chose are chosen.
    """

    manifest: Manifest
    identities: Mapping[int, str]
    options: Options
    command: str
    ledger: Ledger
    destination: Destination | None

    def has(self, name: str) -> bool:
        """True where there is an earlier result of some row."""
        return name in self.manifest.earlier_cells or bool(self._line_of)

    def cell(self, row: Row, name: str) -> str:
        """ "" where there is no earlier result of the row."""
        own = self.manifest.earlier_cells.get(name)
        if own is not None:
            return own[row.position]
        line = self._line_of.get(row.position)
        return "" if line is None else self._latest[name][line]

    def was_chosen(self, row: Row) -> bool:
        """By a run of the same command that is unfinished and has written these results, or a later run has."""
        if not self._unfinished:
            return False
        identity, run_id = self._identity(row), self.cell(row, "run_id")
        return any(identity in chosen and run_id in tables for chosen, tables in self._unfinished)

    def _identity(self, row: Row) -> str:
        named = row.earlier.identity if row.earlier is not None else ""
        return named if is_identity(named) else self.identities.get(row.position, "")

    @cached_property
    def _unfinished(self) -> list[tuple[frozenset[str], frozenset[str]]]:
        """Of each such run: the identities that it chose, and the runs since it began, which it is among."""
        if self.options.new_run:
            return []
        where, found = frozenset(self.options.where), []
        for run in self.ledger.unfinished_runs(self.command):
            sheet = self.ledger.sheet(run.run_id) if run.where == where else None
            if sheet is not None:
                chosen = (one for place, one in enumerate(sheet.identities) if place not in sheet.left_out)
                found.append((frozenset(chosen) - {""}, self.ledger.runs_since(run.run_id)))
        return found

    @cached_property
    def _latest(self) -> dict[str, list[str]]:
        """Result column → its cells."""
        content = None if self.destination is None else self.destination.read(LATEST)
        cells = earlier.result_cells(content or b"", LATEST)
        return {name: cells[name].tolist() for name in RESULT_COLUMNS}

    @cached_property
    def _line_of(self) -> dict[int, int]:
        """Position → line of the latest table: rows with one identity in their order."""
        lines: dict[str, list[int]] = {}
        for line, identity in enumerate(self._latest["identity"]):
            lines.setdefault(identity, []).append(line)
        found: dict[int, int] = {}
        for row in self.manifest.rows:
            same = lines.get(self._identity(row) or "-")
            if same:
                found[row.position] = same.pop(0) if len(same) > 1 else same[0]
        return found


def _comparable(cell: str) -> str:
    return unicodedata.normalize("NFC", cell).strip().casefold()
