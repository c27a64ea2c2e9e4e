"""`resolve`, `status` and `report`: what the ledger knows, and the one thing that a person may tell it."""

import asyncio
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reelsheet import settings
from reelsheet.errors import LedgerError, ReelsheetError, UsageError
from reelsheet.money import dollars

if TYPE_CHECKING:
    from reelsheet.ledger import Attempt, IdentityHistory, Ledger, Note, RunRecord
    from reelsheet.settings import Settings

LATEST_RUNS = 20  # whose rows can be named by what people call them
DAYS = 7
TOLD = 5  # rows named where a name fits several


# resolve


@dataclass(frozen=True, slots=True)
class Named:
    """A row of a run: the sheet's line, what people call it, its identity ("" where it is invalid)."""

    run_id: str
    line: int
    name: str
    identity: str

    def __str__(self) -> str:
        return f"{self.identity[:8]} ({self.name}, line {self.line} of run {self.run_id})"


def settle(row: str, *, prediction_id: str | None, abandon: bool, as_json: bool) -> int:
    """Settle an unknown attempt with the provider's id, or as never charged. `row`: see `reelsheet resolve --help`."""
    from reelsheet.ledger import Ledger
    from reelsheet.provider.classification import usable_id

    if (prediction_id is None) == (not abandon):
        raise UsageError(
            "Say what the provider's dashboard shows: --id PREDICTION, or --abandon where it shows none for this row."
        )
    given = None
    if prediction_id is not None:
        given = usable_id(prediction_id.strip())
        if not given:
            raise UsageError(f"{prediction_id!r} is no prediction id; copy it from the provider's dashboard as it is.")
    told = settings.load()
    with closing(Ledger.open(told.ledger_url)) as ledger:
        ledger.expire_dead_claims()
        identity = _unknown_row(row.strip(), ledger, told)
        history = ledger.resolve(identity, given)
    following = _following(history, given)
    if as_json:
        _print_json(
            {
                "identity": identity,
                "prediction_id": given,
                "abandoned": given is None,
                "state": str(history.latest.state),
                "attempt": history.latest.number,
                "total_cost_usd": history.total_cents / 100,
                "at_risk_usd": history.risk_cents / 100,
                "next": following,
            }
        )
    else:
        what = f"as prediction {given}" if given else "as never charged"
        money = f"{dollars(history.total_cents)} confirmed and {dollars(history.risk_cents)} at risk"
        sys.stdout.write(f"Row {identity[:8]} is settled {what}: {money} for it now.\n{following}\n")
    return 0


def _following(history: "IdentityHistory", given: str | None) -> str:
    if history.is_free:
        return "Run or retry again to have it made; that pays for it."
    if given is not None and history.latest.prediction_id == given:
        return "Run or retry again to fetch it at no cost."
    return "Another attempt of this row stands, and its clip stays the row's."


def _unknown_row(row: str, ledger: "Ledger", told: "Settings") -> str:
    """The identity of the unknown row that is meant. Raises UsageError where it is none, or several."""
    unknown = ledger.unknown_attempts()
    run_id, colon, line = row.rpartition(":")
    if colon and line.isascii() and line.isdigit() and (record := ledger.run(run_id)) is not None:
        meant = [one for one in _rows_of(record, ledger, told) if one.line == int(line)]
        if not meant:
            raise UsageError(f"Run {record.run_id} has no row in line {line}; lines count from 1, with the header.")
    else:
        meant = _by_identity(row, unknown) or list(_by_name(row, unknown, ledger, told))
    fitting = {one.identity: one for one in meant if one.identity in unknown}
    if len(fitting) == 1:
        return next(iter(fitting))
    if fitting:
        several = "; ".join(str(one) for one in list(fitting.values())[:TOLD])
        raise UsageError(
            f"{row!r} fits {len(fitting)} unknown rows: {several}. Name one by its first eight characters."
        )
    raise UsageError(_not_unknown(row, meant, ledger, len(unknown)))


def _by_identity(row: str, unknown: "Mapping[str, Attempt]") -> list[Named]:
    start = row.casefold()
    if len(start) < 8 or not set(start) <= set("0123456789abcdef"):
        return []
    return [
        Named(attempt.run_id, 0, "row", identity) for identity, attempt in unknown.items() if identity.startswith(start)
    ]


