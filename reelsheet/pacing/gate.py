"""Lets coroutines through at the pace of a `CongestionWindow`."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Sequence

from reelsheet.pacing.congestion_window import CongestionWindow


class Gate:
    """The pace for coroutines of one event loop: whoever comes with the lowest order is admitted first."""

    def __init__(self, pace: CongestionWindow) -> None:
        self.pace = pace
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None

    @property
    def wants_more(self) -> bool:
        """Somebody waits for what the account allows, and for nothing else."""
        return bool(self._queue) and self.pace.may_grow

    async def admit(self, order: int) -> None:
        """Returns when a submission may leave; it then counts as sent. Raises what `close` was given."""
        if self._error is not None:
            raise self._error
        if not self._queue and self.pace.wait() <= 0:  # at once: each turn of a busy loop is an empty place's time
            self.pace.sent()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (order, next(self._tickets), turn))
        self.changed()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # admitted and cancelled in the same breath: give the place back
            raise

    def left(self) -> None:
        self.pace.left()

    def accepted(self) -> None:
        self.pace.accepted()
        self.changed()

    def refused(self, retry_after_s: float | None) -> None:
        self.pace.refused(retry_after_s)
        self.changed()

    def release(self) -> None:
        self.pace.release()
        self.changed()

    def finished(self) -> None:
        self.pace.finished()
        self.changed()

    def adopted(self) -> None:
        self.pace.adopted()
        self.changed()

    def share(self, others: Sequence[int]) -> None:
        self.pace.share(others)
        self.changed()

    def hold(self, held: bool) -> None:
        self.pace.hold(held)
        self.changed()

    def close(self, error: BaseException) -> None:
        """Wakes every waiter, now and later, with `error`."""
        if self._error is None:
            self._error = error
        self._disarm()
        for _, _, turn in self._queue:
            if not turn.done():
                turn.set_exception(self._error)
        self._queue.clear()

    def changed(self) -> None:
        """Looks again at who may pass; called after every event."""
        self._disarm()
        while self._queue:
            if self._queue[0][2].done():  # cancelled while it waited
                heapq.heappop(self._queue)
                continue
            wait = self.pace.wait()
            if wait > 0:
                if math.isfinite(wait):
                    self._timer = asyncio.get_running_loop().call_later(wait, self.changed)
                return
            self.pace.sent()
            heapq.heappop(self._queue)[2].set_result(None)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
