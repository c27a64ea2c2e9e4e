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

CANARY = 3  # unanswered until as many were accepted
STEPS = 8  # unanswered beyond what is known to fit, and an eighth of what runs
PROBE_ROWS = 11  # acceptances at the limit, at least, before one more is tried
PATIENCE = 0.5  # seconds without any event before one more is tried
LONGEST_PATIENCE = 10.0
LONGEST_PAUSE = 30.0  # seconds, where the provider names none
JITTER = 0.1  # of a pause, on top
CUT = 0.05  # of the limit, doubled with each refusal in a row
CLOSE = 0.9  # of the limit: refused above this, it was a little too high; below, it has fallen
LOOK_AGAIN = 0.03  # seconds, while completions are expected that nobody has seen
LOSS = 0.015  # of the places' time, that trying one more may cost in pauses
SPACED = 24  # acceptances after which a measured rate is forgotten
SLOW = 0.75  # seconds between submissions: a rate this slow is kept to by the clock
REGULAR = 3  # refusals below the limit in a row that show a faster rate to be the limit
ALONE = 12.0  # turnarounds between two looks whether others want places, when nobody did
TOGETHER = 1.0  # the same, when somebody did
CONVINCED = 3  # times that all that was given up was regained
SHR=0.7
MINW=8
GIVE = 0.15  # of the places, given up for others to take


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

    It grows as fast as acceptances come, until the first refusal. From then on it holds the number in flight at the
    limit found, tries one more now and then, and gives way where it is refused below the limit. docs/pacing.md tells why.

    `unseen` expects how many predictions in flight are done, though not yet seen (PollSchedule.unseen): their places
    are free, and taken again before a poll has shown it. Never beyond `ceiling`, which counts what was seen.
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
        self._unseen = unseen or _nothing
        self._unanswered = 0
        self._running = 0
        self._accepted = 0
        self._held = False
        self._recent: deque[float] = deque(maxlen=64)  # when submissions were accepted, for the eye
        self.refusals = 0

        self._limit = math.inf  # so many in flight are known to fit; infinite until a refusal
        self._proven = 0.0  # the same without what was added on trust
        self._stride = 1.0  # by how much the limit rises next, when more than it is accepted
        self._credit = 0.0  # towards trying one more; due at 1
        self._burst = float(CANARY)  # may be unanswered
        self._overshoot = 0  # answers to come of those that left before the first refusal was known
        self._cuts = 0  # of the limit, since the last acceptance

        self._until = -math.inf  # nothing leaves before
        self._streak = 0  # refusals since the last acceptance
        self._since = 0.0  # the last event
        self._patience = PATIENCE

        self._idle = 0.0  # place-seconds that the latest pause has cost
        self._cost = 0.0  # the same, of a usual pause
        self._margin = 1.0  # how many more must be expected done than are needed
        self._wrong = 0.0  # how many too many were expected, as a refusal has shown

        self._rate = _Rate()
        self._others = _Others(self._rng)

    @property
    def in_flight(self) -> int:
        return self._unanswered + self._running

    @property
    def window(self) -> float:
        """How many may be in flight, as far as is known; infinite while nothing is."""
        return min(self._limit, self._ceiling)

    # --- what happened

    def sent(self) -> None:
        """A POST leaves."""
        self._unanswered += 1
        self._rate.sent(self._clock())

    def accepted(self) -> None:
        """It was answered 2xx: in flight until `finished`."""
        self._since = now = self._clock()
        self._unanswered -= 1
        self._running += 1
        self._accepted += 1
        self._recent.append(now)
        self._rate.accepted()
        self._others.accepted(now)
        self._overshoot = max(0, self._overshoot - 1)
        self._burst = min(self._burst + 1, max(CANARY, self._limit))
        if self._cuts > 1:  # how far it was cut in between was a guess: find it anew
            self._limit, self._burst = math.inf, 1.0
        self._cuts = self._streak = 0
        if math.isfinite(self._limit):
            self._grow(now)

    def refused(self, retry_after: float | None) -> None:
        """It was answered 429: not in flight. `retry_after` in seconds, None where the provider names none."""
        self._since = now = self._clock()
        known = self.in_flight
        self._unanswered -= 1
        self.refusals += 1
        if retry_after is not None:
            self._until = max(self._until, now + retry_after * self._rng.uniform(1.0, 1.0 + JITTER))
        if self._overshoot:  # it left before the first refusal was known, and tells the same
            self._overshoot -= 1
            if self._stride == 0:
                self._limit = max(1.0, min(self._limit, known - 1))
            return
        self._overshoot = self._unanswered
        self._streak += 1
        self._cost += (self._idle - self._cost) / 4
        self._idle = 0.0
        if retry_after is None:
            pause = min(LONGEST_PAUSE, 0.05 * 2 ** min(self._streak, 5) * 1.2 ** max(0, self._streak - 5))
            pause = max(pause, min(self._rate.usual(now) / 4, 5.0))
            self._until = max(self._until, now + pause * self._rng.uniform(0.75, 1.25))
        self._burst = max(1.0, min(self._burst, self._limit) / 4)
        self._rate.refused(now, below=known <= self._limit, in_flight=known)
        self._shrink(now, known, retry_after)

    def unsent(self) -> None:
        """It did not leave, or was answered in a way that says nothing of the pace: not in flight."""
        self._unanswered -= 1
        self._overshoot = max(0, self._overshoot - 1)

    def finished(self) -> None:
        """A prediction was seen done, or is not polled any more: its place is free."""
        self._since = now = self._clock()
        self._running -= 1
        self._rate.finished()
        self._others.finished(now)
        self._idle += max(0.0, self._until - now)
        if self._wrong > 0:  # what was wrongly expected is seen by and by
            self._wrong *= max(0.0, 1 - 1 / max(1.0, self._unseen()))
        if math.isfinite(self._limit) and self._others.look(now, self._limit):
            self._limit = self._others.give(now, self._limit)

    def adopted(self) -> None:
        """A prediction of an earlier run is polled, and takes a place."""
        self._running += 1

    def hold(self, held: bool) -> None:
        """While held, nothing new is admitted."""
        self._held = held

    # --- what to do

    def wait(self) -> float:
        """0.0: one may leave now. Else ask again after so many seconds, or, at infinity, after the next event."""
        if self._held or self.in_flight >= self._ceiling:
            return math.inf
        now = self._clock()
        until = max(self._until, self._rate.next())
        if until > now:
            return until - now
        if math.isinf(self._limit):
            most = min(self._burst, STEPS + self._running / 8)
            return 0.0 if self._unanswered < most else math.inf
        beyond = self.in_flight + 1 - self._limit
        if beyond <= 0:
            return 0.0 if self._unanswered < self._burst else math.inf
        return self._beyond(now, beyond)

    def eta(self, remaining: int, typical_seconds: float) -> float | None:
        """Seconds until `remaining` rows, not yet sent, are done, where one takes `typical_seconds`; None if unknown."""
        if remaining <= 0:
            return typical_seconds if self.in_flight else 0.0
        window = self.window if math.isfinite(self.window) else self._running
        if not window:
            return None
        slow = self._rate.gap * remaining
        return max(slow, typical_seconds * max(0.0, remaining + self._running - window) / window) + typical_seconds

    def snapshot(self) -> PaceView:
        """The pace as it is now."""
        now = self._clock()
        span = now - self._recent[0] if self._recent else 0.0
        return PaceView(
            in_flight=self.in_flight,
            window=self.window,
            per_minute=60 * len(self._recent) / span if span > 0 else 0.0,
            held=max(0.0, self._until - now),
            refusals=self.refusals,
        )

    # --- how

    def _beyond(self, now: float, beyond: float) -> float:
        """Whether one more than the limit may leave: because others are surely done, or to see whether it fits."""
        if self._unanswered > 1:
            return math.inf
        unseen = self._anticipated()
        if unseen and beyond <= unseen - self._wrong - self._margin:
            return 0.0
        if self._unanswered:
            return math.inf
        due = self._since if self._credit >= 1 else self._since + self._patience
        due = min(due, self._others.try_at)
        if due <= now and beyond <= 1 + unseen:
            return 0.0
        if unseen:
            return LOOK_AGAIN
        return due - now if due > now else math.inf

    def _grow(self, now: float) -> None:
        """One was accepted: did it show that more fit?"""
        unseen = self._anticipated()
        if self._running - unseen - 2 * math.sqrt(unseen) > self._limit:
            self._proven = self._running - unseen
            self._limit = self._proven + max(0.0, self._stride - 1)
            self._stride = min(2 * max(1.0, self._stride), 1 + self._limit / 8)
            self._patience = max(0.8 * self._patience, 0.05)
            if self._others.more(now, self._limit):
                self._stride = 1 + self._limit / 32
                self._credit = 0.0
        elif self.in_flight > self._limit - 1:
            self._credit += 1 / max(PROBE_ROWS, self._limit, self._cost / (LOSS * self._others.turnaround))
            if unseen and self._running > self._limit:
                self._margin -= 0.03 * 2 ** min(8.0, self._rate.since / 15)

    def _shrink(self, now: float, known: int, retry_after: float | None) -> None:
        """One was refused with `known` in flight, itself included."""
        unseen = self._anticipated()
        if math.isinf(self._limit):
            self._limit, self._stride = known - 1 - unseen, 0.0
            if self._accepted <= CANARY:  # a small account, or a full one
                self._others.meet(now)
        elif self._stride > 1:  # it had risen on trust
            self._limit, self._stride = self._proven, 1.0
            self._others.full(now, self._limit)
        elif known > self._limit:
            self._patience = max(min(2 * self._patience, LONGEST_PATIENCE), retry_after or 0.0)
            if unseen:
                self._margin = max(0.0, self._margin) + 0.03 / self._tolerable()
                self._wrong = max(self._wrong, unseen - (known - 1 - self._limit))
                if self._margin > 2 + 2 * math.sqrt(unseen):  # they were done, and somebody else took the places
                    self._margin /= 2
                    self._others.meet(now)
                    self._limit = self._others.give(now, self._limit)
            else:
                self._others.full(now, self._limit)
        else:
            fallen = self._cuts > 0 or known <= CLOSE * self._limit
            self._limit = known - 1
            if fallen:
                self._limit *= 1 - min(0.5, CUT * 2**self._cuts)
            if not self._cuts and (fallen or self._others.again(now)):
                self._limit = self._others.give(now, self._limit)
            self._cuts += 1
        self._limit = max(1.0, self._limit)
        self._credit = 0.0
        self._stride = min(self._stride, 1.0)

    def _tolerable(self) -> float:
        """The share of anticipating submissions that may be refused: the dearer a pause, the fewer."""
        return min(0.06, max(0.01, self._others.turnaround / (self._limit * max(self._cost, 0.001))))

    def _anticipated(self) -> float:
        return 0.0 if self._others.near or self._others.looking else self._unseen()