def _by_name(row: str, unknown: "Mapping[str, Attempt]", ledger: "Ledger", told: "Settings") -> Iterator[Named]:
    """Rows that people call so, in the runs that lost an answer and in the latest ones."""
    wanted = row.casefold()
    lost = dict.fromkeys(attempt.run_id for attempt in unknown.values())
    recent = {record.run_id: record for record in ledger.recent_runs(LATEST_RUNS)}
    records = [recent.get(run_id) or ledger.run(run_id) for run_id in dict.fromkeys((*lost, *recent))]
    for record in records:
        if record is None:
            continue  # of another machine's ledger: its rows have only their identities here
        try:
            rows = _rows_of(record, ledger, told)
        except ReelsheetError:
            continue  # its folder is gone; other runs may name the row
        yield from (one for one in rows if wanted in {one.name.casefold(), f"row {one.line}"} and one.identity)


def _rows_of(record: "RunRecord", ledger: "Ledger", told: "Settings") -> list[Named]:
    """Every row of a run, as the ledger was told, else from its manifest. Raises ReelsheetError where that is gone."""
    sheet = ledger.sheet(record.run_id)
    if sheet is not None:
        rows = zip(sheet.lines, sheet.names, sheet.identities, strict=True)
        return [Named(record.run_id, line, name, identity) for line, name, identity in rows]
    from reelsheet.manifest.identity import identity_of
    from reelsheet.run import rebuild as reporting

    then = reporting.as_recorded(record, told)
    return [
        Named(record.run_id, row.line, row.name, "" if row.problems else identity_of(row, then))
        for row in reporting.manifest_of(record, then).rows
    ]


def _not_unknown(row: str, meant: Iterable[Named], ledger: "Ledger", unknown: int) -> str:
    """Why there is nothing to settle, and what there is."""
    from reelsheet.ledger import State

    hint = "`reelsheet status` shows what is at risk." if unknown else "The ledger has no unknown row at all."
    histories = list(ledger.histories(one.identity for one in meant if one.identity).values()) or ledger.find(row)
    if not histories:
        return f"The ledger knows no row {row!r}; give its identity, its name, or RUN:LINE. {hint}"
    latest = histories[0].latest
    match latest.state:
        case State.CLAIMED:
            return f"{row} is being sent by a living run just now; wait until that is done."
        case State.SUBMITTED | State.COMPLETED:
            return f"{row} is not unknown: it is paid for as prediction {latest.prediction_id}. Nothing was changed."
        case State.FAILED:
            return f"{row} is not unknown: the provider failed prediction {latest.prediction_id}. Nothing was changed."
        case _:
            return f"{row} is not unknown: nothing was charged for it. Nothing was changed."


# status


def show_status(run_id: str | None, *, as_json: bool) -> int:
    """One run (the latest) and the days' totals, from the ledger alone."""
    from reelsheet.ledger import Ledger

    told = settings.load()
    with closing(Ledger.open(told.ledger_url)) as ledger:
        record = _record(run_id, ledger)
        if record is None:
            if as_json:
                _print_json({"run_id": None, "ledger": ledger.shown, "days": _days(ledger)})
            else:
                sys.stdout.write(f"No runs yet in the ledger at {ledger.shown}.\n")
            return 0
        found = _status(record, ledger, told)
    if as_json:
        _print_json(found)
    else:
        sys.stdout.write("\n".join(_status_lines(record, found)) + "\n")
    return 0


def _record(run_id: str | None, ledger: "Ledger") -> "RunRecord | None":
    """The run that is meant. Raises UsageError where there is none, or more than one."""
    if run_id is None:
        return next(iter(ledger.recent_runs(1)), None)
    record = ledger.run(run_id.strip()) if run_id.strip() else None
    if record is not None:
        return record
    recent = [one.run_id for one in ledger.recent_runs(LATEST_RUNS)]
    several = [name for name in recent if run_id.strip() and name.startswith(run_id.strip())][:TOLD]
    if several:
        raise UsageError(f"{run_id!r} is the beginning of several runs ({', '.join(several)}); write more of it.")
    latest = f" The latest is {recent[0]}." if recent else " It has none yet."
    raise UsageError(f"The ledger at {ledger.shown} knows no run {run_id!r}.{latest}")


