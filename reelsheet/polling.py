"""When to look whether a prediction is done: often enough to see it early, seldom enough to cost little.

`PollSchedule` is pure: it is asked, and told what was seen. `Watch` sleeps by it on an event loop.
"""

import asyncio
import math
import random
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reelsheet.latencies import Plan, learn, plan

POLLS = 2.65  # aimed at for one prediction, on average, learning included
BUSIEST = 100.0  # polls a second for the whole run, as far as each prediction still gets its one
CHEAPEST = 0.05  # seconds; a poll that sees no earlier than this is not worth sending
ENDING = 1.5
HORIZON=300
SC_A=3
SC_B=0.5
REST=10
MARGIN = 0.02  # seconds after the expected moment
CLOSEST = 0.1  # seconds between two polls of one prediction
SAMPLES = 256
MOST_SAMPLES = 8192
WORTH_ANTICIPATING = 0.15  # seconds of expected lateness
UNSURE = 10  # samples that leave half a doubt
DAY = 86400.0


@dataclass(slots=True)
class _Watched:
    began: float  # on the clock
    not_done: float = 0.0  # the latest age at which it was surely not done
    due: float = 0.0  # age at the next poll
    scout: bool = True
    estimate: float | None = None
    before: tuple[float, float] = (-1.0, 0.0)  # age when last asked about, and what `not_done` was before that


class PollSchedule:
    """One per run. Ages and answers in seconds since submission; `key` names a prediction."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        floor: float = 1.0,
        cap: float = 30.0,
        polls: float = POLLS,
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads polls, guards nothing
        self._floor = floor
        self._cap = cap
        self._aim = polls
        self._watched: dict[str, _Watched] = {}
        self._samples: deque[tuple[float, float]] = deque()  # (began, age when done)
        self._forgotten = -math.inf  # all that began after this and are done are among the samples
        self._shift = 0.0  # from the provider's own seconds to ours
        self._whole_seconds = True
        self._plan: Plan | None = None
        self._price = 0.3
        self._news = 0.0
        self._done = 0
        self._polls = 0
        self._peak = 0
        self._slow_until = -math.inf
        self._unseen = (-math.inf, 0.0)
        self.generation = 0  # rises whenever what was learned moves polls that are already planned

    # --- asked

    def started(self, key: str, age: float, estimate: float | None) -> float:
        """Seconds until the first poll of a prediction that was submitted `age` seconds ago."""
        now = self._clock()
        one = self._watched[key] = _Watched(began=now - age, estimate=estimate)
        self._peak = max(self._peak, len(self._watched))
        if self._plan is None:
            # Until something is known, some look often and the others wait for what these find.
            scouts = SC_A + SC_B * math.sqrt(len(self._watched))
            one.scout = self._rng.random() < scouts / len(self._watched)
        one.due = self._next(one, age)
        return self._spread(one, age)

    def again(self, key: str, age: float, polls: int) -> float:
        """Seconds until the next poll of one that was not done at `age` after `polls` polls."""
        one = self._watched.get(key)
        if one is None:
            self.started(key, age, None)
            one = self._watched[key]
        one.before = (age, one.not_done)
        one.not_done = max(one.not_done, min(age, one.due))
        if self._plan is not None and age > self._plan.latencies.ages[-1]:
            self._news += 0.3  # longer than anything known
            self._learn()
        one.due = max(self._next(one, age), age + CLOSEST)
        return self._spread(one, age)

    def due(self, key: str, age: float) -> float:
        """Seconds until the planned poll, by what is known now; for those who sleep and are woken."""
        one = self._watched.get(key)
        if one is None:
            return 0.0
        one.due = self._next(one, max(one.not_done, 0.0))
        return max(0.0, one.due - age)

    # --- told

    def done(self, key: str, age: float, polls: int, done_age: float | None) -> None:
        """Learns from one that was seen done at `age`; `done_age` by the provider's own times, where it gives them."""
        one = self._watched.pop(key, None) or _Watched(began=self._clock() - age)
        if age <= one.before[0]:  # asked for the next poll before looking at the answer of this one
            one.not_done = one.before[1]
        self._done += 1
        self._polls += polls
        self._samples.append((one.began, self._moment(one.not_done, age, done_age)))
        while len(self._samples) > min(MOST_SAMPLES, max(SAMPLES, 2 * len(self._watched))):
            self._forgotten = max(self._forgotten, self._samples.popleft()[0])
        self._news += 1
        self._learn()

    def gone(self, key: str) -> None:
        """This one is not polled any more: given up, or the run stops."""
        self._watched.pop(key, None)

    def throttled(self, retry_after: float | None) -> None:
        """A poll was answered 429: no poll of any prediction for a while. Says nothing about submissions."""
        self._slow_until = max(self._slow_until, self._clock() + (retry_after or 5.0))

    def unseen(self) -> float:
        """How many of those watched are done by now, though not yet seen: expected, where it is worth knowing."""
        now = self._clock()
        at, told = self._unseen
        if now - at < max(0.02, 5e-5 * len(self._watched)):
            return told
        told = 0.0
        if self._plan is not None and self._plan.lateness >= WORTH_ANTICIPATING:
            done_by = self._plan.latencies.done_by
            for one in self._watched.values():
                before = done_by(one.not_done)
                if before < 1:
                    told += (done_by(now - one.began) - before) / (1 - before)
            told *= len(self._samples) / (len(self._samples) + UNSURE)
        self._unseen = (now, told)
        return told

    @property
    def typical(self) -> float | None:
        """The median seconds to completion so far; None before the first."""
        return None if self._plan is None else self._plan.latencies.quantile(0.5)

    # --- how

    @property
    def _ending(self) -> bool:
        """Few are left: the run waits for the last, and polls of few cost little."""
        return len(self._watched) < self._peak / 4

    def _next(self, one: _Watched, age: float) -> float:
        """Age at the next poll for one that was last seen not done at `age`."""
        if self._plan is not None:
            told = self._plan.first() if one.not_done == 0 else self._plan.after(age)
            patience = min(self._cap, max(CLOSEST, (0.1 if self._ending or told is None else 0.25) * age))
            if one.not_done == 0 and told is not None:
                return told + MARGIN
            return min(age + patience, math.inf if told is None else told + MARGIN)
        step = max(self._floor, min(0.12 * age, 3.0))
        if not one.scout:
            step = min(REST * step, self._cap)
        if one.not_done == 0 and one.estimate is not None:
            return max(self._floor, min(0.6 * one.estimate, self._cap)) + step * self._rng.random()
        return age + step * self._rng.uniform(0.75, 1.25)

    def _spread(self, one: _Watched, age: float) -> float:
        wait = max(0.0, one.due - age, self._slow_until - self._clock())
        return wait + self._rng.random() * min(0.02, 0.002 * len(self._watched))

    def _moment(self, not_done: float, seen: float, told: float | None) -> float:
        """The age at completion: as the provider tells it where that can be, else somewhere in between."""
        if told is None or not 0 < told < seen + DAY:
            return self._rng.uniform(not_done, seen)
        self._whole_seconds = self._whole_seconds and told == int(told)
        if self._whole_seconds and self._done > 2:
            low, high = max(not_done, told - 1), min(seen, told + 1)
            return self._rng.uniform(low, high) if low < high else self._rng.uniform(not_done, seen)
        if told + self._shift < not_done:
            self._shift = min(not_done - told, 2.0)
        elif told + self._shift > seen:
            self._shift = max(seen - told, -2.0)
        return min(max(told + self._shift, not_done), seen)

    def _learn(self) -> None:
        count = len(self._samples)
        if not count or self._news < min(1 + 0.1 * count, 64.0):
            return
        self._news = 0.0
        began = self._forgotten
        learned = learn(
            (age for start, age in self._samples if start >= began) if count > 1 else (self._samples[0][1],),
            (one.not_done for one in self._watched.values() if one.began >= began and one.not_done > 0),
        )
        target = self._target(learned.quantile(0.5))
        found = plan(learned, self._price)
        for _ in range(5):
            if abs(found.polls - target) < 0.04 or (found.polls < target and self._price <= CHEAPEST):
                break
            self._price = min(max(self._price * (found.polls / target) ** 2, CHEAPEST), 1000.0)
            found = plan(learned, self._price)
        before, self._plan = self._plan, found
        if before is None or any(
            abs(before.latencies.quantile(q) / found.latencies.quantile(q) - 1) > 0.05 for q in (0.1, 0.5, 0.9)
        ):
            self.generation += 1

    def _target(self, typical: float) -> float:
        """Polls for one prediction from now on, such that the average comes out as aimed at."""
        left = len(self._watched)
        target = self._aim - (self._polls - self._aim * self._done) / max(HORIZON, self._done)
        target = min(target, self._aim + 0.5)
        if self._ending:
            target = max(target, self._aim) + ENDING
        return max(1.2, min(target, BUSIEST * typical / max(left, 1)))


