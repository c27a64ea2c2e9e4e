"""Results tables of earlier runs: the one reader of them, and their import into a ledger.

A ledger that is new (another machine, a lost disk) learns from the tables under a destination which rows were paid
for, which answers were lost and what the provider refused, so that nothing of it is paid for again. People open and
save these tables in spreadsheet programs, which change delimiter, encoding, form, the order of columns and decimals.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reelsheet.errors import ManifestError
from reelsheet.ledger import Attempt, Delivery, IdentityHistory, ImportedAttempt, Ledger, State
from reelsheet.manifest import columns, prompt_sent, source
from reelsheet.manifest import table as tables
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, RowResult, Status, utc
from reelsheet.provider.classification import usable_id
from reelsheet.redaction import clean
from reelsheet.results.table import MONEY, NUMBERS, TIMES, results_only_csv, unescaped
from reelsheet.storage.destination import Destination

if TYPE_CHECKING:
    import pandas as pd

LAST_ATTEMPT: Final = 10_000
RECOVERY: Final = "recovery"  # runs/RUN/recovery-*.csv: ids that the ledger could not take
_LARGEST: Final = Decimal(10) ** 30
_FINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.INVALID})
_STATES: Final[dict[str, State]] = {Status.FAILED: State.FAILED, Status.SUCCEEDED: State.COMPLETED}
_HASH: Final = r"[0-9a-f]{64}"
_READERS: Final = {"prompt_sent": prompt_sent.from_cell}  # of cells that are not as others


@dataclass(frozen=True, slots=True)
class PastResult:
    """What a results table says of one identity, as far as it concerns money. Times in seconds since 1970 UTC."""

    identity: str
    status: str
    error_code: str
    error: str
    attempt: int
    prediction_id: str
    total_cents: int
    at_risk_cents: int
    video_uri: str
    more_video_uris: tuple[str, ...]
    submitted_at: float | None
    completed_at: float | None
    bytes: int
    sha256: str
    width: int | None
    height: int | None
    duration_s: float | None
    run_id: str


def read_results(path: str | Path) -> "pd.DataFrame":
    """A results table (results.csv, failed.csv or results.xlsx) as a DataFrame, one row for each row of the sheet.

    `path` is a file, or an `s3://` or `http(s)://` address. It may have been saved by a spreadsheet program: delimiter,
    encoding, form and the order of columns do not matter.

    Columns: the input's own, unchanged, then those of docs/results.md in their order. Where the input has a column of
    such a name, ours is `reelsheet_NAME`. dtypes: `cost_usd`, `total_cost_usd` and `at_risk_usd` are `Decimal` (dtype
    object), so that sums are exact to the cent; `attempt`, `seconds`, `video_bytes`, `width`, `height` and `duration_s`
    are float64; `submitted_at` and `completed_at` are datetime64 in UTC; all others are text (dtype str). A cell that
    is blank, or cannot be read as such, is None, NaN or NaT there and "" in text; so is one whose column was deleted.

    Raises ManifestError where `path` cannot be read or is not a results table.
    """
    import pandas as pd

    fetched = source.fetch(str(path))
    frame = read_cells(fetched.content, fetched.name)
    names = dict(zip(RESULT_COLUMNS, frame.columns[-len(RESULT_COLUMNS) :], strict=True))
    for name in MONEY:
        frame[names[name]] = frame[names[name]].map(_number).astype(object)
    for name in NUMBERS:
        frame[names[name]] = frame[names[name]].map(_number).astype("float64")
    for name in TIMES:
        frame[names[name]] = pd.to_datetime(frame[names[name]], errors="coerce", utc=True, format="ISO8601")
    return frame


def read_cells(content: bytes, name: str, *, sheet: str | None = None, strict: bool = True) -> "pd.DataFrame":
    """The cells of a results table as text: the input's columns, then ours in the order of RESULT_COLUMNS.

    `name` stands for the table in messages, `sheet` names a workbook's sheet, `strict` is that of `tables.read`.
    Raises ManifestError.
    """
    raw = tables.read(
        content, name, accepts=lambda header: bool(columns.result_block(header)), sheet=sheet, strict=strict
    )
    return _cells(raw, name)


def _cells(raw: tables.RawTable, name: str) -> "pd.DataFrame":
    block = columns.result_block(raw.header, raw.records)
    if not block:
        raise ManifestError(f"{name} is not a results table: the columns 'status', 'identity' and others are missing.")
    own = [place for place in range(len(raw.header)) if place not in block.values()]
    added = [(block.get(column, len(raw.header)), _READERS.get(column, unescaped)) for column in RESULT_COLUMNS]
    inputs = [raw.header[place] for place in own]
    records = []
    for _, cells in raw.records:
        cells.extend([""] * (len(raw.header) + 1 - len(cells)))  # the last one stands for a column that is missing
        records.append([cells[place] for place in own] + [read(cells[place]) for place, read in added])
    return tables.text_frame([*inputs, *columns.result_columns(inputs)], records)


def result_cells(content: bytes, name: str, *, sheet: str | None = None) -> "pd.DataFrame":
    """The cells of RESULT_COLUMNS under these very names; no rows where `content` is not a results table."""
    readers: tuple[Callable[[], pd.DataFrame], ...] = (
        lambda: read_cells(content, name, sheet=sheet),
        lambda: read_cells(content, name, sheet=sheet, strict=False),  # cut off, or with a stray quote
        lambda: _cells(tables.read_copy(content.removeprefix(BOM_UTF8), name), name),  # larger or odder than a sheet
    )
    for reader in readers:
        with suppress(ManifestError):
            return reader().iloc[:, -len(RESULT_COLUMNS) :].set_axis(RESULT_COLUMNS, axis=1)
    return tables.text_frame(RESULT_COLUMNS, [])


def past_results(content: bytes, name: str, *, sheet: str | None = None) -> list[PastResult]:
    """What a results table says of each identity: by its first row, where its money stands. [] for any other table."""
    cells = result_cells(content, name, sheet=sheet)
    cells = cells[cells["identity"].str.fullmatch(_HASH)].drop_duplicates("identity")
    return [_past_result(row) for row in cells.astype(object).itertuples(index=False)]  # str is slow to iterate


def import_from_destination(ledger: Ledger, destination: Destination) -> int:
    """Read the tables under a destination that this ledger has not read; how many attempts were new to it."""
    read = ledger.imported_tables(destination.address)
    unread = {
        key: str(size)
        for key, size in destination.listing("runs/").items()
        if key.endswith("/results.csv") or (f"/{RECOVERY}-" in key and key.endswith(".csv"))
        if read.get(key) != str(size)
    }
    new = 0
    for key in sorted(unread):  # run ids begin with the time: later attempts add their costs
        content = destination.read(key)
        if content is not None:
            rows = past_results(content, destination.uri(key))
            # A table that may still change, and to the same length, is read again the next time.
            version = unread[key] if all(row.status in _FINAL for row in rows) else ""
            is_rescued = f"/{RECOVERY}-" in key
            theirs = _attempts(rows, ledger, destination, of_attempt=is_rescued)
            new += ledger.import_attempts(theirs, adds_others=True)
            ledger.remember_table(destination.address, key, version)
    return new


def import_table(
    ledger: Ledger, content: bytes, name: str, destination: Destination | None, *, sheet: str | None = None
) -> int:
    """The same for one results table, which a person gives."""
    return ledger.import_attempts(_attempts(past_results(content, name, sheet=sheet), ledger, destination))


def mark_imported(ledger: Ledger, destination: Destination, key: str, size: int) -> None:
    """A table that this ledger wrote itself need not be read."""
    ledger.remember_table(destination.address, key, str(size))


def recovery_table(identity: str, attempt: int, prediction_id: str, cents: int, run_id: str) -> bytes:
    """A table of one paid attempt that the ledger could not take, for `import_from_destination` to read."""
    result = RowResult(
        Status.UNDELIVERED, identity=identity, attempt=attempt, prediction_id=prediction_id, total_cost_cents=cents,
        submitted_at=datetime.now(UTC), run_id=run_id,
    )  # fmt: skip
    return results_only_csv([result])


def _attempts(
    rows: Sequence[PastResult], ledger: Ledger, destination: Destination | None, *, of_attempt: bool = False
) -> Iterator[ImportedAttempt]:
    """`of_attempt`: the totals are what one attempt cost, not what the identity ever cost."""
    known = ledger.histories(row.identity for row in rows)
    for row in rows:
        state = _state(row)
        if state is None:
            continue
        unknown = state == State.UNKNOWN
        cents = row.total_cents if of_attempt else max(0, row.total_cents - _known_cents(row, known.get(row.identity)))
        submitted = row.submitted_at or row.completed_at or 0.0
        attempt = Attempt(
            id=0,
            identity=row.identity,
            number=row.attempt,
            state=state,
            owner=None,
            run_id=row.run_id,
            day=f"{utc(submitted):%Y-%m-%d}",
            price_cents=row.at_risk_cents if unknown else cents,
            quoted_cents=None if unknown else cents,
            prediction_id=row.prediction_id or None,
            error_code=row.error_code if row.error_code in set(ErrorCode) else None,
            error=row.error or None,
            claimed_at=submitted,
            submitted_at=None if unknown else submitted,
            completed_at=row.completed_at,
            imported=True,
        )
        yield ImportedAttempt(attempt, _deliveries(row, destination))


def _known_cents(row: PastResult, history: IdentityHistory | None) -> int:
    """What is known of the money that a row's total says; another prediction under its number is not in that total."""
    attempts = history.attempts if history else ()
    others = [a for a in attempts if a.number == row.attempt and a.prediction_id not in {None, row.prediction_id}]
    return sum(attempt.paid_cents for attempt in attempts) - sum(attempt.paid_cents for attempt in others)


