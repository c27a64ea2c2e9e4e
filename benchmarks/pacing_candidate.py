"""A simpler design of the pace, which uses all of an account that is limited by its rate; see docs/pacing.md.

It is not used yet: where several processes share an account, it does worse than `CongestionWindow`.
"""

import math
import random
import time
from collections import deque
from collections.abc import Callable

from reelsheet.pacing.congestion_window import PaceView

LEARNING_RUN = 1  # acceptances in a row that prove an interval; doubles where they proved too little, in a burst
STEADY_RUN = 20  # the same, at least, once the shortest interval is found
SHARED_RUN = 4
PAUSE_SHARE = 0.01  # of the time, that the pauses after refusals may cost once it is found
FINEST_STEP = 0.01  # by which a shorter interval is tried; doubles
CLOSE = 1.03  # an accepted interval so near to a refused one is the shortest
FASTER = 0.7  # of the interval, tried next where none was refused


class SubmitRate:
    """Finds the shortest interval at which submissions are accepted, between one that was and one that was not."""

    def __init__(self) -> None:
        self.interval_s = 0.0  # between two submissions; 0.0 while the rate is not known to be limited
        self._sent_at = -math.inf
        self._accepted_s = 0.0  # the interval that was accepted
        self._refused_s = 0.0  # the interval that was refused
        self._step = FINEST_STEP
        self._run = 0
        self._learning_run = float(LEARNING_RUN)
        self._steady_run = float(STEADY_RUN)
        self._paced = False  # the latest submission left as soon as the interval allowed
        self._shared = False
        self._confirmed = False  # by a refusal of what left too soon

    def begin(self, now: float, accepted_s: float, refused_s: float) -> None:
        """The rate is limited: one was accepted each `accepted_s`, and refused `refused_s` after the one before."""
        self.interval_s = self._accepted_s = accepted_s
        self._refused_s = min(refused_s, accepted_s / CLOSE)
        self._sent_at = now
        self._run = 0

    @property
    def retry_s(self) -> float:
        """Seconds after a refusal until the interval has passed that was accepted."""
        return max(self._accepted_s - self.interval_s, self.interval_s / 20)

    @property
    def _learning(self) -> bool:
        return self._accepted_s > CLOSE * self._refused_s

    @property
    def next_allowed_at(self) -> float:
        return self._sent_at + self.interval_s

    def retry(self) -> None:
        """The next may leave at once."""
        self._sent_at = -math.inf

    def sent(self, now: float) -> None:
        self._paced = now - self.next_allowed_at < 0.25 * self.interval_s
        self._sent_at = now

    def accepted(self, in_flight: int) -> None:
        self._run += self._paced or not self._confirmed
        run = self._learning_run if self._learning else self._steady_run
        if not self.interval_s or self._run < (min(run, max(SHARED_RUN, in_flight)) if self._shared else run):
            return
        self._run = 0
        self._accepted_s = self.interval_s
        if self._learning:
            self.interval_s = max(math.sqrt(self._accepted_s * self._refused_s), FASTER * self._accepted_s)
        else:
            self.interval_s = self._accepted_s / (1 + max(self._step, self._shared / in_flight))
            self._step = min(2 * self._step, 0.5)

    def refused(self, elapsed_s: float, pause_s: float) -> None:
        """One left `elapsed_s` after the last that was accepted, which was too soon, and costs a pause."""
        self._run = 0
        self._confirmed = True
        if elapsed_s < 0.9 * self.interval_s:  # sooner than the interval allows, which says nothing of it
            return
        self._refused_s = min(elapsed_s, 1.25 * self._accepted_s)
        if self._refused_s < self._accepted_s / (1 + FINEST_STEP / 2):
            self._step = FINEST_STEP
            self._shared = False
        else:
            self._shared = True
            self._accepted_s = self._refused_s * 1.02
            self._learning_run = min(2 * self._learning_run, self._steady_run)
        self.interval_s = math.sqrt(self._accepted_s * self._refused_s) if self._learning else self._accepted_s
        self._steady_run = max(STEADY_RUN, pause_s / self.interval_s / PAUSE_SHARE)

    def finished(self) -> None:
        """A place is free: where that was the limit after all, one more is accepted at once."""
        if not self._confirmed:
            self.retry()