def _status(record: "RunRecord", ledger: "Ledger", told: "Settings") -> dict[str, Any]:
    """The keys of `status --json`; money in US dollars, times ISO 8601 UTC, `counts` in rows."""
    state = "running" if record.alive else "finished" if record.finished_at is not None else "died"
    cap = told.daily_cap_cents
    return {
        "run_id": record.run_id,
        "verb": record.verb,
        "state": state,
        "alive": record.alive,
        "source": record.source,
        "destination": record.destination,
        "flow_run_id": record.flow_run_id,
        "started_at": _iso(record.started_at),
        "finished_at": _iso(record.finished_at),
        "exit_code": record.exit_code,
        "rows": record.rows,
        "counts": _counts(record, ledger),
        "cost_usd": record.confirmed_cents / 100,
        "reserved_usd": record.reserved_cents / 100,
        "at_risk_usd": record.at_risk_cents / 100,
        "cap_usd": None if record.cap_cents is None else record.cap_cents / 100,
        "daily_cap_usd": None if cap is None else cap / 100,
        "days": _days(ledger),
        "ledger": ledger.shown,
        "summary": record.summary,
    }


def _counts(record: "RunRecord", ledger: "Ledger") -> dict[str, int]:
    """How many rows of each kind, as they stand now; none of a kind is left out.

    Where the ledger was not told which rows the run has, they are as the run ended, or `other` are those of a run
    without an end that it has no attempt and no word for.
    """
    from reelsheet.outcomes import Status

    sheet, notes = ledger.sheet(record.run_id), ledger.notes(record.run_id)
    if sheet is None and record.finished_at is not None and record.summary:
        return {str(status): count for status in Status if (count := record.summary.get(str(status)))}
    identities = sheet.identities if sheet is not None else ledger.identities_of_run(record.run_id)
    histories = ledger.histories(identity for identity in identities if identity)
    first: dict[str, int] = {}
    found: Counter[str] = Counter()
    for position, identity in enumerate(identities):
        note = notes.get(first.setdefault(identity, position)) if sheet is not None else None
        found[_kind(histories.get(identity), note, record) if identity else Status.INVALID] += 1
    if sheet is None:
        said = Counter(note.status for note in notes.values())
        found.update({status: said[status] for status in (Status.SKIPPED, Status.INVALID)})
        found["other"] = max(0, record.rows - found.total())
    return {str(kind): count for kind, count in found.items() if count}


def _kind(history: "IdentityHistory | None", note: "Note | None", record: "RunRecord") -> str:
    """A status; while the run is alive also `waiting`, `sending`, `generating` and `copying`."""
    from reelsheet.ledger import State
    from reelsheet.outcomes import Status

    if history is None or history.is_free:
        last = None if history is None else history.attempts[-1]
        if note is not None and note.status and (last is None or note.status != Status.UNKNOWN):
            return note.status
        if last is not None and last.run_id == record.run_id and last.state == State.REFUSED and last.error_code:
            return Status.FAILED
        return "waiting" if record.alive else Status.SKIPPED
    left = record.alive and (note is None or note.status != Status.UNDELIVERED)
    match history.latest.state:
        case State.COMPLETED if history.delivered(record.destination):
            return Status.SUCCEEDED
        case State.COMPLETED:
            return "copying" if left else Status.UNDELIVERED
        case State.SUBMITTED:
            return "generating" if left else Status.UNDELIVERED
        case State.CLAIMED:
            return "sending"
        case State.FAILED:
            return Status.FAILED
        case _:
            return Status.UNKNOWN


def _days(ledger: "Ledger") -> list[dict[str, Any]]:
    return [
        {
            "day": total.day,
            "cost_usd": total.confirmed_cents / 100,
            "reserved_usd": total.reserved_cents / 100,
            "at_risk_usd": total.at_risk_cents / 100,
        }
        for total in ledger.days(DAYS)
    ]