def _deliveries(row: PastResult, destination: Destination | None) -> Sequence[Delivery]:
    if row.status != Status.SUCCEEDED or destination is None:
        return ()
    uris = [row.video_uri, *row.more_video_uris]
    keys = [destination.key_of(uri) for uri in uris]
    if not row.video_uri or any(key is None for key in keys):
        return ()  # stored elsewhere: the tables of that destination say so
    return [
        Delivery(
            attempt=row.attempt,
            destination=destination.address,
            output=output,
            outputs=len(keys),
            key=key or "",
            bytes=row.bytes if output == 0 else 0,
            sha256=row.sha256 if output == 0 else "",
            width=row.width,
            height=row.height,
            duration_s=row.duration_s,
        )
        for output, key in enumerate(keys)
    ]


def _state(row: PastResult) -> State | None:
    """The state of the row's attempt; None where it was refused, skipped or invalid, and nothing was charged."""
    if row.status == Status.UNKNOWN or (not row.status and not row.prediction_id and row.at_risk_cents):
        return State.UNKNOWN
    if not row.prediction_id:
        return None
    return _STATES.get(row.status, State.SUBMITTED)


def _past_result(row: Any) -> PastResult:
    duration = _number(row.duration_s)
    return PastResult(
        identity=row.identity,
        status=row.status.casefold(),
        error_code=row.error_code.casefold(),
        error=row.error and clean(row.error, limit=1000),
        attempt=max(1, _whole(row.attempt, LAST_ATTEMPT) or 1),
        prediction_id=usable_id(row.prediction_id),
        total_cents=_cents(row.total_cost_usd),
        at_risk_cents=_cents(row.at_risk_usd),
        video_uri=row.video_uri.replace("\0", ""),
        more_video_uris=tuple(row.more_video_uris.replace("\0", "").split()),
        submitted_at=_time(row.submitted_at),
        completed_at=_time(row.completed_at),
        bytes=_whole(row.video_bytes, 2**62) or 0,
        sha256=row.video_sha256 if re.fullmatch(_HASH, row.video_sha256) else "",
        width=_whole(row.width),
        height=_whole(row.height),
        duration_s=None if duration is None else float(duration),
        run_id=re.sub(r"[^\w.:-]", "", row.run_id)[:64],
    )


def _whole(cell: str, largest: int = 2**31 - 1) -> int | None:
    number = _number(cell)
    return None if number is None or not 0 <= number <= largest else int(number)


@lru_cache(maxsize=4096)  # large tables repeat few numbers
def _number(cell: str) -> Decimal | None:
    """A spreadsheet program may have put a comma for the point, or a currency sign and separated thousands."""
    text = cell.strip("$€ \u00a0")
    point = max(text.rfind("."), text.rfind(","))
    if "." in text and "," in text:
        text = re.sub(r"[.,]", "", text[:point]) + "." + text[point + 1 :]
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value) < _LARGEST else None


def _cents(cell: str) -> int:
    number = _number(cell)
    return 0 if number is None else min(max(0, round(number * 100)), 2**31 - 1)


def _time(cell: str) -> float | None:
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    if not 2000 <= moment.year < 9999:  # nobody was paid then, and no calendar reaches beyond
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
