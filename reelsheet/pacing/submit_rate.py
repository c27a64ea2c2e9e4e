"""What an account allows besides places: so many submissions a minute, and what other processes leave of it."""

import math
import random
from collections import deque

SLOW_INTERVAL_S = 0.75  # seconds between submissions: a rate as slow as this is kept to by the clock
BELOW = 3  # refusals below the limit in a row, which show that a faster rate is the limit, and not the places
SPACED = 24  # acceptances after which a measured rate has had its time
SLACK = 1.2  # a single measurement counts as far as it is near the average

ALONE = 15.0  # turnarounds between two looks whether others want places, while nobody did
TOGETHER = 1.0  # the same, while somebody did
GIVE = 0.2  # of the places, given up together with others
OFFER = 0.03  # of the places, given up to see whether there are others
MANY = 4  # places given up: to regain fewer says less
CONVINCED = 3  # times that all was regained, until nobody is there
STEADY = 2.0  # turnarounds within which a second place that is taken is no chance
QUICKER = 0.6  # the wait after each success
QUICKEST = 12  # tries in a turnaround


class Rate:
    """How many submissions a minute, where that is the limit and not the places.

    Between two refusals exactly as many are accepted as the account allowed in that time. The next ones keep that
    distance, each a little less, until one is refused again or the rate has not mattered for long.
    """

    def __init__(self) -> None:
        self.interval_s = 0.0  # seconds between two submissions; 0.0 where the places are the limit
        self.accepted_since_refusal = 0  # acceptances since the last refusal
        self._sent = -math.inf
        self._refused = 0.0
        self._first: float | None = None
        self._all = 0  # acceptances since the first refusal
        self._turnover = 0  # completions until what is measured spans a whole turnaround
        self._below = 0

    def sent(self, now: float) -> None:
        self._sent = now

    def accepted(self) -> None:
        self.accepted_since_refusal += 1
        self._all += 1

    def finished(self) -> None:
        self._turnover -= 1

    def refused(self, now: float, *, below: bool, in_flight: int) -> None:
        """`below`: no more were in flight than fitted before."""
        if self._first is None:
            self._first, self._turnover, self._all = now, in_flight, 0
        elif self.accepted_since_refusal and self._turnover <= 0:
            self._below = self._below + 1 if below else 0
            interval_s = min((now - self._refused) / self.accepted_since_refusal, SLACK * self.mean_interval_s(now))
            if interval_s < SLOW_INTERVAL_S and self._below < BELOW:
                self.interval_s = 0.0
            elif below:
                self.interval_s = interval_s
        self._refused, self.accepted_since_refusal = now, 0

    def mean_interval_s(self, now: float) -> float:
        """Seconds between two acceptances since the first refusal; 0.0 before a turnaround has been measured."""
        if self._first is None or self._turnover > 0:
            return 0.0
        return (now - self._first) / max(1, self._all)

    @property
    def next_allowed_at(self) -> float:
        """When the next may leave."""
        if not self.interval_s or self.accepted_since_refusal >= SPACED:
            return -math.inf
        return self._sent + self.interval_s * (1 - (self.accepted_since_refusal / SPACED) ** 2)


class PeerFairness:
    """Processes on the same account, of which nothing is heard.

    Now and then some places are given up. Alone, all are regained, and it is long until the next look. Where somebody
    took them, each gives up a share of what he has, and tries for more as often as any other: who has much gives much,
    and the shares draw level.
    """

    def __init__(self, rng: random.Random) -> None:
        self.near = False  # somebody is there
        self.before = 0.0  # the limit before places were given up; 0.0 when it is known who has them
        self.try_at = math.inf  # for one more than the limit
        self._rng = rng
        self._began: deque[float] = deque(maxlen=8192)
        self._turnaround: float | None = None
        self._next = math.inf  # look
        self._wait = 0.5  # seconds between two tries
        self._taken = -math.inf  # when a place that was held was not free
        self._given = 0.0
        self._regained = 0.0  # times in a row

    @property
    def turnaround(self) -> float:
        """Seconds from acceptance to completion, as seen lately."""
        return self._turnaround or 1.0

    def began(self, now: float) -> None:
        """A place is taken."""
        self._began.append(now)

    def finished(self, now: float) -> None:
        """A place is free; in which order does not matter for an average."""
        if self._began:
            took = now - self._began.popleft()
            self._turnaround = took if self._turnaround is None else self._turnaround + (took - self._turnaround) / 8
        if math.isinf(self._next):
            self._next = now + ALONE * self.turnaround

    def want(self, now: float, limit: float) -> bool:
        """Whether it is time to give up places, and see who takes them."""
        if now < self._next or self.before:
            return False
        if limit <= 1:  # nothing to give; but not for ever
            self._given = 0.5
            self._regain(now)
        return limit > 1

    def give(self, now: float, limit: float) -> float:
        """Gives up places; returns the limit without them."""
        self.before = max(self.before, limit)
        self._wait = (0.5 if self.near else 0.75) * self.turnaround
        self._plan(now)
        left = max(1.0, min(limit - 1, (1 - (GIVE if self.near else OFFER)) * limit))
        self._given = limit - left
        return left

    def taken(self, now: float, *, surely: bool) -> bool:
        """A place that was held is not free. Whether to make room: not for a first time that may be chance."""
        lately, self._taken = now - self._taken < STEADY * self.turnaround, now
        if surely:
            self.meet(now)
        return lately or self.near

    def gained(self, now: float, limit: float, noise: float) -> bool:
        """One more than the limit was accepted. Whether to go on gently, because others try as well.

        `noise`: by how much the limit may be off; with others near, this is no time to be lenient.
        """
        if self.before and limit >= self.before - (0.0 if self.near else noise):
            self._regain(now)
        if not self.before and not self.near:
            self.try_at = math.inf
            return False
        self._wait = max(QUICKER * self._wait, self.turnaround / QUICKEST)
        self._try_again(now)
        return True

    def full(self, now: float, limit: float, noise: float) -> None:
        """One more than the limit was refused."""
        if self.before and limit < self.before - 0.5 - (0.0 if self.near else noise):  # somebody took what was given up
            self.meet(now)
        self.before = 0.0
        self._wait = 0.5 * self.turnaround
        self._try_again(now)

    def forget(self) -> None:
        """The limit has fallen: what was given up is gone for everybody."""
        self.before = 0.0

    def meet(self, now: float) -> None:
        """Somebody is there."""
        self.near, self._regained = True, 0.0
        self._plan(now)

    def _regain(self, now: float) -> None:
        self.before = 0.0
        self._regained += min(1.0, self._given / MANY)  # one or two places are easily had
        if self._regained >= CONVINCED:
            self.near = False
        self._plan(now)

    def _plan(self, now: float) -> None:
        self._next = now + (TOGETHER if self.near else ALONE) * self.turnaround * self._rng.uniform(0.75, 1.25)
        self._try_again(now)

    def _try_again(self, now: float) -> None:
        wanted = self.near or self.before
        self.try_at = now + self._wait * self._rng.uniform(0.75, 1.25) if wanted else math.inf