class Watch:
    """Sleeps until polls are due, and wakes the sleepers when the run has learned something that moves them."""

    def __init__(self, schedule: PollSchedule) -> None:
        self.schedule = schedule
        self._sleepers: dict[str, tuple[asyncio.Future[None], asyncio.TimerHandle, float]] = {}
        self._generation = schedule.generation

    async def started(self, key: str, age: float, estimate: float | None) -> None:
        """Sleeps until the first poll; see PollSchedule.started."""
        await self._sleep(key, age, self.schedule.started(key, age, estimate))

    async def again(self, key: str, age: float, polls: int) -> None:
        """Sleeps until the next poll; see PollSchedule.again."""
        wait = self.schedule.again(key, age, polls)
        self._wake()
        await self._sleep(key, age, wait)

    def done(self, key: str, age: float, polls: int, done_age: float | None) -> None:
        """See PollSchedule.done."""
        self.schedule.done(key, age, polls, done_age)
        self._wake()

    async def _sleep(self, key: str, age: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._sleepers[key] = (turn, loop.call_later(seconds, _ring, turn), loop.time() - age)
        try:
            await turn
        finally:
            sleeper = self._sleepers.pop(key, None)
            if sleeper is not None:
                sleeper[1].cancel()

    def _wake(self) -> None:
        if self.schedule.generation == self._generation:
            return
        self._generation = self.schedule.generation
        loop = asyncio.get_running_loop()
        now = loop.time()
        stagger = 0.0
        for key, (turn, handle, began) in self._sleepers.items():
            if turn.done():
                continue
            handle.cancel()
            wait = self.schedule.due(key, now - began)
            if wait < stagger:
                wait = stagger
                stagger += 0.002
            self._sleepers[key] = (turn, loop.call_later(wait, _ring, turn), began)


def _ring(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def estimate_seconds(text: object) -> float | None:
    """The provider's `estimatedTime` in seconds: "5 seconds", "1-2 minutes", "45s", "PT30S", 30; else None."""
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float):
        return float(text) if 0 < text < DAY else None
    if not isinstance(text, str):
        return None
    found = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower()[:80])
    if not found:
        return None
    unit = next((word[0] for _, word in reversed(found) if word[:1] in "smh"), "")
    return float(found[-1][0]) * _UNITS.get(unit, 1.0)
