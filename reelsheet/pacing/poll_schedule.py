"""When to look whether a prediction is done: often enough to see it early, seldom enough to cost little.

`PollSchedule` is pure: it is asked when to poll, and what was seen is reported to it.
`Watch` sleeps by it on an event loop.
"""

import asyncio
import itertools
import math
import random
import re
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

POLLS, MOST_POLLS = 2.15, 8.0  # for one prediction; more where the whole run sends few
POLLS_PER_S, MOST_PER_S = 30.0, 200.0  # of the whole run: spent on more for each prediction; and never more
CLOSEST_S, LONGEST_S = 0.1, 30.0  # between two polls of one prediction
GROWTH = 0.12  # of its age, until the next poll of a prediction that is older than nearly all were
SAMPLES = 256  # latest latencies
DAY_S = 86400.0


@dataclass(slots=True)
class _Watched:
    began: float  # on the clock
    estimate: float | None = None
    not_done: float = 0.0  # the latest age at which it surely was not
    due: float = 0.0  # age at the next poll
    asked: tuple[float, float] = (-1.0, 0.0)  # age at the latest `again`, and `not_done` before it


class _Sample(NamedTuple):
    age: float  # at completion
    estimate: float | None


class PollSchedule:
    """One per run. Ages and answers in seconds since submission; `key` names a prediction.

    Each poll is due when a fixed share of those that lasted so long are done: by the latest ages at completion, or by
    how far the provider's estimates were off, where these vary less.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads polls, guards nothing
        self._watched: dict[str, _Watched] = {}
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES)
        self._done = 0
        self._ages: list[float] = []  # at completion, sorted
        self._errors: list[float] = []  # of the estimates, sorted; empty where the ages tell more
        self._shift = 0.0  # from the provider's own seconds to ours
        self._whole_seconds = True  # so far it has told nothing finer
        self._quiet_until = -math.inf
        self.generation = 0  # rises when polls that are planned already had better move

    # --- when to poll

    def started(self, key: str, age: float, estimate: float | None) -> float:
        """Seconds until the first poll of a prediction that was submitted `age` seconds ago."""
        one = self._watched[key] = _Watched(self._clock() - age, estimate)
        return self._plan(one, age)

    def again(self, key: str, age: float, polls: int) -> float:  # noqa: ARG002 - the age says it
        """Seconds until the next poll of one that was not done at `age`, after `polls` polls."""
        one = self._watched.get(key)
        if one is None:
            return self.started(key, age, None)
        one.asked = age, one.not_done
        one.not_done = max(one.not_done, min(age, max(one.due, age - 1)))
        return max(CLOSEST_S, self._plan(one, age))

    def due(self, key: str, age: float) -> float:
        """Seconds until the planned poll by what is known now: for sleepers that are woken (see `generation`)."""
        one = self._watched.get(key)
        return 0.0 if one is None else self._plan(one, age)

    # --- what was seen

    def done(self, key: str, age: float, polls: int, done_age: float | None) -> None:  # noqa: ARG002
        """It was seen done at `age`, after `polls` polls; the provider says `done_age`, or nothing."""
        one = self._watched.pop(key, None) or _Watched(self._clock() - age)
        if age <= one.asked[0]:  # the next poll was asked for before this answer was looked at
            one.not_done = one.asked[1]
        self._samples.append(_Sample(self._moment(one.not_done, age, done_age), one.estimate))
        self._done += 1
        if self._done < 8 or self._done % 8 == 0:
            self._learn()

    def gone(self, key: str) -> None:
        """It is polled no more: given up, or the run stops."""
        self._watched.pop(key, None)

    def throttled(self, retry_after_s: float | None) -> None:
        """A poll was answered 429: no polls for a while. Says nothing of submissions."""
        self._quiet_until = max(self._quiet_until, self._clock() + (retry_after_s or 5.0))

    # --- what to expect

    @property
    def typical(self) -> float | None:
        """Seconds that half of the predictions take at most; None before the first is done."""
        return self._ages[len(self._ages) // 2] if self._ages else None

    @property
    def finished(self) -> int:
        """So many were seen done."""
        return self._done

    def seconds_left(self, expected_s: float | None = None) -> list[float]:
        """Of each that is not done, in the median: by `expected_s` for one, or else by those that were seen done."""
        ages, now = self._ages if expected_s is None else [expected_s], self._clock()
        return [_median_left(ages, now - one.began) for one in self._watched.values()]

    # --- how

    def _plan(self, one: _Watched, age: float) -> float:
        """Seconds until the next poll, which `one` is due for from now on."""
        count = len(self._watched)
        one.due = self._next(one, age)
        wait = max(one.due - age, self._quiet_until - self._clock(), 0.0)
        wait += self._rng.random() * (0.002 * min(count, 10) if wait else count / MOST_PER_S)
        one.due = age + wait
        return wait

    def _next(self, one: _Watched, now_age: float) -> float:
        """The age at the next poll of one that was not done at `one.not_done`."""
        age, count = one.not_done, len(self._watched)
        offsets, origin = self._offsets(one)
        if not offsets:  # as documented, every 1 to 2 s, and less often as it gets old or others tell as much
            step = max(1.0, min(0.12 * age, 3.0)) * max(1.0, count / POLLS_PER_S)
            return max(now_age if age else 0.0, min(0.6 * (one.estimate or 0.0), LONGEST_S)) + step * self._rng.uniform(
                0.75, 1.25
            )
        k = bisect_right(offsets, age - origin)
        left = len(offsets) - k
        if left < 2:
            return age + min(LONGEST_S, max(CLOSEST_S, GROWTH * age, count / MOST_PER_S))
        polls = min(MOST_POLLS, max(POLLS, POLLS_PER_S * offsets[len(offsets) // 2] / count))
        due, nearly_all = offsets[k + int(left / polls)], offsets[k + int(0.97 * left)]
        return origin + 0.02 + (nearly_all if nearly_all - due < CLOSEST_S else due)

    def _offsets(self, one: _Watched) -> tuple[list[float], float]:
        """Sorted ages at completion, and what they count from."""
        if self._errors and one.estimate is not None:
            return self._errors, one.estimate
        return self._ages, 0.0

    def _moment(self, not_done: float, seen: float, done_age: float | None) -> float:
        """The age at completion: what the provider tells, where that can be; else somewhere in between."""
        if done_age is None or not 0 < done_age < DAY_S:
            return self._between(not_done, seen)
        self._whole_seconds = self._whole_seconds and done_age == int(done_age)
        if self._whole_seconds and self._done > 2:
            low, high = max(not_done, done_age - 1), min(seen, done_age + 1)
            return self._between(low, high) if low < high else self._between(not_done, seen)
        if done_age + self._shift < not_done:
            self._shift = min(not_done - done_age, 2.0)
        elif done_age + self._shift > seen:
            self._shift = max(seen - done_age, -2.0)
        return min(max(done_age + self._shift, not_done), seen)

    def _between(self, low: float, high: float) -> float:
        """Somewhere between: most likely where others were."""
        others = [one.age for one in itertools.islice(reversed(self._samples), 32) if low < one.age <= high]
        if self._rng.random() * (len(others) + 1) < len(others):
            return self._rng.choice(others)
        return self._rng.uniform(low, high)

    def _learn(self) -> None:
        before = self.typical
        self._ages = sorted(one.age for one in self._samples)
        estimated = [one for one in self._samples if one.estimate is not None]
        errors = sorted(one.age - one.estimate for one in estimated if one.estimate is not None)
        told = len({one.estimate for one in estimated}) > 1 and len(errors) >= 4
        self._errors = errors if told and _spread(errors) < 0.7 * _spread(self._ages) else []
        if before is None or abs(before - (self.typical or 0.0)) > 0.05 * before:
            self.generation += 1


def _median_left(ages: list[float], age: float) -> float:
    """Seconds until half of those that lasted so long were done; `ages` at completion, sorted."""
    first = bisect_right(ages, age)
    return ages[(first + len(ages)) // 2] - age if first < len(ages) else GROWTH * age


def _spread(offsets: list[float]) -> float:
    return offsets[int(0.9 * len(offsets))] - offsets[int(0.1 * len(offsets))]


class Watch:
    """Sleeps until polls are due, and wakes the sleepers when the run has learned something that moves them."""

    def __init__(self, schedule: PollSchedule) -> None:
        self.schedule = schedule
        self._sleepers: dict[str, tuple[asyncio.Future[None], asyncio.TimerHandle, float]] = {}
        self._generation = schedule.generation

    async def started(self, key: str, age: float, estimate: float | None) -> None:
        """Sleeps until the first poll of a prediction that was submitted `age` seconds ago."""
        await self._sleep(key, age, self.schedule.started(key, age, estimate))

    async def again(self, key: str, age: float, polls: int) -> None:
        """Sleeps until the next poll of one that was not done at `age`, after `polls` polls."""
        wait = self.schedule.again(key, age, polls)
        self._wake()
        await self._sleep(key, age, wait)

    def done(self, key: str, age: float, polls: int, done_age: float | None) -> None:
        """See PollSchedule.done."""
        self.schedule.done(key, age, polls, done_age)
        self._wake()

    def gone(self, key: str) -> None:
        """See PollSchedule.gone."""
        self.schedule.gone(key)

    async def _sleep(self, key: str, age: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._sleepers[key] = (turn, loop.call_later(seconds, _ring, turn), loop.time() - age)
        try:
            await turn
        finally:
            self._sleepers.pop(key)[1].cancel()

    def _wake(self) -> None:
        if self.schedule.generation == self._generation:
            return
        self._generation = self.schedule.generation
        loop = asyncio.get_running_loop()
        now = loop.time()
        for key, (turn, timer, began) in self._sleepers.items():
            if turn.done():
                continue
            timer.cancel()
            self._sleepers[key] = (turn, loop.call_later(self.schedule.due(key, now - began), _ring, turn), began)


def _ring(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


_NUMBER = re.compile(r"(\d+(?:[.,]\d+)?)\s*([a-z]*)")
_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0}
_UNITS |= {"hr": 3600.0, "hour": 3600.0}


def estimate_seconds(text: object) -> float | None:
    """The provider's `estimatedTime` in seconds: "5 seconds", "1-2 minutes" (the longer), "1m 30s", "PT30S", 30.

    None for anything else, and for what is no time between nothing and a day.
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        return None
    seconds = _seconds(text) if isinstance(text, str) else float(text)
    return seconds if seconds is not None and 0 < seconds < DAY_S else None


def _seconds(text: str) -> float | None:
    parts = _NUMBER.findall(text.strip().lower().removeprefix("pt")[:80])
    total, seen = 0.0, None
    for number, word in parts:
        unit = word.rstrip("s") if len(word) > 1 and word != "ms" else word
        if unit and unit not in _UNITS:
            return None
        value = float(number.replace(",", "."))
        if not unit:  # "1-2 minutes", "30": the unit comes later, or never
            seen = value
            continue
        total, seen = total + value * _UNITS[unit], None
    if not parts:
        return None
    return total + (seen or 0.0)