class _Rate:
    """What the account allows a minute, where that is the limit and not the places.

    Between two refusals exactly as many are accepted as the account allowed in that time. The next ones keep that
    distance, a little closer each time, until one is refused or it has not mattered for long.
    """

    def __init__(self) -> None:
        self.gap = 0.0  # seconds between two submissions
        self.since = 0  # acceptances since the last refusal
        self._sent = -math.inf
        self._refused = 0.0
        self._first: float | None = None
        self._all = 0  # acceptances since the first refusal
        self._turnover = 0  # completions until one whole turnaround has been measured
        self._below = 0

    def sent(self, now: float) -> None:
        self._sent = now

    def accepted(self) -> None:
        self.since += 1
        self._all += 1

    def finished(self) -> None:
        self._turnover -= 1

    def refused(self, now: float, *, below: bool, in_flight: int) -> None:
        """`below`: fewer were in flight than fit before."""
        if self._first is None:
            self._first, self._turnover, self._all = now, in_flight, 0
        elif self.since and self._turnover <= 0:
            self._below = self._below + 1 if below else 0
            gap = min((now - self._refused) / self.since, 1.2 * self.usual(now))
            if gap < SLOW and self._below < REGULAR:
                self.gap = 0.0
            elif below:
                self.gap = gap
        self._refused, self.since = now, 0

    def usual(self, now: float) -> float:
        """Seconds between two acceptances since the first refusal; 0.0 before a turnaround has been measured."""
        if self._first is None or self._turnover > 0:
            return 0.0
        return (now - self._first) / max(1, self._all)

    def next(self) -> float:
        """When the next may leave, by the clock."""
        if not self.gap or self.since >= SPACED:
            return -math.inf
        return self._sent + self.gap * (1 - (self.since / SPACED) ** 2)


