"""How many predictions may be in flight: found from acceptances and refusals alone."""

import asyncio
import heapq
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reelsheet.retry_after import retry_after

__all__ = ["Gate", "Pace", "PaceView", "retry_after"]

CANARY = 3  # unanswered at first
PROBE_ROWS = 11  # acceptances at the limit, at least, before one more is tried
PATIENCE = 0.5  # seconds without an event before one more is tried
SLOW = 0.75
REGULARS = 3
RELEASE = 24
LONGEST_PAUSE = 10.0  # seconds, where the provider names none
BACK_OFF = 0.05  # of the limit, doubled with each refusal in a row
UP = 0.03
DOWN = 0.3
DOWN_RA = 0.6
CORR = 1.0
DEC = 1.0


@dataclass(frozen=True, slots=True)
class PaceView:
    """What a progress line shows. `per_minute` is of acceptances, `held` seconds until the provider may be asked again."""

    in_flight: int
    window: float
    per_minute: float
    held: float
    refusals: int


class Pace:
    """Decides when one more submission may leave. Pure: it is told of events, and asked.

    Grows as fast as acceptances come until the first refusal; from then on it holds the number in flight at the limit
    found, tries one more now and then, and gives way when it is refused where it was not before.
    """

    def __init__(
        self,
        *,
        ceiling: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        unseen: Callable[[], float] | None = None,
    ) -> None:
        self._ceiling = math.inf if ceiling is None else max(1, ceiling)
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._expected = unseen
        self._unanswered = 0
        self._running = 0
        self._accepted = 0
        self._limit = math.inf  # so many in flight are known to fit
        self._proven = 0.0  # the limit before it rose on trust
        self._stride = 1.0  # by how much the limit rises when one more than it is accepted
        self._credit = 0.0  # towards trying one more than the limit; 1 is due
        self._burst = float(CANARY)  # how many may be unanswered
        self._stale = 0  # answers still to come that say nothing new
        self._overshot = False
        self._refused_at = -math.inf
        self._since_refusal = 0  # acceptances
        self._gap = 0.0
        self._first_refusal: float | None = None
        self._before = 0
        self._turn = 0
        self._regulars = 0
        self._last_sent = -math.inf
        self._cuts = 0
        self._streak = 0  # refusals without an acceptance between
        self._margin = 1.0
        self._wrong = 0.0
        self._until = -math.inf
        self._quiet = 0.0  # since when nothing has happened
        self._patience = PATIENCE
        self._held = False
        self._times: deque[float] = deque(maxlen=64)
        self.refusals = 0

    @property
    def in_flight(self) -> int:
        return self._unanswered + self._running

    @property
    def window(self) -> float:
        return min(self._limit, self._ceiling)

    # --- told

    def sent(self) -> None:
        self._unanswered += 1
        self._last_sent = self._clock()

    def accepted(self) -> None:
        now = self._clock()
        self._unanswered -= 1
        self._running += 1
        self._accepted += 1
        self._stale = max(0, self._stale - 1)
        if not self._stale:
            self._overshot = False
        self._quiet = now
        self._times.append(now)
        self._burst = min(self._burst + 1, max(CANARY, self._limit))
        self._since_refusal += 1
        cuts, self._cuts, self._streak = self._cuts, 0, 0
        if cuts > 1:  # what was cut in between was a guess
            self._limit, self._burst = math.inf, 1.0
        if math.isinf(self._limit):
            return
        unseen = self._unseen()
        if self._running - unseen - 2 * math.sqrt(unseen) > self._limit:  # more than was known to fit
            self._proven = self._running - unseen
            self._limit = self._proven + self._stride - 1
            self._stride = min(2 * self._stride, 1 + self._limit / 8)
            self._patience = max(0.8 * self._patience, 0.05)
        elif self.in_flight > self._limit - 1:
            self._credit += 1 / max(PROBE_ROWS, self._limit)
            if unseen and self._running > self._limit:
                self._margin -= UP * 2 ** min(8.0, self._since_refusal / 15)

    def refused(self, retry_after: float | None) -> None:
        now = self._clock()
        known = self.in_flight
        self._unanswered -= 1
        self.refusals += 1
        self._quiet = now
        if retry_after is not None:
            self._until = max(self._until, now + retry_after * self._rng.uniform(1.0, 1.1))
        if self._stale:
            self._stale -= 1
            if self._overshot:
                self._limit = max(1.0, min(self._limit, known - 1))
            return
        self._stale = self._unanswered
        self._streak += 1
        if self._streak == 1:
            self._measure(now, regular=known <= self._limit)
        self._burst = max(1.0, min(self._burst, self._limit) / 4)
        if retry_after is None:
            pause = min(LONGEST_PAUSE, 0.05 * 2**self._streak)
            self._until = max(self._until, now + pause * self._rng.uniform(0.75, 1.25))
        if known > self._limit:
            self._patience = max(min(2 * self._patience, LONGEST_PAUSE), retry_after or 0.0)
        unseen = self._unseen()
        if math.isinf(self._limit):
            self._overshot = True
            self._limit = known - 1 - unseen
        elif self._stride > 1:
            self._limit = self._proven
        elif known > self._limit:
            self._margin = max(0.0, self._margin) + (DOWN if retry_after is None else DOWN_RA)
            self._wrong = max(self._wrong, unseen - (known - 1 - self._limit))
        else:
            self._limit = (known - 1) * (1 - min(0.5, BACK_OFF * 2**self._cuts))
            self._cuts += 1
        self._limit = max(1.0, self._limit)
        self._credit = 0.0
        self._stride = 1.0

    def unsent(self) -> None:
        self._unanswered -= 1
        self._stale = max(0, self._stale - 1)

    def finished(self) -> None:
        self._running -= 1
        self._turn -= 1
        self._quiet = self._clock()
        if self._wrong > 0:
            self._wrong *= max(0.0, 1 - DEC / max(1.0, self._unseen()))

    def adopted(self) -> None:
        self._running += 1

    def hold(self, held: bool) -> None:
        self._held = held

    # --- asked

    def wait(self) -> float:
        """0.0: one may leave now. Else ask again after so many seconds, or, at infinity, after the next event."""
        if self._held or self.in_flight >= self._ceiling:
            return math.inf
        now = self._clock()
        until = self._until
        if self._gap and self._since_refusal < RELEASE:
            until = max(until, self._last_sent + self._gap * (1 - (self._since_refusal / RELEASE) ** 2))
        if until > now:
            return until - now
        if math.isinf(self._limit):
            most = min(self._burst, (8 + self._running / 8))
            return 0.0 if self._unanswered < most else math.inf
        beyond = self.in_flight + 1 - self._limit
        if beyond <= 0:
            return 0.0 if self._unanswered < self._burst else math.inf
        if self._unanswered > 1:
            return math.inf
        unseen = self._unseen()
        if unseen and beyond <= unseen - self._wrong - self._margin:
            return 0.0
        if self._unanswered:
            return math.inf
        quiet = self._quiet + (self._patience if self._credit < 1 else 0.0) - now
        if quiet <= 0 and beyond <= 1 + unseen:
            return 0.0
        if unseen:
            return 0.03
        return quiet if quiet > 0 else math.inf

    def eta(self, remaining: int, typical_seconds: float) -> float | None:
        window = self.window
        if math.isinf(window):
            window = max(self.in_flight, 1)
        return math.ceil(remaining / window) * typical_seconds

    def snapshot(self) -> PaceView:
        times = self._times
        span = self._clock() - times[0] if times else 0.0
        return PaceView(
            self.in_flight,
            self.window,
            60 * len(times) / span if span > 0 else 0.0,
            max(0.0, self._until - self._clock()),
            self.refusals,
        )

    # --- how

    def _measure(self, now: float, *, regular: bool) -> None:
        """Between two refusals exactly as many were accepted as the account allowed in that time."""
        if self._first_refusal is None:
            self._first_refusal, self._before, self._turn = now, self._accepted, self.in_flight
        elif self._since_refusal and self._turn <= 0:
            usual = (now - self._first_refusal) / max(1, self._accepted - self._before)
            self._regulars = self._regulars + 1 if regular else 0
            gap = min((now - self._refused_at) / self._since_refusal, 1.2 * usual)
            if gap < SLOW and self._regulars < REGULARS:
                gap = 0.0
            if regular or not gap:
                self._gap = gap
        self._refused_at, self._since_refusal = now, 0

    def _unseen(self) -> float:
        return self._expected() if self._expected is not None else 0.0


class Gate:
    """The pace for coroutines of one event loop: whoever comes with the lowest order is admitted first."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None

    async def admit(self, order: int) -> None:
        """Returns when a submission may leave; it then counts as sent. Raises what `close` was given."""
        if self._error is not None:
            raise self._error
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (order, next(self._tickets), turn))
        self.changed()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.unsent()  # admitted and cancelled in the same breath: give the place back
            raise

    def accepted(self) -> None:
        self.pace.accepted()
        self.changed()

    def refused(self, retry_after: float | None) -> None:
        self.pace.refused(retry_after)
        self.changed()

    def unsent(self) -> None:
        self.pace.unsent()
        self.changed()

    def finished(self) -> None:
        self.pace.finished()
        self.changed()

    def adopted(self) -> None:
        self.pace.adopted()
        self.changed()

    def hold(self, held: bool) -> None:
        self.pace.hold(held)
        self.changed()

    def close(self, error: BaseException) -> None:
        """Wakes every waiter, now and later, with `error`."""
        self._error = error
        self._disarm()
        for _, _, turn in self._queue:
            if not turn.done():
                turn.set_exception(error)
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
