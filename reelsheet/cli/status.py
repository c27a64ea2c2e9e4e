"""`status`: what a run has done, spent and lost, from the ledger alone, also while it runs or after a kill."""

import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from reelsheet import settings
from reelsheet.cli import print_json
from reelsheet.errors import UsageError
from reelsheet.money import dollars
from reelsheet.outcomes import Status, iso

if TYPE_CHECKING:
    from reelsheet.ledger import DayTotal, IdentityHistory, Ledger, Note, RunRecord

RECENT_RUNS: Final = 20  # whose ids are compared with the beginning of one
RUNS_SHOWN: Final = 5
DAYS: Final = 7


def status(run_id: str | None, *, as_json: bool) -> int:
    """Show one run (by default the latest) and the totals of the last days."""
    from reelsheet.ledger import Ledger

    current = settings.load()
    with closing(Ledger.open(current.ledger_url)) as ledger:
        days = ledger.days(DAYS)
        if run_id is None and not ledger.recent_runs(1):
            if as_json:
                print_json({"run_id": None, "ledger": ledger.shown, "days": [_day_json(day) for day in days]})
            else:
                sys.stdout.write(f"No runs yet in the ledger at {ledger.shown}.\n")
            return 0
        record = find_run(run_id, ledger)
        counts = row_counts(record, ledger)
    if as_json:
        print_json(_status_json(record, counts, days, current.daily_cap_cents) | {"ledger": ledger.shown})
    else:
        sys.stdout.write("\n".join(_lines(record, counts, days, current.daily_cap_cents)) + "\n")
    return 0


def find_run(run_id: str | None, ledger: "Ledger") -> "RunRecord":
    """The run with this id or beginning; None is the latest. Raises UsageError where there is none, or several."""
    recent = ledger.recent_runs(RECENT_RUNS)
    if run_id is None and recent:
        return recent[0]
    wanted = (run_id or "").strip()
    record = ledger.run(wanted) if wanted else None
    if record is not None:
        return record
    matches = [run.run_id for run in recent if wanted and run.run_id.startswith(wanted)]
    if matches:
        shown = ", ".join(matches[:RUNS_SHOWN])
        raise UsageError(f"{run_id!r} is the beginning of several runs ({shown}); write more of it.")
    latest = f"Its latest run is {recent[0].run_id}." if recent else "It has no runs yet."
    raise UsageError(f"The ledger at {ledger.shown} knows no run {run_id!r}. {latest}")


def row_counts(record: "RunRecord", ledger: "Ledger") -> dict[str, int]:
    """How many rows of each kind there are now, without kinds that no row has."""
    sheet, notes = ledger.sheet(record.run_id), ledger.notes(record.run_id)
    identities = sheet.identities if sheet is not None else ()
    histories = ledger.histories(identity for identity in identities if identity)
    first_position: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for position, identity in enumerate(identities):
        note = notes.get(first_position.setdefault(identity, position))
        counts[_kind(histories.get(identity), note, record) if identity else Status.INVALID] += 1
    return {str(kind): count for kind, count in counts.items()}


def _kind(history: "IdentityHistory | None", note: "Note | None", record: "RunRecord") -> str:
    """A status; while the run is alive also `waiting`, `sending`, `generating` and `copying`."""
    from reelsheet.ledger import State
    from reelsheet.planning.plan import next_step
    from reelsheet.run.row_status import Stage, outcome_of_note, stage_or_status

    if history is not None and history.latest.state == State.CLAIMED:  # by a living run; a dead one's is unknown
        return Stage.SENDING
    step = next_step(history, record.destination, None, may_repay=False)
    outcome = outcome_of_note(note, step, history, record.run_id)
    return stage_or_status(step, history, outcome, run_id=record.run_id, is_live=record.alive)


def _state(record: "RunRecord") -> str:
    return "running" if record.alive else "finished" if record.finished_at is not None else "died"


def _status_json(
    record: "RunRecord", counts: Mapping[str, int], days: Sequence["DayTotal"], daily_cap_cents: int | None
) -> dict[str, Any]:
    """The keys of `status --json`; money in US dollars, times ISO 8601 UTC, `counts` in rows."""
    return {
        "run_id": record.run_id,
        "verb": record.verb,
        "state": _state(record),
        "alive": record.alive,
        "source": record.source,
        "destination": record.destination,
        "flow_run_id": record.flow_run_id,
        "started_at": iso(_utc(record.started_at)),
        "finished_at": None if record.finished_at is None else iso(_utc(record.finished_at)),
        "exit_code": record.exit_code,
        "rows": record.rows,
        "counts": counts,
        "cost_usd": record.confirmed_cents / 100,
        "reserved_usd": record.reserved_cents / 100,
        "at_risk_usd": record.at_risk_cents / 100,
        "cap_usd": None if record.cap_cents is None else record.cap_cents / 100,
        "daily_cap_usd": None if daily_cap_cents is None else daily_cap_cents / 100,
        "days": [_day_json(day) for day in days],
        "summary": record.summary,
    }


def _day_json(day: "DayTotal") -> dict[str, Any]:
    return {
        "day": day.day,
        "cost_usd": day.confirmed_cents / 100,
        "reserved_usd": day.reserved_cents / 100,
        "at_risk_usd": day.at_risk_cents / 100,
    }


_SENTENCES: Final = {"running": "is running", "finished": "is finished", "died": "was killed: it never finished"}


def _lines(
    record: "RunRecord", counts: Mapping[str, int], days: Sequence["DayTotal"], daily_cap_cents: int | None
) -> Iterator[str]:
    """The same for people, in 80 columns but for addresses."""
    from reelsheet.display.terminal import counted, length
    from reelsheet.redaction import visible

    state = _state(record)
    exit_code = f" (exit code {record.exit_code})" if record.finished_at is not None else ""
    yield f"Run {record.run_id} {_SENTENCES[state]}{exit_code}."
    yield f"  From     {visible(record.source)}"
    yield f"  To       {visible(record.destination)}"
    ended = record.finished_at or (datetime.now(UTC).timestamp() if record.alive else None)
    took = f", {length(ended - record.started_at)}" if ended is not None else ""
    yield f"  Started  {_utc(record.started_at):%Y-%m-%d %H:%M:%S} UTC{took}"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    rows = f"  Rows     {counted(record.rows, 'row')}{': ' + kinds if kinds else ''}"
    yield from textwrap.wrap(rows, 80, subsequent_indent=" " * 11)
    yield ""
    yield f"  {'':<12}{'confirmed':>12}{'reserved':>12}{'at risk':>12}{'cap':>12}"
    yield _money_line("this run", record, record.cap_cents)
    for day in days:
        yield _money_line(day.day, day, daily_cap_cents)
    if record.alive:
        return
    yield ""
    if state == "died":
        yield "The same command again continues where it stopped, and pays for nothing twice."
    yield f"reelsheet report {record.run_id}  writes its results again"
    if counts.get("unknown"):
        yield "reelsheet resolve ROW --id PREDICTION, or --abandon  settles an unknown row"


def _money_line(name: str, money: "RunRecord | DayTotal", cap_cents: int | None) -> str:
    amounts = [money.confirmed_cents, money.reserved_cents, money.at_risk_cents]
    cap = "" if cap_cents is None else dollars(cap_cents)
    return f"  {name:<12}{''.join(f'{dollars(cents):>12}' for cents in amounts)}{cap:>12}".rstrip()


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
