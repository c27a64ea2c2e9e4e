"""`status`: what a run has done, spent and lost, from the ledger alone, also while it runs or after a kill."""

import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from reelsheet import messages, settings
from reelsheet.cli import print_json
from reelsheet.errors import ReelsheetError, UsageError
from reelsheet.money import dollars
from reelsheet.outcomes import Status, iso, utc
from reelsheet.words import counted, length

if TYPE_CHECKING:
    from reelsheet.ledger import DayTotal, IdentityHistory, Ledger, Note, RunRecord
    from reelsheet.run.unsettled import UnsettledRow
    from reelsheet.storage.stored_object import Link

RECENT_RUNS: Final = 20  # whose ids are compared with the beginning of one
RUNS_SHOWN: Final = 5
DAYS: Final = 7
UNKNOWN_SHOWN: Final = 10
LINK_LIMIT_S: Final = 5.0  # that `status` waits for S3


def status(run_id: str | None, *, as_json: bool) -> int:
    """Show one run (by default the latest) and the totals of the last days."""
    from reelsheet.ledger import Ledger

    current = settings.load()
    with closing(Ledger.open(current.ledger_url)) as ledger:
        days = ledger.days(DAYS, is_play_money=current.is_play_money)
        if run_id is None and not ledger.recent_runs(1):
            if as_json:
                print_json({"run_id": None, "ledger": ledger.shown, "days": [_day_json(day) for day in days]})
            else:
                sys.stdout.write(f"No runs yet in the ledger at {ledger.shown}.\n")
            return 0
        record = find_run(run_id, ledger)
        counts, now = row_counts(record, ledger), ledger.now()
        unknown = _unknown_rows(ledger, current, None if run_id is None else record)
    link = _gallery_link(record)
    if as_json:
        more: dict[str, Any] = {
            "gallery_url": None if link is None else link.url,
            "gallery_url_ends_at": None if link is None else iso(link.ends_at),
            "unknown_rows": [_unknown_json(row) for row in unknown],
            "ledger": ledger.shown,
        }
        print_json(_status_json(record, counts, days, current.daily_cap_cents) | more)
    else:
        lines = [*_lines(record, counts, days, current.daily_cap_cents, now, link), *_unknown_lines(unknown, record)]
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _gallery_link(record: "RunRecord") -> "Link | None":
    """Signed now, for a gallery in S3 that is there. What S3 does not say in time is left out."""
    if record.alive or not record.destination.startswith("s3://"):
        return None
    from reelsheet.results.gallery_link import sign_again
    from reelsheet.storage.destination import open_destination

    links: list[Link | None] = []

    def sign() -> None:
        with suppress(ReelsheetError):
            links.append(sign_again(open_destination(record.destination), record.run_id))

    thread = threading.Thread(target=sign, daemon=True)
    thread.start()
    thread.join(LINK_LIMIT_S)
    return next(iter(links), None)


def _unknown_rows(ledger: "Ledger", current: settings.Settings, record: "RunRecord | None") -> "list[UnsettledRow]":
    """Those of one run, or all that the ledger has."""
    from reelsheet.run.unsettled import unsettled_rows

    if record is None:
        return unsettled_rows(ledger, current.base_url)
    sheet = ledger.sheet(record.run_id)
    return unsettled_rows(ledger, current.base_url, () if sheet is None else dict.fromkeys(sheet.identities))


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


def state_of(record: "RunRecord") -> str:
    """`running`, `finished` or `died`."""
    return "running" if record.alive else "finished" if record.finished_at is not None else "died"


