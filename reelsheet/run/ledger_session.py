"""The ledger as a run uses it: from threads, with writes that are repeated until it takes them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

from reelsheet import messages
from reelsheet.errors import LedgerAway, LedgerError
from reelsheet.ledger import Attempt, Ledger, Note, State
from reelsheet.ledger.lease import HEARTBEAT_SECONDS
from reelsheet.outcomes import ErrorCode
from reelsheet.pacing.gate import Gate
from reelsheet.run.stop_control import StopControl
from reelsheet.run.threads import Threads

log = logging.getLogger("reelsheet")

AWAY_LIMIT_S = 120.0  # without the ledger, before the run stops
AWAY_PAUSE_S = 1.0  # between tries meanwhile

monotonic = time.monotonic  # a test's own clock, where it has one

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UnrecordedId:
    """A prediction id that the ledger did not take."""

    identity: str
    attempt: int
    prediction_id: str
    cents: int


class LedgerSession:
    """One run's access to `ledger`; the ledger itself is closed by whoever opened it."""

    def __init__(self, ledger: Ledger, run_id: str, stops: StopControl) -> None:
        self.ledger = ledger
        self._run_id = run_id
        self._stops = stops
        # SQLite has one writer: one thread avoids queueing inside it. PostgreSQL answers several at once.
        self._threads = Threads(1 if ledger.is_sqlite else 4, "ledger")
        self._deferred: dict[str, Callable[[], Attempt]] = {}  # identity → the write that the ledger did not take
        self.unrecorded_ids: dict[str, UnrecordedId] = {}  # by identity
        self._noted: dict[int, Note] = {}  # by position: what the ledger holds of this run's notes
        self._away_since: float | None = None
        self._back_at: float | None = None
        self.is_lost = False  # it did not come back in time, and the run submits nothing more for that

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function` in a thread of the ledger's; again while the ledger is away, as long as a run waits for it.

        So `function` is one that may be repeated, although its first try may have succeeded unheard. Raises LedgerAway
        where the ledger did not come back in time, or where the run is interrupted.
        """
        while True:
            try:
                return await self.call_once(function, *args, **kwargs)
            except LedgerAway as error:
                await self.wait_for_ledger(error)

    async def call_once(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, without waiting for a ledger that is away."""
        try:
            answer = await self._threads.call(function, *args, **kwargs)
        except LedgerAway as error:
            if self._away_since is None:
                self._away_since = monotonic()
                log.warning("%s It is waited for.", error)
            raise
        if self._away_since is not None:
            log.warning("The ledger answers again, after %.0f s.", monotonic() - self._away_since)
            self._away_since, self._back_at = None, monotonic()
        return answer

    async def wait_for_ledger(self, error: LedgerError) -> None:
        """A moment before the next try; raises `error` where it was waited for long enough."""
        is_over = self._away_since is not None and monotonic() - self._away_since >= AWAY_LIMIT_S
        if is_over or self._stops.interrupted.is_set():
            raise error
        await self._stops.pause(AWAY_PAUSE_S)

    @property
    def is_just_back(self) -> bool:
        """Other processes may not have renewed their leases yet, which ended while the ledger was away."""
        return self._back_at is not None and monotonic() - self._back_at < HEARTBEAT_SECONDS

    def fail(self, error: LedgerError) -> None:
        """The ledger does not answer: the run submits nothing more. Other processes of it may still reach it."""
        if not isinstance(error, LedgerAway):
            self._stops.stop(ErrorCode.STORAGE, messages.ledger_down(error))
        elif not self._stops.interrupted.is_set():
            self.is_lost = True
            self._stops.stop_quietly(ErrorCode.STORAGE, messages.ledger_down(error))

    def defer_write(self, identity: str, write: Callable[[], Attempt]) -> None:
        """Write it later: with the next verdict of this identity, the next heartbeat, or at the run's end.

        What was deferred for the identity before is written before it.
        """
        earlier = self._deferred.get(identity)
        self._deferred[identity] = write if earlier is None else partial(_in_turn, earlier, write)

    async def flush_deferred(self, pauses_s: Iterable[float] = ()) -> None:
        """Write everything that was deferred, with so many more tries. Raises LedgerError."""
        for pause_s in pauses_s:
            try:
                return await self._flush_all()
            except LedgerError:
                await self._stops.pause(pause_s)
        return await self._flush_all()

    async def _flush_all(self) -> None:
        for identity in list(self._deferred):
            await self.write_deferred(identity)

    async def write_deferred(self, identity: str) -> Attempt | None:
        """Write what was deferred for one identity; None where nothing was. Raises LedgerError."""
        write = self._deferred.get(identity)
        if write is None:
            return None
        attempt = await self.call(write)
        if self._deferred.get(identity) is write:  # else another flush was faster
            del self._deferred[identity]
            self.unrecorded_ids.pop(identity, None)
        return attempt

    async def record_verdict(
        self, record: Callable[..., Attempt], attempt: Attempt, *arguments: Any, to: State
    ) -> Attempt:
        """Write a verdict down. It is not lost where the ledger is down, for the provider can be asked again."""
        try:
            attempt = await self.write_deferred(attempt.identity) or attempt
            return await self.call(record, attempt, *arguments)
        except LedgerError as error:
            self.fail(error)
            return replace(attempt, state=to, completed_at=self.ledger.now())

    async def write_notes(self, notes: Iterable[Note], *, is_last: bool = False) -> None:
        """What this run says of its rows, as far as it is new to the ledger; what no longer holds is taken back.

        `is_last`: everything is written again, since another process of the run may have removed some.
        """
        said = {note.position: note for note in notes}
        said |= {position: Note(position, "", None, "") for position in self._noted if position not in said}
        new = [note for note in said.values() if is_last or self._noted.get(note.position) != note]
        await (self.call if is_last else self.call_once)(self.ledger.write_notes, self._run_id, new)
        for note in new:
            if note.status or note.warnings:
                self._noted[note.position] = note
            else:
                self._noted.pop(note.position, None)

    async def keep_lease(self, gate: Gate, account: str) -> None:
        """Renew this process's lease until cancelled, and share `account` with the others that use this ledger."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self._renew_lease()
                wanted = account if gate.wants_more else None
                gate.share(await self.call_once(self.ledger.share_account, wanted, gate.pace.in_flight))
                await self.flush_deferred()
            except LedgerError as error:
                log.warning("%s", error)

    async def _renew_lease(self) -> None:
        """As soon as the ledger takes it, however long that lasts: others count on it."""
        while True:
            try:
                await self.call_once(self.ledger.heartbeat)
            except LedgerAway:
                await asyncio.sleep(AWAY_PAUSE_S)
            else:
                return

    def close(self) -> None:
        self._threads.close()


async def while_away(step: Callable[[], Awaitable[T]]) -> T:
    """`step`, again while it finds the ledger away, as long as a run waits for it."""
    until = monotonic() + AWAY_LIMIT_S
    while True:
        try:
            return await step()
        except LedgerAway:
            if monotonic() >= until:
                raise
            await asyncio.sleep(AWAY_PAUSE_S)


def _in_turn(first: Callable[[], Attempt], second: Callable[[], Attempt]) -> Attempt:
    first()
    return second()