CANARY = 3  # are answered before the crowd follows
AHEAD = 8  # may be unanswered where it is not known that they fit, and a sixteenth of what runs
PROBE_ROWS = 11  # acceptances at the limit, at least, before one more is tried
PROBE_SHARE = 0.015  # of the places' time, that trying one more may cost
PATIENCE_S, LONGEST_PATIENCE_S = 0.5, 20.0  # without any event until one more is tried; doubles
PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0  # after a refusal where the provider names none; doubles
PATIENT_INTERVALS = 4  # without an acceptance, until refusals are about the places after all
EVIDENCE = 3.0  # acceptances that only a limited rate explains
GIVE = 0.1  # of the places, and of the time, left to others where a place that was held is taken by somebody else
CAUTION = 0.4  # standard deviations, by which fewer unseen completions are relied on after one was not there


class Candidate:
    """Decides when one more submission may leave.

    It grows as fast as acceptances come, until the first refusal. From then on it holds the number in flight at the
    limit found, and tries one more now and then. Where an acceptance follows a refusal though nothing was done in
    between, twice, it is not the places that are limited but the rate.

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
        self._rng = rng or random.Random()
        self._unseen = unseen
        self._unanswered = 0
        self._running = 0
        self._accepted = 0
        self._held = False
        self._recent: deque[float] = deque(maxlen=64)  # acceptances
        self.refusals = 0

        self._limit = math.inf  # so many are known to fit; infinite while it is sought
        self._fitted = 0.0  # so many were in flight at once while it is sought
        self._burst = float(CANARY)  # may be unanswered
        self._old = 0  # unanswered ones that left before the latest refusal was known: they say the same
        self._lowers = False  # the latest refusal was about the places
        self._until = -math.inf  # nothing leaves before
        self._pause_s = 0.0  # the latest
        self._refused_after_s = 0.0  # the latest refusal, after the latest acceptance
        self._streak = 0  # refusals since the last acceptance
        self._since = 0.0  # the latest event
        self._patience = PATIENCE_S
        self._credit = 0.0  # towards trying one more; due at 1
        self._idle = 0.0  # place-seconds that the latest pause has cost
        self._cost = 0.0  # the same, of a pause on average
        self._since_raised = 0  # acceptances since the limit rose
        self._since_below = 1 << 30  # acceptances since a refusal below the limit
        self._since_cut = 1 << 30  # acceptances since places were given up
        self._caution = 1.0  # standard deviations, by which fewer are relied on than are expected done
        self._doubted = False  # fewer were done than expected, and none since

        self._rate = SubmitRate()
        self._full_at = math.inf  # so many were in flight at the latest refusal; infinite when one was done since
        self._evidence = 0.0  # acceptances at or above that: the rate is limited
        self._first_refusal = (0.0, 0)  # when, and acceptances before it

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
        self._since_cut += 1
        self._since_below += 1
        self._since_raised += 1
        self._recent.append(now)
        self._burst = min(self._burst + 1, max(CANARY, self._limit))
        if self._streak and self._rate.interval_s and not self._lowers:
            self._rate.refused(self._refused_after_s, self._pause_s)
        self._rate.accepted(self.in_flight)
        resent = self._streak and not self._old
        if resent and self._running > self._full_at and not self._rate.interval_s and self._expected() < 0.5:
            self._evidence += 1
            if self._evidence >= EVIDENCE:
                at, before = self._first_refusal
                self._rate.begin(now, (now - at) / (self._accepted - before), self._refused_after_s)
                self._limit, self._fitted = math.inf, self._running
        self._old = max(0, self._old - 1)
        self._streak = 0
        if math.isinf(self._limit):
            self._fitted = max(self._fitted, self._running - self._expected())
        else:
            self._learn_from_acceptance()

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
            self._full_at = min(self._full_at, self._running)
            if self._lowers:
                self._limit = max(1.0, min(self._limit, known - 1))
            return
        self._old = self._unanswered
        self._streak += 1
        self._refused_after_s = now - self._recent[-1] if self._recent else 0.0
        self._cost += (self._idle - self._cost) / 2
        self._idle = 0.0
        self._burst = max(1.0, min(self._burst, self._limit) / 4)
        if not self._first_refusal[0]:
            self._first_refusal = now, self._accepted
        self._full_at = self._running
        self._pause_s = retry_after_s or self._backoff()
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
        self._idle += max(0.0, self._until - self._since)
        self._doubted = False
        self._full_at = math.inf
        self._evidence = max(0.0, self._evidence - 0.5)
        self._rate.finished()

    def adopted(self) -> None:
        """A prediction of an earlier run is polled: it has a place already."""
        self._running += 1

    def hold(self, held: bool) -> None:
        """While held, nothing new leaves."""
        self._held = held

    # --- what to do

    def wait(self) -> float:
        """0.0: one may leave now. Else ask again after so many seconds; at infinity, after the next event."""
        if self._held or self.in_flight >= self._ceiling:
            return math.inf
        now = self._clock()
        until = max(self._until, self._rate.next_allowed_at if self._rate.interval_s else -math.inf)
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
        return PaceView(
            in_flight=self.in_flight,
            window=self.window,
            per_minute=60 * self._per_second(now),
            held=max(0.0, self._until - now),
            refusals=self.refusals,
        )

    # --- how

    def _wait_beyond(self, now: float, beyond: float) -> float:
        """Whether one may leave that is `beyond` the limit: others are done by now, or it is time to try."""
        if self._unanswered > 1:
            return math.inf
        expected = self._expected()
        if not self._doubted and beyond <= self._reliable(expected):
            return 0.0
        if self._unanswered:
            return math.inf
        due = self._since + (self._patience if self._credit < 1 else 0.0)
        if due <= now and beyond <= 1 + expected + 2 * math.sqrt(expected):
            return 0.0
        return min(0.05 if expected else math.inf, max(0.001, due - now))

    def _learn_from_acceptance(self) -> None:
        expected = self._expected()
        if self._running - expected - 2 * math.sqrt(expected) > self._limit:  # more fit than was known
            self._limit, self._since_raised = self._running - expected, 0
            self._patience = max(0.8 * self._patience, PAUSE_S)
            if self._crowded:
                self._credit = 0.0
        elif self.in_flight > self._limit - 1:
            dear = min(2 * self._limit, self._cost * self._per_second(self._since) / (PROBE_SHARE * self._limit))
            self._credit += 1 / max(0 if self._crowded else PROBE_ROWS, self._limit, dear)
            if expected and self._running > self._limit:
                self._caution -= CAUTION * 0.06

    def _learn_from_refusal(self, known: int, retry_after_s: float) -> None:
        expected = self._expected()
        limit = self._limit
        self._lowers = True
        if known > limit:  # one more than fits was tried
            self._credit = 0.0
            self._patience = max(
                min((1 if retry_after_s and self._streak == 1 else 2) * self._patience, LONGEST_PATIENCE_S),
                retry_after_s,
            )
            if known - limit <= self._reliable(expected):
                self._caution, self._doubted = min(6.0, self._caution + CAUTION), True
        elif self._rate.interval_s and self._refused_after_s < PATIENT_INTERVALS * self._rate.interval_s:
            self._lowers = False
        elif self._rate.interval_s and math.isinf(limit):  # it was not the rate, or not alone
            self._limit = known - 1.0
            self._rate.interval_s = 0.0
            self._evidence, self._since_cut = 1.0, 0
        elif math.isinf(limit):
            self._limit = known - 1 - expected
            self._patience = max(self._patience, retry_after_s)
        else:
            self._limit = max(known - 1.0, (1 - GIVE) * limit if self._streak == 1 else 0.0)
            if self._streak == 1 and self._since_raised > limit:
                if self._since_below < limit:  # twice is no chance: others are there
                    self._limit, self._since_cut = (1 - GIVE) * limit, 0
                self._since_below = 0
        self._limit = max(1.0, self._limit)

    def _backoff(self) -> float:
        """Seconds after a refusal where the provider names none: longer each time, and by what is known of the rate."""
        pause_s = min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(self._streak - 1, 20))
        if self._crowded and not self._rate.interval_s:  # so that others find room
            pause_s = max(pause_s, GIVE * self._running / max(self._per_second(self._since), 0.01))
        return max(pause_s, self._rate.retry_s) if self._rate.interval_s else pause_s

    def _per_second(self, now: float) -> float:
        """Acceptances lately."""
        span = now - self._recent[0] if self._recent else 0.0
        return len(self._recent) / span if span > 0 else 0.0

    def _reliable(self, expected: float) -> float:
        """So many of them are done in all likelihood."""
        return expected - self._caution * math.sqrt(expected) if expected else -math.inf

    @property
    def _crowded(self) -> bool:
        """Others use the account as well, and try for more as well."""
        return self._since_cut < 8 * self._limit < math.inf

    def _expected(self) -> float:
        """Done and unseen, as expected; where others are, these places are as much theirs."""
        return 0.0 if self._unseen is None or self._crowded or math.isinf(self._limit) else self._unseen()
