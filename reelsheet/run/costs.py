"""What was spent for each value of an input column, over all runs of a ledger.

The ledger knows the money and which rows a run had; the rows' cells are in the run's folder: in the copy of its
manifest, else in its results table, else in the copy of that on this machine. Money whose cells are gone is shown
by itself, so that the sums are always those of the ledger.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from reelsheet.errors import ReelsheetError, UsageError
from reelsheet.ledger import Ledger, RunRecord, Sheet
from reelsheet.manifest import columns
from reelsheet.manifest import table as tables
from reelsheet.outcomes import RESULT_COLUMNS
from reelsheet.redaction import clean
from reelsheet.results import earlier
from reelsheet.settings import state_home
from reelsheet.storage.destination import Destination, open_destination
from reelsheet.words import listed

if TYPE_CHECKING:
    import pandas as pd

TABLES_AT_ONCE: Final = 8
COLUMNS_SHOWN: Final = 30
MONEY: Final = ("confirmed_cents", "reserved_cents", "at_risk_cents")


class Kind(StrEnum):
    """What a line of the sums stands for."""

    VALUE = "value"
    NO_VALUE = "no value"  # the cell is blank, or the run's sheet has no such column
    NOT_FOUND = "not found"  # the row's cells are nowhere any more


@dataclass(frozen=True, slots=True)
class Costs:
    """`lines`: a DataFrame with the columns `kind`, `value`, `clips` (paid, or perhaps), and those of MONEY.

    It is sorted by what was spent, with what has no value at its end. `problems`: why tables could not be read.
    """

    lines: "pd.DataFrame"
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of one run's rows, by identity; `names` are its columns."""

    names: tuple[str, ...] = ()
    by_identity: Mapping[str, Sequence[str]] = field(default_factory=dict)


def costs_by_column(ledger: Ledger, column: str, *, since: str = "", is_play_money: bool = False) -> Costs:
    """The money of each value of `column`, from the UTC day `since` (YYYY-MM-DD) on.

    Each attempt counts once, in the run that committed it. Raises UsageError where no run has such a column.
    """
    import pandas as pd

    spent = [one for one in ledger.attempt_money(since) if one.is_play_money == is_play_money]
    known = {record.run_id: record for record in ledger.recent_runs(limit=None)}  # the latest first
    wanted = {one.run_id for one in spent}
    cells, problems = _read_cells([record for record in known.values() if record.run_id in wanted], ledger)
    places = {run_id: columns.place_of(column, run.names) for run_id, run in cells.items()}
    if spent and any(run.names for run in cells.values()) and all(place is None for place in places.values()):
        raise UsageError(_no_such_column(column, list(cells.values())))
    labels = [_label(cells[one.run_id], places[one.run_id], one.identity) for one in spent]
    frame = pd.DataFrame(spent, columns=["run_id", "identity", "day", "is_play_money", *MONEY])
    frame[["kind", "value"]] = pd.DataFrame(labels, columns=["kind", "value"], index=frame.index)
    frame["clips"] = 1
    lines = frame.groupby(["kind", "value"], as_index=False)[["clips", *MONEY]].sum()
    order = lines["kind"].map(list(Kind).index)
    spent_cents = lines[list(MONEY)].sum(axis=1)
    lines = lines.assign(order=order, spent=-spent_cents).sort_values(["order", "spent", "value"], ignore_index=True)
    return Costs(lines[["kind", "value", "clips", *MONEY]], problems)


def _label(cells: _Cells, place: int | None, identity: str) -> tuple[Kind, str]:
    row = cells.by_identity.get(identity)
    if row is None:
        return Kind.NOT_FOUND, ""
    value = row[place].strip() if place is not None and place < len(row) else ""
    return (Kind.VALUE, value) if value else (Kind.NO_VALUE, "")


def _no_such_column(column: str, cells: Sequence[_Cells]) -> str:
    names = list(dict.fromkeys(name for run in cells for name in run.names if name))
    there = listed([f"'{clean(name, limit=60)}'" for name in names], COLUMNS_SHOWN)
    near = columns.nearest(column, names)
    hint = f" Did you mean '{clean(near, limit=60)}'?" if near else ""
    return f"No sheet of these runs has a column '{clean(column, limit=60)}'; they have {there}.{hint}"


def _read_cells(records: Sequence[RunRecord], ledger: Ledger) -> tuple[dict[str, _Cells], tuple[str, ...]]:
    """Of each run, and why some could not be read. A destination that does not answer is asked once."""
    problems: dict[str, str] = {}

    def read(record: RunRecord) -> _Cells:
        sheet = ledger.sheet(record.run_id)
        if record.destination not in problems:
            try:
                if cells := _at_destination(open_destination(record.destination), record.run_id, sheet):
                    return cells
            except ReelsheetError as error:
                problems[record.destination] = str(error)
        try:
            return _of_results(open_destination(str(state_home())), record.run_id) or _Cells()
        except ReelsheetError:
            return _Cells()

    with ThreadPoolExecutor(TABLES_AT_ONCE) as pool:
        cells = dict(zip((record.run_id for record in records), pool.map(read, records), strict=True))
    return cells, tuple(dict.fromkeys(problems.values()))


def _at_destination(destination: Destination, run_id: str, sheet: Sheet | None) -> _Cells | None:
    return _of_manifest(destination, run_id, sheet) or _of_results(destination, run_id)


def _of_manifest(destination: Destination, run_id: str, sheet: Sheet | None) -> _Cells | None:
    key = f"runs/{run_id}/manifest.csv"
    content = destination.read(key) if sheet is not None else None
    if sheet is None or content is None:
        return None
    try:
        table = tables.read_copy(content, destination.uri(key))
    except ReelsheetError:
        return None  # damaged; the results table has the same cells
    if len(table.records) != len(sheet.identities):
        return None
    rows: dict[str, Sequence[str]] = {}
    # The money stands on an identity's first chosen row.
    for position in sorted(range(len(sheet.identities)), key=lambda position: position in sheet.left_out):
        rows.setdefault(sheet.identities[position], table.records[position][1])
    return _Cells(tuple(table.header), rows)


def _of_results(destination: Destination, run_id: str) -> _Cells | None:
    key = f"runs/{run_id}/results.csv"
    content = destination.read(key)
    if content is None:
        return None
    try:
        frame = earlier.read_cells(content, destination.uri(key), strict=False)
    except ReelsheetError:
        return None
    own = len(frame.columns) - len(RESULT_COLUMNS)
    identities = frame.iloc[:, own + RESULT_COLUMNS.index("identity")].tolist()
    inputs = frame.iloc[:, :own].to_numpy().tolist()
    rows: dict[str, Sequence[str]] = {}
    for identity, cells in zip(identities, inputs, strict=True):
        rows.setdefault(identity, cells)
    return _Cells(tuple(frame.columns[:own]), rows)
