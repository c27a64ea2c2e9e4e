"""The ledger as a run uses it: from threads, with writes that are repeated until it takes them."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.ledger import Attempt, Ledger, Note, State
from reelsheet.ledger.lease import HEARTBEAT_SECONDS
from reelsheet.outcomes import ErrorCode
from reelsheet.run.stop_control import StopControl
from reelsheet.run.threads import Threads

log = logging.getLogger("reelsheet")

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

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function` in a thread of the ledger's."""
        return await self._threads.call(function, *args, **kwargs)

    def fail(self, error: LedgerError) -> None:
        """The ledger does not answer: the run submits nothing more."""
        self._stops.stop(ErrorCode.STORAGE, messages.ledger_down(error))

    def defer_write(self, identity: str, write: Callable[[], Attempt]) -> None:
        """Write it later: with the next verdict of this identity, the next heartbeat, or at the run's end."""
        self._deferred[identity] = write

    async def flush_deferred(self) -> None:
        """Write everything that was deferred. Raises LedgerError."""
        for identity in list(self._deferred):
            if identity in self._deferred:  # its next verdict may have written it meanwhile
                await self._flush(identity)

    async def record_verdict(
        self, record: Callable[..., Attempt], attempt: Attempt, *arguments: Any, to: State
    ) -> Attempt:
        """Write a verdict down. It is not lost where the ledger is down, for the provider can be asked again."""
        try:
            if attempt.identity in self._deferred:
                attempt = await self._flush(attempt.identity)
            return await self.call(record, attempt, *arguments)
        except LedgerError as error:
            self.fail(error)
            return replace(attempt, state=to, completed_at=time.time())

    async def write_notes(self, notes: Iterable[Note], *, is_last: bool = False) -> None:
        """What this run says of its rows, as far as it is new to the ledger; what no longer holds is taken back.

        `is_last`: everything is written again, since another process of the run may have removed some.
        """
        said = {note.position: note for note in notes}
        said |= {position: Note(position, "", None, "") for position in self._noted if position not in said}
        new = [note for note in said.values() if is_last or self._noted.get(note.position) != note]
        await self.call(self.ledger.write_notes, self._run_id, new)
        for note in new:
            if note.status or note.warnings:
                self._noted[note.position] = note
            else:
                self._noted.pop(note.position, None)

    async def keep_lease(self) -> None:
        """Renew this process's lease until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self.call(self.ledger.heartbeat)
                await self.flush_deferred()
            except LedgerError as error:
                log.warning("%s", error)

    def close(self) -> None:
        self._threads.close()

    async def _flush(self, identity: str) -> Attempt:
        write = self._deferred[identity]
        attempt = await self.call(write)
        if self._deferred.get(identity) is write:  # else another flush was faster
            del self._deferred[identity]
            self.unrecorded_ids.pop(identity, None)
        return attempt
