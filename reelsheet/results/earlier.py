"""What a destination carries: the tables of the runs under it, read before anything is spent.

A ledger that is new (another machine, a lost disk) learns from them which rows were paid for, which
answers were lost and what the provider refused, so that nothing of it is paid for again.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from reelsheet.ledger import Attempt, Delivery, ImportedAttempt, Ledger, State
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, Status
from reelsheet.provider.classification import usable_id
from reelsheet.redaction import clean

if TYPE_CHECKING:
    from reelsheet.manifest.rows import Earlier
    from reelsheet.storage.destination import Destination

LAST_ATTEMPT = 10_000
_MOST = Decimal(10) ** 30
_FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.INVALID})
RECOVERY = "recovery"  # runs/RUN/recovery-*.csv: ids that the ledger could not take


@dataclass(frozen=True, slots=True)
class PastResult:
    """One row of a run's table, as far as it concerns money. Times in seconds since 1970 UTC."""

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


def read_table(content: bytes) -> Iterator[PastResult]:
    """The rows of a results.csv that have an identity; nothing where it is no results table."""
    records = csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""))
    try:
        header = next(records, [])
        start = _block(header)
        if start is None:
            return
        for record in records:
            told = zip(RESULT_COLUMNS, record[start : start + len(RESULT_COLUMNS)], strict=False)
            cells = dict.fromkeys(RESULT_COLUMNS, "") | dict(told)
            row = _told(cells)
            if row is not None:
                yield row
    except csv.Error:
        return


def import_from_destination(ledger: Ledger, destination: "Destination") -> int:
    """Read the tables under a destination that this ledger has not seen; how many attempts were new to it."""
    seen = ledger.imported_tables(destination.address)
    listed = {
        key: str(size)
        for key, size in destination.listing("runs/").items()
        if key.endswith("/results.csv") or (f"/{RECOVERY}-" in key and key.endswith(".csv"))
    }
    unread = {key: version for key, version in listed.items() if seen.get(key) != version}
    if not unread:
        return 0
    # Run ids begin with the time: older tables first, so that costs of later attempts add up on them.
    new = 0
    for key in sorted(unread):
        content = destination.read(key)
        if content is not None:
            rows = list(read_table(content))
            # A table that may still change, and to the same length at that, is read again the next time.
            version = unread[key] if all(row.status in _FINAL for row in rows) else ""
            new += ledger.import_attempts(_attempts(rows, ledger, destination))
            ledger.remember_table(destination.address, key, version)
    return new


def take_over_rows(ledger: Ledger, content: bytes, destination: "Destination") -> int:
    """The same for one results table that a person hands over."""
    return ledger.import_attempts(_attempts(list(read_table(content)), ledger, destination))


def seen_now(ledger: Ledger, destination: "Destination", key: str, size: int) -> None:
    """A table that this ledger wrote itself needs no reading."""
    ledger.remember_table(destination.address, key, str(size))


def _attempts(rows: Sequence[PastResult], ledger: Ledger, destination: "Destination") -> Iterator[ImportedAttempt]:
    known = ledger.histories(row.identity for row in rows)
    first: dict[str, PastResult] = {}
    for row in rows:
        first.setdefault(row.identity, row)  # money stands on an identity's first row
    for identity, row in first.items():
        state = _state(row.status, row.prediction_id)
        if state is None:
            continue
        history = known.get(identity)
        before = history.total_cents if history else 0
        submitted = row.submitted_at or row.completed_at or 0.0
        attempt = Attempt(
            id=0,
            identity=identity,
            number=max(1, row.attempt),
            state=state,
            owner=None,
            run_id=row.run_id,
            day=datetime.fromtimestamp(submitted, UTC).strftime("%Y-%m-%d"),
            price_cents=row.at_risk_cents if state == State.UNKNOWN else max(0, row.total_cents - before),
            quoted_cents=None if state == State.UNKNOWN else max(0, row.total_cents - before),
            prediction_id=row.prediction_id or None,
            error_code=row.error_code if row.error_code in set(ErrorCode) else None,
            error=row.error or None,
            claimed_at=submitted,
            submitted_at=None if state == State.UNKNOWN else submitted,
            completed_at=row.completed_at,
            imported=True,
        )
        yield ImportedAttempt(attempt, _deliveries(row, destination))


def _deliveries(row: PastResult, destination: "Destination") -> Sequence[Delivery]:
    if row.status != Status.SUCCEEDED:
        return ()
    uris = [row.video_uri, *row.more_video_uris]
    keys = [destination.key_of(uri) for uri in uris]
    if not row.video_uri or any(key is None for key in keys):
        return ()  # stored elsewhere: that destination says so itself
    return [
        Delivery(
            attempt=max(1, row.attempt),
            destination=destination.address,
            output=n,
            outputs=len(keys),
            key=key or "",
            bytes=row.bytes if n == 0 else 0,
            sha256=row.sha256 if n == 0 else "",
            width=row.width,
            height=row.height,
            duration_s=row.duration_s,
        )
        for n, key in enumerate(keys)
    ]


