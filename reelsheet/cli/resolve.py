"""`resolve`: settle a row that may have been charged, with what the provider's dashboard shows."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reelsheet import messages, settings
from reelsheet.cli import print_json, print_message
from reelsheet.errors import ConfigurationError, Stopped, UsageError
from reelsheet.money import dollars

if TYPE_CHECKING:
    from reelsheet.ledger import Attempt, IdentityHistory, Ledger

RECENT_RUNS: Final = 20  # whose rows can be given by their name
CANDIDATES_SHOWN: Final = 5
ASK_TIMEOUT_S: Final = 10.0  # of one answer
ASK_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)  # an id may not be known everywhere at once: half a minute


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
    current = settings.load()
    with contextlib.closing(Ledger.open(current.ledger_url)) as ledger:
        ledger.expire_dead_claims()
        identity = _identity(row.strip(), ledger, current.base_url)
        if usable is not None:
            _refuse_held_id(usable, identity, ledger)
            asyncio.run(ask_provider(current, usable))
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


def _refuse_held_id(prediction_id: str, identity: str, ledger: "Ledger") -> None:
    """Raises UsageError where the ledger has the id for another row."""
    for history in ledger.find(prediction_id):
        holders = [attempt for attempt in history.attempts if attempt.prediction_id == prediction_id]
        if holders and history.latest.identity != identity:
            raise UsageError(
                f"The id {prediction_id} belongs to another row already ({history.latest.identity[:8]}, of run "
                f"{holders[0].run_id}). Nothing was changed."
            )


async def ask_provider(
    current: settings.Settings, prediction_id: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Returns where the provider knows the prediction.

    Raises UsageError where it does not, after half a minute, and Stopped where it cannot be asked.
    """
    from reelsheet.provider.client import Provider
    from reelsheet.provider.prediction import Phase, PollResult

    if current.api_key is None:
        raise ConfigurationError(messages.NO_KEY)
    async with Provider(current) as provider:
        for pause_s in (*ASK_PAUSES_S, None):
            result = PollResult(Phase.BLIP, "no answer in time")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    result = await provider.poll(prediction_id)
            if result.phase in {Phase.COMPLETED, Phase.RUNNING, Phase.FAILED}:
                return
            if pause_s is None or result.phase is Phase.KEY_REFUSED:
                break
            print_message(f"Asking the provider for {prediction_id} again in {pause_s:.0f} s ({result.message}).")
            await sleep(pause_s)
    if result.phase in {Phase.MISSING, Phase.REJECTED}:
        raise UsageError(
            f"The provider does not know the prediction {prediction_id} ({result.message}); copy the id from its "
            "dashboard as it is. Nothing was changed."
        )
    raise Stopped(
        f"The provider could not be asked for {prediction_id} ({result.message}). Nothing was changed: "
        "repeat the command when it answers, or fix VIBEDREAM_API_KEY if that is refused."
    )


def _next_step(history: "IdentityHistory", prediction_id: str | None) -> str:
    if history.is_free:
        return "Run or retry again to make its clip; that pays for it."
    if prediction_id is not None and history.latest.prediction_id == prediction_id:
        return "Run or retry again to fetch its clip at no cost."
    return "Another attempt of this row stands, and its clip stays the row's."


def _identity(row: str, ledger: "Ledger", api: str) -> str:
    """The identity of the one row at this API address that `row` names and that can be settled.

    An unknown row comes before one that was settled by hand already. Raises UsageError where there is none, or several.
    """
    from reelsheet.manifest.identity import is_of_api

    unknown, settled = ledger.unknown_attempts(), ledger.settled_attempts()
    run_id, colon, line = row.rpartition(":")
    if colon and line.isascii() and line.isdigit() and (record := ledger.run(run_id)) is not None:
        matches = [named for named in _rows_of(record.run_id, ledger) if named.line == int(line)]
        if not matches:
            raise UsageError(f"Run {record.run_id} has no row in line {line}; lines count from 1, with the header.")
    else:
        matches = _by_identity(row, settled | unknown) or list(_by_name(row, settled | unknown, ledger))
    here = [named for named in matches if not named.identity or is_of_api(named.identity, api)]
    for settleable in (unknown, settled):
        candidates = {named.identity: named for named in here if named.identity in settleable}
        if len(candidates) > 1:
            listed = "; ".join(str(named) for named in list(candidates.values())[:CANDIDATES_SHOWN])
            raise UsageError(
                f"{row!r} fits {len(candidates)} unknown rows: {listed}. Give the eight characters of one of them."
            )
        if candidates:
            return next(iter(candidates))
    elsewhere = next((named for named in matches if named.identity in unknown and named not in here), None)
    if elsewhere is not None:
        raise UsageError(_of_another_api(row, elsewhere, ledger, api))
    raise UsageError(_why_not_unknown(row, here, ledger, any_unknown=bool(unknown)))


def _of_another_api(row: str, named: NamedRow, ledger: "Ledger", api: str) -> str:
    record = ledger.run(named.run_id)
    address = (record.options.get("base_url") if record is not None else None) or "the address of its run"
    return (
        f"{row} was sent to another API address than {api}: set VIBEDREAM_BASE_URL to {address}. Nothing was changed."
    )


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
