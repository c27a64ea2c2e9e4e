"""How many predictions may be in flight: found from acceptances and refusals alone.

`CongestionWindow` is pure: events are reported to it, and it is asked. docs/pacing.md says why it is so.
"""

import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reelsheet.pacing.submit_rate import PeerFairness, Rate

CANARY = 3  # are answered before the crowd follows
AHEAD = 8  # may be unanswered where it is not known that they fit, and an eighth of what runs
PROBE_ROWS = 11  # acceptances at the limit, at least, before one more is tried
LOSS = 0.015  # of the places' time, that trying one more may cost in pauses
PATIENCE_S = 0.5  # seconds without any event until one more is tried; doubles
LONGEST_PATIENCE_S = 10.0
PAUSE_S = 0.05  # seconds after a refusal where the provider names none; doubles
LONGEST_PAUSE_S = 5.0
JITTER = 0.05  # of a pause that the provider names, on top
MOST_JITTER_S = 0.25  # seconds
CUT = 0.05  # of a limit that has fallen; doubles
CLOSE = 0.9  # of the limit: refused above this it was a little high, below it has fallen
LOOK_AGAIN_S = 0.03  # seconds, while completions are expected that nobody has seen
TOLERABLE = 0.06  # of the submissions that anticipate a completion, refused
LEARNT = 0.03  # margin taken back by one that was accepted


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
    limit found, tries one more now and then, and gives way where it is refused below the limit.

    `ceiling` bounds what is in flight by what was seen. `unseen` says how many of these are expected to be done, though
    no poll has shown it yet (`PollSchedule.unseen`): their places are taken again at once.
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
        self._unseen = unseen
        self._unanswered = 0
        self._running = 0
        self._accepted = 0
        self._held = False
        self._recent: deque[float] = deque(maxlen=64)  # acceptances, for the eye
        self.refusals = 0

        self._limit = math.inf  # so many are known to fit; infinite while it is sought
        self._fitted = 0.0  # so many were in flight at once since it is sought
        self._proven = 0.0  # the limit without what was added on trust
        self._raised = 0.0  # when it last rose
        self._stride = 1.0  # by how much it rises when one more than it is accepted
        self._credit = 0.0  # towards trying one more; due at 1
        self._cuts = 0  # since the last acceptance
        self._burst = float(CANARY)  # may be unanswered
        self._old = 0  # unanswered ones that left before the latest refusal was known: they tell the same

        self._until = -math.inf  # nothing leaves before
        self._streak = 0  # refusals since the last acceptance
        self._since = 0.0  # the latest event
        self._patience = PATIENCE_S
        self._idle = 0.0  # place-seconds that the latest pause has cost
        self._cost = 0.0  # the same, of a pause on average

        self._margin = 1.0  # so many more are to be expected done than places are needed
        self._wrong = 0.0  # so many were expected done and were not

        self._rate = Rate()
        self._others = PeerFairness(self._rng)

    @property
    def in_flight(self) -> int:
        """Sent, and not known to be done or refused."""
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
        self._others.began(now)
        self._old = max(0, self._old - 1)
        self._burst = min(self._burst + 1, max(CANARY, self._limit))
        if self._cuts > 1:  # how far it was cut was a guess: seek it anew
            self._limit, self._burst, self._fitted = math.inf, 1.0, 0.0
        self._cuts = self._streak = 0
        if math.isfinite(self._limit):
            self._learn_from_acceptance(now)
        else:
            self._fitted = max(self._fitted, self._running - self._anticipated())

    def refused(self, retry_after_s: float | None) -> None:
        """It was answered 429: not in flight. `retry_after_s` in seconds, None where the provider names none."""
        self._since = now = self._clock()
        known = self.in_flight  # this one included
        self._unanswered -= 1
        self.refusals += 1
        if retry_after_s is not None:
            self._until = max(
                self._until, now + retry_after_s + self._rng.random() * min(MOST_JITTER_S, JITTER * retry_after_s)
            )
        if self._old:
            self._old -= 1
            self._limit = max(1.0, min(self._limit, known - 1))
            return
        self._old = self._unanswered
        self._streak += 1
        if retry_after_s is None:
            self._until = max(self._until, now + self._pause(now) * self._rng.uniform(0.75, 1.25))
        self._cost += (self._idle - self._cost) / 2
        self._idle = 0.0
        self._burst = max(1.0, min(self._burst, self._limit) / 4)
        self._rate.refused(now, below=known <= self._limit, in_flight=known)
        self._learn_from_refusal(now, known, retry_after_s)

    def release(self) -> None:
        """It did not leave, or its answer says nothing of the pace: not in flight."""
        self._unanswered -= 1
        self._old = max(0, self._old - 1)

    def finished(self) -> None:
        """A prediction was seen done, or is polled no more: its place is free."""
        self._since = now = self._clock()
        self._running -= 1
        self._idle += max(0.0, self._until - now)
        self._rate.finished()
        self._others.finished(now)
        if self._wrong > 0:  # by and by they are done indeed
            self._wrong *= max(0.0, 1 - 1 / max(1.0, self._anticipated()))
        if math.isfinite(self._limit) and self._others.want(now, self._limit):
            self._limit = self._others.give(now, self._limit)

    def adopted(self) -> None:
        """A prediction of an earlier run is polled: it has a place already."""
        self._running += 1
        self._others.began(self._clock())

    def hold(self, held: bool) -> None:
        """While held, nothing new leaves."""
        self._held = held

    # --- what to do

    def wait(self) -> float:
        """0.0: one may leave now. Else ask again after so many seconds; at infinity, after the next event."""
        if self._held or self.in_flight >= self._ceiling:
            return math.inf
        now = self._clock()
        until = max(self._until, self._rate.next_allowed_at)
        if until > now:
            return until - now
        if math.isinf(self._limit):
            fits = self.in_flight < self._fitted
            most = self._burst if fits else min(self._burst, AHEAD + self._running / 8)
            if self._accepted < CANARY:
                most = CANARY - self._accepted
            return 0.0 if self._unanswered < most else math.inf
        beyond = self.in_flight + 1 - self._limit
        if beyond <= 0:
            return 0.0 if self._unanswered < self._burst else math.inf
        return self._wait_beyond(now, beyond)

    def eta(self, remaining: int, typical_seconds: float) -> float | None:
        """Seconds until `remaining` rows that are still to be sent are done, where one takes `typical_seconds`.

        None while nothing is known.
        """
        if remaining <= 0:
            return typical_seconds if self.in_flight else 0.0
        if not self._running:
            return None
        places = self.window if math.isfinite(self.window) else float(self._running + remaining)  # all fitted so far
        queued = max(0.0, remaining + self.in_flight - places) / places
        return max(queued * typical_seconds, remaining * self._rate.interval_s) + typical_seconds

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

    def _wait_beyond(self, now: float, beyond: float) -> float:
        """Whether one may leave that is `beyond` the limit: others are done by now, or it is time to try."""
        if self._unanswered > 1:
            return math.inf
        unseen = self._anticipated()
        if unseen and beyond <= unseen - self._wrong - self._margin:
            return 0.0
        if self._unanswered:
            return math.inf
        due = min(self._since + (self._patience if self._credit < 1 else 0.0), self._others.try_at)
        if due <= now and beyond <= 1 + unseen:
            return 0.0
        if unseen:
            return LOOK_AGAIN_S
        return due - now if due > now else math.inf

    def _learn_from_acceptance(self, now: float) -> None:
        unseen = self._anticipated()
        if self._running - unseen - 2 * math.sqrt(unseen) > self._limit:  # more fit than was known
            self._proven, self._raised = self._running - unseen, now
            self._limit = self._proven + self._stride - 1
            self._stride = min(2 * self._stride, 1 + self._limit / 8)
            self._patience = max(0.8 * self._patience, PAUSE_S)
            if self._others.before:
                self._limit = min(self._limit, self._others.before)
            if self._others.gained(now, self._limit, self._noise()):
                self._stride, self._credit = 1 + self._limit / 32, 0.0
        elif self.in_flight > self._limit - 1:
            dear = min(self._cost / (LOSS * self._others.turnaround), 2 * self._limit)
            self._credit += 1 / max(PROBE_ROWS, self._limit, dear)
            if unseen and self._running > self._limit:
                self._margin -= LEARNT * 2 ** min(8.0, self._rate.accepted_since_refusal / 15)

    def _learn_from_refusal(self, now: float, known: int, retry_after_s: float | None) -> None:
        unseen = self._anticipated()
        if math.isinf(self._limit):
            self._limit = known - 1 - unseen
            self._patience = max(self._patience, retry_after_s or 0.0)
            if self._accepted <= CANARY:  # a small account, or one that others have filled
                self._others.meet(now)
        elif self._stride > 1:
            self._limit = self._proven
            self._others.full(now, self._limit, self._noise())
        elif known <= self._limit:
            self._yield_places(now, known, unseen)
        else:
            self._patience = max(min(2 * self._patience, LONGEST_PATIENCE_S), retry_after_s or 0.0)
            if unseen:
                self._mistrust(now, known, unseen)
            else:
                self._others.full(now, self._limit, self._noise())
        self._limit = max(1.0, self._limit)
        self._stride, self._credit = 1.0, 0.0

    def _yield_places(self, now: float, known: int, unseen: float) -> None:
        """Refused where it fitted before: it was a little too high, or has fallen, or somebody else is there."""
        fallen = self._cuts > 0 or known <= CLOSE * self._limit
        self._limit = known - 1.0
        if fallen:
            self._limit *= 1 - min(0.5, CUT * 2**self._cuts)
        if not self._cuts:
            # Held for long, and with nothing that may be done unseen, it was no chance.
            steady = now - self._raised > 1.5 * self._others.turnaround
            certain = self._unseen is not None and unseen < 0.5
            if self._others.taken(now, surely=steady and certain) or fallen:
                self._limit = self._others.give(now, self._limit)
        else:
            self._others.forget()
        self._cuts += 1

    def _mistrust(self, now: float, known: int, unseen: float) -> None:
        """Fewer were done than expected, or somebody else took their places."""
        dear = self._limit * max(self._cost, 0.001) / self._others.turnaround
        self._margin = max(0.0, self._margin) + min(1.5, LEARNT * max(1 / TOLERABLE, dear))
        self._wrong = max(self._wrong, unseen - (known - 1 - self._limit))
        if self._margin > 3 + 2.5 * math.sqrt(unseen):  # no chance any more
            self._margin /= 2
            self._others.meet(now)
            self._limit = self._others.give(now, self._limit)

    def _pause(self, now: float) -> float:
        """Seconds after a refusal where the provider names none: longer each time, and by what is known of the rate."""
        pause: float = PAUSE_S * 2 ** min(self._streak, 5) * 1.2 ** min(50, max(0, self._streak - 5))
        return min(LONGEST_PAUSE_S, max(pause, self._rate.mean_interval_s(now) / 4))

    def _noise(self) -> float:
        """By how many places what is known of the limit may be off: completions that were not seen made room."""
        return math.sqrt(self._unseen()) if self._unseen is not None else 0.0

    def _anticipated(self) -> float:
        """Expected done and unseen. With others near, these places are as much theirs."""
        if self._unseen is None or self._others.near or self._others.before:
            return 0.0
        return self._unseen()
