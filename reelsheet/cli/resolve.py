"""`resolve`: settle a row that may have been charged, with what the provider's dashboard shows."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reelsheet import settings
from reelsheet.cli import print_json
from reelsheet.errors import UsageError
from reelsheet.money import dollars

if TYPE_CHECKING:
    from reelsheet.ledger import Attempt, IdentityHistory, Ledger

RECENT_RUNS: Final = 20  # whose rows can be given by their name
CANDIDATES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class NamedRow:
    """A row of a run: its line in the sheet, its name for people, its identity ("" where it is invalid)."""

    run_id: str
    line: int
    name: str
    identity: str

    def __str__(self) -> str:
        return f"{self.identity[:8]} ({self.name}, line {self.line} of run {self.run_id})"


def resolve(row: str, *, prediction_id: str | None, abandon: bool, as_json: bool) -> int:
    """Settle an unknown attempt with the provider's id, or as never charged. `row`: see `reelsheet resolve --help`."""
    from reelsheet.ledger import Ledger

    if (prediction_id is None) == (not abandon):
        raise UsageError(
            "Say what the provider's dashboard shows: --id PREDICTION, or --abandon where it shows none for this row."
        )
    usable = None if prediction_id is None else _usable_id(prediction_id)
    with closing(Ledger.open(settings.load().ledger_url)) as ledger:
        ledger.expire_dead_claims()
        identity = _unknown_identity(row.strip(), ledger)
        history = ledger.resolve(identity, usable)
    next_step = _next_step(history, usable)
    if as_json:
        print_json(
            {
                "identity": identity,
                "prediction_id": usable,
                "abandoned": usable is None,
                "state": str(history.latest.state),
                "attempt": history.latest.number,
                "total_cost_usd": history.total_cents / 100,
                "at_risk_usd": history.risk_cents / 100,
                "next": next_step,
            }
        )
    else:
        settled = f"as prediction {usable}" if usable else "as never charged"
        money = f"{dollars(history.total_cents)} confirmed, {dollars(history.risk_cents)} at risk"
        sys.stdout.write(f"Row {identity[:8]} is settled {settled}. Its cost is now {money}.\n{next_step}\n")
    return 0


def _usable_id(prediction_id: str) -> str:
    from reelsheet.provider.classification import usable_id

    usable = usable_id(prediction_id.strip())
    if not usable:
        raise UsageError(
            f"{prediction_id!r} cannot be a prediction id; copy the id from the provider's dashboard as it is."
        )
    return usable


def _next_step(history: "IdentityHistory", prediction_id: str | None) -> str:
    if history.is_free:
        return "Run or retry again to make its clip; that pays for it."
    if prediction_id is not None and history.latest.prediction_id == prediction_id:
        return "Run or retry again to fetch its clip at no cost."
    return "Another attempt of this row stands, and its clip stays the row's."


def _unknown_identity(row: str, ledger: "Ledger") -> str:
    """The identity of the one unknown row that `row` names. Raises UsageError where there is none, or several."""
    unknown = ledger.unknown_attempts()
    run_id, colon, line = row.rpartition(":")
    if colon and line.isascii() and line.isdigit() and (record := ledger.run(run_id)) is not None:
        matches = [named for named in _rows_of(record.run_id, ledger) if named.line == int(line)]
        if not matches:
            raise UsageError(f"Run {record.run_id} has no row in line {line}; lines count from 1, with the header.")
    else:
        matches = _by_identity(row, unknown) or list(_by_name(row, unknown, ledger))
    candidates = {named.identity: named for named in matches if named.identity in unknown}
    if len(candidates) > 1:
        listed = "; ".join(str(named) for named in list(candidates.values())[:CANDIDATES_SHOWN])
        raise UsageError(
            f"{row!r} fits {len(candidates)} unknown rows: {listed}. Give the eight characters of one of them."
        )
    if not candidates:
        raise UsageError(_why_not_unknown(row, matches, ledger, any_unknown=bool(unknown)))
    return next(iter(candidates))


def _by_identity(row: str, unknown: "Mapping[str, Attempt]") -> list[NamedRow]:
    start = row.casefold()
    if len(start) < 8 or not set(start) <= set("0123456789abcdef"):
        return []
    return [
        NamedRow(attempt.run_id, 0, "row", identity)
        for identity, attempt in unknown.items()
        if identity.startswith(start)
    ]


def _by_name(row: str, unknown: "Mapping[str, Attempt]", ledger: "Ledger") -> Iterator[NamedRow]:
    """Rows of that name in the runs that lost an answer, and in the latest ones."""
    wanted = row.casefold()
    recent = [record.run_id for record in ledger.recent_runs(RECENT_RUNS)]
    for run_id in dict.fromkeys((*(attempt.run_id for attempt in unknown.values()), *recent)):
        rows = _rows_of(run_id, ledger)
        yield from (named for named in rows if wanted in {named.name.casefold(), f"row {named.line}"})


def _rows_of(run_id: str, ledger: "Ledger") -> list[NamedRow]:
    sheet = ledger.sheet(run_id)
    if sheet is None:
        return []  # of another machine's ledger: its rows have only their identities here
    rows = zip(sheet.lines, sheet.names, sheet.identities, strict=True)
    return [NamedRow(run_id, line, name, identity) for line, name, identity in rows]


def _why_not_unknown(row: str, matches: Sequence[NamedRow], ledger: "Ledger", *, any_unknown: bool) -> str:
    """Why there is nothing to settle, and what there is."""
    from reelsheet.ledger import State

    identities = [named.identity for named in matches if named.identity]
    histories = list(ledger.histories(identities).values()) or ledger.find(row)
    if not histories:
        hint = "`reelsheet status` shows what is at risk." if any_unknown else "The ledger has no unknown row at all."
        return f"The ledger knows no row {row!r}; give its identity, its name, or RUN:LINE. {hint}"
    latest = histories[0].latest
    match latest.state:
        case State.CLAIMED:
            return f"A run is sending {row} right now; wait until it has an answer."
        case State.SUBMITTED | State.COMPLETED:
            reason = f"it is paid for as prediction {latest.prediction_id}"
        case State.FAILED:
            reason = f"the provider failed prediction {latest.prediction_id}"
        case _:
            reason = "nothing was charged for it"
    return f"{row} is not unknown: {reason}. Nothing was changed."
