"""POSTs on their way, and claims of other runs that this one waits for."""

import asyncio
import contextlib
from collections.abc import Set as AbstractSet
from typing import Any

from reelsheet.ledger import IdentityHistory, State
from reelsheet.run.ledger_session import LedgerSession
from reelsheet.run.stop_control import StopControl

OTHER_CLAIM_POLL_S = 2.0  # between two reads of another run's claim, at most


class InFlight:
    """The POSTs of this process that are on their way, or about to be. True while answers are awaited."""

    def __init__(self) -> None:
        self._admitted: set[str] = set()  # identities that the pace has admitted and whose POST has not left
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._answers: set[asyncio.Task[Any]] = set()
        self._sending: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __bool__(self) -> bool:
        return bool(self._answers)

    def admitted(self, identity: str) -> None:
        """Its POST is about to leave: whatever can wait should wait for it (see `wait_all_sent`)."""
        self._admitted.add(identity)
        self._all_sent.clear()

    def sent(self, identity: str) -> None:
        """Its POST has left, or will not leave after all."""
        self._admitted.discard(identity)
        if not self._admitted:
            self._all_sent.set()

    def count_unsent(self, *, besides: AbstractSet[str]) -> int:
        """POSTs that the pace has admitted and that have not left; most of them have reserved no money yet."""
        return len(self._admitted - besides)

    async def wait_all_sent(self, limit_s: float) -> None:
        """Until every admitted POST has left, for at most `limit_s`."""
        if not self._all_sent.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_sent.wait(), limit_s)

    async def wait_idle(self) -> None:
        """Until no answer is awaited."""
        await self._idle.wait()

    def cancel_all(self) -> None:
        """Wait for no answer any longer; what is known of each is still recorded."""
        for task in self._sending:
            task.cancel()

    def track_answer(self, answer: "asyncio.Task[Any]") -> None:
        self._answers.add(answer)
        self._idle.clear()
        answer.add_done_callback(self._forget_answer)

    def track_sending(self, sending: "asyncio.Task[Any]") -> None:
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def _forget_answer(self, answer: "asyncio.Task[Any]") -> None:
        self._answers.discard(answer)
        if not self._answers:
            self._idle.set()


class OtherClaims:
    """Claims of other living runs that rows of this one wait for: one read of the ledger serves all of them."""

    def __init__(self, session: LedgerSession, stops: StopControl) -> None:
        self._session = session
        self._stops = stops
        self._waiting: dict[str, asyncio.Future[IdentityHistory]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def settled(self, identity: str) -> IdentityHistory:
        """The history of an identity once none of its attempts is claimed any more. Raises LedgerError."""
        if identity not in self._waiting:
            self._waiting[identity] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._waiting[identity])

    async def _read(self) -> None:
        pause_s = OTHER_CLAIM_POLL_S / 10
        while self._waiting and not self._stops.interrupted.is_set():
            try:
                histories = await self._session.call(self._session.ledger.histories, list(self._waiting))
            except Exception as error:  # noqa: BLE001 - it is raised where each is waited for
                for waiting in self._waiting.values():
                    waiting.set_exception(error)
                self._waiting.clear()
                return
            settled = [one for one in histories.values() if all(a.state != State.CLAIMED for a in one.attempts)]
            for history in settled:
                self._waiting.pop(history.latest.identity).set_result(history)
            pause_s = OTHER_CLAIM_POLL_S / 10 if settled else min(OTHER_CLAIM_POLL_S, 1.5 * pause_s)
            await self._stops.pause(pause_s)