class _Others:
    """Sharing an account with processes that are not heard of: places are given up, and whoever wants one takes it.

    Alone, they are soon regained, and it is long before the next look. Where somebody took them, everybody gives up a
    share of what he has and tries for more equally often: who has much gives much, and the shares draw level.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.near = False
        self.try_at = math.inf
        self._turnaround: float | None = None
        self._began: deque[float] = deque(maxlen=4096)
        self._next = math.inf  # look
        self._before = 0.0  # the limit before places were given up
        self._taken = -math.inf
        self._regained = 0.0  # times in a row
        self._wait = 0.5

    @property
    def looking(self) -> bool:
        """Places were given up, and it is not known yet who takes them."""
        return self._before > 0

    @property
    def turnaround(self) -> float:
        """Seconds that a place is taken, about."""
        return self._turnaround or 1.0

    def accepted(self, now: float) -> None:
        self._began.append(now)

    def finished(self, now: float) -> None:
        if self._began:
            took = now - self._began.popleft()
            self._turnaround = took if self._turnaround is None else self._turnaround + (took - self._turnaround) / 8
        if math.isinf(self._next):
            self._next = now + ALONE * self.turnaround

    def again(self, now: float) -> bool:
        """A place that was held is taken: by somebody else, if that is not the first time."""
        lately, self._taken = now - self._taken < 2 * self.turnaround, now
        return lately or self.near

    def look(self, now: float, limit: float) -> bool:
        """Whether it is time to give up places again."""
        if now < self._next or self._before:
            return False
        if limit <= 1:  # nothing to give: not for ever
            self._regain(now, 0.2)
        return limit > 1

    def give(self, now: float, limit: float) -> float:
        """Gives up places; returns the limit without them."""
        self._before = max(self._before, limit)
        self._wait = 0.5 * self.turnaround
        self._plan(now)
        share = GIVE if self.near else 0.03
        return max(1.0, min(limit - 1, (1 - share) * limit))

    def more(self, now: float, limit: float) -> bool:
        """One more than the limit was accepted; whether to go on gently."""
        if self._before and limit >= self._before:
            self._regain(now)
        if not self._before and not self.near:
            self.try_at = math.inf
            return False
        self._wait = max(SHR * self._wait, self.turnaround / MINW)
        self.try_at = now + self._wait * self._rng.uniform(0.75, 1.25)
        return True

    def full(self, now: float, limit: float) -> None:
        """One more than the limit was refused."""
        if self._before and limit < self._before - 0.5:  # somebody took what was given up
            self.meet(now)
        self._before = 0.0
        self._wait = 0.5 * self.turnaround
        self.try_at = now + self._wait * self._rng.uniform(0.75, 1.25) if self.near else math.inf

    def meet(self, now: float) -> None:
        """Somebody else is there."""
        self.near, self._regained = True, 0.0
        self._plan(now)

    def _regain(self, now: float, count: float = 1.0) -> None:
        self._before = 0.0
        self._regained += count
        if self._regained >= CONVINCED:
            self.near = False
        self._plan(now)

    def _plan(self, now: float) -> None:
        every = TOGETHER if self.near else ALONE
        self._next = now + every * self.turnaround * self._rng.uniform(0.75, 1.25)
        self.try_at = now + self._wait * self._rng.uniform(0.75, 1.25)


def _nothing() -> float:
    return 0.0


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