_STATES = {
    "running": "is running",
    "finished": "is finished",
    "died": "was killed: it never finished",
}


def _status_lines(record: "RunRecord", found: Mapping[str, Any]) -> Iterator[str]:
    """The same for people, in 80 columns but for addresses."""
    from reelsheet.display.terminal import counted, length
    from reelsheet.redaction import visible

    code = f" (exit code {record.exit_code})" if record.finished_at is not None else ""
    yield f"Run {record.run_id} {_STATES[found['state']]}{code}."
    yield f"  From     {visible(record.source)}"
    yield f"  To       {visible(record.destination)}"
    ended = record.finished_at or (datetime.now(UTC).timestamp() if record.alive else None)
    took = f", {length(ended - record.started_at)}" if ended is not None else ""
    yield f"  Started  {_clock(record.started_at)}{took}"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found["counts"].items())
    rows = f"  Rows     {counted(record.rows, 'row')}{': ' + kinds if kinds else ''}"
    yield from textwrap.wrap(rows, 80, subsequent_indent=" " * 11)
    yield ""
    yield f"  {'':<12}{'confirmed':>12}{'reserved':>12}{'at risk':>12}{'cap':>12}"
    cap = "" if record.cap_cents is None else dollars(record.cap_cents)
    yield _money("this run", (record.confirmed_cents, record.reserved_cents, record.at_risk_cents), cap)
    day_cap = "" if found["daily_cap_usd"] is None else dollars(round(found["daily_cap_usd"] * 100))
    for day in found["days"]:
        yield _money(
            day["day"], [round(day[key] * 100) for key in ("cost_usd", "reserved_usd", "at_risk_usd")], day_cap
        )
    following = list(_next(record, found))
    if following:
        yield ""
        yield from following


def _money(name: str, cents: Iterable[int], cap: str) -> str:
    return f"  {name:<12}{''.join(f'{dollars(amount):>12}' for amount in cents)}{cap:>12}".rstrip()


def _next(record: "RunRecord", found: Mapping[str, Any]) -> Iterator[str]:
    if record.alive:
        return
    if found["state"] == "died":
        yield "The same command again goes on where it stopped, and pays for nothing twice."
    yield f"reelsheet report {record.run_id}  writes its results anew"
    if found["counts"].get("unknown"):
        yield "reelsheet resolve ROW --id PREDICTION, or --abandon  settles an unknown row"


# report


def rebuild(run_id: str, *, results: str | None, as_json: bool) -> int:
    """Write a run's results and gallery anew; its own exit code, or that of its rows where it was killed or stopped."""
    from reelsheet.ledger import Ledger
    from reelsheet.run import rebuild as reporting

    told = settings.load()
    with closing(Ledger.open(told.ledger_url)) as ledger:
        record = _record(run_id, ledger)
        if record is None:
            raise LedgerError(f"The ledger at {ledger.shown} has no runs yet.")
        made = asyncio.run(reporting.rebuild(record, ledger, told, results=results))
    if as_json:
        _print_json(made.summary.as_json())
    else:
        sys.stdout.write("\n".join(_report_lines(record, made.summary.as_json(), made.files)) + "\n")
    return made.exit_code


def _report_lines(record: "RunRecord", summary: Mapping[str, Any], files: Any) -> Iterator[str]:
    from reelsheet.outcomes import Status

    counts = ", ".join(f"{summary[status]:,} {status}" for status in map(str, Status) if summary[status])
    yield f"Run {record.run_id}, {summary['rows']:,} rows: {counts}."
    risk = summary["at_risk_usd"]
    yield f"${summary['cost_usd']:,.2f} spent in it" + (f"; ${risk:,.2f} at risk." if risk else ".")
    if files.fallback:
        yield f"Results  {files.fallback} (the destination did not take them)"
        return
    yield f"Results  {files.results}"
    yield f"Gallery  {files.gallery}"


# Small steps


def _print_json(found: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")


def _iso(seconds: float | None) -> str | None:
    from reelsheet.outcomes import iso

    return None if seconds is None else iso(datetime.fromtimestamp(seconds, UTC))


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