def attempt_of(identity: str, earlier: "Earlier", price_cents: int) -> Attempt | None:
    """What a row of an earlier results file says of an attempt; None where nothing was paid for."""
    state = _state(earlier.status, usable_id(earlier.prediction_id))
    if state is None:
        return None
    unknown = state == State.UNKNOWN
    return Attempt(
        id=0, identity=identity, number=min(max(1, earlier.attempt or 1), LAST_ATTEMPT), state=state, owner=None,
        run_id="", day="1970-01-01", price_cents=price_cents, quoted_cents=None if unknown else price_cents,
        prediction_id=None if unknown else earlier.prediction_id, imported=True,
    )  # fmt: skip


def _state(status: str, prediction_id: str) -> State | None:
    if status == Status.UNKNOWN:
        return State.UNKNOWN
    if not prediction_id:
        return None  # refused, skipped, invalid: nothing was charged
    if status == Status.FAILED:
        return State.FAILED
    if status == Status.SUCCEEDED:
        return State.COMPLETED
    return State.SUBMITTED


def _block(header: Sequence[str]) -> int | None:
    """Where the whole block of result columns begins; ours may be called reelsheet_NAME."""
    width = len(RESULT_COLUMNS)
    for start in range(len(header) - width, -1, -1):
        if all(_is(name, ours) for name, ours in zip(header[start : start + width], RESULT_COLUMNS, strict=True)):
            return start
    return None


def _is(name: str, ours: str) -> bool:
    bare = name.strip().casefold()
    return bare == ours or re.fullmatch(rf"reelsheet_{ours}[_\d]*", bare) is not None


def _told(cells: Mapping[str, str]) -> PastResult | None:
    identity = cells.get("identity", "").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", identity):
        return None
    sha256, duration = cells["video_sha256"].strip(), _number(cells["duration_s"])
    return PastResult(
        identity=identity,
        status=cells["status"].strip(),
        error_code=cells["error_code"].strip().casefold(),
        error=clean(_plain(cells["error"]), limit=1000),
        attempt=_whole(cells["attempt"], LAST_ATTEMPT) or 1,
        prediction_id=usable_id(_plain(cells["prediction_id"].strip())),
        total_cents=_cents(cells["total_cost_usd"]),
        at_risk_cents=_cents(cells["at_risk_usd"]),
        video_uri=_plain(cells["video_uri"]).replace("\0", ""),
        more_video_uris=tuple(_plain(cells["more_video_uris"]).replace("\0", "").split()),
        submitted_at=_time(cells["submitted_at"]),
        completed_at=_time(cells["completed_at"]),
        bytes=_whole(cells["video_bytes"], 2**62) or 0,
        sha256=sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else "",
        width=_whole(cells["width"]),
        height=_whole(cells["height"]),
        duration_s=None if duration is None else float(duration),
        run_id=re.sub(r"[^\w.:-]", "", _plain(cells["run_id"].strip()))[:64],
    )


def _plain(cell: str) -> str:
    """The cell without the apostrophe that keeps it from being a formula."""
    return cell[1:] if cell[:1] == "'" else cell


def _whole(cell: str, most: int = 2**31 - 1) -> int | None:
    number = _number(cell)
    return None if number is None or not 0 <= number <= most else int(number)


def _number(cell: str) -> Decimal | None:
    """Spreadsheets may have put a comma for the point."""
    try:
        value = Decimal(cell.strip().replace(",", "."))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value) < _MOST else None


def _cents(cell: str) -> int:
    number = _number(cell)
    return 0 if number is None else min(max(0, round(number * 100)), 2**31 - 1)


def _time(cell: str) -> float | None:
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        return None
    if not 2000 <= moment.year < 9999:  # nobody was paid then, and no calendar reaches beyond
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def recovery_table(rows: Iterable[tuple[str, int, str, int]], run_id: str) -> bytes:
    """(identity, attempt, prediction id, cents) → a table that `take_over` reads."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(RESULT_COLUMNS)
    for identity, number, prediction_id, cents in rows:
        cells = dict.fromkeys(RESULT_COLUMNS, "")
        cells |= {
            "status": Status.UNDELIVERED,
            "identity": identity,
            "attempt": str(number),
            "prediction_id": prediction_id,
            "total_cost_usd": f"{Decimal(cents) / 100:.2f}",
            "submitted_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": run_id,
        }
        writer.writerow([cells[name] for name in RESULT_COLUMNS])
    return out.getvalue().encode()
