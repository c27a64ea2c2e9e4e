"""How many predictions may be in flight: found from acceptances and refusals alone.

`CongestionWindow` is pure: events are reported to it, and it is asked. docs/pacing.md says why it is so.
"""

import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reelsheet.pacing.submit_rate import SubmitRate

CANARY = 3  # are answered before the crowd follows
AHEAD = 8  # may be unanswered where it is not known that they fit, and a sixteenth of what runs
PATIENCE_S, LONGEST_PATIENCE_S = 0.5, 20.0  # without any event until one more is tried; doubles
PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0  # after a refusal where the provider names none; doubles
PATIENT_INTERVALS = 1.5  # for each process, without an acceptance, until refusals are about the places after all
EVIDENCE = 3.0  # acceptances that only a limited rate explains


@dataclass(frozen=True, slots=True)
class PaceView:
    """The pace for a progress line."""

    in_flight: int
    window: float  # how many may be in flight; infinite while nothing was refused
    per_minute: float  # accepted, lately
    held: float  # seconds until the provider may be asked again
    refusals: int


class CongestionWindow:
    """Decides when one more submission may leave.

    It grows as fast as acceptances come, until the first refusal. From then on it holds the number in flight at the
    limit found, and tries one more now and then. Where an acceptance follows a refusal though nothing was done in
    between, several times, the rate is limited. Submissions are then spaced as well, and a refusal of what left as soon
    as that allowed says nothing of the places.

    `ceiling` bounds what is in flight.
    """

    def __init__(
        self,
        *,
        ceiling: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._ceiling = math.inf if ceiling is None else max(1, ceiling)
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._unanswered = 0
        self._running = 0
        self._accepted = 0
        self._held = False
        self._recent: deque[float] = deque(maxlen=64)  # acceptances
        self.refusals = 0

        self._limit = math.inf  # so many are known to fit; infinite while it is sought
        self._fitted = 0  # so many were in flight at once while it is sought
        self._burst = float(CANARY)  # may be unanswered
        self._old = 0  # unanswered ones that left before the latest refusal was known: they say the same
        self._lowers = False  # the latest refusal was about the places
        self._until = -math.inf  # nothing leaves before
        self._pause_s = 0.0  # the latest
        self._refused_after_s = 0.0  # the latest refusal, after the latest acceptance
        self._too_soon = False  # what was refused after it had left as soon as the rate allowed
        self._streak = 0  # refusals since the last acceptance
        self._since = 0.0  # the latest event
        self._patience = PATIENCE_S
        self._credit = 0.0  # towards trying one more; due at 1
        self._processes = 1  # that want more of the account
        self._turnover = 0  # completions until a change of the limit shows in what is in flight

        self._rate = SubmitRate()
        self._full_at = math.inf  # so many were in flight at the latest refusal; infinite when one was done since
        self._evidence = 0.0  # acceptances above that: the rate is limited
        self._first_refusal = (0.0, 0)  # when, and acceptances before it

    @property
    def in_flight(self) -> int:
        """Sent, and not known to be done or refused."""
        return self._unanswered + self._running

    @property
    def window(self) -> float:
        """How many may be in flight, as far as is known; infinite while nothing is."""
        return min(self._limit, self._ceiling)

    @property
    def may_grow(self) -> bool:
        """More may be in flight, as far as this process is concerned."""
        return not self._held and self.in_flight < self._ceiling

    # --- what happened

    def sent(self) -> None:
        """A POST may leave."""
        self._unanswered += 1
        self._rate.sent(self._clock())

    def left(self) -> None:
        """Its first byte leaves."""
        if self._unanswered == 1:  # else a later one has been let through, and the next counts from that
            self._rate.left(self._clock())

    def accepted(self) -> None:
        """It was answered 2xx: in flight until `finished`."""
        self._since = now = self._clock()
        self._unanswered -= 1
        self._running += 1
        self._accepted += 1
        self._recent.append(now)
        self._burst = min(self._burst + 1, max(CANARY, self._limit))
        if self._streak and self._too_soon and not self._lowers:
            self._rate.refused(self._refused_after_s, self._pause_s)
        self._rate.accepted()
        if self._streak and not self._old and self._running > self._full_at and math.isfinite(self._limit):
            self._evidence += 1
            if self._evidence >= EVIDENCE:
                if not self._rate.interval_s:
                    at, before = self._first_refusal
                    self._rate.begin(now, (now - at) / (self._accepted - before), self._refused_after_s)
                self._limit, self._fitted = math.inf, self._running
        self._old = max(0, self._old - 1)
        self._streak = 0
        if math.isinf(self._limit):
            self._fitted = max(self._fitted, self._running)
        elif self._running > self._limit:  # more fit than was known
            self._limit = self._running
            self._patience = max(0.8 * self._patience, PAUSE_S)
        elif self.in_flight > self._limit - 1:
            self._credit += 1 / self._limit

    def refused(self, retry_after_s: float | None) -> None:
        """It was answered 429: not in flight. `retry_after_s`: seconds, None where the provider names none."""
        self._since = now = self._clock()
        known = self.in_flight  # this one included
        self._unanswered -= 1
        self.refusals += 1
        if retry_after_s is not None:
            self._until = max(self._until, now + retry_after_s + self._rng.random() * min(0.25, 0.05 * retry_after_s))
        if self._old:
            self._old -= 1
            if self._lowers:
                self._limit = max(1.0, min(self._limit, known - 1))
            return
        self._old = self._unanswered
        self._streak += 1
        self._refused_after_s = now - self._recent[-1] if self._recent else 0.0
        self._burst = max(1.0, min(self._burst, self._limit) / 4)
        if not self._first_refusal[0]:
            self._first_refusal = now, self._accepted
        self._full_at = self._running
        if self._streak == 1:
            self._too_soon = self._rate.paced
        self._pause_s = retry_after_s or self._backoff_s()
        if retry_after_s is None:
            self._until = max(self._until, now + self._pause_s * self._rng.uniform(1.0, 1.25))
        self._learn_from_refusal(known, retry_after_s or 0.0)
        self._rate.retry()

    def release(self) -> None:
        """It did not leave, or its answer says nothing of the pace: not in flight."""
        self._unanswered -= 1
        self._old = max(0, self._old - 1)

    def finished(self) -> None:
        """A prediction was seen done, or is polled no more: its place is free."""
        self._since = self._clock()
        self._running -= 1
        self._turnover -= 1
        self._full_at = math.inf
        self._evidence = max(0.0, self._evidence - 0.5)

    def adopted(self) -> None:
        """A prediction of an earlier run is polled: it has a place already."""
        self._running += 1

    def hold(self, held: bool) -> None:
        """While held, nothing new leaves."""
        self._held = held

    def share(self, others: Sequence[int]) -> None:
        """So many are in flight in each other process that wants more of the same account: all go to the mean."""
        self._processes = 1 + len(others)
        if not others or self._turnover > 0 or not self._running:
            return
        self._turnover = self._running
        mine = min(self.in_flight, self._limit)
        fair = (mine + sum(others)) / (1 + len(others))
        if math.isfinite(self._limit):
            self._limit = max(1.0, (mine + fair) / 2)
        self._rate.scale(mine / ((mine + fair) / 2))

    # --- what to do

    def wait(self) -> float:
        """0.0: one may leave now. Else ask again after so many seconds; at infinity, after the next event."""
        if not self.may_grow:
            return math.inf
        now = self._clock()
        until = max(self._until, self._rate.next_allowed_at)
        if until > now:
            return until - now
        if math.isinf(self._limit):
            fits = self.in_flight < self._fitted
            most = self._burst if fits else min(self._burst, AHEAD + self._running / 16)
            if self._accepted < CANARY:
                most = CANARY - self._accepted
            return 0.0 if self._unanswered < most else math.inf
        beyond = self.in_flight + 1 - self._limit
        if beyond <= 0:
            return 0.0 if self._unanswered < self._burst else math.inf
        if self._unanswered or beyond > 1:
            return math.inf
        return max(0.0, self._since + (self._patience if self._credit < 1 else 0.0) - now)

    def seconds_left(
        self, waiting: int, running: Sequence[float], typical_s: float, *, turn_s: float = 0.0, most: float = math.inf
    ) -> float:
        """Until `waiting` rows that are still to be sent are done too, where one takes `typical_s`.

        `running` has the seconds left of each in flight. A place is free again after `turn_s`, if that is longer.
        No more than `most` are expected at once. While neither they nor a limit are known, rows leave as lately.
        """
        places = min(self.window, most)
        places = max(1.0, min(places, self.in_flight + waiting), self.in_flight)
        unanswered = [typical_s] * (self.in_flight - len(running))
        free_in = sorted([*running, *unanswered, *[0.0] * int(places - max(self.in_flight, len(running)))])
        if not waiting:
            return max(free_in, default=0.0)
        if math.isinf(self.window) and math.isinf(most) and (per_second := self._per_second(self._clock())):
            return waiting / per_second + typical_s
        # each place takes the next row as soon as it is free
        turns, last = divmod(waiting - 1, len(free_in))
        return max(free_in[last] + turns * max(turn_s, typical_s), waiting * self._rate.interval_s) + typical_s

    def snapshot(self) -> PaceView:
        """The pace as it is now."""
        now = self._clock()
        return PaceView(
            in_flight=self.in_flight,
            window=self.window,
            per_minute=60 * self._per_second(now),
            held=max(0.0, self._until - now),
            refusals=self.refusals,
        )

    # --- how

    def _learn_from_refusal(self, known: int, retry_after_s: float) -> None:
        self._lowers = True
        if known > self._limit:  # one more than fits was tried
            self._credit = 0.0
            longer_s = (1 if retry_after_s and self._streak == 1 else 2) * self._patience
            self._patience = max(PATIENCE_S, min(longer_s, LONGEST_PATIENCE_S), retry_after_s)
        elif self._refused_after_s < PATIENT_INTERVALS * self._processes * self._rate.interval_s:
            self._lowers = False
        else:
            if math.isinf(self._limit):
                self._patience = max(self._patience, retry_after_s)
            self._limit = max(1.0, known - 1.0)

    def _backoff_s(self) -> float:
        """Seconds after a refusal where the provider names none: longer each time, and by what is known of the rate."""
        shortest_s = max(PAUSE_S, self._rate.interval_s / 20)
        return min(self._rate.interval_s or LONGEST_PAUSE_S, shortest_s * 2.0 ** min(self._streak - 1, 20))

    def _per_second(self, now: float) -> float:
        """Acceptances lately."""
        span = now - self._recent[0] if self._recent else 0.0
        return len(self._recent) / span if span > 0 else 0.0