def _status_json(
    record: "RunRecord", counts: Mapping[str, int], days: Sequence["DayTotal"], daily_cap_cents: int | None
) -> dict[str, Any]:
    """The keys of `status --json`; money in US dollars, times ISO 8601 UTC, `counts` in rows."""
    return {
        "run_id": record.run_id,
        "verb": record.verb,
        "state": state_of(record),
        "alive": record.alive,
        "source": record.source,
        "destination": record.destination,
        "flow_run_id": record.flow_run_id,
        "started_at": iso(utc(record.started_at)),
        "finished_at": None if record.finished_at is None else iso(utc(record.finished_at)),
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
        "play_money": day.is_play_money,
        "cost_usd": day.confirmed_cents / 100,
        "reserved_usd": day.reserved_cents / 100,
        "at_risk_usd": day.at_risk_cents / 100,
    }


_SENTENCES: Final = {"running": "is running", "finished": "is finished", "died": "was killed: it never finished"}


def _lines(
    record: "RunRecord", counts: Mapping[str, int], days: Sequence["DayTotal"], daily_cap_cents: int | None, now: float,
    link: "Link | None",
) -> Iterator[str]:  # fmt: skip
    """The same for people, in 80 columns but for addresses."""
    from reelsheet.redaction import visible

    state = state_of(record)
    exit_code = f" (exit code {record.exit_code})" if record.finished_at is not None else ""
    yield f"Run {record.run_id} {_SENTENCES[state]}{exit_code}."
    yield f"  From     {visible(record.source)}"
    yield f"  To       {visible(record.destination)}"
    ended = record.finished_at or (now if record.alive else None)
    took = f", {length(ended - record.started_at)}" if ended is not None else ""
    yield f"  Started  {utc(record.started_at):%Y-%m-%d %H:%M:%S} UTC{took}"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    rows = f"  Rows     {counted(record.rows, 'row')}{': ' + kinds if kinds else ''}"
    yield from textwrap.wrap(rows, 80, subsequent_indent=" " * 11)
    if link is not None:
        from reelsheet.results.gallery_link import about

        yield f"  Gallery  {link.url}"
        yield f"           ({about(link, datetime.now(UTC), record.run_id)})"
    yield ""
    yield f"  {'':<20}{'confirmed':>12}{'reserved':>12}{'at risk':>12}{'cap':>12}"
    yield _money_line("this run", record, record.cap_cents)
    for day in days:
        yield _money_line(day.day + " sandbox" * day.is_play_money, day, daily_cap_cents)
    if record.alive:
        return
    yield ""
    if state == "died":
        yield "The same command again continues where it stopped, and pays for nothing twice."
    yield f"reelsheet report {record.run_id}  writes its results again"


def _unknown_lines(unknown: "Sequence[UnsettledRow]", record: "RunRecord") -> Iterator[str]:
    """Each row that may have been charged, and the command that settles it, to be pasted."""
    if not unknown:
        return
    yield ""
    head = f"{counted(len(unknown), 'row')} may have been charged. {messages.SETTLE_UNKNOWN.rstrip('.')}:"
    yield from textwrap.wrap(head, 80, break_on_hyphens=False)
    for row in unknown[:UNKNOWN_SHOWN]:
        yield f"  {row.description}" + (f", run {row.run_id}" if row.run_id != record.run_id else "")
        yield f"    {row.command}"
    if len(unknown) > UNKNOWN_SHOWN:
        yield f"  and {len(unknown) - UNKNOWN_SHOWN:,} more; `reelsheet status --json` names all of them"


def _unknown_json(row: "UnsettledRow") -> dict[str, Any]:
    return {
        "identity": row.identity,
        "name": row.name,
        "line": row.line,
        "run_id": row.run_id,
        "at_risk_usd": row.price_cents / 100,
        "sent_at": iso(utc(row.claimed_at)),
        "command": row.command,
    }


def _money_line(name: str, money: "RunRecord | DayTotal", cap_cents: int | None) -> str:
    amounts = [money.confirmed_cents, money.reserved_cents, money.at_risk_cents]
    cap = "" if cap_cents is None else dollars(cap_cents)
    return f"  {name:<20}{''.join(f'{dollars(cents):>12}' for cents in amounts)}{cap:>12}".rstrip()
