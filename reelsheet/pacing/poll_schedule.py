"""When to look whether a prediction is done: often enough to see it early, seldom enough to cost little.

`PollSchedule` is pure: it is asked when to poll, and what was seen is reported to it.
`Watch` sleeps by it on an event loop.
"""

import asyncio
import math
import random
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MOST_POLLS = 8  # for one prediction, where the whole run sends few; at least two
POLLS_PER_S, MOST_PER_S = 30.0, 200.0  # of the whole run: spent on more for each prediction; and never more
FIRST_S = 1.0  # between two polls while nothing is known, as the provider advises
CLOSEST_S, LONGEST_S = 0.1, 30.0  # between two polls of one prediction
GROWTH = 0.1  # of its age, until the next poll of a prediction that is older than nearly all were
QUIET_S = 5.0  # after a 429 that names no time
SAMPLES = 256  # latest latencies


@dataclass(slots=True)
class _Watched:
    began: float  # on the clock
    estimate: float | None = None
    not_done: float = 0.0  # the latest age at which it was not


class PollSchedule:
    """One per run. Ages and answers in seconds since submission; `key` names a prediction.

    Each poll is due when half of those that lasted so long were done, or sooner where the whole run sends few polls:
    by the latest ages at completion, or by how far the provider's estimates were off, where these vary less.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads polls, guards nothing
        self._watched: dict[str, _Watched] = {}
        self._samples: deque[tuple[float, float | None]] = deque(maxlen=SAMPLES)  # age at completion, estimate
        self._ages: list[float] = []  # at completion, sorted
        self._errors: list[float] = []  # of the estimates, sorted; empty where the ages tell more
        self._quiet_until = -math.inf
        self.finished = 0  # so many were seen done

    # --- when to poll

    def started(self, key: str, age: float, estimate: float | None) -> float:
        """Seconds until the first poll of a prediction that was submitted `age` seconds ago."""
        self._watched[key] = _Watched(self._clock() - age, estimate)
        return self.due(key, age)

    def again(self, key: str, age: float) -> float:
        """Seconds until the next poll of one that was not done at `age`."""
        self._watched.setdefault(key, _Watched(self._clock() - age)).not_done = age
        return max(CLOSEST_S, self.due(key, age))

    def due(self, key: str, age: float) -> float:
        """Seconds until the planned poll by what is known now."""
        one = self._watched.get(key)
        if one is None:
            return 0.0
        wait, held = self._next_age(one) - age, max(0.0, self._quiet_until - self._clock())
        if wait <= held:  # so it may be with many
            return held + self._rng.random() * len(self._watched) / MOST_PER_S
        return wait + self._rng.random() * CLOSEST_S / 4

    # --- what was seen

    def done(self, key: str, age: float, done_age: float | None) -> None:
        """It was seen done at `age`; the provider says `done_age`, or nothing."""
        self.finished += 1
        one = self._watched.pop(key, None)
        if one is None:  # of an earlier run, and done before the first poll
            return
        self._samples.append((self._moment(one.not_done, age, done_age), one.estimate))
        self._ages = sorted(age for age, _ in self._samples)
        errors = sorted(age - estimate for age, estimate in self._samples if estimate is not None)
        is_better = len(errors) == len(self._ages) and _spread(errors) < _spread(self._ages)
        self._errors = errors if is_better else []

    def gone(self, key: str) -> None:
        """It is polled no more: given up, or the run stops."""
        self._watched.pop(key, None)

    def throttled(self, retry_after_s: float | None) -> None:
        """A poll was answered 429: no polls for a while. Says nothing of submissions."""
        self._quiet_until = max(self._quiet_until, self._clock() + (retry_after_s or QUIET_S))

    # --- what to expect

    @property
    def typical(self) -> float | None:
        """Seconds that half of the predictions take at most; None before the first is done."""
        return self._ages[len(self._ages) // 2] if self._ages else None

    def seconds_left(self, expected_s: float | None = None) -> list[float]:
        """Of each that is not done, in the median: by `expected_s` for one, or else by those that were seen done."""
        ages, now = self._ages if expected_s is None else [expected_s], self._clock()
        return [_median_left(ages, now - one.began) for one in self._watched.values()]

    # --- how

    def _next_age(self, one: _Watched) -> float:
        """The age at the next poll of one that was not done at `one.not_done`."""
        age, count = one.not_done, len(self._watched)
        ages, origin = self._ages, 0.0
        if self._errors and one.estimate is not None:
            ages, origin = self._errors, one.estimate
        if not ages:
            return age + max(FIRST_S, GROWTH * min(age, LONGEST_S), count / POLLS_PER_S)
        first = bisect_right(ages, age - origin)
        left = len(ages) - first
        if left < 2:
            return age + min(LONGEST_S, max(CLOSEST_S, GROWTH * age, count / MOST_PER_S))
        polls = min(MOST_POLLS, max(2, POLLS_PER_S * ages[len(ages) // 2] / count))
        return origin + ages[first + int(left / polls)]

    def _moment(self, not_done: float, seen: float, told: float | None) -> float:
        """The age at completion: what the provider tells, where that can be; else somewhere in between."""
        return told if told is not None and not_done < told <= seen else self._rng.uniform(not_done, seen)


def _median_left(ages: list[float], age: float) -> float:
    """Seconds until half of those that lasted so long were done; `ages` at completion, sorted."""
    first = bisect_right(ages, age)
    return ages[(first + len(ages)) // 2] - age if first < len(ages) else GROWTH * age


def _spread(offsets: list[float]) -> float:
    return offsets[int(0.9 * len(offsets))] - offsets[int(0.1 * len(offsets))]


class Watch:
    """Sleeps until polls are due, and looks again when the run has learned something that moves them."""

    def __init__(self, schedule: PollSchedule) -> None:
        self.schedule = schedule
        self._learned = asyncio.Event()

    async def started(self, key: str, age: float, estimate: float | None) -> None:
        """Sleeps until the first poll of a prediction that was submitted `age` seconds ago."""
        await self._sleep(key, age, self.schedule.started(key, age, estimate))

    async def again(self, key: str, age: float) -> None:
        """Sleeps until the next poll of one that was not done at `age`."""
        await self._sleep(key, age, self.schedule.again(key, age))

    def done(self, key: str, age: float, done_age: float | None) -> None:
        """See PollSchedule.done. Wakes the sleepers after one, two, four and so on."""
        self.schedule.done(key, age, done_age)
        if self.schedule.finished.bit_count() == 1:
            self._learned.set()
            self._learned = asyncio.Event()

    def gone(self, key: str) -> None:
        """See PollSchedule.gone."""
        self.schedule.gone(key)

    async def _sleep(self, key: str, age: float, seconds: float) -> None:
        began = asyncio.get_running_loop().time() - age
        while seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._learned.wait()
            except TimeoutError:
                return
            seconds = self.schedule.due(key, asyncio.get_running_loop().time() - began)
